#!/usr/bin/python
"""Ansible module: the power of many nodes. The work is done by sitewright.provisioning, redfish or pcs."""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from sitewright.errors import SitewrightError
from sitewright.provisioning.pcs import Pcs
from sitewright.provisioning.redfish import ACTIONS, Bmc, Outcome, power_all

DOCUMENTATION = r"""
module: node_power
short_description: Switch the power of nodes by Redfish, or by PCS where there is one
description:
  - Brings each node's power where O(action) leads, at most O(limit) at a time, and waits until it is there.
  - A node that is there already is left alone. A node that fails does not stop the others; the task fails at
    the end and names every node that failed.
  - Runs where the BMCs can be reached, with an interpreter that has sitewright installed.
options:
  nodes:
    description: The nodes. O(nodes[].system) is the system's id or name on its BMC, by default the xname.
    type: list
    elements: dict
    required: true
    suboptions:
      xname: {type: str, required: true, description: Name of the node, for messages}
      url: {type: str, required: true, description: "https://host:port of its BMC"}
      system: {type: str, description: Id or name of the system on the BMC}
  username: {type: str, required: true, description: Redfish user}
  password: {type: str, required: true, description: Its password}
  ca_file: {type: path, description: "CA that signed the BMCs' certificates; by default those of the system"}
  pcs: {type: str, description: "Base URL of PCS, which then speaks to the BMCs"}
  token: {type: str, description: A JWT for it}
  action:
    description:
      - C(on) and C(running) switch on, C(off) cuts the power, C(shutdown) asks the operating system,
        C(restart) asks it to restart, C(force-restart) resets, C(cycle) cuts the power and switches on.
    type: str
    required: true
    choices: ["status", "on", "off", "shutdown", "restart", "force-restart", "cycle", "running"]
  limit: {type: int, default: 16, description: How many BMCs are spoken to at a time}
  timeout: {type: float, default: 60, description: Seconds until the power state must have followed}
"""

EXAMPLES = r"""
- name: Switch the nodes on
  node_power:
    nodes: [{xname: x1000c0s0b0n0, url: "https://10.77.0.160:8443"}]
    username: admin
    password: "{{ lookup('ansible.builtin.file', site_bmc.password_file) }}"
    ca_file: "{{ site_bmc.ca_file }}"
    action: "on"
"""

RETURN = r"""
nodes:
  description: What happened, one entry per node in the order given.
  returned: always
  type: list
  elements: dict
  sample: [{xname: x1000c0s0b0n0, action: "on", before: "Off", after: "On", changed: true, sent: "On", detail: "",
            error: ""}]
table:
  description: The same as lines of text.
  returned: always
  type: list
  elements: str
"""

ARGUMENTS: dict[str, Any] = {
    "nodes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "xname": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "system": {"type": "str"},
        },
    },
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "ca_file": {"type": "path"},
    "pcs": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "action": {"type": "str", "required": True, "choices": list(ACTIONS)},
    "limit": {"type": "int", "default": 16},
    "timeout": {"type": "float", "default": 60},
}


def bmcs_of(arguments: dict[str, Any]) -> list[Bmc]:
    ca_file = Path(arguments["ca_file"]) if arguments["ca_file"] else None
    return [
        Bmc(
            node["xname"],
            node["url"],
            arguments["username"],
            arguments["password"],
            ca_file,
            system=node["system"] or node["xname"],
        )
        for node in arguments["nodes"]
    ]


def entry_of(outcome: Outcome) -> dict[str, Any]:
    return {
        "xname": outcome.name,
        "action": outcome.action,
        "before": outcome.before,
        "after": outcome.after,
        "changed": outcome.changed,
        "sent": outcome.sent,
        "detail": outcome.detail,
        "error": str(outcome.error or ""),
    }


def line_of(entry: dict[str, Any]) -> str:
    if entry["error"]:
        return f"{entry['xname']}: failed: {entry['error'].splitlines()[0]}"
    if entry["action"] == "status":
        return f"{entry['xname']}: {entry['after']}"
    what = f"{entry['before']} -> {entry['after']}" if entry["changed"] else f"already {entry['after']}"
    return f"{entry['xname']}: {what}" + (f" ({entry['detail']})" if entry["detail"] else "")


def outcomes_of(arguments: dict[str, Any], check: bool) -> list[Outcome]:
    action, timeout = arguments["action"], arguments["timeout"]
    if not arguments["pcs"]:
        return power_all(bmcs_of(arguments), action, arguments["limit"], timeout, check)
    names = [node["xname"] for node in arguments["nodes"]]
    try:
        return Pcs(arguments["pcs"], arguments["token"]).power(names, action, timeout, check)
    except SitewrightError as error:
        return [Outcome(name, action, error=error) for name in names]


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    arguments = module.params
    outcomes = outcomes_of(arguments, module.check_mode)
    nodes = [entry_of(outcome) for outcome in outcomes]
    results = {
        "nodes": nodes,
        "table": [line_of(entry) for entry in nodes],
        "changed": any(entry["changed"] for entry in nodes),
    }
    failed = [entry["error"] for entry in nodes if entry["error"]]
    if failed:
        module.fail_json(msg=f"{len(failed)} of {len(nodes)} nodes: " + "\n".join(failed), **results)
    module.exit_json(**results)


if __name__ == "__main__":
    main()
