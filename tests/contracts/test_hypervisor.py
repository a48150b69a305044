"""The lab's hypervisor behaves as Harvester does for what sitewright uses: a real API server, the manifests of
the modules, a host that only pretends (fake_hypervisor.py)."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_hypervisor import Controller, FakeHost, ImageServer, running, until

from lab.hypervisor import conditions, places
from lab.hypervisor.api import (
    CLAIM,
    IMAGE,
    INSTANCE,
    IP_POOL,
    LOAD_BALANCER,
    NAMESPACE,
    NETWORK,
    SECRET,
    STORAGE_CLASS,
    VIRTUAL_MACHINE,
    Api,
    ApiError,
    Key,
    Kind,
    Object,
)
from lab.hypervisor.balancing import Server
from modules.clusters import load_balancer
from modules.machines import virtual_machine, vm_image, vm_network
from modules.spec import GIBI

CONTENT = b"hsqs" + bytes(range(256)) * 2048
CHECKSUM = hashlib.sha512(CONTENT).hexdigest()
KINDS = {kind.kind: kind for kind in (IMAGE, IP_POOL, LOAD_BALANCER, NETWORK, SECRET, VIRTUAL_MACHINE)}


@dataclass
class Hypervisor:
    """What all tests share. A test works in a namespace of its own, `place`."""

    api: Api
    host: FakeHost
    controller: Controller
    images: ImageServer
    place: str = ""
    image: Key = field(default_factory=lambda: Key("", ""))

    def apply(self, manifest: Object) -> Key:
        """As Pulumi applies it."""
        key = Key(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
        self.api.apply(KINDS[manifest["kind"]], key, manifest)
        return key

    def see(self, kind: Kind, key: Key, what: str, look: Any = bool, timeout: float = 10.0) -> Object:
        """The object, once it satisfies `look`."""

        def found() -> Object | None:
            body = self.api.get(kind, key)
            return body if body is not None and look(body) else None

        return until(found, f"{kind.kind} {key}: {what}; it is {self.api.get(kind, key)}", timeout)

    def see_gone(self, kind: Kind, key: Key) -> None:
        until(lambda: self.api.get(kind, key) is None, f"{kind.kind} {key} is gone")

    def see_status(self, key: Key, printable: str) -> Object:
        return self.see(
            VIRTUAL_MACHINE,
            key,
            printable,
            lambda vm: vm.get("status", {}).get("printableStatus") == printable,
        )

    def see_ready(self, key: Key) -> Object:
        return self.see(
            VIRTUAL_MACHINE, key, "AgentConnected", lambda vm: conditions.holds(vm, "AgentConnected")
        )

    def delete(self, kind: Kind, key: Key) -> None:
        """As Pulumi deletes it: dependents first, waiting for a garbage collector."""
        self.api._call("DELETE", f"{kind.path(*key)}?propagationPolicy=Foreground")

    def import_image(self, name: str = "debian", checksum: str = CHECKSUM, **spec: Any) -> Key:
        fields = {
            "name": name,
            "namespace": self.place,
            "url": self.images.url(name),
            "checksum": checksum,
            **spec,
        }
        [manifest] = vm_image.render(vm_image.VmImageSpec.model_validate(fields))
        return self.apply(manifest)

    def start_machine(self, **changes: Any) -> Key:
        """Everything a VM needs, and the VM, named as the namespace."""
        image = self.import_image()
        body = self.see(IMAGE, image, "imported", lambda image: conditions.holds(image, "Imported"))
        network = {"name": "nodes", "namespace": self.place, "cidr": "10.1.0.0/24", "vlan": 100}
        for manifest in vm_network.render(vm_network.VmNetworkSpec.model_validate(network)):
            self.apply(manifest)
        spec = self.machine_spec(image, **changes)
        for manifest in virtual_machine.render(spec, body["status"]["storageClassName"]):
            key = self.apply(manifest)
        return key

    def machine_spec(self, image: Key, **changes: Any) -> virtual_machine.VirtualMachineSpec:
        fields = {
            "name": self.place,
            "namespace": self.place,
            "image": str(image),
            "network": f"{self.place}/nodes",
            "cpus": 2,
            "memory": 2 * GIBI,
            "disk": 20 * GIBI,
            "address": "10.1.0.10",
            "prefix_length": 24,
            "gateway": "10.1.0.1",
            "mac": "52:54:00:00:00:10",
            "ssh_keys": ("ssh-ed25519 AAAA operator",),
            **changes,
        }
        return virtual_machine.VirtualMachineSpec.model_validate(fields)


@pytest.fixture(scope="module")
def shared() -> Iterator[Hypervisor]:
    with running(CONTENT) as it:
        yield Hypervisor(it.api, it.host, it.controller, it.images)


@pytest.fixture
def hypervisor(shared: Hypervisor, request: pytest.FixtureRequest) -> Hypervisor:
    shared.place = f"t{abs(hash(request.node.name)) % 10**8}"
    shared.images.down, shared.images.cut_at = False, None
    shared.images.requests.clear()
    shared.api.create(NAMESPACE, {"metadata": {"name": shared.place}})
    return shared


def test_an_image_is_imported_and_gets_a_storage_class(hypervisor: Hypervisor) -> None:
    key = hypervisor.import_image()
    image = hypervisor.see(IMAGE, key, "imported", lambda image: conditions.holds(image, "Imported"))
    status, uid = image["status"], image["metadata"]["uid"]
    assert (status["progress"], status["size"], status["virtualSize"]) == (100, len(CONTENT), len(CONTENT))
    assert status["storageClassName"] == f"lh-{uid}"
    assert conditions.holds(image, "Initialized") and not conditions.holds(image, "RetryLimitExceeded")
    assert image["metadata"]["labels"] == {"harvesterhci.io/imageDisplayName": key.name}
    assert hypervisor.api.get(STORAGE_CLASS, Key("", f"lh-{uid}"))
    assert places.image_file(uid).read_bytes() == CONTENT
    assert places.image_mount(uid) in hypervisor.host.mounted


def test_an_image_with_a_wrong_checksum_is_not_imported(hypervisor: Hypervisor) -> None:
    key = hypervisor.import_image(checksum=128 * "a", retries=0)
    image = hypervisor.see(IMAGE, key, "failed", lambda image: conditions.holds(image, "RetryLimitExceeded"))
    assert not conditions.holds(image, "Imported")
    message = conditions.message(image, "Imported")
    assert CHECKSUM in message and 128 * "a" in message and hypervisor.images.url("debian") in message
    assert image["status"]["failed"] == 1
    uid = image["metadata"]["uid"]
    assert not list(places.image_file(uid).parent.glob(f"{uid}*"))


def test_an_image_server_that_was_down_is_asked_again(hypervisor: Hypervisor) -> None:
    hypervisor.images.down = True
    key = hypervisor.import_image()
    image = hypervisor.see(IMAGE, key, "failed", lambda image: image.get("status", {}).get("failed", 0) >= 1)
    assert "503" in conditions.message(image, "Imported")
    hypervisor.images.down = False
    hypervisor.see(IMAGE, key, "imported", lambda image: conditions.holds(image, "Imported"))


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(hypervisor: Hypervisor) -> None:
    hypervisor.images.cut_at = 100_000
    key = hypervisor.import_image()
    hypervisor.see(IMAGE, key, "imported", lambda image: conditions.holds(image, "Imported"))
    assert hypervisor.images.requests == [None, "bytes=100000-"]


def test_the_address_of_an_image_cannot_be_changed(hypervisor: Hypervisor) -> None:
    key = hypervisor.import_image()
    with pytest.raises(ApiError, match="a new version is a new object"):
        hypervisor.api.patch(IMAGE, key, {"spec": {"url": "http://10.1.0.1/other.squashfs"}})


def test_an_image_cannot_be_deleted_while_a_volume_uses_it(hypervisor: Hypervisor) -> None:
    machine = hypervisor.start_machine()
    hypervisor.see_ready(machine)
    [image] = hypervisor.api.list(IMAGE, hypervisor.place)
    key, uid = Key(hypervisor.place, image["metadata"]["name"]), image["metadata"]["uid"]
    with pytest.raises(ApiError, match=f"volume {machine.name}-root uses it"):
        hypervisor.delete(IMAGE, key)
    hypervisor.delete(VIRTUAL_MACHINE, machine)
    hypervisor.see_gone(VIRTUAL_MACHINE, machine)
    hypervisor.delete(IMAGE, key)
    hypervisor.see_gone(IMAGE, key)
    assert not places.image_file(uid).exists() and places.image_mount(uid) not in hypervisor.host.mounted
    assert hypervisor.api.get(STORAGE_CLASS, Key("", f"lh-{uid}")) is None


def test_an_image_that_a_volume_elsewhere_uses_stays_until_that_is_deleted(hypervisor: Hypervisor) -> None:
    image = hypervisor.import_image()
    body = hypervisor.see(IMAGE, image, "imported", lambda image: conditions.holds(image, "Imported"))
    claim = {
        "metadata": {
            "name": hypervisor.place,
            "namespace": "default",
            "annotations": {"harvesterhci.io/imageId": str(image)},
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": body["status"]["storageClassName"],
        },
    }
    hypervisor.api.create(CLAIM, claim)
    key = Key("default", hypervisor.place)
    hypervisor.see(CLAIM, key, "bound", lambda claim: claim["status"].get("phase") == "Bound")
    hypervisor.delete(IMAGE, image)
    hypervisor.see(IMAGE, image, "marked as deleted", lambda image: "deletionTimestamp" in image["metadata"])
    assert places.image_file(body["metadata"]["uid"]).exists()
    hypervisor.delete(CLAIM, key)
    hypervisor.see_gone(IMAGE, image)


def test_a_network_cannot_be_deleted_while_a_machine_is_attached(hypervisor: Hypervisor) -> None:
    machine = hypervisor.start_machine()
    hypervisor.see_ready(machine)
    with pytest.raises(ApiError, match=f"machine {machine.name} is attached to it"):
        hypervisor.delete(NETWORK, Key(hypervisor.place, "nodes"))


@pytest.mark.parametrize(
    ("same", "message"),
    [("macAddress", "has the same MAC address"), ("claimName", "has the same volume")],
)
def test_two_machines_cannot_share(hypervisor: Hypervisor, same: str, message: str) -> None:
    machine = hypervisor.start_machine(run_strategy="Halted")
    other = hypervisor.machine_spec(Key(hypervisor.place, "image"), name="other", mac="52:54:00:00:00:99")
    body = virtual_machine.render(other, "any")[1]
    template = body["spec"]["template"]["spec"]
    if same == "macAddress":
        template["domain"]["devices"]["interfaces"][0]["macAddress"] = "52:54:00:00:00:10"
    else:
        template["volumes"][0]["persistentVolumeClaim"]["claimName"] = f"{machine.name}-root"

    def refused() -> bool:
        try:
            hypervisor.apply(body)
        except ApiError as problem:
            assert f"machine {machine.name} {message}" in problem.message
            return True
        hypervisor.api.delete(VIRTUAL_MACHINE, Key(hypervisor.place, "other"))
        return False  # the API server has not seen the first machine yet

    until(refused, "refusal")


def test_a_machine_starts_with_what_its_objects_say(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    machine = hypervisor.see_ready(key)
    assert machine["status"]["printableStatus"] == "Running"
    assert machine["status"]["created"] and machine["status"]["ready"]
    assert conditions.holds(machine, "Ready")
    boot = hypervisor.host.machines[key.name].boot
    assert (boot.network, boot.mac, boot.cpus, boot.memory) == ("nodes", "52:54:00:00:00:10", 2, 2 * GIBI)
    assert boot.volume == places.volume(Key(key.namespace, f"{key.name}-root"))
    assert (boot.volume / "upper").is_dir() and (boot.volume / "data" / "etcd").is_dir()
    assert sorted(boot.seed) == ["meta-data", "network-config", "user-data"]
    assert boot.seed["user-data"].startswith("#cloud-config\n") and "AAAA operator" in boot.seed["user-data"]
    assert f"local-hostname: {key.name}" in boot.seed["meta-data"]
    assert "10.1.0.10/24" in boot.seed["network-config"]


def test_an_instance_shows_phase_address_and_mac(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    instance = hypervisor.see(INSTANCE, key, "there")
    assert instance["status"]["phase"] == "Running"
    [interface] = instance["status"]["interfaces"]
    assert (interface["ipAddress"], interface["mac"]) == ("10.1.0.10", "52:54:00:00:00:10")
    assert conditions.holds(instance, "Ready") and conditions.holds(instance, "AgentConnected")


def test_the_volume_is_a_bound_claim_that_grows_and_does_not_shrink(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    claim = Key(key.namespace, f"{key.name}-root")
    assert hypervisor.see(CLAIM, claim, "bound")["status"]["phase"] == "Bound"
    hypervisor.start_machine(disk=30 * GIBI)
    hypervisor.see(CLAIM, claim, "30Gi", lambda claim: claim["status"]["capacity"] == {"storage": "30Gi"})
    assert hypervisor.host.starts.count(key.name) == 1


def test_a_machine_waits_for_a_missing_secret_and_says_so(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine(run_strategy="Halted")
    hypervisor.see_status(key, "Stopped")
    secret = Key(key.namespace, f"{key.name}-cloudinit")
    content = hypervisor.see(SECRET, secret, "there")["data"]
    hypervisor.api.delete(SECRET, secret)
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"spec": {"runStrategy": "RerunOnFailure"}})
    machine = hypervisor.see(
        VIRTUAL_MACHINE, key, "waits", lambda vm: "Secret" in conditions.message(vm, "Ready")
    )
    assert conditions.message(machine, "Ready") == f"Secret {secret} is not there"
    hypervisor.api.create(
        SECRET, {"metadata": {"name": secret.name, "namespace": secret.namespace}, "data": content}
    )
    machine = hypervisor.see_ready(key)
    assert not conditions.holds(machine, "Failure")


def test_a_crashed_machine_starts_again(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    first = hypervisor.see(INSTANCE, key, "there")["metadata"]["uid"]
    hypervisor.host.end(key.name, well=False)
    until(lambda: hypervisor.host.starts.count(key.name) == 2, "a second start")
    machine = hypervisor.see_ready(key)
    assert machine["status"]["startFailure"]["consecutiveFailCount"] == 1
    assert hypervisor.see(INSTANCE, key, "there")["metadata"]["uid"] != first


def test_a_machine_that_shut_itself_down_stays_off(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.host.end(key.name, well=True)
    machine = hypervisor.see_status(key, "Stopped")
    assert not conditions.holds(machine, "Ready")
    assert hypervisor.see(INSTANCE, key, "there")["status"]["phase"] == "Succeeded"
    assert hypervisor.host.starts.count(key.name) == 1


def test_halted_powers_off_and_back_on(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"spec": {"runStrategy": "Halted"}})
    machine = hypervisor.see_status(key, "Stopped")
    assert not hypervisor.host.runs(key.name) and "created" not in machine["status"]
    assert hypervisor.api.get(INSTANCE, key) is None
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"spec": {"runStrategy": "RerunOnFailure"}})
    hypervisor.see_ready(key)
    assert hypervisor.host.starts.count(key.name) == 2


def test_a_changed_template_waits_for_the_next_start(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.start_machine(memory=4 * GIBI)
    hypervisor.see(
        VIRTUAL_MACHINE, key, "to be restarted", lambda vm: conditions.holds(vm, "RestartRequired")
    )
    assert hypervisor.host.machines[key.name].boot.memory == 2 * GIBI
    restart = {"metadata": {"annotations": {"sitewright.dev/restart": "2026-01-01T00:00:00Z"}}}
    hypervisor.api.patch(VIRTUAL_MACHINE, key, restart)
    until(lambda: hypervisor.host.machines[key.name].boot.memory == 4 * GIBI, "the new memory")
    hypervisor.see(VIRTUAL_MACHINE, key, "up to date", lambda vm: not conditions.holds(vm, "RestartRequired"))
    assert hypervisor.host.starts.count(key.name) == 2 and hypervisor.host.graces[-1] == 120


def test_deleting_the_instance_restarts_the_machine(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.api.delete(INSTANCE, key)
    until(lambda: hypervisor.host.starts.count(key.name) == 2, "a second start")
    hypervisor.see_ready(key)


def test_a_new_controller_adopts_what_runs_and_starts_what_died_meanwhile(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.controller.stop()
    hypervisor.controller.start()
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"metadata": {"labels": {"touched": "yes"}}})
    hypervisor.start_machine(disk=40 * GIBI)
    claim = Key(key.namespace, f"{key.name}-root")
    hypervisor.see(
        CLAIM, claim, "seen by the new controller", lambda c: c["status"]["capacity"] == {"storage": "40Gi"}
    )
    assert hypervisor.host.starts.count(key.name) == 1
    hypervisor.controller.stop()
    hypervisor.host.end(key.name, well=False)
    hypervisor.controller.start()
    until(lambda: hypervisor.host.starts.count(key.name) == 2, "a second start")


def test_a_machine_that_cannot_start_is_tried_ever_more_slowly(hypervisor: Hypervisor) -> None:
    hypervisor.host.broken.add(hypervisor.place)
    key = hypervisor.start_machine()
    machine = hypervisor.see_status(key, "CrashLoopBackOff")
    assert machine["status"]["startFailure"]["consecutiveFailCount"] >= 2
    hypervisor.host.broken.clear()
    hypervisor.see_ready(key)


def test_deleting_a_machine_leaves_nothing(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    volume = hypervisor.host.machines[key.name].boot.volume
    hypervisor.delete(VIRTUAL_MACHINE, key)
    hypervisor.see_gone(VIRTUAL_MACHINE, key)
    assert hypervisor.api.get(INSTANCE, key) is None
    assert hypervisor.api.list(CLAIM, key.namespace) == []
    assert key.name not in hypervisor.host.machines and not volume.exists()
    assert hypervisor.host.graces[-1] == 120


def test_a_kept_disk_outlives_its_machine_and_goes_when_it_is_deleted(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine(keep_disk=True)
    hypervisor.see_ready(key)
    volume = hypervisor.host.machines[key.name].boot.volume
    claim = Key(key.namespace, f"{key.name}-root")
    hypervisor.delete(CLAIM, claim)
    hypervisor.see(
        CLAIM, claim, "only marked as deleted", lambda claim: "deletionTimestamp" in claim["metadata"]
    )
    assert volume.exists()
    hypervisor.delete(VIRTUAL_MACHINE, key)
    hypervisor.see_gone(CLAIM, claim)
    assert not volume.exists()


def test_a_deleted_namespace_goes_with_all_that_is_in_it(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.delete(NAMESPACE, Key("", hypervisor.place))
    hypervisor.see_gone(NAMESPACE, Key("", hypervisor.place))
    assert key.name not in hypervisor.host.machines


@pytest.mark.parametrize(("text", "refused"), [("a" * 2048, False), ("a" * 2049, True), ("é" * 1025, True)])
def test_inline_user_data_is_limited_to_2048_bytes(hypervisor: Hypervisor, text: str, refused: bool) -> None:
    machine = virtual_machine.render(hypervisor.machine_spec(Key("any", "image")), "any")[1]
    machine["spec"]["runStrategy"] = "Halted"
    machine["spec"]["template"]["spec"]["volumes"][1] = {
        "name": "cloudinitdisk",
        "cloudInitNoCloud": {"userData": text},
    }
    with pytest.raises(ApiError, match="at most 2048 bytes") if refused else contextlib.nullcontext():
        hypervisor.apply(machine)


def balancer(place: str, machine: str) -> list[Object]:
    """The pool and the load balancer in front of a machine."""
    fields = {
        "name": "api",
        "namespace": place,
        "address": "10.1.0.100",
        "cidr": "10.1.0.0/24",
        "gateway": "10.1.0.1",
        "network": f"{place}/nodes",
        "machines": (machine,),
        "ports": (6443, 9345),
    }
    return load_balancer.render(load_balancer.LoadBalancerSpec.model_validate(fields))


def test_a_load_balancer_has_its_address_before_a_machine_is_there_and_finds_it_then(
    hypervisor: Hypervisor,
) -> None:
    for manifest in balancer(hypervisor.place, hypervisor.place):
        key = hypervisor.apply(manifest)
    found = hypervisor.see(
        LOAD_BALANCER, key, "an address", lambda body: body.get("status", {}).get("address")
    )
    assert found["status"]["address"] == "10.1.0.100"
    assert found["status"]["backendServers"] == []

    machine = hypervisor.start_machine()
    hypervisor.see_ready(machine)
    hypervisor.see(
        LOAD_BALANCER, key, "a server", lambda body: body["status"]["backendServers"] == ["10.1.0.10"]
    )
    made = hypervisor.host.balancers[f"{hypervisor.place}-api"]
    assert made.servers == (Server(machine.name, "10.1.0.10"),)
    assert made.ports == ((6443, 6443), (9345, 9345))

    hypervisor.delete(VIRTUAL_MACHINE, machine)
    hypervisor.see(LOAD_BALANCER, key, "no server", lambda body: body["status"]["backendServers"] == [])
    hypervisor.delete(LOAD_BALANCER, key)
    hypervisor.see_gone(LOAD_BALANCER, key)
    assert f"{hypervisor.place}-api" not in hypervisor.host.balancers


def test_a_load_balancer_leads_to_no_machine_that_it_does_not_name(hypervisor: Hypervisor) -> None:
    hypervisor.see_ready(hypervisor.start_machine())
    pool, other = balancer(hypervisor.place, "other")
    hypervisor.apply(pool)
    key = hypervisor.apply(other)
    found = hypervisor.see(LOAD_BALANCER, key, "Ready", lambda body: conditions.holds(body, "Ready"))
    assert found["status"]["backendServers"] == []


def test_a_load_balancer_waits_for_its_pool_and_says_so(hypervisor: Hypervisor) -> None:
    pool, waiting = balancer(hypervisor.place, hypervisor.place)
    key = hypervisor.apply(waiting)
    said = f"there is no IPPool {pool['metadata']['name']}"
    hypervisor.see(LOAD_BALANCER, key, said, lambda body: conditions.message(body, "Ready") == said)
    hypervisor.apply(pool)
    hypervisor.see(LOAD_BALANCER, key, "Ready", lambda body: conditions.holds(body, "Ready"))
