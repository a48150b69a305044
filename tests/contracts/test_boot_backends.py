"""What nodes boot is declared alike with BSS and with boot-service: our client and the lab's services."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from sitewright.errors import SitewrightError
from sitewright.lifecycle import images
from sitewright.lifecycle.roll_actions import RollActions
from sitewright.provider.openchami.kinds import BootConfiguration
from sitewright.provisioning.openchami import EXCLUSIVE, Boot
from sitewright.provisioning.openchami_access import provisioner
from sitewright.provisioning.openchami_http import Held
from sitewright.site import Site, load
from tests.contracts.boot_sites import BOOT_SERVICE, BSS, SEED, BootSite
from tests.contracts.pools import Pool, publish
from tests.contracts.test_openchami import BOOT, GPU, node
from tests.contracts.test_provisioner import Provisioner

sys.path.insert(0, str(Path(__file__).parents[2] / "playbooks" / "library"))
import openchami_forget

FIRST, SECOND = "x1000c0s0b0n0", "x1000c0s0b1n0"
REPOSITORY = Path(__file__).parents[2]
IMAGE = "b" * 64
OTHER = replace(BOOT, kernel_url="http://10.77.0.1/other")
DIFFERS = [
    f"boot parameters of {FIRST}",
    f"boot parameters of {SECOND}",
    "boot parameters of x1000c0s0b[0-1]n0",
]


@pytest.fixture(params=[BSS, BOOT_SERVICE])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[BootSite]:
    with Provisioner(tmp_path / "provisioner.db") as running:
        yield BootSite(running, request.param)


@pytest.fixture
def boot_service(tmp_path: Path) -> Iterator[BootSite]:
    with Provisioner(tmp_path / "provisioner.db") as running:
        yield BootSite(running, BOOT_SERVICE)


def boots(site: BootSite) -> dict[str, str]:
    """The kernel of each node, as `sitewright nodes list` asks for it."""
    return {xname: one.kernel.rpartition("/")[2] for xname, one in site.ask.known().items()}


def test_a_declared_pool_boots_and_declaring_it_again_writes_nothing(site: BootSite) -> None:
    site.write.declare(GPU)
    for xname in (FIRST, SECOND):
        script = site.script(xname)
        assert "http://10.77.0.1/vmlinuz" in script and "root=live:http://10.77.0.1/root quiet" in script
        assert " ds=nocloud-net;s=http://" in script, "cloud-init finds its server"
    before = site.everything(), site.told()
    assert site.write.declare(GPU) == site.ask.declare(GPU) == []
    assert (site.everything(), site.told()) == before
    assert boots(site) == {FIRST: "vmlinuz", SECOND: "vmlinuz"}


def test_a_check_names_what_is_missing_and_writes_nothing(site: BootSite) -> None:
    before = site.everything(), site.told()
    assert "boot parameters of x1000c0s0b[0-1]n0" in site.ask.declare(GPU)
    assert (site.everything(), site.told()) == before


def test_one_node_gets_another_image_and_the_others_keep_theirs(site: BootSite) -> None:
    """As a roll does it, one node after the other, and the way back."""
    site.write.declare(GPU)
    for xname, then in ((FIRST, [FIRST]), (SECOND, [FIRST, SECOND])):
        assert site.write.set_boot("gpu", [xname], OTHER) == [xname]
        assert boots(site) == {one: "other" if one in then else "vmlinuz" for one in (FIRST, SECOND)}
        assert "http://10.77.0.1/other" in site.script(xname)
    assert site.ask.declare(GPU) == ["boot parameters of x1000c0s0b[0-1]n0"]
    site.write.set_boot("gpu", [SECOND], BOOT)
    assert boots(site) == {FIRST: "other", SECOND: "vmlinuz"}
    assert site.write.declare(GPU) == [f"boot parameters of {FIRST}"]
    assert boots(site) == {FIRST: "vmlinuz", SECOND: "vmlinuz"}


def test_requests_are_as_many_for_300_nodes_as_for_3(site: BootSite) -> None:
    def asked(count: int) -> list[list[str]]:
        xnames = [f"x1000c{number // 64}s{number // 8 % 8}b{number % 8}n0" for number in range(count)]
        return [
            site.asks(lambda client: client.set_boot("gpu", xnames, BOOT)),
            site.asks(lambda client: client.set_boot("gpu", xnames, BOOT)),
            site.asks(lambda client: client.set_boot("gpu", xnames[:1], OTHER)),
            site.asks(lambda client: client.set_boot("gpu", xnames, OTHER)),
            site.asks(lambda client: client.boots(xnames)),
            site.asks(lambda client: client.known()),
            site.asks(lambda client: client.forget_boot("gpu", xnames)),
        ]

    few = asked(3)
    assert asked(300) == few
    assert max(map(len, few)) <= 6


def test_a_pool_is_declared_with_as_few_requests_as_two_nodes(site: BootSite) -> None:
    many = [
        {
            **node(0),
            "xname": f"x1000c0s{n}b0n0",
            "bmc": f"x1000c0s{n}b0",
            "nid": n + 1,
            "mac": f"02:00:00:00:01:{n:02x}",
        }
        for n in range(1, 8)
    ]
    for one in many:
        one["address"] = f"10.77.1.{one['nid']}"
    few = site.asks(lambda client: client.declare(GPU))
    assert len(site.asks(lambda client: client.declare(replace(GPU, name="cpu", nodes=many)))) == len(few)


@pytest.mark.parametrize("gone", [[FIRST], [FIRST, SECOND]])
def test_what_was_taken_out_by_hand_is_found_and_put_back(site: BootSite, gone: list[str]) -> None:
    site.write.declare(GPU)
    site.write.forget_boot("gpu", gone)
    [differs] = site.ask.declare(GPU)
    assert differs in DIFFERS
    assert site.write.declare(GPU) == [differs]
    assert site.ask.declare(GPU) == []


def test_a_node_that_leaves_takes_nothing_of_the_others_with_it(site: BootSite) -> None:
    site.write.declare(GPU)
    site.write.release([node(1)])
    assert site.ask.declare(replace(GPU, nodes=[node(0)])) == []
    assert "x1000c0s0b1" not in str((site.told(), site.send(BOOT_SERVICE, "GET", "/nodes")))
    assert "vmlinuz" in site.script(FIRST) and "vmlinuz" not in site.script(SECOND)
    site.write.release([node(1)])  # what was interrupted is done again


def test_at_the_end_of_a_pool_no_node_boots(site: BootSite) -> None:
    site.write.declare(GPU)
    site.write.end(GPU)
    assert "x1000" not in str((site.told(), site.send(BOOT_SERVICE, "GET", "/nodes")))
    site.write.end(GPU)


def test_what_another_owner_has_stays_as_it_is(site: BootSite) -> None:
    site.write.declare(GPU)
    site.send("smd", "POST", "/hsm/v2/groups", {"label": "slurm", "exclusiveGroup": EXCLUSIVE})
    site.write.hand_over(SECOND, "slurm")
    site.write.forget_boot("gpu", [FIRST, SECOND])
    assert boots(site) == {FIRST: "", SECOND: "vmlinuz"}


def test_pools_that_boot_the_same_are_forgotten_one_by_one(site: BootSite) -> None:
    gpu, cpu = replace(GPU, nodes=[node(0)]), replace(GPU, name="cpu", nodes=[node(1)])
    site.write.declare(gpu)
    site.write.declare(cpu)
    site.write.end(cpu)
    assert site.ask.declare(gpu) == []
    assert boots(site) == {FIRST: "vmlinuz"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_failed_halfway_is_done_by_the_same_again(site: BootSite, method: str) -> None:
    site.write.declare(GPU)
    site.write.set_boot("gpu", [FIRST], OTHER)
    changed = replace(GPU, boot=replace(BOOT, arguments=["debug"]))
    site.transport.refused = {method}
    try:
        site.write.set_boot("gpu", [FIRST, SECOND], changed.boot)
    except SitewrightError as error:
        assert "400 not now" in error.message
    site.transport.refused = set()
    site.write.declare(changed)
    assert site.ask.declare(changed) == []
    assert "debug" in site.script(FIRST) and "debug" in site.script(SECOND)


def test_what_is_there_is_found_as_the_resource_that_declares_it(site: BootSite) -> None:
    site.write.declare(GPU)
    found = BootConfiguration.found(site.ask, "lab", "gpu")
    assert found is not None and found.nodes == [FIRST, SECOND] and found.exists(site.ask)
    assert (found.kernel, found.initrd, found.arguments) == (BOOT.kernel_url, BOOT.initrd_url, BOOT.arguments)
    assert found.declare(site.ask) == []
    site.write.set_boot("gpu", [FIRST], OTHER)
    with pytest.raises(SitewrightError, match="its nodes boot different things"):
        BootConfiguration.found(site.ask, "lab", "gpu")


def lab_of(site: BootSite, directory: Path) -> Site:
    """The lab's site with these services, and one published image."""
    document = yaml.safe_load((REPOSITORY / "environments/lab.yaml").read_text())
    publish(document, site.urls)
    if site.backend == BOOT_SERVICE:
        del document["provisioner"]["bss"]
        document["provisioner"]["boot_service"] = "http://10.77.0.1:27776"
    document["image_server"]["publish_dir"] = str(directory)
    del document["image_server"]["signing_key"]
    (directory / "lab.yaml").write_text(yaml.safe_dump(document))
    (directory / IMAGE).mkdir()
    files = {"files": {"rootfs.squashfs": IMAGE}, "sizes": {}, "packages": []}
    manifest = {"name": "compute", "kernel_arguments": ["quiet"], **files}
    (directory / IMAGE / "manifest.json").write_text(json.dumps(manifest))
    return load(directory / "lab.yaml")


