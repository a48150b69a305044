"""The cloud-init server: what a node is told after it booted, by the groups it is in.

A node is known by its address (SMD's EthernetInterfaces). Addresses and groups come
from a copy of SMD that is renewed every `refresh` seconds: a node just declared gets
422 until then. The real service renews it once a minute.

Source: cloud-init server 1.4.5 with --impersonation; tests/data/contracts.
"""

import base64
import binascii
import time
from collections.abc import Callable

from fastapi import FastAPI, Request, Response

from lab.provisioner.answers import answer, empty, new_app, read_object, text
from lab.provisioner.cloud_init_data import DEFAULTS, GROUP, INSTANCE, instance_of, meta_data, to_yaml
from lab.provisioner.names import normal_xname
from lab.provisioner.smd_components import COMPONENT
from lab.provisioner.smd_groups import labels_of
from lab.provisioner.smd_inventory import INTERFACE
from lab.provisioner.store import Document, Store

EMPTY_CONFIG = "#cloud-config"


class NodesByAddress:
    """The server's copy of SMD: which node has an address, and its groups."""

    def __init__(self, store: Store, refresh: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._refresh = refresh
        self._clock = clock
        self._read()

    def _read(self) -> None:
        self._taken = self._clock()
        self._xnames = {
            address["IPAddress"]: interface["ComponentID"]
            for interface in self._store.all(INTERFACE)
            for address in interface["IPAddresses"]
        }
        xnames = {component["ID"] for component in self._store.all(COMPONENT)}
        self._groups = {xname: labels_of(self._store, xname) for xname in xnames}

    def _renew(self) -> None:
        # Renewed when asked for and too old, not by a timer: an idle lab costs nothing.
        if self._clock() - self._taken >= self._refresh:
            self._read()

    def xname(self, address: str) -> str:
        """ "" if no node has this address."""
        self._renew()
        return self._xnames.get(address, "")

    def address(self, xname: str) -> str:
        self._renew()
        return next((address for address, owner in self._xnames.items() if owner == xname), "")

    def groups(self, xname: str) -> list[str]:
        self._renew()
        return self._groups.get(xname, [])


def build(
    store: Store, own_url: str, refresh: float = 60, clock: Callable[[], float] = time.monotonic
) -> FastAPI:
    """own_url: how nodes reach this server; refresh: seconds between two looks at SMD."""
    app = new_app("cloud-init server")
    nodes = NodesByAddress(store, refresh, clock)
    _admin_routes(app, store)
    _group_routes(app, store)
    _node_routes(app, store, nodes, own_url)

    @app.post("/phone-home/{instance}")
    async def phone_home(instance: str) -> Response:
        return empty(200)

    return app


# Administration ----------------------------------------------------------------------------------


def _admin_routes(app: FastAPI, store: Store) -> None:
    @app.get("/admin/cluster-defaults")
    async def get_defaults() -> Response:
        return answer(store.get(DEFAULTS, "") or {})

    @app.post("/admin/cluster-defaults")
    async def post_defaults(request: Request) -> Response:
        try:
            given = await read_object(request)
        except ValueError as error:
            return text(f"{error}\n", 422)
        store.put(DEFAULTS, "", (store.get(DEFAULTS, "") or {}) | {k: v for k, v in given.items() if v})
        return empty(201)

    @app.put("/admin/instance-info/{xname}")
    async def put_instance(xname: str, request: Request) -> Response:
        try:
            given = await read_object(request)
        except ValueError as error:
            return text(f"{error}\n", 422)
        store.put(INSTANCE, normal_xname(xname), instance_of(store, normal_xname(xname)) | given)
        return empty(201)


def _new_group(given: Document) -> Document:
    """A group as stored. Raises ValueError."""
    if not given.get("name"):
        raise ValueError("group name is required")
    file = given.get("file") or {}
    encoding = file.get("encoding") or "plain"
    if encoding not in ("plain", "base64"):
        raise ValueError(f"unsupported encoding '{encoding}'")
    group: Document = {"name": given["name"]}
    for optional in ("description", "meta-data"):
        if given.get(optional):
            group[optional] = given[optional]
    stored = {"content": file.get("content", ""), "encoding": encoding, "filename": file.get("filename", "")}
    return group | {"file": stored}


def _group_routes(app: FastAPI, store: Store) -> None:
    async def given_group(request: Request) -> Document | Response:
        try:
            return _new_group(await read_object(request))
        except ValueError as error:
            return text(f"{error}\n", 422)

    @app.get("/admin/groups")
    async def list_groups() -> Response:
        return answer(dict(store.items(GROUP)), media="text/plain; charset=utf-8")

    @app.post("/admin/groups")
    async def post_group(request: Request) -> Response:
        group = await given_group(request)
        if isinstance(group, Response):
            return group
        if store.get(GROUP, group["name"]):
            return text(f"group '{group['name']}' not added as it already exists\n", 409)
        store.put(GROUP, group["name"], group)
        return empty(201, location=f"/groups/{group['name']}")

    @app.get("/admin/groups/{name}")
    async def get_group(name: str) -> Response:
        group = store.get(GROUP, name)
        if group is None:
            return text(f"group ({name}) not found in memstore\n", 404)
        return answer(group, media="text/plain; charset=utf-8")

    @app.put("/admin/groups/{name}")
    async def put_group(name: str, request: Request) -> Response:
        group = await given_group(request)
        if isinstance(group, Response):
            return group
        store.put(GROUP, name, group)
        return empty(201, location=f"/groups/{group['name']}")

    @app.delete("/admin/groups/{name}")
    async def delete_group(name: str) -> Response:
        store.delete(GROUP, name)
        return empty(200)


# What nodes ask for ------------------------------------------------------------------------------


def _node_routes(app: FastAPI, store: Store, nodes: NodesByAddress, own_url: str) -> None:
    def caller(request: Request) -> str:
        forwarded = request.headers.get("x-forwarded-for", "").split(",")[0].strip()
        return forwarded or (request.client.host if request.client else "")

    def meta_data_of(xname: str) -> Response:
        component = store.get(COMPONENT, xname)
        if component is None:
            return empty(422)
        data = meta_data(store, component, nodes.address(xname), nodes.groups(xname))
        return text(to_yaml(data), media="application/x-yaml")

    def vendor_data_of(xname: str) -> Response:
        base = (store.get(DEFAULTS, "") or {}).get("base-url") or own_url
        return text("#include\n" + "".join(f"{base}/{group}.yaml\n" for group in nodes.groups(xname)))

    def config_of(xname: str, group: str) -> Response:
        if group not in nodes.groups(xname):
            about = "(node and/or group may not exist in SMD)"
            return text(f"node {xname} is not a member of group {group} {about}\n", 404)
        file = (store.get(GROUP, group) or {"file": {"content": EMPTY_CONFIG}})["file"]
        try:
            return text(_decoded(file))
        except (ValueError, binascii.Error) as error:
            return text(f"failed to base64-decode cloud-config: {error}\n", 500)

    @app.get("/meta-data")
    async def own_meta_data(request: Request) -> Response:
        xname = nodes.xname(caller(request))
        return meta_data_of(xname) if xname else empty(422)

    @app.get("/vendor-data")
    async def own_vendor_data(request: Request) -> Response:
        xname = nodes.xname(caller(request))
        return vendor_data_of(xname) if xname else empty(422)

    @app.get("/user-data")
    @app.get("/admin/impersonation/{xname}/user-data")
    async def user_data() -> Response:
        return text(EMPTY_CONFIG)

    @app.get("/{group}.yaml")
    async def own_config(group: str, request: Request) -> Response:
        address = caller(request)
        xname = nodes.xname(address)
        if not xname:
            return text(f"IP address {address} not found for an xname in nodes\n", 500)
        return config_of(xname, group)

    @app.get("/admin/impersonation/{xname}/meta-data")
    async def meta_data_for(xname: str) -> Response:
        return meta_data_of(normal_xname(xname))

    @app.get("/admin/impersonation/{xname}/vendor-data")
    async def vendor_data_for(xname: str) -> Response:
        return vendor_data_of(normal_xname(xname))

    @app.get("/admin/impersonation/{xname}/{group}.yaml")
    async def config_for(xname: str, group: str) -> Response:
        return config_of(normal_xname(xname), group)


def _decoded(file: Document) -> str:
    if file.get("encoding") == "base64":
        return base64.b64decode(file["content"], validate=True).decode()
    return file["content"]
