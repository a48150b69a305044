"""A site as an Ansible inventory: plain data, in the form that inventory scripts print."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sitewright.site.load import load
from sitewright.site.model import Site
from sitewright.site.plan import Node, Vm

# Host keys are not checked: a diskless node makes a new one at each boot and a VM with each disk,
# so that a remembered key would refuse the right machine.
_SSH_OPTIONS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def inventory_of(environment: str | Path) -> dict[str, Any]:
    return inventory(load(environment))


def inventory(site: Site) -> dict[str, Any]:
    """Groups, and `_meta.hostvars` with the variables of each host.

    A VM has `site_vm`, a node `site_node`: the Vm or Node of the plan. Every host sees `site`, the effective
    site file (paths as text, sizes as quantities), and, in a cluster, `site_cluster`.
    """
    hostvars: dict[str, Any] = {"localhost": _local()}
    hostvars |= {vm.name: {**_remote(site, vm), "site_vm": asdict(vm)} for vm in site.vms}
    hostvars |= {node.xname: {**_remote(site, node), "site_node": asdict(node)} for node in site.nodes}
    groups: dict[str, Any] = {
        "virtual_machines": _group(vm.name for vm in site.vms),
        "nodes": _group(node.xname for node in site.nodes),
    }
    for pool in site.pools:
        groups[f"pool_{pool.name}"] = _group(node.xname for node in site.nodes if node.pool == pool.name)
    for cluster in site.clusters:
        control_plane = [vm.name for vm in site.control_plane(cluster)]
        members = [node.xname for node in site.nodes if node.cluster == cluster.name]
        groups[f"control_plane_{cluster.name}"] = _group(control_plane)
        groups[f"cluster_{cluster.name}"] = {
            **_group(control_plane + members),
            "vars": {"site_cluster": cluster_facts(site, cluster.name)},
        }
    everything = {"children": ["ungrouped", *groups], "vars": {"site": site.model_dump(mode="json")}}
    return {
        "_meta": {"hostvars": hostvars},
        "all": everything,
        "ungrouped": _group(["localhost"]),
        **groups,
    }


def cluster_facts(site: Site, name: str) -> dict[str, Any]:
    """The cluster's section of the site file and the addresses that follow from the rest."""
    cluster = site.cluster(name)
    return {
        **cluster.model_dump(mode="json"),
        "endpoint_address": cluster.endpoint_address,
        "dns_address": cluster.dns_address,
        "control_plane": [vm.name for vm in site.control_plane(cluster)],
    }


def _group(hosts: Iterable[str]) -> dict[str, Any]:
    return {"hosts": list(hosts)}


def _local() -> dict[str, Any]:
    return {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def _remote(site: Site, host: Vm | Node) -> dict[str, Any]:
    """How Ansible reaches a VM or a node: over ssh, through the site's proxy command if there is one."""
    variables: dict[str, Any] = {
        "ansible_host": host.address,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": _SSH_OPTIONS,
    }
    if site.ssh is not None:
        variables["ansible_user"] = site.ssh.user
        variables["ansible_ssh_private_key_file"] = str(site.ssh.private_key)
        if site.ssh.proxy_command:
            # Ansible takes this text apart like a shell: quotes keep the command one word.
            command = site.ssh.proxy_command.replace("\\", "\\\\").replace('"', '\\"')
            variables["ansible_ssh_common_args"] += f' -o "ProxyCommand={command}"'
    return variables
