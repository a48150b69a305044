"""The modules of the hypervisor layer through the real Pulumi engine: what a change of the site file does to
machines that run. The hypervisor is the one of test_hypervisor.py."""

import hashlib
import json
import os
import subprocess
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_hypervisor import FakeHost, ImageServer, running

from lab.hypervisor.api import CLAIM, IMAGE, SECRET, VIRTUAL_MACHINE, Api, key_of
from tools.environment import pulumi_environment

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[2]
CONTENT = b"hsqs" + bytes(4096)
NEW_CONTENT = b"hsqs" + bytes(8192)
OTHER_CONTENT = b"hsqs" + bytes(12288)
PROGRAM = """
    import json
    from pathlib import Path

    import pulumi
    from modules.manifest import Manifest
    from modules.machines.virtual_machine import VirtualMachine, VirtualMachineSpec
    from modules.machines.vm_image import VmImage, VmImageSpec
    from modules.machines.vm_network import VmNetwork, VmNetworkSpec
    from stacks.handles import kubernetes_provider

    wanted = json.loads(Path("wanted.json").read_text())
    provider = kubernetes_provider("hypervisor", Path(wanted["kubeconfig"]).read_text())
    on = pulumi.ResourceOptions(provider=provider)
    space = Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab"}}, opts=on)
    after = pulumi.ResourceOptions(provider=provider, depends_on=[space])
    image = VmImage(VmImageSpec(**wanted["image"]), opts=after)
    network = VmNetwork(VmNetworkSpec(**wanted["network"]), opts=after)
    last = pulumi.ResourceOptions(provider=provider, depends_on=[network])
    for machine in wanted["machines"]:
        spec = VirtualMachineSpec(image=image.image_id, network=network.network_id, **machine)
        VirtualMachine(spec, image.storage_class, opts=last)
"""


@dataclass
class Site:
    """A stack on a hypervisor. wanted: what its program reads."""

    api: Api
    host: FakeHost
    images: ImageServer
    folder: Path
    environment: dict[str, str]
    wanted: dict[str, Any]

    def pulumi(self, *arguments: str, ok: bool = True) -> str:
        (self.folder / "wanted.json").write_text(json.dumps(self.wanted))
        done = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            capture_output=True,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout

    def up(self) -> dict[str, int]:
        """Update. Returns how many resources were created, updated …, as Pulumi counts them."""
        self.pulumi("up", "--yes", "--skip-preview")
        return json.loads(self.pulumi("stack", "history", "--json"))[0]["resourceChanges"]

    def preview(self) -> list[tuple[str, str]]:
        """What an update would do: operation and name of what changes."""
        steps = json.loads(self.pulumi("preview", "--json"))["steps"]
        return [(step["op"], step["urn"].rpartition("::")[2]) for step in steps if step["op"] != "same"]

    def uids(self) -> dict[str, str]:
        return {body["metadata"]["name"]: body["metadata"]["uid"] for body in self.api.list(VIRTUAL_MACHINE)}

    def machine(self, number: int) -> dict[str, Any]:
        return {
            "name": f"vm{number}",
            "namespace": "lab",
            "cpus": 1,
            "memory": 2**30,
            "disk": 2**33,
            "address": f"10.1.0.{number}",
            "prefix_length": 24,
            "mac": f"52:54:00:00:00:{number:02x}",
            "ssh_keys": ["ssh-ed25519 AAAA operator"],
        }

    def serve(self, content: bytes) -> None:
        self.images.content = content
        self.wanted["image"]["checksum"] = hashlib.sha512(content).hexdigest()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running(CONTENT) as it:
        directory = it.directory
        (backend := directory / "backend").mkdir()
        environment = pulumi_environment(REPOSITORY, dict(os.environ)) | {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase of this test",
        }
        wanted = {
            "kubeconfig": str(it.kubeconfig),
            "image": {"name": "debian", "namespace": "lab", "url": it.images.url("debian")},
            "network": {"name": "nodes", "namespace": "lab", "cidr": "10.1.0.0/24"},
        }
        made = Site(it.api, it.host, it.images, directory, environment, wanted)
        (directory / "Pulumi.yaml").write_text("name: hypervisor\nruntime: python\n")
        (directory / "__main__.py").write_text(textwrap.dedent(PROGRAM))
        made.serve(CONTENT)
        made.wanted["machines"] = [made.machine(number) for number in (1, 2, 3)]
        made.pulumi("stack", "init", "test")
        made.up()
        yield made


