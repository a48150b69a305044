"""From a VirtualMachine object, and the objects it names, to a machine that can be started."""

import base64
import hashlib
from typing import Any

import yaml

from lab.hypervisor import conditions, places
from lab.hypervisor.api import CLAIM, IMAGE, NETWORK, SECRET, Api, Key, Object, key_of
from lab.hypervisor.host import Boot
from lab.hypervisor.pending import Pending
from lab.hypervisor.quantity import parse, whole
from lab.hypervisor.volumes import image_of

_EMPTY_USER_DATA = "#cloud-config\n{}\n"


def assemble(api: Api, machine: Object) -> Boot:
    """What to start. Raises Pending where an object it names is missing or not ready, or asks for what the
    lab cannot do."""
    key, spec = key_of(machine), machine["spec"]["template"]["spec"]
    claim, image = _root_disk(api, key.namespace, spec)
    nic, network = _network(api, key, spec)
    return Boot(
        name=key.name,
        owner=str(key),
        image=places.image_mount(image["metadata"]["uid"]),
        volume=places.volume(claim),
        seed=_seed(api, key, spec),
        network=network.name,
        mac=mac_address(key, nic),
        cpus=cpus(spec["domain"]),
        memory=memory(spec["domain"]),
    )


def image_of_root(api: Api, machine: Object) -> Object:
    """The image the VM's root disk was made from."""
    return _root_disk(api, key_of(machine).namespace, machine["spec"]["template"]["spec"])[1]


def mac_address(key: Key, nic: Object) -> str:
    """The one given, or one that stays the same for this machine."""
    given = nic.get("macAddress", "").replace("-", ":").lower()
    digest = hashlib.sha256(f"{key} {nic['name']}".encode()).hexdigest()
    return given or f"52:54:00:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"


def cpus(domain: Object) -> int:
    """Cores: the limit where there is one, else the guest's processors."""
    limit = domain.get("resources", {}).get("limits", {}).get("cpu")
    shape = domain.get("cpu", {})
    guest = shape.get("cores", 1) * shape.get("sockets", 1) * shape.get("threads", 1)
    return max(1, int(parse(limit))) if limit else guest


def memory(domain: Object) -> int:
    """Bytes: the limit, else what the guest sees, else what is requested."""
    resources = domain.get("resources", {})
    amount = (
        resources.get("limits", {}).get("memory")
        or domain.get("memory", {}).get("guest")
        or resources.get("requests", {}).get("memory")
    )
    if not amount:
        raise Pending(
            "ErrorUnschedulable", "NoMemory", "the VM names no memory: set domain.resources.limits.memory"
        )
    return whole(amount)


def _root_disk(api: Api, namespace: str, spec: Object) -> tuple[Key, Object]:
    """The claim the machine starts from, bound, and its image."""
    name = _root_claim(spec)
    claim = api.get(CLAIM, Key(namespace, name))
    if claim is None or claim.get("status", {}).get("phase") != "Bound":
        raise Pending(
            "ErrorPvcNotFound", "FailedPvcNotFound", f"volume {namespace}/{name} is not there or not bound"
        )
    image_key = image_of(claim)
    image = api.get(IMAGE, image_key) if image_key else None
    if image is None or not conditions.holds(image, "Imported"):
        raise Pending(
            "Provisioning", "ImageNotImported", f"image {image_key} of volume {name} is not imported"
        )
    return key_of(claim), image


def _root_claim(spec: Object) -> str:
    """The disk with the lowest boot order, else the first. It must be the only one but for cloud-init's."""
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    disks = sorted(spec["domain"]["devices"].get("disks", []), key=lambda disk: disk.get("bootOrder", 1000))
    claims = [
        volumes[disk["name"]]["persistentVolumeClaim"]["claimName"]
        for disk in disks
        if "persistentVolumeClaim" in volumes.get(disk["name"], {})
    ]
    if len(claims) != 1:
        message = f"machines of the lab have one disk from a volume claim; this one has {len(claims)}"
        raise Pending("ErrorUnschedulable", "UnsupportedDisks", message)
    return claims[0]


def _network(api: Api, key: Key, spec: Object) -> tuple[Object, Key]:
    """The machine's only interface and its network. A name without a namespace is in the VM's own."""
    nics, networks = spec["domain"]["devices"].get("interfaces", []), spec.get("networks", [])
    if len(nics) != 1 or len(networks) != 1 or "multus" not in networks[0]:
        message = "machines of the lab have one interface, on a network given by `multus.networkName`"
        raise Pending("ErrorUnschedulable", "UnsupportedNetworks", message)
    name = networks[0]["multus"]["networkName"]
    network = Key(*name.split("/", 1)) if "/" in name else Key(key.namespace, name)
    if api.get(NETWORK, network) is None:
        raise Pending("Starting", "NetworkNotFound", f"there is no NetworkAttachmentDefinition {network}")
    return nics[0], network


def _seed(api: Api, key: Key, spec: Object) -> dict[str, str]:
    """The files of cloud-init's NoCloud source, from the VM's cloud-init volume."""
    sources = [v["cloudInitNoCloud"] for v in spec.get("volumes", []) if "cloudInitNoCloud" in v]
    source: dict[str, Any] = sources[0] if sources else {}
    user_data = _text(api, key, source, "userData", "secretRef", "userdata")
    network_data = _text(api, key, source, "networkData", "networkDataSecretRef", "networkdata")
    # As KubeVirt names it: a restarted machine is the same instance, and is not set up a second time.
    meta_data = {
        "instance-id": f"{key.name}.{key.namespace}",
        "local-hostname": spec.get("hostname", key.name),
    }
    files = {"meta-data": yaml.safe_dump(meta_data), "user-data": user_data or _EMPTY_USER_DATA}
    return {**files, "network-config": network_data} if network_data else files


def _text(api: Api, key: Key, source: dict[str, Any], inline: str, reference: str, entry: str) -> str:
    """A text given in the VM itself or by the Secret it names."""
    if inline in source:
        return source[inline]
    if reference not in source:
        return ""
    name = Key(key.namespace, source[reference]["name"])
    secret = api.get(SECRET, name)
    if secret is None or entry not in secret.get("data", {}):
        missing = "is not there" if secret is None else f"has no entry `{entry}`"
        raise Pending("Starting", "SecretNotFound", f"Secret {name} {missing}")
    return base64.b64decode(secret["data"][entry]).decode()
