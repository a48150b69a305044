"""RKE2's part of the join: the files that rke2-agent starts with, and the checks that it would fail obscurely without.

The token and the password are asked for at each boot, with the certificate of that boot; they lie in memory, readable
for root only. Source: RKE2 documentation, agent configuration; k3s pkg/clientaccess/token.go, pkg/agent/config.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from node_files import CA, ROOT, labels, reserved, run, write

DIRECTORY = ROOT / "etc/rancher/rke2"
CONFIGURATION, REGISTRIES, TOKEN = (
    DIRECTORY / name for name in ("config.yaml", "registries.yaml", "agent-token")
)
KUBELET = DIRECTORY / "kubelet.yaml"
PASSWORD = ROOT / "etc/rancher/node/password"
MOUNTS = ROOT / "proc/mounts"
VERSION = re.compile(r"v?(\d+)\.(\d+)\.\d+\+rke2r\d+")
OLDEST = 3  # minor versions that a kubelet may be behind its API server; it may never be before it


class Unfit(Exception):
    """Another try gives the same: the image, or what the site file says, has to change."""


def check(settings: Mapping[str, Any]) -> None:
    """Raises: Unfit where rke2-agent of this image cannot work here."""
    _require_memory(settings["memory"]["tmpfs"])
    try:
        said = run("rke2", "--version")
    except FileNotFoundError:
        said = ""
    _require_version(settings["rke2"]["version"], said)
    if CA.read_text().count("BEGIN CERTIFICATE") != 1:
        raise Unfit("the authority of the cluster is not one certificate, of which the token's hash is made")


def _require_memory(sizes: Mapping[str, int]) -> None:
    """On the overlay of the root containerd refuses its own kind of snapshots, and says so once the node has joined."""
    kinds = {path: kind for _, path, kind, *_ in map(str.split, MOUNTS.read_text().splitlines())}
    for path in sizes:
        if kinds.get(path) != "tmpfs":
            root = kinds.get("/", "unknown")
            raise Unfit(
                f"no memory is mounted at {path}, so it is on the root, of type {root}; see systemctl status {path}"
            )


def _require_version(cluster: str, said: str) -> None:
    found, wanted = VERSION.search(said), VERSION.fullmatch(cluster)
    if found is None or wanted is None:
        raise Unfit(
            f"no release of RKE2: {said.strip() or 'nothing'!r} in the image, {cluster!r} of the cluster"
        )
    here, there = ((int(one[1]), int(one[2])) for one in (found, wanted))
    if here[0] != there[0] or not 0 <= there[1] - here[1] <= OLDEST:
        raise Unfit(
            f"the image has RKE2 {found[0]}, the cluster {cluster}: a kubelet is never newer than its API server, "
            f"and at most {OLDEST} minor versions older; have the pool boot an image of the cluster's release"
        )


def has_secrets() -> bool:
    return TOKEN.exists() and PASSWORD.exists()


def write_secrets(answer: Mapping[str, str]) -> None:
    """answer: of the service on the control plane. The agent takes a server for its own only where the server's
    authority has the hash that is in its token."""
    digest = hashlib.sha256(CA.read_bytes()).hexdigest()
    write(PASSWORD, f"{answer['node_password']}\n", 0o600)
    write(TOKEN, f"K10{digest}::node:{answer['agent_token']}\n", 0o600)


def write_files(settings: Mapping[str, Any], xname: str, address: str) -> None:
    given, kubelet = settings["rke2"], dict(settings["kubelet"])
    kept_free = int(kubelet["evictionHard"]["memory.available"])
    kubelet["systemReserved"] = {"memory": str(reserved(settings["memory"], kept_free))}
    configuration = {
        **given["config"],
        "token-file": str(TOKEN),
        "node-name": xname,
        "node-ip": address,
        "node-label": labels(settings["labels"], xname),
        "node-taint": settings["taints"],
        "kubelet-arg": [f"config={KUBELET}"],
    }
    write(KUBELET, json.dumps(kubelet), 0o644)
    write(REGISTRIES, json.dumps(given["registries"]), 0o600)
    # Last: the agent does not start without it.
    write(CONFIGURATION, json.dumps(configuration), 0o600)
