"""A valid site file: what the model says, what follows from it, and where each value comes from."""

import json
from pathlib import Path

import pytest

from sitewright.errors import SitewrightError
from sitewright.site import SiteFileError, load
from sitewright.site.effective import as_yaml
from sitewright.site.files import REPOSITORY
from sitewright.site.load import load_with_origin

BASE = REPOSITORY / "tests/data/site/base.yaml"
LAB = REPOSITORY / "environments/lab.yaml"
NOTATIONS = ["AA-BB-CC-DD-EE-0F", "aabb.ccdd.ee0f", "AABBCCDDEE0F", "'aa:bb:cc:dd:ee:0f'"]
POOL = """pools:
  - name: gpu
    nodes: x1000c0s[0-3]b[0-1]n0
    cluster: svc
    network: nodes
    boot_image: compute
    cpus: 8
    memory: 64Gi
    gpus: 4
"""


@pytest.fixture(scope="module")
def lab():
    return load(LAB)


@pytest.fixture
def variant(tmp_path):
    """Loads the base site with some text on top, as `site.yaml` in a directory of its own."""

    def write(text: str, name: str = "site"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"extends: {BASE}\nname: {name}\n{text}")
        return load(path)

    return write


def test_the_lab_has_one_control_plane_and_two_nodes(lab):
    vm = lab.vms[0]
    assert (vm.name, vm.address, vm.prefix_length, vm.gateway) == ("svc-cp", "10.77.0.10", 24, "10.77.0.1")
    assert (vm.memory, vm.disk) == (2 * 2**30, 20 * 2**30)
    assert [(node.xname, node.nid, node.address, node.bmc, node.bmc_address) for node in lab.nodes] == [
        ("x1000c0s0b0n0", 1, "10.77.0.64", "x1000c0s0b0", "10.77.0.160"),
        ("x1000c0s0b1n0", 2, "10.77.0.65", "x1000c0s0b1", "10.77.0.161"),
    ]
    assert (lab.clusters[0].endpoint_address, lab.clusters[0].dns_address) == ("10.77.0.10", "10.79.0.10")
    assert lab.control_plane("svc") == lab.control_plane(lab.clusters[0]) == lab.vms
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
    with pytest.raises(SitewrightError, match="'boot/a' is not a URL"):
        lab.operator_url("boot/a")


def test_a_real_site_is_reached_where_it_is():
    site = load(BASE)
    assert site.lab is None
    assert site.operator_endpoint("10.1.0.100", 6443) == ("10.1.0.100", 6443)
    assert site.operator_url("https://10.1.0.1/x") == "https://10.1.0.1/x"
    assert site.clusters[0].endpoint_address == "10.1.0.100"


def test_the_plan_is_the_same_each_time_and_differs_between_environments(variant):
    first, again, other = variant(""), variant(""), variant("", name="other")
    assert (first.vms, first.nodes) == (again.vms, again.nodes)
    assert {vm.mac for vm in first.vms}.isdisjoint(vm.mac for vm in other.vms)
    macs = [host.mac for host in (*first.vms, *first.nodes)]
    assert len(set(macs)) == len(macs)
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, one card"


def test_a_new_pool_moves_nothing_that_was_there(variant):
    more = POOL.replace("pools:\n", "").replace("name: gpu", "name: more").replace("[0-3]b[0-1]", "4b0")
    before, after = variant(""), variant(POOL + more)
    assert after.nodes[:-1] == before.nodes
    assert (after.nodes[-1].nid, after.nodes[-1].address) == (9, "10.1.1.8")


def test_an_ex_controller_has_the_mac_address_of_its_place(variant):
    """HPE's documentation shows the first one for x1000c0s0b0."""
    nodes = variant("").nodes
    assert (nodes[0].bmc_mac, nodes[7].bmc_mac) == ("02:03:e8:00:30:00", "02:03:e8:00:33:10")


def test_a_controller_in_a_standard_rack_has_a_derived_mac_address(variant):
    nodes = variant(POOL.replace("x1000c0s[0-3]b[0-1]n0", "x3000c0s[1-2]b0n0")).nodes
    assert len({node.bmc_mac for node in nodes}) == 2
    assert not nodes[0].bmc_mac.startswith("02:0b:b8")


def test_two_nodes_on_one_controller_share_its_address(variant):
    nodes = variant(POOL.replace("[0-3]b[0-1]n0", "0b[0-1]n[0-1]")).nodes
    assert [node.bmc_address[-3:] for node in nodes] == ["144", "144", "146", "146"]


