"""What a refresh sees of images and models that vanished or were altered: the playbooks for real, against a real
registry, with small artifacts in the places of the large ones."""

import asyncio
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hypervisor import free_ports, until

from sitewright.artifacts import container_images, model_store, oci, software_environment
from sitewright.artifacts.container_images import ContainerImage
from sitewright.artifacts.recipes import file_digest
from sitewright.provider.playbook_runs import _drift
from sitewright.provider.progress import NoLog
from sitewright.provider.run import Job, Run, RunResult
from tools.locate import bin_dir, tool
from tools.paths import tools_root

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parents[2]
IMAGES = REPOSITORY / "images"
BOOT_FILES = ("rootfs.squashfs", "vmlinuz", "initramfs.img")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An operator who has the programs, and built nothing else yet."""
    tools, home = tools_root(), tmp_path / "home"
    (home / ".cache/sitewright").mkdir(parents=True)
    (home / ".cache/sitewright/tools").symlink_to(tools)
    monkeypatch.setenv("HOME", str(home))
    return home


def empty_caches(home: Path) -> None:
    for name in ("environments", "images", "models"):
        shutil.rmtree(home / ".cache/sitewright" / name, ignore_errors=True)


def play(playbook: str, **variables: Any) -> RunResult:
    job = Job(playbook, "urn:test", "run", f"playbooks/{playbook}.yml", None, variables=variables)
    return asyncio.run(Run(job, REPOSITORY, NoLog()).execute())


def drift(playbook: str, **variables: Any) -> str:
    """What `pulumi refresh` would warn of; empty when all is well."""
    return _drift(play(f"verify-{playbook}", **variables))


def image(name: str) -> ContainerImage:
    """An image of the cache with nothing but a file in it."""
    found = container_images.find(name, IMAGES / "containers", bin_dir(), container_images.default_cache())
    content = found.layout.with_name(f"{name}.txt")
    content.parent.mkdir(parents=True, exist_ok=True)
    content.write_text(name)
    layer = oci.layer_from_files({"/content": content}, {}, content.with_suffix(".gz"))
    oci.write_layout(found.layout, [layer], oci.Runtime())
    return found


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """URL of an empty one."""
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {
            "filesystem": {"rootdirectory": str(tmp_path / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": address},
    }
    (tmp_path / "registry.json").write_text(json.dumps(config))
    with subprocess.Popen([tool("registry"), "serve", tmp_path / "registry.json"]) as process:
        try:
            until(lambda: _answers(f"http://{address}/v2/"), "the registry")
            yield f"http://{address}"
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def test_an_image_that_left_the_registry_is_named_and_pushed_again(home: Path, registry: str) -> None:
    given = {"registry": registry, "images": ["pause", "coredns"]}
    pause, _ = image("pause"), image("coredns")
    play("fill-registry", **given)
    assert drift("registry", **given) == ""
    reference = f"{registry.removeprefix('http://')}/{pause.recipe.repository}@{pause.digest}"
    subprocess.run([tool("crane"), "delete", "--insecure", reference], check=True)
    assert drift("registry", **given) == "image pause is not in the registry as it was built"
    play("fill-registry", **given)
    empty_caches(home)
    assert drift("registry", **given) == "", "a machine that built no image asks whether one is there"
    assert not list(home.rglob("index.json")), "a refresh builds nothing"


def test_what_is_not_on_the_shared_file_system_as_it_was_published_is_named_and_put_right(
    home: Path, tmp_path: Path
) -> None:
    _build_model()
    shared = tmp_path / "shared"
    given = {
        "software_environment": "vllm-cpu",
        "model": "tiny-llama",
        "publish_dir": str(shared),
        "path": "/shared",
    }
    play("prepare-models", **given)
    assert drift("models", **given) == ""
    [module] = shared.glob("environments/*/lib/module.py")
    weights = shared / "models/tiny-llama/weights"
    module.unlink()
    weights.write_text("0.1 0.3")  # of the same size
    assert drift("models", **given) == f"{module}, {weights}"
    assert weights.read_text() == "0.1 0.3" and not module.exists(), "a refresh repairs nothing"
    play("prepare-models", **given)
    assert weights.read_text() == "0.1 0.2" and module.exists()
    empty_caches(home)
    assert drift("models", **given) == "", "a machine that built none has nothing against what is there"
    shutil.rmtree(shared / "models")
    assert drift("models", **given) == str(weights.with_name("manifest.json"))


def _build_model() -> None:
    """A small environment and a small model, in the cache."""
    base = image("vllm-base")
    environment = software_environment.find(
        "vllm-cpu", IMAGES / "environments", base, software_environment.default_cache()
    )
    (environment.directory / "lib").mkdir(parents=True)
    (environment.directory / "lib/module.py").write_text("ANSWER = 42\n")
    (environment.directory / "manifest.json").write_text("{}")
    model = model_store.find("tiny-llama", IMAGES / "models", environment, model_store.default_cache())
    model.directory.mkdir(parents=True)
    (model.directory / "weights").write_text("0.1 0.2")
    model_store.write_manifest(model, model.directory)


def test_a_boot_image_that_is_not_as_it_was_built_is_named_and_put_right(home: Path, tmp_path: Path) -> None:
    built, published = home / ".cache/sitewright/images/boot/small", tmp_path / "www/0123"
    _build_boot_image(built)
    given = {
        "image": "compute",
        "publish_dir": str(published.parent),
        "url": "http://image-server/boot",
        "registry": "http://registry",
        "pause_image": "registry/pause@sha256:1",
        "signing_key": None,
        "boot_image_dir": str(built),  # in the place of the one that is named after the sources
    }
    made = play("build-boot-image", **given).results
    assert made["kernel_url"] == "http://image-server/boot/0123/vmlinuz"
    assert drift("boot-image", **given) == ""
    (published / "rootfs.squashfs").write_text("by hand")
    (published / "vmlinuz").unlink()
    found = drift("boot-image", **given)
    assert found == f"{published / 'rootfs.squashfs'}, {published / 'vmlinuz'}"
    play("build-boot-image", **given)
    assert {name: (published / name).read_text() for name in BOOT_FILES} == {
        name: name for name in BOOT_FILES
    }
    shutil.rmtree(published)
    assert drift("boot-image", **given) == str(published / "manifest.json")


def _build_boot_image(directory: Path) -> None:
    directory.mkdir(parents=True)
    for name in BOOT_FILES:
        (directory / name).write_text(name)
    manifest = {
        "digest": "sha256:0123",
        "kernel_arguments": [],
        "files": {name: file_digest(directory / name) for name in BOOT_FILES},
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
