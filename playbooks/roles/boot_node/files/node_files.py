"""What the programs of a node share: where things lie, writing them whole, and how its memory is divided."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(os.environ.get("NODE_JOIN_ROOT", "/"))  # another one in tests
PKI = ROOT / "etc/kubernetes/pki"
CA, KEY, REQUEST, CERTIFICATE = (
    PKI / name for name in ("ca.crt", "kubelet.key", "kubelet.csr", "kubelet.crt")
)
MEMORY = ROOT / "proc/meminfo"
KUBERNETES_LABEL = re.compile(r"(?:.*\.)?(?:kubernetes|k8s)\.io/")
KUBELET_LABEL = re.compile(
    r"(?:(?:.*\.)?(?:kubelet|node)\.kubernetes\.io/.*"
    r"|(?:beta\.)?kubernetes\.io/(?:arch|os)|(?:node|beta)\.kubernetes\.io/instance-type|kubernetes\.io/hostname"
    r"|(?:topology|failure-domain\.beta)\.kubernetes\.io/(?:zone|region))"
)


def labels(wanted: Mapping[str, str], xname: str) -> list[str]:
    """`key=value` of those that a kubelet may give itself. With another label of kubernetes.io it does not start; that
    is given through the API by who joins the pool. Source: k8s.io/kubelet pkg/apis/well_known_labels.go."""
    # With its blade, x1000c0s0 of x1000c0s0b1n0: replicas of a model are spread over these (modules/inference).
    found = {**wanted, "sitewright.dev/blade": re.sub(r"b\d+n\d+$", "", xname)}
    own = {key: value for key, value in found.items() if _own(key)}
    if left := sorted(found.keys() - own.keys()):
        say(f"not a kubelet's to set, and left to the cluster's administrator: {', '.join(left)}")
    return [f"{key}={value}" for key, value in own.items()]


def _own(key: str) -> bool:
    return not KUBERNETES_LABEL.match(key) or KUBELET_LABEL.fullmatch(key) is not None


def reserved(memory: Mapping[str, int], kept_free: int) -> int:
    """Bytes that no pod may have. A node may see more memory than is its own, as machines of a lab do, and never lends
    it; where it has less than the site file says, pods have less, and the node what it needs."""
    line = next(line for line in MEMORY.read_text().splitlines() if line.startswith("MemTotal:"))
    there = int(line.split()[1]) * 1024
    wanted = there - memory["allocatable"] - kept_free
    missing = memory["reserved"] - wanted
    # Firmware and kernel keep a few hundredths, which nobody counts.
    if missing > there // 20:
        say(f"this node has {missing >> 20} MiB less memory than its site file says")
    return max(wanted, memory["reserved"])


def size_memory_disks(sizes: Mapping[str, int]) -> None:
    """The image mounts them before anybody knows how much memory they may take."""
    for path, size in sizes.items():
        run("mount", "-o", f"remount,size={size}", str(ROOT / path[1:]))


def write(file: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never readable for more than `mode` says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as opened:
        opened.write(text)
    new.replace(file)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def say(text: str) -> None:
    print(text, flush=True)