def test_overrides_win_over_the_plan(variant):
    site = variant(
        POOL
        + "    overrides: {x1000c0s0b0n0: {address: 10.1.1.99, mac: 02:00:00:00:00:01, nid: 70}}\n"
        + "bmc: {password_file: p, overrides: {x1000c0s0b1: {address: 10.1.1.200, mac: 02:00:00:00:00:02}}}\n"
        + "virtual_machines:\n  - name: cp[1-3]\n    image: debian-12\n    network: nodes\n"
        + "    overrides: {cp2: {address: 10.1.0.77, mac: 02:00:00:00:00:03}}\n"
    )
    node, second = site.nodes[:2]
    assert (node.address, node.mac, node.nid) == ("10.1.1.99", "02:00:00:00:00:01", 70)
    assert (second.bmc_address, second.bmc_mac, second.nid) == ("10.1.1.200", "02:00:00:00:00:02", 2)
    assert [vm.address for vm in site.vms] == ["10.1.0.10", "10.1.0.77", "10.1.0.12"]
    assert site.vms[1].mac == "02:00:00:00:00:03"


@pytest.mark.parametrize("mac", NOTATIONS)
def test_a_mac_address_in_any_notation_becomes_one(variant, mac):
    """A notation that was copied as it is stopped DHCP servers elsewhere: warewulf/warewulf#213."""
    site = variant(f"{POOL}    overrides: {{x1000c0s0b0n0: {{mac: {mac}}}}}\n")
    assert site.nodes[0].mac == "aa:bb:cc:dd:ee:0f"


def test_the_scheme_of_a_url_is_written_in_lower_case(variant):
    """Schemes have no case (RFC 3986, 3.1), which not everyone who gets the URL knows."""
    site = variant("registry: {endpoint: 'HTTP://10.1.0.1:5000'}\n")
    assert site.registry.endpoint == "http://10.1.0.1:5000"


@pytest.mark.parametrize("name", ["vllm-svc", "vllm2", "chat"])
def test_a_model_may_have_vllm_in_its_name(variant, name):
    """Only a Service called `vllm` itself gives pods a VLLM_PORT that is no number: vllm-project/vllm#34199."""
    model = (
        f"{{name: {name}, cluster: svc, pool: gpu, model: m, environment: e, image: i, memory: 1Gi, cpus: 1}}"
    )
    assert variant(f"services: {{models: [{model}]}}\n").services.models[0].name == name


def test_xnames_in_any_spelling_become_one(variant):
    spelled = variant(POOL.replace("x1000c0s[0-3]b[0-1]n0", "X1000C0S[00-03]B[0-1]N00"))
    assert spelled.nodes == variant(POOL).nodes


@pytest.mark.parametrize("pods", ["172.31.0.0/16", "10.42.0.0/16"])
def test_pods_beside_the_networks_pass_without_a_warning(variant, pods):
    """The ranges that kubernetes/kubeadm#3312 and projectcalico/calico#2720 would have been spared by."""
    cluster = "{name: svc, distribution: kubeadm, version: 1.37.2, control_plane: 'cp[1-3]'"
    ranges = f"virtual_address: 10.1.0.100, pod_cidr: {pods}, service_cidr: 10.240.0.0/12"
    site = variant(f"clusters:\n  - {cluster}, {ranges}}}\n")
    assert site.warnings == ()
    assert site.clusters[0].dns_address == "10.240.0.10"


KERNEL_LINES = (
    "ro root=live:http://10.1.0.1:9000/img/rootfs ip=dhcp ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init/",
    """x.sources='["url:http://10.1.0.1/c.yml"]'""",
)


def test_kernel_arguments_are_kept_character_for_character(variant):
    """What followed the `;` was lost elsewhere: redhat-cip/edeploy#92, canonical/cloud-init#2120."""
    plain = "".join(f"      - {line}\n" for line in KERNEL_LINES)
    quoted = "".join(f"      - {json.dumps(line)}\n" for line in KERNEL_LINES)
    for written in (plain, quoted):
        site = variant(f"{POOL}    kernel_arguments:\n{written}")
        assert tuple(site.pools[0].kernel_arguments) == KERNEL_LINES
        assert tuple(site.model_dump(mode="json")["pools"][0]["kernel_arguments"]) == KERNEL_LINES


def test_a_seed_url_without_its_slash_is_warned_of(variant):
    seed_url = "http://10.1.0.1:8081/cloud-init"
    site = variant(f"{POOL}    kernel_arguments: ['quiet ds=nocloud-net;s={seed_url}', root=live:x]\n")
    seed, root = (str(warning) for warning in site.warnings)
    assert "site.yaml:12:24: pools[0].kernel_arguments[0]: " in seed
    assert "'http://10.1.0.1:8081/cloud-init' does not end in '/'" in seed
    assert "root= is given by the boot image" in root


def test_what_nothing_uses_is_warned_of(variant):
    site = variant("boot_images: [{name: compute}, {name: spare}]\n")
    assert [str(warning).partition(": ")[2] for warning in site.warnings] == [
        "boot_images[1].name: 'spare' is used by no pool"
    ]


