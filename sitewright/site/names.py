"""Names that are narrower than a DNS label. The modules take their limits from here.

Each limit is one of something far from the site file: without it the name would be refused, or worse, taken,
when half of the site is up.
"""

import re

from sitewright.site.kubernetes_values import dns_label

# The Secret with its user data is named `<vm>-cloudinit`, and stays a DNS label of 63 characters.
VM_NAME_LENGTH = 63 - len("-cloudinit")
# `<name>-<12 digits of its checksum>` is a label value of the VMs, 63 characters at most.
VM_IMAGE_NAME_LENGTH = 50
# The bridge is named `<cluster network>-br`, and Linux takes 15 characters.
CLUSTER_NETWORK_NAME_LENGTH = 12
# The load balancer in front of a control plane is named `<cluster>-api`.
LOAD_BALANCER_NAME_LENGTH = 50
CLUSTER_NAME_LENGTH = LOAD_BALANCER_NAME_LENGTH - len("-api")

# Names of its own in the cluster's DNS: `<model>-replicas`, of those that are watched, and `<model>-router`.
MODEL_NAME_LENGTH = 63 - len("-replicas")

# The label by which models find the nodes of their pool.
POOL_LABEL = "sitewright.dev/pool"

# Names that mean something else to those who read them. `nodes`, `all` and `ungrouped` are groups of the inventory.
_TAKEN_VM_NAMES = {
    "localhost": "is the operator's machine",
    "all": "is every machine in Ansible's inventory",
    "nodes": "is the group of all nodes in Ansible's inventory",
    "ungrouped": "is a group of Ansible's own",
}
# Source: vllm-project/vllm issue 34199, a Service `vllm` in the namespace of the pods.
_TAKEN_MODEL_NAMES = {
    "vllm": "as a Service gives pods VLLM_PORT=tcp://…, with which vLLM does not start",
    "kubernetes": "is the Service of the cluster's own API",
}


def vm_name(text: str) -> str:
    _refuse_taken(text, _TAKEN_VM_NAMES, "the VM")
    return _short(text, VM_NAME_LENGTH, f"its Secret is named {text}-cloudinit")


def vm_image_name(text: str) -> str:
    return _short(text, VM_IMAGE_NAME_LENGTH, "the image's digest follows it in a label")


def sql_name(text: str) -> str:
    """Of a database or its user, so that none needs quotes. Source: PostgreSQL 15, "Identifiers and Key Words"."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", text):
        raise ValueError(f"{text!r} is more than lower case letters, digits and _, or has over 63 characters")
    return text


def cluster_network_name(text: str) -> str:
    return _short(text, CLUSTER_NETWORK_NAME_LENGTH, f"its bridge is an interface, {text}-br")


def cluster_name(text: str) -> str:
    _refuse_taken(text, {"hypervisor": "is the cluster that the VMs run on"}, "the cluster")
    return _short(text, CLUSTER_NAME_LENGTH, f"its load balancer is named {text}-api")


def model_name(text: str) -> str:
    """Also the name of a Service, which must start with a letter in clusters before Kubernetes 1.36 (KEP-5311)."""
    _refuse_taken(text, _TAKEN_MODEL_NAMES, "the model")
    if dns_label(text)[0].isdigit():
        raise ValueError(f"{text!r} starts with a digit, which not every cluster takes for a Service")
    return _short(text, MODEL_NAME_LENGTH, f"the name of its replicas is {text}-replicas")


def _refuse_taken(text: str, taken: dict[str, str], what: str) -> None:
    if text in taken:
        raise ValueError(f"{text!r} {taken[text]}; give {what} another name")


def _short(text: str, longest: int, why: str) -> str:
    if len(text) > longest:
        raise ValueError(f"{text!r} has {len(text)} characters, {longest} are allowed: {why}")
    return dns_label(text)
