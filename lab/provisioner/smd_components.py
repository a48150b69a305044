"""SMD's components: what is in the machine and in which state.

Source: SMD 2.20.5, `/hsm/v2/State/Components`; tests/data/contracts.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from lab.provisioner.answers import Problem, answer, empty, read_object
from lab.provisioner.names import normal_xname, xname_type
from lab.provisioner.store import Document, Store

COMPONENT = "smd-component"
GROUP = "smd-group"
STATES = {"Unknown", "Empty", "Populated", "Off", "On", "Active", "Standby", "Halt", "Ready", "Paused"}
# Software states: a component reaches them only from a state in which its hardware is known to be there.
SOFTWARE_STATES = {"Active", "Standby", "Halt", "Ready", "Paused"}
NOT_THERE = {"Unknown", "Empty", "Populated"}
FIELDS = (
    "Flag",
    "Enabled",
    "SoftwareStatus",
    "Role",
    "SubRole",
    "NID",
    "Subtype",
    "NetType",
    "Arch",
    "Class",
)
# Only these change when a component that exists is posted again with Force.
FORCED = ("State", "Flag", "Subtype", "NetType", "Arch", "Class")
FILTERS = (
    "ID",
    "Type",
    "State",
    "Flag",
    "Enabled",
    "SoftwareStatus",
    "Role",
    "SubRole",
    "NID",
    "Arch",
    "Class",
)


async def smd_body(request: Request) -> dict[str, Any]:
    """The body as an object; SMD answers 500, not 400, to one that is not JSON."""
    try:
        return await read_object(request)
    except ValueError as error:
        raise Problem(500, f"error decoding JSON {error}") from error


def deleted(count: int = 1) -> Response:
    noun = "entry" if count == 1 else "entries"
    return answer({"code": 0, "message": f"deleted {count} {noun}"})


def matches(document: Document, query: Iterable[tuple[str, str]], fields: Iterable[str]) -> bool:
    """Whether `document` fits a query: values of one key are alternatives, `!x` excludes, case is ignored."""
    names = {field.lower(): field for field in fields}
    wanted: dict[str, list[str]] = {}
    for key, value in query:
        if key.lower() in names:
            wanted.setdefault(names[key.lower()], []).append(value.lower())
    return all(_fits(str(document.get(field, "")).lower(), values) for field, values in wanted.items())


def _fits(value: str, alternatives: list[str]) -> bool:
    refused = [alternative[1:] for alternative in alternatives if alternative.startswith("!")]
    wanted = [alternative for alternative in alternatives if not alternative.startswith("!")]
    return value not in refused and (not wanted or value in wanted)


def new_component(given: Mapping[str, Any]) -> Document:
    """A component as SMD stores it, without the fields that are empty. Raises Problem."""
    xname = normal_xname(str(given.get("ID", "")))
    kind = xname_type(xname)
    if not kind:
        raise Problem(400, f"couldn't validate components: xname ID '{given.get('ID', '')}' is invalid")
    if given.get("State") not in STATES:
        raise Problem(400, f"couldn't validate components: state '{given.get('State', '')}' is invalid")
    defaults = {"Flag": "OK", "Enabled": True} | ({"Role": "Compute"} if kind == "Node" else {})
    chosen = {field: given.get(field, defaults.get(field)) for field in FIELDS}
    return {"ID": xname, "Type": kind, "State": given["State"]} | {
        field: value for field, value in chosen.items() if value is not None and value != ""
    }


def upsert_component(store: Store, component: Document, force: bool) -> None:
    """Insert; one that exists is left alone, or takes the FORCED fields, empty ones included."""
    known = store.get(COMPONENT, component["ID"])
    if known is None:
        store.put(COMPONENT, component["ID"], component)
    elif force:
        kept = {field: value for field, value in known.items() if field not in FORCED}
        forced = {field: component[field] for field in FORCED if component.get(field)}
        store.put(COMPONENT, component["ID"], kept | forced)


def change_component(store: Store, xname: str, changes: Mapping[str, Any]) -> bool:
    """False if there is no such component. A state that cannot follow the present one is passed over."""
    component = store.get(COMPONENT, xname)
    if component is None:
        return False
    if changes.get("State") in SOFTWARE_STATES and component["State"] in NOT_THERE:
        return True
    store.put(
        COMPONENT, xname, component | {field: value for field, value in changes.items() if value is not None}
    )
    return True


def leave_groups(store: Store, xname: str) -> None:
    for label, group in store.items(GROUP):
        if xname in group["members"]["ids"]:
            group["members"]["ids"].remove(xname)
            store.put(GROUP, label, group)


# The last part of a PATCH path: the fields its body may change.
PATCHES: dict[str, tuple[str, ...]] = {
    "StateData": ("State", "Flag"),
    "FlagOnly": ("Flag",),
    "Enabled": ("Enabled",),
    "Role": ("Role", "SubRole"),
    "SoftwareStatus": ("SoftwareStatus",),
    "NID": ("NID",),
}


def _changes(part: str, body: Mapping[str, Any]) -> dict[str, Any]:
    changes = {field: body[field] for field in PATCHES[part] if field in body}
    if not changes:
        raise Problem(400, f"{PATCHES[part][0]} is required")
    if part == "StateData":
        if changes.get("State") not in STATES:
            raise Problem(400, f"state '{changes.get('State', '')}' is invalid")
        changes.setdefault("Flag", "OK")
    return changes


def routes(store: Store) -> APIRouter:
    router = APIRouter(prefix="/hsm/v2/State/Components")

    @router.get("")
    async def list_components(request: Request) -> Response:
        query = request.query_params.multi_items()
        found = [component for component in store.all(COMPONENT) if matches(component, query, FILTERS)]
        return answer({"Components": found})

    @router.post("")
    async def post_components(request: Request) -> Response:
        body = await smd_body(request)
        components = [new_component(given) for given in body.get("Components") or []]
        if not components:
            raise Problem(400, "Missing Components")
        with store.transaction():
            for component in components:
                upsert_component(store, component, bool(body.get("Force")))
        return empty(204, "application/json")

    @router.get("/{xname}")
    async def get_component(xname: str) -> Response:
        component = store.get(COMPONENT, normal_xname(xname))
        if component is None:
            raise Problem(404, "no such xname.")
        return answer(component)

    @router.put("/{xname}")
    async def put_component(xname: str, request: Request) -> Response:
        body = await smd_body(request)
        given = body.get("Component") or {}
        component = new_component({"ID": xname} | given)
        if component["ID"] != normal_xname(xname):
            raise Problem(400, "xname in URL and PUT body do not match")
        upsert_component(store, component, bool(body.get("Force")))
        return empty(204, "application/json")

    @router.delete("/{xname}")
    async def delete_component(xname: str) -> Response:
        if not store.delete(COMPONENT, normal_xname(xname)):
            raise Problem(404, "no such xname.")
        leave_groups(store, normal_xname(xname))
        return deleted()

    @router.patch("/BulkNID")
    async def patch_nids(request: Request) -> Response:
        for given in (await smd_body(request)).get("Components") or []:
            change_component(store, normal_xname(str(given.get("ID", ""))), {"NID": given.get("NID")})
        return empty(204, "application/json")

    @router.patch("/Bulk{part}")
    async def patch_many(part: str, request: Request) -> Response:
        if part not in PATCHES:
            raise Problem(404, f"no such bulk operation: {part}")
        body = await smd_body(request)
        changes = _changes(part, body)
        xnames = [normal_xname(str(xname)) for xname in body.get("ComponentIDs") or []]
        if not xnames:
            raise Problem(400, "Missing ComponentIDs")
        with store.transaction():
            for xname in xnames:
                change_component(store, xname, changes)
        return empty(204, "application/json")

    @router.patch("/{xname}/{part}")
    async def patch_one(xname: str, part: str, request: Request) -> Response:
        if part not in PATCHES:
            raise Problem(404, f"no such operation: {part}")
        changes = _changes(part, await smd_body(request))
        if not change_component(store, normal_xname(xname), changes):
            raise Problem(404, "no such xname.")
        return empty(204, "application/json")

    return router
