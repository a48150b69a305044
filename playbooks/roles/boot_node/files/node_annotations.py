#!/usr/bin/python3
"""Writes at this node's Node which boot image it runs, and the boot that this is true of.

`sitewright nodes list|roll` compare both with what the node should run; an image that was said of an earlier boot
counts no more. A node may write annotations of its own Node and of no other (NodeRestriction), so this asks as the
kubelet does. It goes on until the kubelet has registered the Node; with --once it tries once, and exits with 4 where
there is no Node. Runs with what Python itself brings: it is in the image of every node.
"""

import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(os.environ.get("NODE_JOIN_ROOT", "/"))  # another one in tests
KUBECONFIG = ROOT / "etc/kubernetes/kubelet.conf"
NODE = ROOT / "etc/kubernetes/node.json"
# The certificate of the boot lasts some days only: first what the kubelet, or RKE2, renews.
RENEWED = (
    ("var/lib/kubelet/pki/kubelet-client-current.pem", "var/lib/kubelet/pki/kubelet-client-current.pem"),
    ("var/lib/rancher/rke2/agent/client-kubelet.crt", "var/lib/rancher/rke2/agent/client-kubelet.key"),
)
# A node that is a container has its kernel command line among the arguments of its first process, and sees the
# host's in /proc/cmdline.
COMMAND_LINES = (ROOT / "proc/1/cmdline", ROOT / "proc/cmdline")
BOOT_ID = ROOT / "proc/sys/kernel/random/boot_id"
IMAGE = re.compile(r"[\0 ]root=live:[^\0 ]*/([0-9a-f]{64})/[^/\0 ]*(?=[\0 \n]|$)")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
NO_NODE = 4


class NoNode(Exception):
    """The kubelet has not registered it yet, or somebody deleted it."""


def main() -> int:
    pause = FIRST_PAUSE
    while True:
        try:
            annotate()
            say("its Node says which boot image it runs")
            return 0
        except NoNode:
            status, why = NO_NODE, "it is not in the cluster"
        except (OSError, ValueError) as error:
            status, why = 1, str(error)
        if "--once" in sys.argv[1:]:
            say(why)
            return status
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def say(what: str) -> None:
    print(what, file=sys.stderr)


def annotate() -> None:
    config = json.loads(KUBECONFIG.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
    renewed = [(ROOT / one, ROOT / key) for one, key in RENEWED if (ROOT / one).exists()]
    trust.load_cert_chain(*(renewed or [(user["client-certificate"], user["client-key"])])[0])
    annotations = {
        "sitewright.dev/boot-image": image(),
        "sitewright.dev/boot-id": BOOT_ID.read_text().strip(),
    }
    xname = json.loads(NODE.read_text())["xname"]
    request = urllib.request.Request(
        f"{cluster['server']}/api/v1/nodes/{xname}",
        json.dumps({"metadata": {"annotations": annotations}}).encode(),
        {"Content-Type": "application/merge-patch+json"},
        method="PATCH",
    )
    try:
        urllib.request.urlopen(request, timeout=30, context=trust).close()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise NoNode from None
        raise


def image() -> str:
    """Digest of the image, which is in the URL of its root."""
    for file in COMMAND_LINES:
        if found := IMAGE.search(f" {file.read_text()}"):
            return f"sha256:{found[1]}"
    return "unknown"


if __name__ == "__main__":
    sys.exit(main())
