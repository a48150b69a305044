"""boot-service, the successor of BSS: boot configurations that match hosts, MACs, NIDs or groups.

Source: boot-service 0.3.2 with its legacy API; tests/data/contracts.
"""

import re
import secrets
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response

from lab.provisioner.answers import answer, new_app, read_object, text
from lab.provisioner.boot_service_script import boot_script, error_script, minimal_script
from lab.provisioner.store import Document, Store

KINDS = {"nodes": "Node", "bootconfigurations": "BootConfiguration", "bmcs": "BMC"}
# What each kind of match is worth; the highest sum decides, then the priority, then the name.
MAC_SCORE, NID_SCORE, HOST_SCORE, GROUP_SCORE, CATCH_ALL_SCORE = 100, 75, 50, 25, 1


def build(store: Store) -> FastAPI:
    app = new_app("boot-service")

    @app.get("/health")
    async def health() -> Response:
        return answer({"service": "boot-service", "status": "ok"})

    # Before the native routes: theirs would take `bootparameters` for a kind.
    _legacy_routes(app, store)
    _native_routes(app, store)
    return app


def _failed(status: int, message: str) -> Response:
    return answer({"error": message, "code": status}, status)


def kind_of(collection: str) -> str:
    return f"boot-service-{collection}"


# Native: one document per uid --------------------------------------------------------------------


def _native_routes(app: FastAPI, store: Store) -> None:
    @app.get("/{collection}")
    async def list_all(collection: str) -> Response:
        if collection not in KINDS:
            return text("404 page not found\n", 404)
        return answer(store.all(kind_of(collection)))

    @app.post("/{collection}")
    async def create(collection: str, request: Request) -> Response:
        if collection not in KINDS:
            return text("404 page not found\n", 404)
        try:
            given = await read_object(request)
            return answer(new_resource(store, collection, given), 201)
        except ValueError as error:
            return _failed(400, f"validation failed: {error}")

    @app.get("/{collection}/{uid}")
    async def get(collection: str, uid: str) -> Response:
        resource = store.get(kind_of(collection), uid)
        return answer(resource) if resource else _failed(404, f"{uid} not found")

    @app.put("/{collection}/{uid}")
    async def replace(collection: str, uid: str, request: Request) -> Response:
        resource = store.get(kind_of(collection), uid)
        if resource is None:
            return _failed(404, f"{uid} not found")
        try:
            spec = (await read_object(request)).get("spec") or {}
            _check(collection, spec)
        except ValueError as error:
            return _failed(400, f"validation failed: {error}")
        return answer(update(store, collection, resource, spec))

    @app.delete("/{collection}/{uid}")
    async def delete(collection: str, uid: str) -> Response:
        if not store.delete(kind_of(collection), uid):
            return _failed(404, f"{uid} not found")
        return answer({"message": f"{KINDS[collection]} deleted successfully", "uid": uid})


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def new_resource(store: Store, collection: str, given: Document) -> Document:
    """Store a new resource. Raises ValueError."""
    spec = given.get("spec") or {}
    _check(collection, spec)
    uid = f"{KINDS[collection].lower()}-{secrets.token_hex(4)}"
    now = _now()
    name = (given.get("metadata") or {}).get("name", "")
    resource = {
        "apiVersion": "v1",
        "kind": KINDS[collection],
        "metadata": {"name": name, "uid": uid, "createdAt": now, "updatedAt": now},
        "spec": spec,
        "status": {},
    }
    store.put(kind_of(collection), uid, resource)
    return resource


def update(store: Store, collection: str, resource: Document, spec: Document) -> Document:
    resource["spec"] = spec
    resource["metadata"]["updatedAt"] = _now()
    store.put(kind_of(collection), resource["metadata"]["uid"], resource)
    return resource


def _check(collection: str, spec: Document) -> None:
    xname = spec.get("xname", "")
    # The real check accepts chassis 99 and the like; so does this one.
    if collection == "nodes" and not re.fullmatch(r"x\d+c\d+s\d+b\d+n\d+", xname):
        raise ValueError(f"invalid XName format: {xname}")
    if collection == "bootconfigurations" and not spec.get("kernel"):
        raise ValueError("kernel is required")


# Legacy: BSS's paths, not BSS's answers ----------------------------------------------------------


def _legacy_routes(app: FastAPI, store: Store) -> None:
    for prefix in ("", "/boot/v1"):
        _parameter_routes(app, store, f"{prefix}/bootparameters")

        @app.get(f"{prefix}/bootscript")
        async def bootscript(host: str = "", mac: str = "", nid: str = "") -> Response:
            if not (host or mac or nid):
                return answer(_problem(400, "Missing node identifier"), 400)
            return text(script_for(store, host or mac or nid), media="text/plain")


def _problem(status: int, title: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "detail": "", "status": status}


