#!/usr/bin/python3
"""Gets this boot's identity and writes the kubelet's files; the kubelet starts once this has ended.

Reads /etc/kubernetes/node-join.json, which cloud-init wrote: endpoint, ca_certificate, identity (URLs of the service
on the control planes), labels, taints, kubelet, memory. Nothing of it is secret: the key is made here, and stays here.
It asks until it is answered, since a node waits for its control plane and not the other way round. A boot that took so
long that it counts no more, or whose certificate somebody else has, is started over.
Runs with what Python itself brings: it is in the image of every node.
"""

import json
import os
import random
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("NODE_JOIN_ROOT", "/"))  # another one in tests
SETTINGS = ROOT / "etc/kubernetes/node-join.json"
PKI = ROOT / "etc/kubernetes/pki"
CA, KEY, REQUEST, CERTIFICATE = (
    PKI / name for name in ("ca.crt", "kubelet.key", "kubelet.csr", "kubelet.crt")
)
NODE = ROOT / "etc/kubernetes/node.json"
MEMORY = ROOT / "proc/meminfo"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
START_OVER = ("stale-boot", "already-issued")
START_OVER_SECONDS = 600.0  # before: the provisioner may only be behind with what it knows


class Refused(Exception):
    """code: as modules/node_identity_service/refusals.py has them; empty where nobody answered."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def main() -> None:
    settings = json.loads(SETTINGS.read_text())
    PKI.mkdir(parents=True, exist_ok=True)
    write(CA, settings["ca_certificate"], 0o644)
    if not (NODE.exists() and CERTIFICATE.exists()):
        wait_for_identity(settings["identity"])
    node = json.loads(NODE.read_text())
    size_memory_disks(settings["memory"]["tmpfs"])
    write_files(settings, node["xname"], node["address"])
    say(f"{node['xname']} has its identity")


def wait_for_identity(urls: list[str]) -> None:
    begun, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return get_identity(urls)
        except Refused as no:
            say(f"no certificate yet: {no}")
            if no.code in START_OVER and time.monotonic() - begun > START_OVER_SECONDS:
                say("this boot gets none any more: the node starts over")
                subprocess.run(["systemctl", "reboot"], check=True)
                time.sleep(3600)
        # Hundreds of nodes start together: each waits a time of its own.
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, LONGEST_PAUSE)


def get_identity(urls: list[str]) -> None:
    """Ask the control planes in turn. Raises: Refused with what the last of them said."""
    trust = ssl.create_default_context(cafile=str(CA))
    refused = Refused("", "no control plane is named")
    for url in random.sample(urls, len(urls)):
        try:
            node = ask(f"{url}/v1/node", trust)
            answer = ask(f"{url}/v1/certificate", trust, request_for(node["xname"]))
        except Refused as no:
            refused = no
            continue
        write(CERTIFICATE, answer["certificate"], 0o644)
        write(NODE, json.dumps(node), 0o644)
        return
    raise refused


def request_for(xname: str) -> bytes:
    """Made once per boot: should an answer be lost, the service gives the same one for the same request."""
    name = f"/O=system:nodes/CN=system:node:{xname}"
    if not KEY.exists():
        made = run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout")
        write(KEY, made, 0o600)
    if not REQUEST.exists():
        write(REQUEST, run("openssl", "req", "-new", "-key", str(KEY), "-subj", name), 0o644)
    return REQUEST.read_bytes()


def ask(url: str, trust: ssl.SSLContext, body: bytes | None = None) -> Any:
    try:
        with urllib.request.urlopen(url, body, timeout=30, context=trust) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            told = json.load(error)
            code, reason = str(told["code"]), str(told["reason"])
        except (ValueError, KeyError, TypeError):
            code, reason = "", str(error)
        raise Refused(code, f"{url}: {reason}") from None
    except (OSError, ValueError) as error:
        raise Refused("", f"{url}: {error}") from None


def write_files(settings: dict[str, Any], xname: str, address: str) -> None:
    # With its blade, x1000c0s0 of x1000c0s0b1n0: replicas of a model are spread over blades (modules/vllm_pod.py).
    blade = re.sub(r"b\d+n\d+$", "", xname)
    labels = ",".join(
        f"{key}={value}" for key, value in {**settings["labels"], "sitewright.dev/blade": blade}.items()
    )
    kubelet = {**settings["kubelet"], "registerWithTaints": [taint(text) for text in settings["taints"]]}
    kubelet["authentication"]["x509"] = {"clientCAFile": str(CA)}
    kept_free = int(kubelet["evictionHard"]["memory.available"])
    kubelet["systemReserved"] = {"memory": str(reserved(settings["memory"], kept_free))}
    write(ROOT / "etc/kubernetes/kubelet.conf", json.dumps(kubeconfig(settings["endpoint"])), 0o600)
    write(ROOT / "var/lib/kubelet/config.yaml", json.dumps(kubelet), 0o644)
    flags = f"--hostname-override={xname} --node-ip={address} --node-labels={labels}"
    write(ROOT / "etc/default/kubelet", f"KUBELET_EXTRA_ARGS={flags}\n", 0o644)


def reserved(memory: dict[str, int], kept_free: int) -> int:
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


def size_memory_disks(sizes: dict[str, int]) -> None:
    """The image mounts them before anybody knows how much memory they may take."""
    for path, size in sizes.items():
        subprocess.run(["mount", "-o", f"remount,size={size}", str(ROOT / path[1:])], check=True)


def kubeconfig(endpoint: str) -> dict[str, Any]:
    user = {"client-certificate": str(CERTIFICATE), "client-key": str(KEY)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "node",
        "clusters": [{"name": "cluster", "cluster": {"server": endpoint, "certificate-authority": str(CA)}}],
        "users": [{"name": "node", "user": user}],
        "contexts": [{"name": "node", "context": {"cluster": "cluster", "user": "node"}}],
    }


def taint(text: str) -> dict[str, str]:
    """`key=value:Effect` or `key:Effect` as the API writes it."""
    left, _, effect = text.rpartition(":")
    key, _, value = left.partition("=")
    return {"key": key, "value": value, "effect": effect}


def write(file: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never readable for more than `mode` says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as opened:
        opened.write(text)
    new.replace(file)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
