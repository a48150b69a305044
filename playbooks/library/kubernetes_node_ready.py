"""Waits until a node is Ready, and gives it the labels and taints of its pool.

A kubelet sets labels and taints only when it registers a Node for the first
time; a diskless node that comes back finds its old Node object, so both are
reconciled through the API (RKE2 documentation, agent configuration).
"""

from __future__ import annotations

import time
from typing import Any

import yaml
from ansible.module_utils.basic import AnsibleModule
from kubernetes import client, config

DOCUMENTATION = """
module: kubernetes_node_ready
short_description: wait for a Ready node and reconcile its labels and taints
options:
  node: {description: name of the node, type: str, required: true}
  kubeconfig: {description: text of an administrator's kubeconfig, type: str, required: true}
  labels: {description: labels the node must have, type: dict, default: {}}
  taints: {description: 'taints as key=value:Effect', type: list, elements: str, default: []}
  boot_id: {description: boot the node must be in; an older Ready does not count, type: str, required: true}
  since: {description: start of its kubelet in Unix time; a Ready said before does not count, type: int, required: true}
  timeout: {description: seconds, type: int, default: 120}
"""


def parse_taint(text: str) -> dict[str, str]:
    """`key=value:Effect` or `key:Effect` as the API writes it."""
    left, _, effect = text.rpartition(":")
    key, _, value = left.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def wait_ready(api: client.CoreV1Api, node: str, boot_id: str, since: int, timeout: int) -> client.V1Node:
    """The Node object. Raises TimeoutError with the reason the node gives for not being Ready."""
    deadline = time.monotonic() + timeout
    reason = "it has not registered"
    while time.monotonic() < deadline:
        try:
            found = api.read_node(node)
        except client.ApiException as error:
            if error.status != 404:
                raise
            time.sleep(0.2)
            continue
        ready = next((c for c in found.status.conditions or [] if c.type == "Ready"), None)
        spoke = ready is not None and ready.last_heartbeat_time.timestamp() >= since
        if found.status.node_info.boot_id == boot_id and spoke and ready.status == "True":
            return found
        reason = ready.message if ready and spoke else "its kubelet has said nothing since it started"
        time.sleep(0.2)
    raise TimeoutError(f"{node} is not Ready after {timeout} s: {reason}")


def reconcile(api: client.CoreV1Api, node: client.V1Node, labels: dict[str, str], taints: list[str]) -> bool:
    """Labels are added and changed, never removed; the pool's taints replace those of the same key."""
    patch: dict[str, Any] = {}
    there = node.metadata.labels or {}
    if any(there.get(key) != value for key, value in labels.items()):
        patch["metadata"] = {"labels": labels}
    wanted = [parse_taint(t) for t in taints]
    current = [
        {k: v for k, v in (("key", t.key), ("value", t.value), ("effect", t.effect)) if v}
        for t in node.spec.taints or []
    ]
    if any(t not in current for t in wanted):
        keys = {t["key"] for t in wanted}
        patch["spec"] = {"taints": [t for t in current if t["key"] not in keys] + wanted}
    if patch:
        api.patch_node(node.metadata.name, patch)
    return bool(patch)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "kubeconfig": {"type": "str", "required": True, "no_log": True},
            "labels": {"type": "dict", "default": {}},
            "taints": {"type": "list", "elements": "str", "default": []},
            "boot_id": {"type": "str", "required": True},
            "since": {"type": "int", "required": True},
            "timeout": {"type": "int", "default": 120},
        }
    )
    given: dict[str, Any] = module.params
    api = client.CoreV1Api(config.new_client_from_config_dict(yaml.safe_load(given["kubeconfig"])))
    try:
        node = wait_ready(api, given["node"], given["boot_id"], given["since"], given["timeout"])
        changed = reconcile(api, node, given["labels"], given["taints"])
    except (client.ApiException, TimeoutError, OSError) as error:
        module.fail_json(msg=str(error))
    info = node.status.node_info
    module.exit_json(
        changed=changed,
        summary={"kubelet": info.kubelet_version, "kernel": info.kernel_version, "boot_id": info.boot_id},
    )


if __name__ == "__main__":
    main()