def _parameter_routes(app: FastAPI, store: Store, path: str) -> None:
    kind = kind_of("bootconfigurations")

    def selected(request: Request) -> list[Document]:
        values = [request.query_params.get(key, "") for key in ("host", "mac", "nid", "name")]
        wanted = {part for value in values for part in value.split(",") if part}
        return [c for c in store.all(kind) if not wanted or wanted & _targets(c["spec"])]

    def shown(configurations: list[Document], status: int = 200) -> Response:
        return answer({"boot-parameters": [_legacy(c) for c in configurations]}, status)

    @app.get(path)
    async def get(request: Request) -> Response:
        return shown(selected(request))

    @app.post(path)
    async def post(request: Request) -> Response:
        try:
            given = await read_object(request)
            name = f"legacy-{next(iter(_targets(_spec(given))), 'config-0')}".replace(":", "-")
            created = new_resource(
                store, "bootconfigurations", {"metadata": {"name": name}, "spec": _spec(given)}
            )
        except ValueError as error:
            return answer(_problem(400, f"Invalid request format: {error}"), 400)
        return shown([created], 201)

    @app.put(path)
    async def put(request: Request) -> Response:
        try:
            spec = _spec(await read_object(request))
        except ValueError as error:
            return answer(_problem(400, f"Invalid request format: {error}"), 400)
        matching = [c for c in store.all(kind) if _targets(spec) & _targets(c["spec"])]
        if not matching:
            return answer(_problem(404, "No matching boot parameters found"), 404)
        kept = {
            field: matching[0]["spec"][field]
            for field in ("groups", "priority")
            if field in matching[0]["spec"]
        }
        return shown([update(store, "bootconfigurations", matching[0], kept | spec)])

    @app.delete(path)
    async def delete(request: Request) -> Response:
        if not any(request.query_params.get(key) for key in ("host", "mac", "nid", "name")):
            return answer(_problem(400, "Missing identifier"), 400)
        matching = selected(request)
        if not matching:
            return answer(_problem(404, "No matching boot parameters found"), 404)
        for configuration in matching:
            store.delete(kind, configuration["metadata"]["uid"])
        return shown(matching)


def _spec(given: Document) -> Document:
    """A BSS body as the spec of a configuration; its NIDs come as text."""
    spec = {
        field: given[field] for field in ("hosts", "macs", "kernel", "initrd", "params") if given.get(field)
    }
    if given.get("nids"):
        spec["nids"] = [int(nid) for nid in given["nids"]]
    return spec


def _targets(spec: Document) -> set[str]:
    named = [*spec.get("hosts", []), *spec.get("macs", []), *spec.get("groups", [])]
    return {*named, *(str(nid) for nid in spec.get("nids", []))}


def _legacy(configuration: Document) -> Document:
    spec, metadata = configuration["spec"], configuration["metadata"]
    shown = {
        "hosts": [*spec.get("hosts", []), *spec.get("groups", [])],
        "macs": spec.get("macs"),
        "nids": [str(nid) for nid in spec.get("nids", [])],
        "params": spec.get("params"),
        "kernel": spec.get("kernel"),
        "initrd": spec.get("initrd"),
    }
    meta = {
        "comment": "Converted from modern BootConfiguration",
        "created-at": metadata["createdAt"],
        "modified-at": metadata["updatedAt"],
    }
    return {key: value for key, value in shown.items() if value} | {"cloud-init": {}, "meta": meta}


# Which configuration a node gets -----------------------------------------------------------------


def script_for(store: Store, identifier: str) -> str:
    """The boot script of a node; one that says why there is none is also answered with 200."""
    node = next((n["spec"] for n in store.all(kind_of("nodes")) if _is(n["spec"], identifier)), None)
    if node is None:
        return error_script(f"Node resolution failed: node not found for identifier {identifier}")
    ranked = [(score(c["spec"], node), c) for c in store.all(kind_of("bootconfigurations"))]
    fitting = [(points, c) for points, c in ranked if points]
    if not fitting:
        return minimal_script(identifier)
    best = max(fitting, key=lambda pair: (pair[0], pair[1]["spec"].get("priority", 0)))
    return boot_script(best[1]["metadata"]["name"], best[1]["spec"], node)


def _is(node: Document, identifier: str) -> bool:
    return identifier in (node.get("xname"), node.get("bootMac"), str(node.get("nid", "")))


def score(spec: Document, node: Document) -> int:
    """How well a configuration fits a node; 0: not at all."""
    if not _targets(spec):
        return CATCH_ALL_SCORE
    shared_groups = set(spec.get("groups", [])) & set(node.get("groups", []))
    return (
        MAC_SCORE * (node.get("bootMac") in spec.get("macs", []))
        + NID_SCORE * (node.get("nid") in spec.get("nids", []))
        + HOST_SCORE * (node["xname"] in spec.get("hosts", []) or "*" in spec.get("hosts", []))
        + GROUP_SCORE * len(shared_groups)
    )
