"""boot-service's copies of SMD's nodes, as it makes them with `--hsm-url`: without groups, and what SMD forgets stays.

Source: boot-service 0.3.2, pkg/clients/hsm.
"""

import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from lab.provisioner.boot_service import kind_of, new_resource, update
from lab.provisioner.smd_components import COMPONENT
from lab.provisioner.smd_inventory import INTERFACE
from lab.provisioner.store import Store


def keep(app: FastAPI, store: Store, refresh: float, clock: Callable[[], float] = time.monotonic) -> FastAPI:
    """The service, which looks at SMD before it answers. refresh: seconds between two looks; the real one takes five
    minutes."""
    taken = -refresh

    # Renewed when asked for and too old, not by a timer: an idle lab costs nothing.
    @app.middleware("http")
    async def with_copies(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        nonlocal taken
        if clock() - taken >= refresh:
            _copy(store)
            taken = clock()
        return await answer(request)

    return app


def _copy(store: Store) -> None:
    macs = {one["ComponentID"]: one["MACAddress"] for one in store.all(INTERFACE)}
    known = {one["spec"]["xname"]: one for one in store.all(kind_of("nodes"))}
    for one in store.all(COMPONENT):
        if one.get("Type") != "Node" or one.get("Role") != "Compute":
            continue
        spec = {"xname": one["ID"], "nid": one["NID"], "bootMac": macs.get(one["ID"], ""), "groups": []}
        if one["ID"] not in known:
            new_resource(store, "nodes", {"metadata": {"name": one["ID"]}, "spec": spec})
        elif known[one["ID"]]["spec"] != spec:
            update(store, "nodes", known[one["ID"]], spec)