def test_a_roll_gives_its_nodes_the_image_and_the_list_of_nodes_shows_it(
    site: BootSite, tmp_path: Path
) -> None:
    lab = lab_of(site, tmp_path)
    site.write.declare(Pool("gpu", "svc", [asdict(one) for one in lab.nodes], BOOT, "#cloud-config\n"))
    actions = RollActions(lab, lab.pool("gpu"), "lab", f"sha256:{IMAGE}", print, 1, 1, False, "")
    actions.declare([FIRST])
    actions.declare([FIRST])
    known = provisioner(lab).known()
    assert {xname: images.boots_next(one) for xname, one in known.items()} == {
        FIRST: f"sha256:{IMAGE}",
        SECOND: "",
    }
    assert f"sitewright.root=sha256:{IMAGE} quiet" in site.script(FIRST)


def test_the_module_of_a_release_has_nodes_forgotten(site: BootSite) -> None:
    site.write.declare(GPU)
    given = {"pool": "gpu", "nodes": [node(1)], "smd": site.services.smd}
    given[site.backend.replace("-", "_")] = site.url
    with patch_module_args(given), pytest.raises(SystemExit) as ended:
        openchami_forget.main()
    assert ended.value.code == 0
    assert "x1000c0s0b1" not in str(
        (site.everything(), site.told(), site.send(BOOT_SERVICE, "GET", "/nodes"))
    )
    assert boots(site) == {FIRST: "vmlinuz"}


