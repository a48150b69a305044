#!/usr/bin/python3
"""Gets this boot's identity and writes the kubelet's files; the kubelet starts once this has ended.

Reads /etc/kubernetes/node-join.json, which cloud-init wrote: endpoint, ca_certificate, identity (URLs of the service
on the control planes), labels, taints, kubelet, memory, in an RKE2 cluster rke2, and boot_notice where it has to say
there first that it boots. Nothing of it is secret: the key is made here, and stays here. It asks until it is answered,
since a node waits for its control plane and not the other way round. A boot that took so long that it counts no more,
or whose certificate somebody else has, is started over.
Runs with what Python itself brings: it is in the image of every node.
"""

import json
import random
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import node_rke2
from node_files import (
    CA,
    CERTIFICATE,
    KEY,
    PKI,
    REQUEST,
    ROOT,
    labels,
    reserved,
    run,
    say,
    size_memory_disks,
    write,
)

SETTINGS = ROOT / "etc/kubernetes/node-join.json"
NODE = ROOT / "etc/kubernetes/node.json"
NOTICE = ROOT / "etc/kubernetes/boot-notice.json"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
START_OVER = ("stale-boot", "already-issued")
START_OVER_SECONDS = 600.0  # before: the provisioner may only be behind with what it knows


class Refused(Exception):
    """code: as modules/nodes/node_identity_service/refusals.py has them; empty where nobody answered."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def main() -> None:
    settings = json.loads(SETTINGS.read_text())
    PKI.mkdir(parents=True, exist_ok=True)
    write(CA, settings["ca_certificate"], 0o644)
    of_rke2, urls = "rke2" in settings, settings["identity"]
    if of_rke2:
        node_rke2.check(settings)
    if not (NODE.exists() and CERTIFICATE.exists()):
        if settings.get("boot_notice"):
            patiently("boot notice", lambda: give_notice(urls))
        patiently("certificate", lambda: get_identity(urls))
    if of_rke2:
        patiently("token", lambda: get_secrets(urls))
    node = json.loads(NODE.read_text())
    size_memory_disks(settings["memory"]["tmpfs"])
    write(ROOT / "etc/kubernetes/kubelet.conf", json.dumps(kubeconfig(settings["endpoint"])), 0o600)
    (node_rke2.write_files if of_rke2 else write_files)(settings, node["xname"], node["address"])
    say(f"{node['xname']} has its identity")


def patiently(what: str, get: Callable[[], None]) -> None:
    begun, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return get()
        except Refused as no:
            say(f"no {what} yet: {no}")
            if no.code in START_OVER and time.monotonic() - begun > START_OVER_SECONDS:
                say("this boot gets none any more: the node starts over")
                subprocess.run(["systemctl", "reboot"], check=True)
                time.sleep(3600)
        # Hundreds of nodes start together: each waits a time of its own.
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, LONGEST_PAUSE)


def trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CA))


def give_notice(urls: list[str]) -> None:
    """Once per boot, as far as is known here: where an answer was lost, a second notice counts as the first."""
    if NOTICE.exists():
        return
    trust = trusted()
    write(NOTICE, json.dumps(in_turn(urls, lambda url: ask(f"{url}/v1/boot", trust, b""))), 0o644)


def get_identity(urls: list[str]) -> None:
    trust = trusted()

    def ask_one(url: str) -> tuple[Any, Any]:
        node = ask(f"{url}/v1/node", trust)
        return node, ask(f"{url}/v1/certificate", trust, request_for(node["xname"]))

    node, answer = in_turn(urls, ask_one)
    write(CERTIFICATE, answer["certificate"], 0o644)
    write(NODE, json.dumps(node), 0o644)


def get_secrets(urls: list[str]) -> None:
    """With the certificate that this boot got. What is there is kept, so that a restart needs nobody."""
    if node_rke2.has_secrets():
        return
    trust = trusted()
    trust.load_cert_chain(CERTIFICATE, KEY)
    node_rke2.write_secrets(in_turn(urls, lambda url: ask(f"{url}/v1/rke2", trust)))


def in_turn(urls: list[str], ask_one: Callable[[str], Any]) -> Any:
    """What the first control plane says that answers. Raises: Refused with what the last of them said."""
    refused = Refused("", "no control plane is named")
    for url in random.sample(urls, len(urls)):
        try:
            return ask_one(url)
        except Refused as no:
            refused = no
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
    """body: of a POST, which may be empty; None: a GET. Raises: Refused."""
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
    kubelet = {**settings["kubelet"], "registerWithTaints": [taint(text) for text in settings["taints"]]}
    kubelet["authentication"]["x509"] = {"clientCAFile": str(CA)}
    kept_free = int(kubelet["evictionHard"]["memory.available"])
    kubelet["systemReserved"] = {"memory": str(reserved(settings["memory"], kept_free))}
    write(ROOT / "var/lib/kubelet/config.yaml", json.dumps(kubelet), 0o644)
    own = ",".join(labels(settings["labels"], xname))
    flags = f"--hostname-override={xname} --node-ip={address} --node-labels={own}"
    write(ROOT / "etc/default/kubelet", f"KUBELET_EXTRA_ARGS={flags}\n", 0o644)


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


if __name__ == "__main__":
    try:
        main()
    except node_rke2.Unfit as unfit:
        sys.exit(str(unfit))
