"""Where a roll goes on, which nodes are next, and which image is meant: plain data."""

from pathlib import Path
from types import SimpleNamespace as Object

import jinja2
import pytest
import yaml

from sitewright.artifacts.boot_images import BootImage
from sitewright.errors import SitewrightError
from sitewright.lifecycle import images, targets
from sitewright.lifecycle.batches import at_most, next_batch
from sitewright.lifecycle.cluster_node import ClusterNode
from sitewright.lifecycle.journal import Entry, Journal, JournalFile
from sitewright.lifecycle.roll import where
from sitewright.provisioning.openchami import Known
from sitewright.site import load

REPOSITORY = Path(__file__).parents[2]
SITE = Object(image_server=None)
OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def node(image: str = OLD, boot_id: str = "first", ready: bool = True, cordoned: bool = True) -> ClusterNode:
    said = {images.IMAGE_ANNOTATION: image, images.BOOT_ANNOTATION: boot_id}
    return ClusterNode("x1", ready, cordoned, boot_id, said)


def entry(step: str, target: str = NEW) -> Entry:
    return Entry(step=step, target=target, boot_id="first", cordoned=False)


@pytest.mark.parametrize(
    ("at", "found", "goes_on_at"),
    [
        (entry("planned"), node(), "planned"),
        (entry("drained"), node(), "drained"),
        (entry("drained"), node(cordoned=False), "planned"),  # uncordoned by hand: pods may be back
        (entry("off"), node(ready=False), "off"),
        (entry("on"), node(ready=False), "on"),
        (entry("on"), node(NEW, "second"), "joined"),
        (entry("on"), node(OLD, "second"), "drained"),  # another image: it has to boot again
        (entry("on"), None, "on"),
        (entry("joined"), node(NEW, "second"), "joined"),
        (entry("joined"), node(NEW, "second", ready=False), "off"),
        (entry("planned"), node(NEW, "second"), "joined"),  # somebody restarted it
        (entry("planned", OLD), node(NEW), "joined"),  # led elsewhere, and it never left what is meant now
        (entry("on", OLD), node(OLD, "second"), "planned"),
        (entry("off", OLD), node(OLD, ready=False), "planned"),
    ],
)
def test_a_node_goes_on_where_it_really_is(at, found, goes_on_at):
    assert where(at, found, NEW) == goes_on_at


@pytest.mark.parametrize(
    ("at", "found", "goes_on_at"),
    [
        (entry("planned"), node(NEW), "planned"),
        (entry("planned"), node(NEW, "second"), "joined"),  # it booted by itself meanwhile
        (entry("drained"), node(NEW), "drained"),
        (entry("on"), node(NEW, "second"), "joined"),
    ],
)
def test_a_node_that_is_to_reboot_is_not_there_before_it_did(at, found, goes_on_at):
    assert where(at, found, NEW, reboot=True) == goes_on_at


def test_what_a_node_said_of_an_earlier_boot_does_not_count():
    stale = {images.IMAGE_ANNOTATION: OLD, images.BOOT_ANNOTATION: "first"}
    assert images.running(ClusterNode("x1", True, False, "second", stale)) == ""
    assert images.running(node("unknown")) == ""
    assert images.running(None) == ""
    assert images.running(node(NEW)) == NEW


@pytest.mark.parametrize(("text", "nodes"), [("3", 3), ("10%", 40), ("1%", 4), ("100%", 400)])
def test_how_many_may_be_out_of_service(text, nodes):
    assert at_most(text, 400) == nodes


def test_a_share_that_is_less_than_a_node_is_one():
    assert at_most("10%", 4) == 1


@pytest.mark.parametrize("text", ["0", "0%", "101%", "-1", "half", "1.5", "", "%"])
def test_a_number_that_is_none_is_refused(text):
    with pytest.raises(SitewrightError, match="wanted is a number of nodes"):
        at_most(text, 4)


def test_nodes_that_serve_nothing_come_first_and_the_rest_is_kept_in_service():
    waiting = ["a", "b", "c", "d"]
    assert next_batch(["b"], ["a", "c"], set(), set(), 1) == ["b"]
    assert next_batch([], waiting, {"c"}, {"d"}, 2) == ["c", "d"]
    assert next_batch([], waiting, {"z"}, set(), 3) == ["a", "b"]
    assert next_batch([], waiting, set(), {"z"}, 3) == ["a", "b", "c"]
    with pytest.raises(SitewrightError, match="not Ready: y, z; 2 may be out of service"):
        next_batch([], waiting, {"y", "z"}, set(), 2)


def known(**booting: str) -> dict[str, Known]:
    return {
        name: Known("Ready", "gpu", f"http://10.0.0.1/boot/{digest.removeprefix('sha256:')}/vmlinuz")
        for name, digest in booting.items()
    }


def test_the_declared_image_is_that_of_all_nodes():
    assert targets.declared("gpu", ["a", "b"], known(a=NEW, b=NEW)) == NEW
    with pytest.raises(
        SitewrightError, match="its nodes boot different images: aaaaaaaaaaaa a, bbbbbbbbbbbb b"
    ):
        targets.declared("gpu", ["a", "b"], known(a=OLD, b=NEW))
    with pytest.raises(SitewrightError, match="no boot image for b"):
        targets.declared("gpu", ["a", "b"], known(a=OLD))


