"""BSS, the boot script service: which kernel, initrd and arguments a node boots with.

Source: BSS 1.32 (memory store, SMD behind it), base path /boot/v1; tests/data/contracts.
"""

import time
from typing import Any

from fastapi import FastAPI, Request, Response

from lab.provisioner.answers import JSON_UTF8, Problem, answer, empty, new_app, read_object, text
from lab.provisioner.bss_script import BootData, ask_again_script, boot_script, kernel_arguments
from lab.provisioner.bss_state import ACCESS, BootParameters, Nodes
from lab.provisioner.names import is_mac, xname_type
from lab.provisioner.store import Document, Store

SCRIPT_TYPE = "text/plain; charset=UTF-8"


def build(store: Store, own_url: str, cloud_init_url: str) -> FastAPI:
    """own_url: how nodes reach this BSS, for the scripts' `chain`; cloud_init_url: the seed of nodes."""
    app = new_app("BSS")
    nodes = Nodes(store)
    parameters = BootParameters(store, nodes)
    _service_routes(app)
    _host_routes(app, nodes, parameters)
    _parameter_routes(app, parameters)
    scripts = BootScripts(store, nodes, parameters, own_url.rstrip("/"), cloud_init_url)

    @app.get("/boot/v1/bootscript")
    async def bootscript(request: Request) -> Response:
        return scripts.answer(dict(request.query_params))

    @app.get("/boot/v1/endpoint-history")
    async def endpoint_history(name: str = "", endpoint: str = "") -> Response:
        seen = [entry for entry in store.all(ACCESS) if name in ("", entry["name"])]
        found = [entry for entry in seen if endpoint in ("", entry["endpoint"])]
        if not found and name and endpoint in ("bootscript", "user-data"):
            found = [{"name": name, "endpoint": endpoint, "last_epoch": 0}]
        return answer(found, media=JSON_UTF8)

    return app


def _service_routes(app: FastAPI) -> None:
    @app.get("/boot/v1/service/status")
    async def status() -> Response:
        return answer({"bss-status": "running"}, media="text/plain; charset=utf-8")

    @app.get("/boot/v1/service/version")
    async def version() -> Response:
        return answer({"bss-version": "1.32.0-sitewright-lab"}, media="text/plain; charset=utf-8")


def _host_routes(app: FastAPI, nodes: Nodes, parameters: BootParameters) -> None:
    @app.get("/boot/v1/hosts")
    async def get_hosts(mac: str = "", name: str = "", nid: str = "") -> Response:
        if not (mac or name or nid):
            return answer(nodes.all, media=JSON_UTF8)
        found = [_or_404(nodes.by_name(n), f"host name '{n}'") for n in name.split(",") if n]
        found += [_or_404(nodes.by_mac(m), f"MAC address '{m}'") for m in mac.split(",") if m]
        found += [_or_404(nodes.by_nid(_nid(n)), f"NID '{n}'") for n in nid.split(",") if n]
        return answer(found, media=JSON_UTF8)

    @app.post("/boot/v1/hosts")
    async def post_hosts() -> Response:
        nodes.refresh()
        return empty(204, JSON_UTF8)

    @app.get("/boot/v1/dumpstate")
    async def dumpstate() -> Response:
        return answer({"Components": nodes.all, "Params": parameters.shown()}, media=JSON_UTF8)


def _or_404(node: Document | None, what: str) -> Document:
    if node is None:
        raise Problem(404, f"Not Found - Unknown {what}")
    return node


def _nid(text_value: str) -> int:
    try:
        return int(text_value, 0)
    except ValueError:
        raise Problem(400, f"Bad Request - Invalid nid '{text_value}'") from None


# Boot parameters ---------------------------------------------------------------------------------


async def _given(request: Request) -> dict[str, Any]:
    try:
        return await read_object(request)
    except ValueError as error:
        raise Problem(400, f"Bad Request: {error}") from error


def _check_new(given: Document, parameters: BootParameters) -> None:
    for mac in given.get("macs") or []:
        if not is_mac(str(mac)):
            raise Problem(400, f"Bad Request: invalid MAC address format: {mac}\n")
    for host in given.get("hosts") or []:
        if xname_type(str(host)) != "Node":
            raise Problem(400, f"Bad Request: invalid xname: {host}")
    # Parameters under a MAC that SMD does not know are replaced without a word; only nodes are protected.
    for name in parameters.names(given):
        if xname_type(name) and parameters.exists(name):
            raise Problem(400, f"Bad Request: Already exists: {name}")


