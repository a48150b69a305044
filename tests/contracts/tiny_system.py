"""A kernel of Debian, and an initial root that holds one program: what a node needs to say that it has booted."""

import re
import stat
import subprocess
from pathlib import Path

PROGRAM = r"""
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    char line[4096] = "";
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, 0);
    FILE *given = fopen("/proc/cmdline", "r");
    if (given) fgets(line, sizeof line, given);
    printf("initial root: was given %s\n", line);
    fflush(stdout);
    for (;;) pause();
}
"""


def kernel(directory: Path) -> Path:
    """vmlinuz of the package that boot images have; downloaded, not installed. Needs the lists of apt."""
    depends = _run(directory, "apt-cache", "depends", "linux-image-cloud-amd64")
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    assert found, f"apt knows no kernel; run `apt-get update`: {depends}"
    _run(directory, "apt-get", "download", "-qq", found[1])
    [package] = directory.glob("linux-image-*.deb")
    _run(
        directory,
        "sh",
        "-c",
        f"dpkg-deb --fsys-tarfile {package.name} | tar x --wildcards './boot/vmlinuz-*'",
    )
    [vmlinuz] = (directory / "boot").glob("vmlinuz-*")
    return vmlinuz


def initial_root(directory: Path) -> bytes:
    """As cpio, in the format that the kernel reads (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    (directory / "init.c").write_text(PROGRAM)
    _run(directory, "gcc", "-static", "-Os", "-s", "-o", "init", "init.c")
    return b"".join(
        (
            _entry("dev", stat.S_IFDIR | 0o755),
            _entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            _entry("init", stat.S_IFREG | 0o755, (directory / "init").read_bytes()),
            _entry("TRAILER!!!", 0),
        )
    )


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    inode = sum(name.encode())
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + "".join(f"{number:08X}" for number in numbers).encode() + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _run(directory: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
