"""Mounts and loop devices below a directory: found from what the kernel says."""

import json
from pathlib import Path

from lab.commands import run


def below(directory: Path) -> list[Path]:
    """Mount points at or below the directory, latest first: each before what it was mounted on or made of.
    A place that was mounted over twice is there twice."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = Path(_unescape(line.split()[4]))
        if target == directory or directory in target.parents:
            found.append(target)
    return found[::-1]


def unmount_below(directory: Path) -> None:
    """Unmount all of them; one that is still in use is detached and goes with its last user."""
    for target in below(directory):
        run("umount", str(target), check=False)
    for target in below(directory):
        run("umount", "--lazy", str(target), check=False)


def loops(directory: Path) -> list[str]:
    """Loop devices whose file lies, or lay before it was removed, below the directory."""
    devices = json.loads(run("losetup", "--json", "--list") or '{"loopdevices": []}')["loopdevices"]
    return [device["name"] for device in devices if device["back-file"].startswith(f"{directory}/")]


def detach_loops(directory: Path) -> None:
    for device in loops(directory):
        run("losetup", "--detach", device, check=False)


def _unescape(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
