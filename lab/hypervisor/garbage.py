"""Lets objects go that were deleted "foreground" or "orphan": the API server holds them for a garbage collector.

In a cluster that is a part of the controller manager. Pulumi deletes everything foreground, so without it no
object deleted by Pulumi would ever vanish. Nothing here has dependents but a VirtualMachine, and that one
deletes its instance itself.
"""

from collections.abc import Callable

from lab.hypervisor.api import Api, Key, Kind, is_deleting, remove_finalizer

_FINALIZERS = ("foregroundDeletion", "orphan")


def collector(api: Api, kind: Kind) -> Callable[[Key, bool], float | None]:
    """The reconciler of objects of one kind."""

    def reconcile(key: Key, changed: bool) -> float | None:
        for finalizer in _FINALIZERS:
            body = api.get(kind, key)
            if body is not None and is_deleting(body):
                remove_finalizer(api, kind, body, finalizer)
        return None

    return reconcile
