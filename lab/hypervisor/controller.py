"""Ties the reconcilers to the API: kopf watches the objects, a Keeper per kind calls its reconciler.

kopf's own handlers would write annotations, events and peering objects into an API that shall look like
Harvester's, so only its watching is used.
"""

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kopf

from lab.hypervisor.api import (
    CLAIM,
    CLUSTER_NETWORK,
    CONFIG_MAP,
    IMAGE,
    INSTANCE,
    KEY_PAIR,
    NAMESPACE,
    NETWORK,
    SECRET,
    STORAGE_CLASS,
    VIRTUAL_MACHINE,
    VLAN_CONFIG,
    Api,
    Key,
    Kind,
    is_deleting,
)
from lab.hypervisor.garbage import collector
from lab.hypervisor.host import Host
from lab.hypervisor.images import Images
from lab.hypervisor.keeper import Keeper, Reconcile
from lab.hypervisor.namespaces import Namespaces
from lab.hypervisor.virtual_machines import VirtualMachines
from lab.hypervisor.volumes import Volumes

Handler = Callable[..., Awaitable[None]]

# All kinds that somebody may delete.
_COLLECTED = (
    *(VIRTUAL_MACHINE, INSTANCE, IMAGE, CLAIM, NETWORK, KEY_PAIR, SECRET, CONFIG_MAP),
    *(CLUSTER_NETWORK, VLAN_CONFIG, STORAGE_CLASS, NAMESPACE),
)
# A call may wait two minutes for a shutdown; with fewer threads, machines would wait for each other.
_THREADS = 64
# A connection that died without a word is noticed after this many seconds.
_WATCH_TIMEOUT = 600


def registry(api: Api, host: Host, stopping: threading.Event) -> kopf.OperatorRegistry:
    """The handlers of the hypervisor, for `kopf.run` or `kopf.operator`."""
    handlers = kopf.OperatorRegistry()
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="reconcile")
    volumes = Volumes(api)
    reconcilers: dict[Kind, Reconcile] = {
        VIRTUAL_MACHINE: VirtualMachines(api, host, volumes).reconcile,
        IMAGE: Images(api, host, stopping.is_set).reconcile,
        CLAIM: volumes.reconcile,
        NAMESPACE: Namespaces(api).reconcile,
    }
    keepers = {kind: Keeper(kind.kind, reconcile, threads) for kind, reconcile in reconcilers.items()}
    for kind, keeper in keepers.items():
        _watch(handlers, kind, _waker(keeper), "reconcile")
    _watch(handlers, INSTANCE, _waker(keepers[VIRTUAL_MACHINE]), "reconcile")  # named like its machine
    collectors = {kind: Keeper(kind.kind, collector(api, kind), threads) for kind in _COLLECTED}
    for kind, keeper in collectors.items():
        _watch(handlers, kind, _waker_of_deleted(keeper), "collect")

    async def stop(**_: Any) -> None:
        stopping.set()
        for keeper in (*keepers.values(), *collectors.values()):
            await keeper.stop()
        threads.shutdown(wait=False, cancel_futures=True)

    kopf.on.startup(registry=handlers)(_configure)
    kopf.on.login(registry=handlers)(kopf.login_with_kubeconfig)
    kopf.on.cleanup(registry=handlers)(stop)
    return handlers


def _watch(handlers: kopf.OperatorRegistry, kind: Kind, wake: Handler, purpose: str) -> None:
    group, _, version = kind.api_version.rpartition("/")
    kopf.on.event(group, version, kind.plural, registry=handlers, id=f"{purpose}/{kind.kind}")(wake)


def _waker(keeper: Keeper) -> Handler:
    async def wake(name: str, namespace: str | None, **_: Any) -> None:
        keeper.wake(Key(namespace or "", name))

    return wake


def _waker_of_deleted(keeper: Keeper) -> Handler:
    async def wake(name: str, namespace: str | None, body: kopf.Body, type: str | None, **_: Any) -> None:
        if is_deleting(body) and type != "DELETED":
            keeper.wake(Key(namespace or "", name))

    return wake


async def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False  # no Event objects
    settings.scanning.disabled = True  # the kinds are installed before, none comes later
    settings.watching.server_timeout = _WATCH_TIMEOUT
    settings.watching.connect_timeout = 5