def test_the_second_update_changes_nothing(site: Site) -> None:
    assert sorted(site.host.starts) == ["vm1", "vm2", "vm3"]
    assert set(site.up()) == {"same"}


def test_a_refresh_finds_nothing_that_the_hypervisor_did_by_itself(site: Site) -> None:
    site.pulumi("refresh", "--yes")
    assert site.preview() == []


def test_a_machine_taken_from_the_middle_is_the_only_one_to_go(site: Site) -> None:
    before = site.uids()
    site.wanted["machines"] = [site.machine(number) for number in (1, 3)]
    assert {operation for operation, _ in site.preview()} == {"delete"}
    site.up()
    assert site.uids() == {name: uid for name, uid in before.items() if name != "vm2"}
    assert not site.host.runs("vm2") and site.host.starts.count("vm1") == site.host.starts.count("vm3") == 1


def test_more_memory_and_disk_change_the_machine_in_place(site: Site) -> None:
    before = site.uids()
    site.wanted["machines"] = [{**site.machine(1), "memory": 2**31, "disk": 2**34}, site.machine(3)]
    assert site.preview() == [("update", "vm1")]
    site.up()
    assert site.uids() == before
    assert {c["spec"]["resources"]["requests"]["storage"] for c in site.api.list(CLAIM)} == {"16Gi", "8Gi"}


def test_another_key_changes_the_secret_and_leaves_the_machine_running(site: Site) -> None:
    before, starts = site.uids(), list(site.host.starts)
    site.wanted["machines"][1] = {**site.machine(3), "ssh_keys": ["ssh-ed25519 BBBB deputy"]}
    assert site.preview() == [("update", "vm3-cloudinit")]
    site.up()
    assert (site.uids(), site.host.starts) == (before, starts)


def test_another_image_replaces_the_machines_and_preview_says_so(site: Site) -> None:
    before = site.uids()
    site.serve(NEW_CONTENT)
    planned = site.preview()
    assert (
        ("replace", "vm1") in planned and ("replace", "vm3") in planned and ("replace", "debian") in planned
    )
    site.up()
    after = site.uids()
    assert set(after) == set(before) and not set(after.values()) & set(before.values())
    [image] = site.api.list(IMAGE)
    assert image["spec"]["checksum"] == hashlib.sha512(NEW_CONTENT).hexdigest()


def test_an_image_that_cannot_be_imported_is_told_with_the_reason_and_long_before_the_timeout(
    site: Site,
) -> None:
    before = site.uids()
    site.serve(OTHER_CONTENT)
    right = site.wanted["image"]["checksum"]
    site.wanted["image"] |= {"checksum": "ab" * 64, "retries": 0}
    started = time.monotonic()
    said = site.pulumi("up", "--yes", "--skip-preview", ok=False)
    assert time.monotonic() - started < 60
    assert "VM image debian: the hypervisor gave up importing it: http://127.0.0.1:" in said
    assert f"the file is {right}, and {'ab' * 64} was expected" in said
    assert "Traceback" not in said
    assert site.uids() == before, "machines run on with the image they have"
    assert "gave up" in site.pulumi("preview", ok=False), "what the state holds is no success"
    site.wanted["image"]["checksum"] = right
    site.up()
    [image] = site.api.list(IMAGE)
    assert image["spec"]["checksum"] == right


def test_an_image_that_the_hypervisor_gave_up_is_imported_anew_once_its_object_is_deleted(site: Site) -> None:
    """As the message says."""
    site.serve(NEW_CONTENT)
    site.images.down = True
    said = site.pulumi("up", "--yes", "--skip-preview", ok=False)
    assert "the server answers 503" in said
    site.images.down = False
    [failed] = [
        one for one in site.api.list(IMAGE) if one["spec"]["checksum"] == site.wanted["image"]["checksum"]
    ]
    site.api.delete(IMAGE, key_of(failed))
    site.pulumi("up", "--yes", "--skip-preview", "--refresh")
    [image] = site.api.list(IMAGE)
    assert image["spec"]["checksum"] == site.wanted["image"]["checksum"]
    assert site.preview() == []


def test_the_keys_are_not_readable_in_the_state(site: Site) -> None:
    assert "AAAA operator" not in site.pulumi("stack", "export")


def test_destroy_leaves_nothing(site: Site) -> None:
    site.pulumi("destroy", "--yes", "--skip-preview")
    assert site.host.machines == {} and site.host.mounted == set()
    for kind in (VIRTUAL_MACHINE, IMAGE, CLAIM, SECRET):
        assert site.api.list(kind) == [], kind.kind
