"""LoadBalancer: an address of an IPPool, and the VMs behind it that the selector finds.

Source: Harvester's load balancer controller: the servers are the VMs of the balancer's own namespace with
a label of the selector whose guest agent names an address; there may be none yet.
"""

import logging
from collections.abc import Iterator

from lab.hypervisor import conditions
from lab.hypervisor.api import (
    INSTANCE,
    IP_POOL,
    LOAD_BALANCER,
    Api,
    Key,
    Object,
    add_finalizer,
    is_deleting,
    remove_finalizer,
)
from lab.hypervisor.balancing import Balancer, Server
from lab.hypervisor.conditions import condition
from lab.hypervisor.host import Host

log = logging.getLogger(__name__)

FINALIZER = "wrangler.cattle.io/harvester-lb-controller"
_TICK = 2.0  # seconds between two looks at which machines run


class LoadBalancers:
    def __init__(self, api: Api, host: Host) -> None:
        self._api = api
        self._host = host

    def reconcile(self, key: Key, changed: bool) -> float | None:
        balancer = self._api.get(LOAD_BALANCER, key)
        if balancer is None:
            return None
        if is_deleting(balancer):
            self._host.unbalance(_name(key), balancer.get("status", {}).get("address", ""))
            remove_finalizer(self._api, LOAD_BALANCER, balancer, FINALIZER)
            return None
        balancer = add_finalizer(self._api, LOAD_BALANCER, balancer, FINALIZER)
        if balancer is None:
            return None
        pool = self._api.get(IP_POOL, Key("", balancer["spec"]["ipPool"]))
        if pool is None:
            missing = f"there is no IPPool {balancer['spec']['ipPool']}"
            self._report(key, balancer, {}, condition("Ready", False, "PoolNotFound", missing))
            return _TICK
        wanted = _balancer(key, balancer["spec"], pool, self._servers(key, balancer["spec"]))
        self._host.balance(wanted)
        state = {
            "address": wanted.address,
            "backendServers": [server.address for server in wanted.servers],
        }
        self._report(key, balancer, state, condition("Ready", True))
        return _TICK

    def _servers(self, key: Key, spec: Object) -> tuple[Server, ...]:
        found = (
            Server(instance["metadata"]["name"], address)
            for instance in self._api.list(INSTANCE, key.namespace)
            if _selects(spec["backendServerSelector"], instance)
            and conditions.holds(instance, "AgentConnected")
            for address in _addresses(instance)
        )
        return tuple(sorted(found))

    def _report(self, key: Key, balancer: Object, state: Object, ready: conditions.Condition) -> None:
        before = balancer.get("status", {})
        after = {**state, "conditions": conditions.merged(before.get("conditions"), [ready])}
        if {name: before.get(name) for name in after} != after:
            log.info("load balancer %s: %s", key, state or ready["message"])
            self._api.patch(LOAD_BALANCER, key, {"status": after}, "status")


def _name(key: Key) -> str:
    return f"{key.namespace}-{key.name}"


def _balancer(key: Key, spec: Object, pool: Object, servers: tuple[Server, ...]) -> Balancer:
    check = spec["healthCheck"]
    return Balancer(
        name=_name(key),
        address=pool["spec"]["ranges"][0]["rangeStart"],
        ports=tuple((listener["port"], listener["backendPort"]) for listener in spec["listeners"]),
        servers=servers,
        check_port=check["port"],
        check_period=check["periodSeconds"],
        check_timeout=check["timeoutSeconds"],
        rise=check["successThreshold"],
        fall=check["failureThreshold"],
    )


def _selects(selector: Object, instance: Object) -> bool:
    labels = instance["metadata"].get("labels", {})
    return all(labels.get(name) in values for name, values in selector.items())


def _addresses(instance: Object) -> Iterator[str]:
    for interface in instance["status"].get("interfaces", [])[:1]:
        if address := interface.get("ipAddress"):
            yield address