# boot-service alone ------------------------------------------------------------------------------


def of(site: BootSite) -> list[tuple[str, list[str]]]:
    return sorted((one["metadata"]["name"], one["spec"].get("hosts", [])) for one in site.told())


def test_a_pool_is_one_configuration_and_two_while_images_are_rolled(boot_service: BootSite) -> None:
    site = boot_service
    site.write.declare(GPU)
    assert of(site) == [("gpu", [FIRST, SECOND])]
    site.write.set_boot("gpu", [FIRST], OTHER)
    assert of(site) == [("gpu", [FIRST]), ("gpu", [SECOND])]
    site.write.set_boot("gpu", [SECOND], OTHER)
    assert of(site) == [("gpu", [FIRST, SECOND])]


def test_a_node_waits_until_boot_service_has_seen_it_in_smd(boot_service: BootSite) -> None:
    site = boot_service
    site.copies = False
    with pytest.raises(
        Held, match=r"x1000c0s0b\[0-1\]n0: boot-service does not know their MAC addresses yet"
    ) as held:
        site.write.declare(GPU)
    assert "--hsm-url" in held.value.hint
    assert "copies in boot-service of x1000c0s0b[0-1]n0" in site.ask.declare(GPU)
    site.copies = True
    site.write.declare(GPU)
    assert site.ask.declare(GPU) == []


def test_a_swapped_blade_counts_once_boot_service_has_its_mac_address(boot_service: BootSite) -> None:
    site = boot_service
    site.write.declare(GPU)
    swapped = {**node(1), "mac": "02:00:00:00:00:99"}
    site.copies = False
    with pytest.raises(Held, match=SECOND):
        site.write.readdress([swapped], SECOND)
    site.copies = True
    assert site.ask.declare(replace(GPU, nodes=[node(0), swapped])) == []


