"""A valid site file: what the model says, what follows from it, and where each value comes from."""

from pathlib import Path

import pytest

from sitewright.errors import SitewrightError
from sitewright.site import SiteFileError, load
from sitewright.site.effective import as_yaml
from sitewright.site.files import REPOSITORY
from sitewright.site.load import load_with_origin

GIB = 2**30
BASE = REPOSITORY / "tests/data/site/base.yaml"


@pytest.fixture(scope="module")
def lab():
    return load(REPOSITORY / "environments/lab.yaml")


@pytest.fixture
def variant(tmp_path):
    """Loads the base site with some text on top, as `site.yaml` in a directory of its own."""

    def write(text: str, name: str = "site"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"extends: {BASE}\nname: {name}\n{text}")
        return load(path)

    return write


def pool(text: str) -> str:
    return (
        "pools:\n  - {name: gpu, nodes: 'x1000c0s[0-3]b[0-1]n0', cluster: svc, network: nodes,"
        f" boot_image: compute, cpus: 8, memory: 64Gi, gpus: 4, {text}}}\n"
    )


def test_the_lab_has_one_control_plane_and_two_nodes(lab):
    assert [vm.name for vm in lab.vms] == ["svc-cp"]
    assert lab.vms[0].address == "10.77.0.10"
    assert (lab.vms[0].memory, lab.vms[0].prefix_length, lab.vms[0].gateway) == (2 * GIB, 24, "10.77.0.1")
    assert [(node.xname, node.nid, node.address) for node in lab.nodes] == [
        ("x1000c0s0b0n0", 1, "10.77.0.64"),
        ("x1000c0s0b1n0", 2, "10.77.0.65"),
    ]
    assert [(node.bmc, node.bmc_address) for node in lab.nodes] == [
        ("x1000c0s0b0", "10.77.0.160"),
        ("x1000c0s0b1", "10.77.0.161"),
    ]
    assert lab.clusters[0].endpoint_address == "10.77.0.10"
    assert lab.clusters[0].dns_address == "10.79.0.10"
    assert lab.control_plane("svc") == lab.vms
    assert lab.pool_nodes("gpu") == lab.nodes
    assert lab.warnings == ()


def test_every_bmc_of_the_lab_is_published(lab):
    reached = {lab.operator_endpoint(node.bmc_address, lab.bmc.port) for node in lab.nodes}
    assert {host for host, _ in reached} == {"127.0.0.1"}
    assert len(reached) == len(lab.nodes)


def test_an_unknown_name_is_refused_with_the_nearest_one(lab):
    for ask in (lab.cluster, lab.control_plane):
        with pytest.raises(SitewrightError, match=r"no cluster named 'svcs' \(did you mean 'svc'\?\)"):
            ask("svcs")
    with pytest.raises(SitewrightError, match="no pool named 'cpu'"):
        lab.pool_nodes("cpu")


def test_addresses_of_the_lab_are_reached_on_published_ports(lab):
    assert lab.operator_endpoint("10.77.0.10", 6443) == ("127.0.0.1", 16443)
    assert lab.operator_url("http://10.77.0.1:8080/boot/a?b=c") == "http://127.0.0.1:18080/boot/a?b=c"
    assert lab.operator_url("http://10.77.0.9:1/x") == "http://10.77.0.9:1/x"


def test_a_real_site_is_reached_where_it_is():
    site = load(BASE)
    assert site.lab is None
    assert site.operator_endpoint("10.1.0.100", 6443) == ("10.1.0.100", 6443)
    assert site.operator_url("https://10.1.0.1/x") == "https://10.1.0.1/x"


def test_the_plan_is_the_same_each_time_and_differs_between_environments(variant):
    first, again, other = variant(""), variant(""), variant("", name="other")
    assert first.vms == again.vms
    assert first.nodes == again.nodes
    assert {vm.mac for vm in first.vms}.isdisjoint(vm.mac for vm in other.vms)
    macs = [host.mac for host in (*first.vms, *first.nodes)]
    assert len(set(macs)) == len(macs)
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, one card"


