"""Namespaces that are being deleted: emptied, then let go.

In a cluster the controller manager does this; here nobody else would, and a deleted namespace would stay for
ever. Only what Harvester's users put into a namespace is deleted.
"""

import logging

from lab.hypervisor.api import (
    CLAIM,
    CONFIG_MAP,
    IMAGE,
    KEY_PAIR,
    NAMESPACE,
    NETWORK,
    SECRET,
    VIRTUAL_MACHINE,
    Api,
    Key,
    is_deleting,
    key_of,
)

log = logging.getLogger(__name__)

# Machines first: volumes, images and networks wait for them.
_CONTENT = (VIRTUAL_MACHINE, CLAIM, IMAGE, NETWORK, KEY_PAIR, SECRET, CONFIG_MAP)
_AGAIN = 0.5  # seconds until the next look while something is still in it


class Namespaces:
    def __init__(self, api: Api) -> None:
        self._api = api

    def reconcile(self, key: Key, changed: bool) -> float | None:
        namespace = self._api.get(NAMESPACE, key)
        if namespace is None or not is_deleting(namespace):
            return None
        for kind in _CONTENT:
            if content := self._api.list(kind, key.name):
                for body in content:
                    if not is_deleting(body):
                        self._api.delete(kind, key_of(body))
                return _AGAIN
        namespace["spec"]["finalizers"] = []
        self._api.replace(NAMESPACE, key, namespace, "finalize")
        log.info("namespace %s: deleted", key)
        return None