def test_the_image_before_is_the_one_that_all_nodes_ran():
    def journal(**before: str) -> Journal:
        return Journal(environment="lab", pool="gpu", target=NEW, before=before)

    assert targets.before(journal(a=OLD, b=NEW, c="")) == OLD
    with pytest.raises(SitewrightError, match="the pool ran aaaaaaaaaaaa, cccccccccccc"):
        targets.before(journal(a=OLD, b=f"sha256:{'c' * 64}"))
    with pytest.raises(SitewrightError, match="the pool ran none that is known"):
        targets.before(journal(a=""))


def test_the_image_before_is_kept_where_a_pool_boots_the_one_it_runs():
    last = Journal(environment="lab", pool="gpu", target=NEW, before={"x1": OLD}, complete=True)
    nodes, booting = {"x1": node(NEW)}, known(x1=NEW)
    again = targets.journal_for(SITE, "lab", "gpu", nodes, booting, last, None, back=False, reboot=True)
    assert (again.before, again.reboot, again.nodes) == ({"x1": OLD}, True, {})
    first = targets.journal_for(SITE, "lab", "gpu", nodes, booting, None, None, back=False, reboot=True)
    assert first.before == {"x1": NEW}


def test_a_roll_that_goes_on_reboots_as_it_was_begun():
    begun = Journal(
        environment="lab",
        pool="gpu",
        target=NEW,
        before={"x1": NEW},
        reboot=True,
        nodes={"x1": entry("off")},
    )
    nodes, booting = {"x1": node(NEW)}, known(x1=NEW)

    def on(last: Journal) -> bool:
        asked = targets.journal_for(SITE, "lab", "gpu", nodes, booting, last, None, back=False, reboot=False)
        return asked.reboot

    assert on(begun)
    assert not on(begun.model_copy(update={"complete": True}))


def test_an_image_is_declared_as_the_playbook_and_the_program_declare_it(tmp_path):
    """playbooks/roles/boot_image/tasks/return.yml, whose expressions are evaluated here, and stacks/nodes.py."""
    manifest = {"files": {"rootfs.squashfs": "ef" * 32}, "kernel_arguments": ["quiet", "ip=dhcp"]}
    text = (REPOSITORY / "tests/data/site/base.yaml").read_text()
    for old, new in (
        ("publish_dir:", "mirrors: ['http://10.1.0.2/boot/', 'http://10.1.0.3/b'], publish_dir:"),
        ("gpus: 4}", "gpus: 4, kernel_arguments: [iommu=pt]}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "base.yaml").write_text(text)
    site = load(tmp_path / "base.yaml")
    pool, url = site.pool("gpu"), "http://10.1.0.1:8080/boot"
    boot = images.boot_of(site, pool, BootImage(Path("/srv") / ("b" * 64), manifest, 0.0))

    [*_, returned] = yaml.safe_load((REPOSITORY / "playbooks/roles/boot_image/tasks/return.yml").read_text())
    facts = {"url": url, "boot_image_place": "b" * 64, "boot_image_published": manifest}
    told = returned["ansible.builtin.set_stats"]["data"]

    def value(text: str) -> str:
        return jinja2.Template(text).render(facts)

    assert boot.kernel_url == value(told["kernel_url"])
    assert boot.initrd_url == value(told["initrd_url"])
    own = [value(text) for text in returned["vars"]["boot_image_arguments"]]
    mirrors = "sitewright.mirrors=http://10.1.0.2/boot,http://10.1.0.3/b"
    assert boot.arguments == [*own, "quiet", "ip=dhcp", mirrors, "iommu=pt"]
    assert boot.arguments[-2:] == site.kernel_arguments(pool)


def test_a_journal_comes_back_as_it_was_written(tmp_path):
    file = JournalFile(tmp_path, "lab", "gpu")
    journal = Journal(
        environment="lab", pool="gpu", target=NEW, before={"x1": OLD}, nodes={"x1": entry("off")}
    )
    with file.locked():
        assert file.read() is None
        file.write(journal)
        assert file.read() == journal
    assert [path.name for path in file.path.parent.iterdir() if path.suffix == ".new"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file: Invalid JSON"),
        ('{"version": 2}', "version: "),
        (
            f'{{"environment": "lab", "pool": "gpu", "target": "{NEW}", "before": {{}}, "more": 1}}',
            "more: Extra",
        ),
        (
            '{"environment": "lab", "pool": "gpu", "target": "latest", "before": {}}',
            "target: String should match",
        ),
    ],
)
def test_a_file_that_is_no_journal_is_refused_by_what_is_wrong(tmp_path, text, said):
    file = JournalFile(tmp_path, "lab", "gpu")
    file.path.parent.mkdir()
    file.path.write_text(text)
    with pytest.raises(SitewrightError, match=said):
        file.read()


def test_a_journal_that_cannot_be_written_stops_the_roll(tmp_path):
    file = JournalFile(tmp_path / "gone", "lab", "gpu")
    with pytest.raises(SitewrightError, match=r"lab-gpu\.json: No such file or directory"):
        file.write(Journal(environment="lab", pool="gpu", target=NEW, before={}))