def test_a_new_pool_moves_nothing_that_was_there(variant):
    before = variant("")
    text = "{name: more, nodes: x1001c0s0b0n0, cluster: svc, network: nodes, boot_image: compute, cpus: 8, memory: 64Gi}"
    after = variant(pool("labels: {}") + f"  - {text}\n")
    assert after.nodes[: len(before.nodes)] == before.nodes
    assert (after.nodes[-1].nid, after.nodes[-1].address) == (9, "10.1.1.8")


def test_an_ex_controller_has_the_mac_address_of_its_place(variant):
    """The address is the one HPE's documentation shows for x1000c0s0b0."""
    assert variant("").nodes[0].bmc_mac == "02:03:e8:00:30:00"
    assert variant("").nodes[7].bmc_mac == "02:03:e8:00:33:10"


def test_two_nodes_on_one_controller_share_its_address(variant):
    site = variant(pool("").replace("x1000c0s[0-3]b[0-1]n0", "x1000c0s0b[0-1]n[0-1]"))
    assert [node.bmc_address for node in site.nodes] == [
        "10.1.1.144",
        "10.1.1.144",
        "10.1.1.146",
        "10.1.1.146",
    ]


def test_overrides_win_over_the_plan(variant):
    site = variant(
        pool("overrides: {x1000c0s0b0n0: {address: 10.1.1.99, mac: AA-BB-CC-DD-EE-0F, nid: 70}}")
        + "bmc: {password_file: p, overrides: {x1000c0s0b1: {address: 10.1.1.200, mac: aabb.ccdd.ee10}}}\n"
        + "virtual_machines:\n  - {name: 'cp[1-3]', image: debian-12, network: nodes,"
        + " overrides: {cp2: {address: 10.1.0.77, mac: AABBCCDDEE11}}}\n"
    )
    node, second = site.nodes[:2]
    assert (node.address, node.mac, node.nid) == ("10.1.1.99", "aa:bb:cc:dd:ee:0f", 70)
    assert (second.bmc_address, second.bmc_mac, second.nid) == ("10.1.1.200", "aa:bb:cc:dd:ee:10", 2)
    assert [(vm.address, vm.mac[:2]) for vm in site.vms] == [
        ("10.1.0.10", "02"),
        ("10.1.0.77", "aa"),
        ("10.1.0.12", "02"),
    ]


@pytest.mark.parametrize(
    "mac", ["AA-BB-CC-DD-EE-0F", "aabb.ccdd.ee0f", "AABBCCDDEE0F", "'aa:bb:cc:dd:ee:0f'"]
)
def test_a_mac_address_in_any_notation_becomes_one(variant, mac):
    assert variant(pool(f"overrides: {{x1000c0s0b0n0: {{mac: {mac}}}}}")).nodes[0].mac == "aa:bb:cc:dd:ee:0f"


def test_xnames_in_any_spelling_become_one(variant):
    site = variant(pool("").replace("x1000c0s[0-3]b[0-1]n0", "X1000C0S[00-03]B[0-1]N00"))
    assert site.nodes == variant("").nodes


def test_pods_beside_the_networks_pass_without_a_warning(variant):
    text = "clusters:\n  - {name: svc, distribution: kubeadm, version: 1.37.2, control_plane: 'cp[1-3]',"
    site = variant(
        text + " virtual_address: 10.1.0.100, pod_cidr: 172.31.0.0/16, service_cidr: 10.240.0.0/12}\n"
    )
    assert site.warnings == ()
    assert site.clusters[0].dns_address == "10.240.0.10"


KERNEL_LINES = (
    "ro root=live:http://10.1.0.1:9000/img/rootfs ip=dhcp ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init/",
    """x.sources='["url:http://10.1.0.1/c.yml"]'""",
)


def test_kernel_arguments_are_kept_character_for_character(variant):
    site = variant(
        pool("").replace("}\n", f", kernel_arguments: [\n  {KERNEL_LINES[0]!r},\n  {KERNEL_LINES[1]!r}]}}\n")
    )
    assert tuple(site.pools[0].kernel_arguments) == KERNEL_LINES
    assert tuple(site.model_dump(mode="json")["pools"][0]["kernel_arguments"]) == KERNEL_LINES


