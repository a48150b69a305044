"""The compute image built from nothing, again, and after one line of a role changed, beside a plain script."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from lab import paths
from sitewright.artifacts import debian
from sitewright.errors import SitewrightError
from sitewright.provider.progress import NoLog
from sitewright.provider.run import Job, Run
from tests.bench.figure import Figure, progress
from tools.locate import tool

IMAGE = "compute"
CHANGED = "playbooks/roles/boot_node/defaults/main.yml"
ONE_LINE = 0.15  # of the time from nothing
PROGRAMS = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr")


def image() -> Iterator[Figure]:
    """Needs root, and the mirror of this machine's Debian packages: what it sends is in all times but the last two."""
    if os.geteuid() != 0:
        raise SitewrightError("an image is built by root", "Run it as root.")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:  # overlayfs wants a disk
        place = Path(directory)
        checkout = _checkout(place / "checkout")
        progress("image: a plain script")
        script = _seconds(lambda: _script(checkout, place / "script"))
        progress("image: from nothing")
        cold = _seconds(lambda: _build(checkout, place))
        progress("image: nothing changed")
        again = _seconds(lambda: _build(checkout, place))
        with (checkout / CHANGED).open("a") as file:
            file.write("# one line more\n")
        progress("image: one line of a role changed")
        changed = _seconds(lambda: _build(checkout, place))
    peer = {
        "name": "mmdebstrap, dracut and mksquashfs in a script, without any role",
        "value": round(script, 1),
    }
    yield Figure("image.from_nothing", cold, "s", None, peer)
    yield Figure("image.nothing_changed", again, "s", None, peer)
    details = {
        "share_of_from_nothing": round(changed / cold, 3),
        "share_of_script": round(changed / script, 3),
    }
    yield Figure("image.one_line_changed", changed, "s", ONE_LINE * cold, peer, details)


def _checkout(place: Path) -> Path:
    """What is in the working tree, so that a role can be changed without touching it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=paths.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source := paths.REPOSITORY / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place / name)
    return place


def _build(checkout: Path, place: Path) -> None:
    """As a BootImage has it built, with caches of its own."""
    variables: dict[str, Any] = {
        "image": IMAGE,
        "publish_dir": str(place / "www"),
        "url": "http://image-server/boot",
        "registry": "http://registry",
        "pause_image": "registry/pause@sha256:1",
        "signing_key": None,
        "boot_image_cache": str(place / "cache"),
    }
    job = Job("bench", "urn:bench", "run", "playbooks/build-boot-image.yml", None, variables=variables)
    asyncio.run(Run(job, checkout, NoLog()).execute())


def _script(checkout: Path, place: Path) -> None:
    """The same packages and programs; nothing of what roles configure, no proof of what is in it."""
    recipe = yaml.safe_load((checkout / f"images/boot/{IMAGE}/recipe.yaml").read_text())
    root, release = place / "root", recipe["release"]
    place.mkdir()
    packages = f"--include={','.join(recipe['packages'])}"
    said = place / "log"
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", packages, release, str(root)]
    _run([*command, *debian.mirrors(release)], said)
    for name in PROGRAMS:
        shutil.copy2(tool(name), root / "usr/bin")
    [kernel] = [found.name for found in (root / "lib/modules").iterdir()]
    modules = " ".join(recipe["initramfs_modules"])
    dracut = [
        "dracut",
        "--quiet",
        "--force",
        "--no-hostonly",
        "--add",
        modules,
        "/boot/initramfs.img",
        kernel,
    ]
    _run(
        ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", str(root), *dracut],
        said,
    )
    _run(["mksquashfs", str(root), str(place / "rootfs.squashfs"), "-comp", "zstd", "-no-progress"], said)


def _run(command: list[str], said: Path) -> None:
    with said.open("a") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SitewrightError(f"`{' '.join(command)[:200]}` failed:\n{said.read_text()[-2000:]}")


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
