"""A diskless node's root: the squashfs below, a tmpfs of the node's memory above.

Source: the layout dracut's dmsquash-live makes (overlay over the squashfs). containerd and kubelet refuse
an overlay as their data directory, so each gets a tmpfs of its own, as the image's mount units make it.
"""

from dataclasses import dataclass
from pathlib import Path

from lab import mounts, paths
from lab.bmc.ipxe import BootError
from lab.commands import run
from lab.machine import Bind
from sitewright.errors import SitewrightError

IN_MEMORY = ("containerd", "kubelet")


@dataclass(frozen=True)
class Root:
    directory: Path
    binds: tuple[Bind, ...]


def prepare(xname: str, image: Path, memory: int) -> Root:
    """Mount the node's root, below its machine directory. memory: bytes. Raises BootError.

    The node itself makes the last two smaller, once it knows how much is meant for them.
    """
    base = paths.machine_dir(xname)
    lower, memory_disk, root = base / "lower", base / "memory", base / "root"
    in_memory = {name: base / name for name in IN_MEMORY}
    discard(xname)
    for directory in (lower, memory_disk, root, *in_memory.values()):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        run("mount", "-t", "squashfs", "-o", "loop,ro", str(image), str(lower))
        for directory in (memory_disk, *in_memory.values()):
            run("mount", "-t", "tmpfs", "-o", f"size={memory},mode=0755", "tmpfs", str(directory))
        for name in ("upper", "work"):
            (memory_disk / name).mkdir(mode=0o755)
        layers = f"lowerdir={lower},upperdir={memory_disk / 'upper'},workdir={memory_disk / 'work'}"
        run("mount", "-t", "overlay", "-o", layers, "overlay", str(root))
    except SitewrightError as error:
        discard(xname)
        raise BootError(
            f"{xname}: cannot mount {image.name}: {error.message}",
            "`dmesg` says more. An image that cannot be mounted is corrupt: build the boot image again.",
        ) from error
    return Root(root, tuple(Bind(directory, f"/var/lib/{name}") for name, directory in in_memory.items()))


def discard(xname: str) -> None:
    """Unmount all that `prepare` mounted; what the node wrote is gone, as memory is at a power cut."""
    mounts.unmount_below(paths.machine_dir(xname))
