"""How far an emulated node is, told from what its console prints, and why it is not further.

Text in, plain data out: `Reading.feed` takes what the console printed since the last time. Recorded consoles are in
tests/data/consoles.
Sources: EDK II (BdsDxe, PXE base code), iPXE (an error carries the address ipxe.org/<code>), Linux, dracut 057,
systemd 252, cloud-init 22.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lab.bmc.report import Stage

# In their order. A line of an earlier stage tells nothing (cloud-init goes on beside the kubelet), but that the node
# begins again, at its firmware or at its boot script.
STAGES: tuple[tuple[Stage, re.Pattern[str]], ...] = (
    ("firmware", re.compile(r"^(BdsDxe: |>>Start PXE over)")),
    ("ipxe", re.compile(r"^iPXE (initialising|\d)")),
    ("script", re.compile(r"^https?://\S+/bootscript\b")),
    ("kernel", re.compile(r"^(https?://(?!\S*/bootscript)\S+\.\.\.|EFI stub: )")),
    ("initrd", re.compile(r"^(\[ *\d+\.\d+\] )?Linux version ")),
    ("root", re.compile(r"sitewright: the root file system matches ")),
    ("cloud-init", re.compile(r"cloud-init\[\d+\]: Cloud-init v")),
    ("join", re.compile(r"Starting node-join\b")),
    ("kubelet", re.compile(r"\bnode-join\[\d+\]: \S+ has its identity")),
    ("running", re.compile(r"\bnode-annotations\[\d+\]: its Node says ")),
)

# What tells that the boot does not go on, or not yet.
ERRORS = (
    re.compile(r"PXE-E\d+: .*"),
    re.compile(r"BdsDxe: (failed to|No bootable option).*"),
    re.compile(r"\S.*\(https?://ipxe\.org/[0-9a-f]+\).*"),
    re.compile(r"Kernel panic - .*"),
    re.compile(r"sitewright: .*\b(is refused|fetched again|asked again|again in)\b.*"),
    re.compile(r"dracut: FATAL: .*"),
    re.compile(r"Warning: (Could not boot|dracut-initqueue: timeout).*"),
    re.compile(r"\[FAILED\] Failed to start .*"),
    re.compile(r"\bno (certificate|token) yet: .*"),
)

# Seconds after which a node counts as stuck in a stage, for a machine without KVM that has other work too. It is left
# alone all the same, and may go on.
PATIENCE: dict[Stage, float] = {
    "firmware": 180,
    "ipxe": 120,
    "script": 120,
    "kernel": 300,
    "initrd": 600,
    "root": 600,
    "cloud-init": 600,
    "join": 300,
    "kubelet": 300,
}

HINTS: dict[Stage, str] = {
    "firmware": "The firmware got no address, or no boot program over TFTP. `sitewright lab logs dhcp` shows who asked"
    " and what was sent; the MAC address must be the one of the site file.",
    "ipxe": "iPXE got no address or no script. `sitewright lab logs dhcp` shows who asked and what was sent.",
    "script": "The provisioner gave no boot script. `sitewright lab status` shows whether the provisioner runs;"
    " `pulumi up --refresh` declares again what it lost.",
    "kernel": "Kernel or initial root do not come. `sitewright lab status` shows whether the image server runs;"
    " `pulumi up --refresh` publishes again what it lost.",
    "initrd": "The initial root has no network, or the root file system does not come or is refused: the last lines of"
    " the console say which. `sitewright images verify` looks at what is published.",
    "root": "The root file system is the right one, and its start hangs. The last lines of the console name the unit.",
    "cloud-init": "cloud-init got no data, or failed on them: `sitewright lab logs provisioner`.",
    "join": "The node gets no certificate: docs/runbooks/node-does-not-join.md.",
    "kubelet": "The kubelet runs, and its Node is not there: docs/runbooks/node-does-not-join.md.",
}

_ORDER = {stage: number for number, (stage, _) in enumerate(STAGES)}
DETAIL = 300  # characters kept of a line: the URL of a root has 100, and why it did not come is behind it
# What moves the cursor and colours a terminal.
_ESCAPES = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|.)|[\x00-\x08\x0b-\x1f\x7f]")
_IMAGE = re.compile(r"\bsitewright\.root=sha256:([0-9a-f]{64})")


@dataclass
class Reading:
    """stage: how far the node is; detail: the line that said so; error: the line that says why it is not further, ""
    if none does; image: sha256 of the root that the kernel command line names, "" if it names none."""

    stage: Stage = "firmware"
    detail: str = ""
    error: str = ""
    image: str = ""
    _unfinished: str = field(default="", repr=False)

    def feed(self, text: str) -> Iterator[str]:
        """Take what was printed since. Yields each line that is complete now, without escape sequences, after
        it has been looked at."""
        *complete, self._unfinished = (self._unfinished + text).split("\n")
        for line in map(plain, complete):
            self._look_at(line)
            yield line

    def _look_at(self, line: str) -> None:
        for stage, pattern in STAGES:
            if pattern.search(line) and self._can_follow(stage):
                self.stage, self.detail, self.error = stage, line.strip()[:DETAIL], ""
        for pattern in ERRORS:
            if found := pattern.search(line):
                self.error = found[0].strip()[:DETAIL]
        if found := _IMAGE.search(line):
            self.image = found[1]

    def _can_follow(self, stage: Stage) -> bool:
        starts_over = stage == "firmware" or (stage == "script" and self.stage == "kernel")
        return starts_over or _ORDER.get(stage, 0) >= _ORDER.get(self.stage, 0)


def plain(text: str) -> str:
    """As it reads on a screen, more or less."""
    return _ESCAPES.sub("", text)


def stuck(stage: Stage, seconds: float) -> str:
    """What is said of a node that has been in a stage for so long; "" where that is nothing yet."""
    patience = PATIENCE.get(stage)
    return f"no further for {patience:.0f} s" if patience is not None and seconds > patience else ""


def hint(stage: Stage, error: str) -> str:
    """What to look at next; "" where nothing failed."""
    return HINTS.get(stage, "") if error else ""
