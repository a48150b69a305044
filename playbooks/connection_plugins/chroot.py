"""Runs a role inside the root file system of an image that is being built.

The same roles then prepare a running VM (over ssh) and an image that no
machine has booted yet (through this plugin), so there is one description of a
Kubernetes node and not two.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: chroot
short_description: run tasks inside a directory that holds a root file system
description: For building images; needs root on this machine.
options:
  remote_addr:
    description: Absolute path of the root file system.
    vars: [{name: ansible_host}]
"""


class Connection(ConnectionBase):
    """`ansible_host` is the absolute path of the root."""

    transport = "chroot"
    has_pipelining = True

    def _connect(self) -> Connection:
        self.root = Path(self.get_option("remote_addr"))
        if not (self.root / "bin/sh").exists():
            raise AnsibleError(f"{self.root} is not a root file system: it has no /bin/sh")
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        # LC_ALL: a fresh root has no locales but C
        done = subprocess.run(
            ["chroot", str(self.root), "/bin/sh", "-c", cmd],
            input=in_data,
            capture_output=True,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
                "LC_ALL": "C.UTF-8",
            },
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        shutil.copyfile(in_path, self._inside(out_path))

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        shutil.copyfile(self._inside(in_path), out_path)

    def close(self) -> None:
        self._connected = False

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")
