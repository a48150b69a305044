"""Where the hypervisor keeps images and volumes, below the lab's state directory."""

from pathlib import Path

from lab import paths
from lab.hypervisor.api import Key
from lab.hypervisor.host import DATA_DIRECTORIES


def _directory() -> Path:
    return paths.state_dir() / "hypervisor"


def image_mount(uid: str) -> Path:
    """Where the content of the image is seen."""
    return _directory() / "images" / uid


def image_file(uid: str) -> Path:
    return _directory() / "images" / f"{uid}.squashfs"


def volume(claim: Key) -> Path:
    """The disk of a PersistentVolumeClaim: `upper` and `work` of the overlay, and `data`."""
    return _directory() / "volumes" / claim.namespace / claim.name


def make_volume(claim: Key) -> None:
    for name in ("upper", "work", *(f"data/{data}" for data in DATA_DIRECTORIES)):
        (volume(claim) / name).mkdir(parents=True, exist_ok=True)