@pytest.mark.parametrize(
    ("boot", "value"),
    [
        (replace(BOOT, kernel_url="http://10.77.0.1/k?a=1&b=2"), "http://10.77.0.1/k?a=1&b=2"),
        (replace(BOOT, initrd_url="http://10.77.0.1/i+d"), "http://10.77.0.1/i+d"),
        *((replace(BOOT, arguments=["quiet", f"a=1{sign}b"]), f"a=1{sign}b") for sign in "&+<>\"'"),
        (replace(BOOT, kernel_url="s3://images/k"), "s3://images/k"),
    ],
)
def test_a_value_that_a_script_would_not_hold_as_it_is_is_refused_before_anything_is_asked(
    boot_service: BootSite, boot: Boot, value: str
) -> None:
    site = boot_service
    with pytest.raises(SitewrightError) as refused:
        site.write.set_boot("gpu", [FIRST], boot)
    assert repr(value) in refused.value.message and "nothing was written" in refused.value.message
    assert refused.value.hint
    assert site.transport.asked == [] and site.told() == []


def test_what_a_node_asks_for_arrives_in_its_script_character_for_character(boot_service: BootSite) -> None:
    line = "root=live:http://10.77.0.1/r%2Bd x=`a`;b|c ip=dhcp console=ttyS0,115200n8 y={1}$@#~!*()[]^"
    boot_service.write.declare(replace(GPU, boot=replace(BOOT, arguments=line.split())))
    assert f"set params {line} ds=nocloud-net;s={SEED}/ BOOTIF=" in boot_service.script(FIRST)


def test_a_seed_that_the_site_gives_itself_is_the_only_one(boot_service: BootSite) -> None:
    arguments = ["quiet ds=nocloud-net;s=http://other/"]
    boot_service.write.declare(replace(GPU, boot=replace(BOOT, arguments=arguments)))
    assert boot_service.script(FIRST).count("ds=") == 1


Spec = dict[str, Any]
OVERRIDES: dict[str, Spec] = {
    "by its MAC address": {"macs": [node(0)["mac"].upper()]},
    "by its NID": {"nids": [node(0)["nid"]]},
}


@pytest.mark.parametrize("spec", OVERRIDES.values(), ids=OVERRIDES)
def test_a_configuration_of_somebody_else_that_counts_for_more_is_named(
    boot_service: BootSite, spec: Spec
) -> None:
    site = boot_service
    site.write.declare(GPU)
    uid = site.add("rescue", kernel="http://rescue", **spec)
    assert boots(site)[FIRST] == "rescue"
    assert site.ask.declare(GPU) == [f"boot parameters of {FIRST}"]
    before = site.told()
    with pytest.raises(
        SitewrightError, match=rf"{FIRST}: the boot configuration that counts is 'rescue' \({uid}\)"
    ):
        site.write.declare(GPU)
    assert site.told() == before
    site.send(BOOT_SERVICE, "DELETE", f"/bootconfigurations/{uid}")
    assert site.write.declare(GPU) == []


DEFAULTS: dict[str, Spec] = {
    "for all": {},
    "any host": {"hosts": ["*"], "priority": 50},
    "group": {"groups": ["gpu"]},
}


@pytest.mark.parametrize("spec", DEFAULTS.values(), ids=DEFAULTS)
def test_a_default_of_somebody_else_is_left_alone(boot_service: BootSite, spec: Spec) -> None:
    site = boot_service
    site.add("discovery", kernel="http://10.77.0.1/discovery", **spec)
    site.write.declare(GPU)
    assert site.ask.declare(GPU) == []
    assert "http://10.77.0.1/vmlinuz" in site.script(FIRST)
    site.write.end(GPU)
    assert [one["metadata"]["name"] for one in site.told()] == ["discovery"]


def test_a_node_is_taken_out_of_what_named_it_before_and_what_else_that_names_stays(
    boot_service: BootSite,
) -> None:
    site = boot_service
    site.add("by hand", kernel="http://old", hosts=[FIRST, "x9c0s0b0n0"], params="p", priority=100)
    site.add("both", kernel="http://old", hosts=[FIRST], groups=["gpu"])
    site.add("alone", kernel="http://old", hosts=[FIRST])
    site.write.declare(GPU)
    specs = {one["metadata"]["name"]: one["spec"] for one in site.told()}
    assert specs.keys() == {"by hand", "both", "gpu"}
    assert specs["by hand"] == {
        "kernel": "http://old",
        "hosts": ["x9c0s0b0n0"],
        "params": "p",
        "priority": 100,
    }
    assert specs["both"] == {"kernel": "http://old", "groups": ["gpu"]}
    assert site.ask.declare(GPU) == []
