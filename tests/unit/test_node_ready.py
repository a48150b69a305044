"""Labels and taints of a pool reach a node that comes back with its old Node object."""

from datetime import UTC, datetime
from types import SimpleNamespace as Object

import pytest


@pytest.fixture
def module(ansible_module):
    return ansible_module("kubernetes_node_ready")


class Api:
    def __init__(self):
        self.patches = []

    def patch_node(self, name, patch):
        self.patches.append((name, patch))


def node(labels=None, taints=()):
    taints = [Object(key=k, value=v, effect=e) for k, v, e in taints]
    metadata = Object(name="x1", labels=labels)
    return Object(metadata=metadata, spec=Object(taints=taints or None))


def test_a_node_that_has_all_is_left_alone(module):
    api = Api()
    found = node({"pool": "gpu", "more": "x"}, [("gpu", "present", "NoSchedule")])
    assert not module.reconcile(api, found, {"pool": "gpu"}, ["gpu=present:NoSchedule"])
    assert api.patches == []


def test_a_stale_label_is_changed_and_foreign_taints_stay(module):
    api = Api()
    found = node(
        {"pool": "old"}, [("node.kubernetes.io/unreachable", None, "NoExecute"), ("gpu", "old", "NoSchedule")]
    )
    assert module.reconcile(api, found, {"pool": "gpu"}, ["gpu=present:NoSchedule"])
    ((name, patch),) = api.patches
    assert name == "x1"
    assert patch["metadata"] == {"labels": {"pool": "gpu"}}
    assert patch["spec"]["taints"] == [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
        {"key": "gpu", "value": "present", "effect": "NoSchedule"},
    ]


def ready_node(boot_id, said_at):
    condition = Object(
        type="Ready",
        status="True",
        message="",
        last_heartbeat_time=datetime.fromtimestamp(said_at, UTC),
    )
    return Object(status=Object(node_info=Object(boot_id=boot_id), conditions=[condition]))


@pytest.mark.parametrize(
    ("found", "is_ready"),
    [
        (ready_node("this", 1000), True),
        (ready_node("this", 999), False),  # of the kubelet before, which may have been stopped
        (ready_node("earlier", 1000), False),
    ],
)
def test_only_a_ready_of_this_boot_and_of_this_kubelet_counts(module, found, is_ready):
    api = Object(read_node=lambda name: found)
    if is_ready:
        assert module.wait_ready(api, "x1", "this", 1000, 1) is found
    else:
        with pytest.raises(TimeoutError, match="x1 is not Ready after 1 s"):
            module.wait_ready(api, "x1", "this", 1000, 1)


@pytest.mark.parametrize(
    ("text", "taint"),
    [
        ("gpu=present:NoSchedule", {"key": "gpu", "value": "present", "effect": "NoSchedule"}),
        ("gpu:NoExecute", {"key": "gpu", "effect": "NoExecute"}),
    ],
)
def test_taints_are_read_as_kubectl_writes_them(module, text, taint):
    assert module.parse_taint(text) == taint
