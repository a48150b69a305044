"""Ties the reconcilers to the API: kopf watches the objects, a Keeper per kind calls its reconciler.

kopf's own handlers would write annotations, events and peering objects into an API that shall look like
Harvester's, so only its watching is used.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kopf

from lab.hypervisor.api import (
    CLAIM,
    IMAGE,
    INSTANCE,
    LOAD_BALANCER,
    NAMESPACE,
    VIRTUAL_MACHINE,
    Api,
    Key,
    Kind,
)
from lab.hypervisor.host import Host
from lab.hypervisor.images import Images
from lab.hypervisor.keeper import Keeper, Reconcile
from lab.hypervisor.load_balancers import LoadBalancers
from lab.hypervisor.namespaces import Namespaces
from lab.hypervisor.virtual_machines import VirtualMachines
from lab.hypervisor.volumes import Volumes

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
        LOAD_BALANCER: LoadBalancers(api, host).reconcile,
    }
    keepers = {kind: Keeper(kind.kind, reconcile, threads) for kind, reconcile in reconcilers.items()}
    for kind, keeper in keepers.items():
        _watch(handlers, kind, keeper)
    _watch(handlers, INSTANCE, keepers[VIRTUAL_MACHINE])  # named like its machine

    async def stop(**_: Any) -> None:
        stopping.set()
        for keeper in keepers.values():
            await keeper.stop()
        threads.shutdown(wait=False, cancel_futures=True)

    kopf.on.startup(registry=handlers)(_configure)
    kopf.on.login(registry=handlers)(kopf.login_with_kubeconfig)
    kopf.on.cleanup(registry=handlers)(stop)
    return handlers


def _watch(handlers: kopf.OperatorRegistry, kind: Kind, keeper: Keeper) -> None:
    async def wake(name: str, namespace: str | None, **_: Any) -> None:
        keeper.wake(Key(namespace or "", name))

    group, _, version = kind.api_version.rpartition("/")
    kopf.on.event(group, version, kind.plural, registry=handlers)(wake)


async def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False  # no Event objects
    settings.scanning.disabled = True  # the kinds are installed before, none comes later
    settings.watching.server_timeout = _WATCH_TIMEOUT
    settings.watching.connect_timeout = 5