def test_a_seed_url_without_its_slash_is_warned_of(variant):
    site = variant(
        pool("kernel_arguments: ['quiet ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init', root=live:x]")
    )
    seed, root = (str(warning) for warning in site.warnings)
    assert "site.yaml:4:" in seed
    assert "'http://10.1.0.1:8081/cloud-init' does not end in '/'" in seed
    assert "root= is given by the boot image" in root


def test_what_nothing_uses_is_warned_of(variant):
    site = variant("boot_images: [{name: compute}, {name: spare}]\n")
    assert [str(warning).partition(": ")[2] for warning in site.warnings] == [
        "boot_images[1].name: 'spare' is used by no pool"
    ]


def test_paths_are_meant_relative_to_the_file_that_holds_them(variant, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/op")
    site = variant(
        "image_server: {url: 'http://10.1.0.1/boot', publish_dir: ../boot}\nssh: {private_key: ~/.ssh/key}\n"
    )
    assert site.image_server.publish_dir == tmp_path.parent / "boot"
    assert site.ssh.private_key == Path("/home/op/.ssh/key")
    assert site.bmc.password_file == BASE.parent / "bmc.password"


def test_of_several_files_the_right_most_wins_lists_replace_and_mappings_merge(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "bmc: {port: 1, username: one}\nboot_images: [{name: compute}, {name: one}]\n"
    )
    (tmp_path / "two.yaml").write_text("bmc: {port: 2}\n")
    (tmp_path / "site.yaml").write_text(
        f"extends: [{BASE}, one.yaml, two.yaml]\nname: site\nbmc: {{ca_file: ca.crt}}\n"
    )
    loaded = load_with_origin(tmp_path / "site.yaml")
    bmc = loaded.site.bmc
    assert (bmc.port, bmc.username, bmc.ca_file) == (2, "one", tmp_path / "ca.crt")
    assert [image.name for image in loaded.site.boot_images] == ["compute", "one"]
    assert str(loaded.tree.find(("bmc", "port"))[0]) == f"{tmp_path / 'two.yaml'}:1:7"


def test_a_null_takes_an_inherited_section_away(tmp_path):
    (tmp_path / "real.yaml").write_text(
        f"extends: {REPOSITORY}/environments/lab.yaml\nname: real\nlab: null\n"
    )
    assert load(tmp_path / "real.yaml").lab is None


@pytest.mark.parametrize(
    "environment", ["environments/lab.yaml", "tests/data/site/base.yaml", "environments/example-alps.yaml"]
)
def test_the_effective_file_is_itself_a_valid_site_file_that_says_the_same(environment, tmp_path):
    loaded = load_with_origin(REPOSITORY / environment)
    copy = tmp_path / f"{loaded.site.name}.yaml"
    copy.write_text(as_yaml(loaded, origin=True))
    again = load(copy)
    assert again == loaded.site
    assert (again.vms, again.nodes) == (loaded.site.vms, loaded.site.nodes)


def test_the_origin_of_a_value_is_its_file_and_line_or_default():
    lines = as_yaml(load_with_origin(BASE), origin=True).splitlines()
    origin = {line.split(":")[0].strip(" -"): line.rpartition("# ")[2] for line in lines}
    assert origin["publish_dir"] == "default"  # the last one: of shared_filesystem
    assert origin["password_file"] == "tests/data/site/base.yaml:15:7"
    assert origin["namespace"] == "default"


def test_a_site_cannot_be_changed_after_it_was_validated(lab):
    with pytest.raises(ValueError, match="frozen"):
        lab.name = "other"


def test_a_byte_order_mark_is_no_problem(tmp_path):
    (tmp_path / "site.yaml").write_text(f"\ufeffextends: {BASE}\nname: site\n", encoding="utf-8")
    assert load(tmp_path / "site.yaml").name == "site"


def test_an_error_lists_its_problems_in_the_order_of_the_file(variant):
    with pytest.raises(SiteFileError) as refused:
        variant("bmc: {password_file: x, prot: 1}\nregistry: {}\n")
    assert [problem.position.line for problem in refused.value.problems] == [3, 4]