def test_paths_are_meant_relative_to_the_file_that_holds_them(variant, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/op")
    image_server = "image_server: {url: 'http://10.1.0.1/boot', publish_dir: ../boot}\n"
    site = variant(image_server + "ssh: {private_key: ~/.ssh/key}\n")
    assert site.image_server.publish_dir == tmp_path.parent / "boot"
    assert site.ssh.private_key == Path("/home/op/.ssh/key")
    assert site.bmc.password_file == BASE.parent / "bmc.password"


def test_of_several_files_the_right_most_wins_lists_replace_and_mappings_merge(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "bmc: {port: 1, username: one}\nboot_images: [{name: compute}, {name: b}]\n"
    )
    (tmp_path / "two.yaml").write_text("bmc: {port: 2}\n")
    extends = f"extends: [{BASE}, one.yaml, two.yaml]\n"
    (tmp_path / "site.yaml").write_text(f"{extends}name: site\nbmc: {{ca_file: ca.crt}}\n")
    loaded = load_with_origin(tmp_path / "site.yaml")
    bmc = loaded.site.bmc
    assert (bmc.port, bmc.username, bmc.ca_file) == (2, "one", tmp_path / "ca.crt")
    assert [image.name for image in loaded.site.boot_images] == ["compute", "b"]
    assert str(loaded.tree.find(("bmc", "port"))[0]) == f"{tmp_path / 'two.yaml'}:1:7"


def test_a_null_takes_an_inherited_section_away(tmp_path):
    (tmp_path / "real.yaml").write_text(f"extends: {LAB}\nname: real\nlab: null\n")
    assert load(tmp_path / "real.yaml").lab is None


@pytest.mark.parametrize("path", [LAB, BASE], ids=lambda path: path.stem)
def test_the_effective_file_is_a_valid_site_file_that_says_the_same(path, tmp_path):
    loaded = load_with_origin(path)
    copy = tmp_path / path.name
    copy.write_text(as_yaml(loaded, origin=True))
    again = load(copy)
    assert again.model_dump() == loaded.site.model_dump()
    assert (again.vms, again.nodes) == (loaded.site.vms, loaded.site.nodes)


def test_the_origin_of_a_value_is_its_file_and_line_or_default():
    lines = as_yaml(load_with_origin(BASE), origin=True).splitlines()
    origin = {line.split(":")[0].strip(" -"): line.rpartition("# ")[2] for line in lines}
    assert origin["password_file"] == "tests/data/site/base.yaml:15:7"
    assert origin["namespace"] == "default"
    assert origin["publish_dir"] == "default", "of shared_filesystem, the last one of that name"


def test_a_site_cannot_be_changed_after_it_was_validated(lab):
    with pytest.raises(ValueError, match="frozen"):
        lab.name = "other"


def test_a_byte_order_mark_is_no_problem(tmp_path):
    (tmp_path / "site.yaml").write_text(f"\ufeffextends: {BASE}\nname: site\n", encoding="utf-8")
    assert load(tmp_path / "site.yaml").name == "site"


def test_an_error_lists_its_problems_in_the_order_of_the_file(variant):
    with pytest.raises(SiteFileError) as refused:
        variant("registry: {endpoint: x}\nbmc: {password_file: x, prot: 1}\n")
    assert [problem.position.line for problem in refused.value.problems] == [3, 4]


def test_a_node_that_leaves_keeps_its_place(variant):
    """Also BMCs, and a node may be in another pool meanwhile."""
    whole = variant(POOL).nodes
    less = variant(POOL + "    overrides: {x1000c0s0b1n0: {absent: true}}\n", "less")
    assert [(node.xname, node.nid, node.address, node.bmc_address) for node in less.nodes] == [
        (node.xname, node.nid, node.address, node.bmc_address)
        for node in whole
        if node.xname != "x1000c0s0b1n0"
    ]
    other = (
        POOL.replace("pools:\n", "")
        .replace("name: gpu", "name: other")
        .replace("x1000c0s[0-3]b[0-1]n0", "x1000c0s0b1n0")
    )
    moved = variant(POOL + "    overrides: {x1000c0s0b1n0: {absent: true}}\n" + other, "moved")
    assert [node.nid for node in moved.pool_nodes("other")] == [9]


def test_a_vm_that_leaves_keeps_its_place(variant):
    group = "  - {name: 'w[1-3]', image: debian-12, network: nodes%s}\n"
    first = "virtual_machines:\n  - {name: 'cp[1-3]', image: debian-12, network: nodes}\n"
    whole = variant(first + group % "", "whole").vms
    less = variant(first + group % ", overrides: {w2: {absent: true}}", "less").vms
    assert [(vm.name, vm.address) for vm in less] == [
        (vm.name, vm.address) for vm in whole if vm.name != "w2"
    ]


def test_mirrors_of_the_image_server_are_one_kernel_argument_and_none_by_default(variant):
    assert variant("").kernel_arguments(variant("").pool("gpu")) == []
    server = (
        "{url: 'http://10.1.0.1/boot', publish_dir: boot, mirrors: ['http://10.1.0.2/boot/', 'http://m']}"
    )
    site = variant(f"image_server: {server}\n")
    assert site.image_server.mirrors == ["http://10.1.0.2/boot", "http://m"]
    assert site.kernel_arguments(site.pool("gpu")) == ["sitewright.mirrors=http://10.1.0.2/boot,http://m"]
