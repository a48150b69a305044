"""Pools declared to the provisioner, beside a loop of curl as documents of OpenCHAMI have it: one node after the other.

The services are the lab's stand-ins, one process of their own: what is compared is the work of a client, and how many
requests it makes of how many nodes.
"""

import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sitewright.provisioning.openchami import EXCLUSIVE, Boot, component
from sitewright.provisioning.openchami_endpoints import endpoint
from sitewright.provisioning.openchami_http import Services
from sitewright.site.hostlist import expand
from tests.bench.figure import Figure, progress
from tests.contracts.pools import Pool, PoolClient
from tests.contracts.test_provisioner import Provisioner

SIZES = (1, 30, 300, 3000)
MACHINE = "x[1000-1023]c[0-7]s[0-7]b[0-1]n0"
BOOT = Boot(
    "http://10.0.0.1/vmlinuz", "http://10.0.0.1/initramfs.img", ["root=live:http://10.0.0.1/root", "quiet"]
)


def declare() -> Iterator[Figure]:
    for size in SIZES:
        nodes = [_node(number, xname) for number, xname in enumerate(expand(MACHINE)[:size])]
        progress(f"declare: {size} nodes, ours")
        with _services() as urls:
            ours = [_declared(urls, nodes) for _ in ("first", "again")]
            ours.append(_declared(urls, [{**nodes[0], "address": "10.99.99.99"}, *nodes[1:]]))
        progress(f"declare: {size} nodes, a loop of curl")
        with _services() as urls:
            began = time.perf_counter()
            asked = _curl_loop(urls, nodes)
            peer = time.perf_counter() - began
        (first, requests), (again, again_requests), (one, one_requests) = ours
        yield Figure(
            f"declare.{size}_nodes",
            first,
            "s",
            peer={"name": "a loop of curl", "value": round(peer, 3), "ratio": round(peer / first, 1)},
            details={
                "requests": requests,
                "peer_requests": asked,
                "again": {"seconds": round(again, 3), "requests": again_requests},
                "one_node_moved": {"seconds": round(one, 3), "requests": one_requests},
            },
        )


@contextmanager
def _services() -> Iterator[dict[str, str]]:
    """Their URLs. Not in this process: they would take turns with the client that is measured."""
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, directory))
        process.start()
        try:
            yield here.recv()
        finally:
            here.send("end")
            process.join(20)


def _serve(pipe: Connection, directory: str) -> None:
    with Provisioner(Path(directory) / "provisioner.db") as made:
        pipe.send(made.urls)
        pipe.recv()


def _declared(urls: dict[str, str], nodes: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """Seconds and requests."""
    client = PoolClient(Services(urls["smd"], urls["bss"], urls["cloud-init"]))
    began = time.perf_counter()
    client.declare(Pool("gpu", "svc", nodes, BOOT, "#cloud-config\n"))
    return time.perf_counter() - began, client.answered


def _curl_loop(urls: dict[str, str], nodes: Sequence[dict[str, Any]]) -> int:
    """Requests. The services know the same afterwards: component, BMC with its interface, group, boot parameters."""
    smd = f"{urls['smd']}/hsm/v2"
    calls = [(f"{smd}/groups", "POST", {"label": "gpu", "exclusiveGroup": EXCLUSIVE, "members": {"ids": []}})]
    for node in nodes:
        xname = node["xname"]
        boot = {"hosts": [xname], "kernel": BOOT.kernel_url, "initrd": BOOT.initrd_url, "params": "quiet"}
        calls += [
            (f"{smd}/State/Components", "POST", {"Components": [component(node)], "Force": False}),
            (f"{smd}/Inventory/RedfishEndpoints", "POST", endpoint([node])),
            (f"{smd}/groups/gpu/members", "POST", {"id": xname}),
            (f"{urls['bss']}/boot/v1/bootparameters", "PUT", boot),
        ]
    for url, method, body in calls:
        command = ["curl", "-sSf", "-o", "/dev/null", "-X", method, "-H", "Content-Type: application/json"]
        subprocess.run([*command, "--data-binary", "@-", url], input=json.dumps(body).encode(), check=True)
    return len(calls)


def _node(number: int, xname: str) -> dict[str, Any]:
    def mac(kind: int) -> str:
        return f"02:00:00:{kind:02x}:{number >> 8:02x}:{number & 255:02x}"

    return {
        "xname": xname,
        "nid": number + 1,
        "mac": mac(0),
        "address": f"10.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}",
        "bmc": xname.rpartition("n")[0],
        "bmc_address": f"10.100.{number >> 8 & 255}.{number & 255}",
        "bmc_mac": mac(1),
    }
