"""Layers of a root: which are built again, and that nothing half-made counts or stays behind."""

import os
import time
from pathlib import Path

import pytest

from sitewright.artifacts import layers
from sitewright.artifacts.layers import Layer
from sitewright.errors import SitewrightError

STEPS = {"base": "1", "initramfs": "2", "kubelet": "3", "node": "4"}


def build(cache: Path, digests: dict[str, str]) -> list[str]:
    """What a build would do, without mounts; names of the layers it made."""
    made = layers.missing(layers.plan(cache, digests))
    for layer in made:
        layer.partial.mkdir(parents=True)
        (layer.partial / "began").touch()
        layers.finish(layer, cache / "none")
    return [layer.name for layer in made]


def test_a_change_builds_what_follows_it_and_nothing_before(tmp_path):
    assert build(tmp_path, STEPS) == list(STEPS)
    assert build(tmp_path, STEPS) == []
    assert build(tmp_path, STEPS | {"kubelet": "x"}) == ["kubelet", "node"]
    assert build(tmp_path, STEPS | {"node": "x"}) == ["node"]
    assert build(tmp_path, STEPS) == [], "what was built before is still there"


def test_a_change_of_the_base_builds_all(tmp_path):
    build(tmp_path, STEPS)
    assert build(tmp_path, STEPS | {"base": "x"}) == list(STEPS)


def test_other_orders_and_names_are_other_layers(tmp_path):
    keys = {layer.key for layer in layers.plan(tmp_path, {"a": "1", "b": "2"})}
    assert not keys & {layer.key for layer in layers.plan(tmp_path, {"b": "2", "a": "1"})}
    assert not keys & {layer.key for layer in layers.plan(tmp_path, {"a": "1", "c": "2"})[1:]}


def test_a_layer_that_was_cut_off_does_not_count(tmp_path):
    [layer] = layers.plan(tmp_path, {"base": "1"})
    root = layers.begin(layer, [], tmp_path / "build.work")
    root.mkdir()
    (root / "half").touch()
    assert layers.missing([layer]) == [layer]
    assert not layers.begin(layer, [], tmp_path / "build.work").exists(), "and the next build begins anew"


def test_what_a_layer_took_and_what_was_said_is_kept_beside_it(tmp_path):
    [layer] = layers.plan(tmp_path, {"base": "1"})
    layers.begin(layer, [], tmp_path / "build.work").mkdir()
    layers.finish(layer, tmp_path / "build.work", "install bash\n")
    head, said = (layer.directory / "log").read_text().splitlines()
    assert head.startswith(f"== layer base {layer.key}: built in 0.") and said == "install bash"


def test_what_killed_builds_left_and_nobody_used_is_removed(tmp_path):
    names = (
        "layers/old-1",
        "layers/used-1",
        "layers/cut-1.partial",
        "layers/now-1.partial",
        "a.work",
        "b.work",
    )
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    now = time.time()
    for name, age in {"layers/old-1": 15 * 86400, "layers/cut-1.partial": 7300, "a.work": 7300}.items():
        os.utime(tmp_path / name, (now - age, now - age))
    layers.clean(tmp_path, now)
    assert [name for name in names if not (tmp_path / name).exists()] == [
        "layers/old-1",
        "layers/cut-1.partial",
        "a.work",
    ]


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def base(tmp_path) -> Layer:
    layer = layers.plan(tmp_path, {"base": "1"})[0]
    (layer.root / "etc").mkdir(parents=True)
    (layer.root / "etc/kept").write_text("below")
    (layer.root / "etc/removed").touch()
    return layer


@root_only
def test_a_layer_holds_what_its_step_changed_and_leaves_those_below_alone(tmp_path, base):
    _, changed = layers.plan(tmp_path, {"base": "1", "role": "2"})
    work = tmp_path / "build.work"
    root = layers.begin(changed, [base], work)
    (root / "etc/kept").write_text("changed")
    (root / "etc/new").touch()
    (root / "etc/removed").unlink()
    layers.finish(changed, work)
    assert not os.path.ismount(work / "root")
    assert (base.root / "etc/kept").read_text() == "below" and (base.root / "etc/removed").exists()
    assert sorted(path.name for path in (changed.root / "etc").iterdir()) == ["kept", "new", "removed"]
    _, _, top = layers.plan(tmp_path, {"base": "1", "role": "2", "top": "3"})
    root = layers.begin(top, [base, changed], work)
    assert sorted(path.name for path in (root / "etc").iterdir()) == ["kept", "new"]
    layers.unmount(work)


@root_only
def test_a_build_that_was_killed_leaves_no_mount_once_another_begins(tmp_path, base):
    _, role = layers.plan(tmp_path, {"base": "1", "role": "2"})
    work = tmp_path / "build.work"
    layers.begin(role, [base], work)
    layers.begin(role, [base], work)
    mounts = Path("/proc/self/mounts").read_text()
    assert mounts.count(str(work / "root")) == 1
    os.utime(work, (0, 0))
    layers.clean(tmp_path)
    assert not work.exists() and str(work) not in Path("/proc/self/mounts").read_text()


@root_only
def test_a_cache_that_overlayfs_cannot_write_to_is_told_so(tmp_path, base):
    _, role = layers.plan(tmp_path, {"base": "1", "role": "2"})
    base.root.joinpath("etc/kept").unlink()
    with pytest.raises(SitewrightError) as refused:
        layers.begin(role, [Layer("gone", "", tmp_path / "nowhere")], tmp_path / "build.work")
    assert "mounting" in refused.value.message and "ext4" in refused.value.hint