def _parameter_routes(app: FastAPI, parameters: BootParameters) -> None:
    path = "/boot/v1/bootparameters"

    @app.get(path)
    async def get(request: Request) -> Response:
        query = {key: request.query_params.get(key, "") for key in ("name", "mac", "nid")}
        body = await request.body()
        if not body and not any(query.values()):
            return answer(parameters.shown() or None, media=JSON_UTF8)
        given = await _given(request) if body else {}
        hosts = [*(given.get("hosts") or []), *filter(None, query["name"].split(","))]
        macs = [*(given.get("macs") or []), *filter(None, query["mac"].split(","))]
        nids = [*(given.get("nids") or []), *(_nid(nid) for nid in query["nid"].split(",") if nid)]
        found = parameters.select(hosts, macs, nids)
        if not found:
            asked = [name for name, values in (("Hosts", hosts), ("MACs", macs), ("NIDs", nids)) if values]
            raise Problem(404, f"Cannot find boot parameters for requested {' or '.join(asked)}")
        return answer(found, media=JSON_UTF8)

    @app.post(path)
    async def post(request: Request) -> Response:
        given = await _given(request)
        _check_new(given, parameters)
        return _stored(parameters.store(given), 201)

    @app.put(path)
    async def put(request: Request) -> Response:
        return _stored(parameters.store(await _given(request)), 200)

    @app.patch(path)
    async def patch(request: Request) -> Response:
        try:
            parameters.update(await _given(request))
        except KeyError as error:
            name = error.args[0]
            detail = f"Not Found: Error looking up {name}: Key /params/{name} does not exist"
            raise Problem(404, detail) from error
        return empty(200, JSON_UTF8)

    @app.delete(path)
    async def delete(request: Request) -> Response:
        missing = parameters.remove(await _given(request))
        if missing:
            raise Problem(400, f"Key {missing} deletion: Key /params/{missing} does not exist")
        return empty(200, JSON_UTF8)


def _stored(token: str, status: int) -> Response:
    return empty(status, JSON_UTF8, **({"bss_referral_token": token} if token else {}))


# Boot scripts ------------------------------------------------------------------------------------


class BootScripts:
    def __init__(
        self, store: Store, nodes: Nodes, parameters: BootParameters, own_url: str, seed_url: str
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._parameters = parameters
        self._own_url = own_url
        self._seed_url = seed_url

    def answer(self, query: dict[str, str]) -> Response:
        """The script for the node that `mac`, else `name`, else `nid` selects."""
        selector = next((key for key in ("mac", "name", "nid") if query.get(key)), "")
        if not selector:
            raise Problem(400, "Need a mac=, name=, or nid= parameter")
        value = query[selector]
        node = self._node(selector, value)
        alias = f"nid{value}" if selector == "nid" else value
        boot = self._parameters.find(
            [(node or {}).get("ID", ""), alias, (node or {}).get("Role", ""), "Default"]
        )
        if query.get("json"):
            return self._json(boot, node, query)
        # A node is booted only if SMD knows its BMC; anything else is "unknown".
        if node and node["EndpointEnabled"] and boot.kernel:
            return self._script(boot, node, query)
        return self._unknown(boot, node, query, selector)

    def _node(self, selector: str, value: str) -> Document | None:
        if selector == "mac":
            return self._nodes.by_mac(value)
        return self._nodes.by_name(value) if selector == "name" else self._nodes.by_nid(_nid(value))

    def _arguments(self, boot: BootData, node: Document | None, query: dict[str, str]) -> str:
        known = node or {}
        nid = str(known["NID"]) if "NID" in known else ""
        return kernel_arguments(boot, known.get("ID", ""), nid, query.get("mac", ""), self._seed_url)

    def _script(self, boot: BootData, node: Document, query: dict[str, str]) -> Response:
        mac = query.get("mac") or (node["MAC"] or [""])[0]
        who = f"mac={mac}" if mac else f"name={node['ID']}"
        retry = int(query.get("retry") or 0) + 1
        chain = f"{self._own_url}/boot/v1/bootscript?{who}&retry={retry}"
        script = boot_script(boot, self._arguments(boot, node, query), chain)
        entry = {"name": node["ID"], "endpoint": "bootscript", "last_epoch": int(time.time())}
        self._store.put(ACCESS, node["ID"], entry)
        return text(script, media=SCRIPT_TYPE)

    def _unknown(
        self, boot: BootData, node: Document | None, query: dict[str, str], selector: str
    ) -> Response:
        known = node or {}
        arch = query.get("arch", "")
        if not arch:
            self._nodes.refresh()
            mac = query.get("mac") or (known.get("MAC") or [""])[0]
            who = f"mac={mac}" if mac else f"{selector}={query[selector]}"
            chain = f"{self._own_url}/boot/v1/bootscript?{who}&arch=${{buildarch}}&ts={int(time.time())}"
            return text(ask_again_script(chain), media=SCRIPT_TYPE)
        discovery = self._parameters.find([f"Unknown-{arch}"])
        if discovery.kernel:
            chain = f"{self._own_url}/boot/v1/bootscript?{selector}={query[selector]}&arch={arch}"
            return text(
                boot_script(discovery, self._arguments(discovery, None, {}), chain), media=SCRIPT_TYPE
            )
        if node and boot.kernel:
            return self._script(boot, node, query)
        label = {"mac": "MAC ", "nid": "NID ", "name": ""}[selector]
        what = f"Unknown {label}{query[selector]} architecture {arch}"
        raise Problem(404, f"{what}: this host not configured for booting.")

    def _json(self, boot: BootData, node: Document | None, query: dict[str, str]) -> Response:
        if not boot.kernel:
            raise Problem(404, "this host not configured for booting.")
        params = f"kernel {self._arguments(boot, node, query)}"
        images = {"kernel": {"path": boot.kernel}} | (
            {"initrd": {"path": boot.initrd}} if boot.initrd else {}
        )
        return answer({"params": params} | images, media=JSON_UTF8)
