"""SMD's groups: named sets of components; a component is in one group at most of each `exclusiveGroup`.

Source: SMD 2.20.5, `/hsm/v2/groups` and `/hsm/v2/memberships`; tests/data/contracts.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from lab.provisioner.answers import Problem, answer, empty
from lab.provisioner.names import normal_xname, xname_type
from lab.provisioner.smd_components import COMPONENT, GROUP, deleted, smd_body
from lab.provisioner.store import Document, Store

CONFLICT = "operation would conflict with an existing"


def new_group(store: Store, given: Mapping[str, Any]) -> Document:
    """A group as SMD stores it. Raises Problem."""
    label = str(given.get("label", "")).lower()
    if not re.fullmatch(r"[-a-z0-9:._]+", label):
        raise Problem(400, "couldn't validate group: group or partition field has invalid characters")
    members = _members(store, (given.get("members") or {}).get("ids") or [])
    group: Document = {"label": label, "description": given.get("description") or ""}
    for optional in ("exclusiveGroup", "tags"):
        if given.get(optional):
            group[optional] = given[optional]
    return group | {"members": {"ids": members}}


def _members(store: Store, given: Iterable[Any]) -> list[str]:
    members = [normal_xname(str(xname)) for xname in given]
    for xname in members:
        if not xname_type(xname):
            raise Problem(400, f"couldn't validate group: xname ID '{xname}' is invalid")
        if store.get(COMPONENT, xname) is None:
            raise Problem(400, f"couldn't validate group: no such component: {xname}")
    return members


def _check_exclusive(store: Store, group: Document, members: Iterable[str]) -> None:
    wanted = set(members)
    for other in store.all(GROUP):
        shared = group.get("exclusiveGroup") and other.get("exclusiveGroup") == group["exclusiveGroup"]
        if shared and other["label"] != group["label"] and wanted & set(other["members"]["ids"]):
            raise Problem(409, f"{CONFLICT} member in another exclusive group.")


def labels_of(store: Store, xname: str) -> list[str]:
    """The groups of a component, latest first: the order in which the real service tells them."""
    return [g["label"] for g in reversed(store.all(GROUP)) if xname in g["members"]["ids"]]


def routes(store: Store) -> APIRouter:
    router = APIRouter(prefix="/hsm/v2")
    _group_routes(router, store)
    _member_routes(router, store)

    @router.get("/memberships")
    async def list_memberships() -> Response:
        xnames = [component["ID"] for component in store.all(COMPONENT)]
        return answer([_membership(xname, labels_of(store, xname)[::-1]) for xname in xnames])

    @router.get("/memberships/{xname}")
    async def get_membership(xname: str) -> Response:
        xname = normal_xname(xname)
        if store.get(COMPONENT, xname) is None:
            raise Problem(404, "no such xname.")
        return answer(_membership(xname, labels_of(store, xname)))

    return router


def _membership(xname: str, labels: list[str]) -> Document:
    return {"id": xname, "groupLabels": labels, "partitionName": ""}


def _known(store: Store, label: str) -> Document:
    group = store.get(GROUP, label.lower())
    if group is None:
        raise Problem(404, f"No such group: {label}")
    return group


def _group_routes(router: APIRouter, store: Store) -> None:
    @router.get("/groups")
    async def list_groups(request: Request) -> Response:
        wanted = request.query_params.getlist("group")
        groups = [group for group in store.all(GROUP) if not wanted or group["label"] in wanted]
        return answer(groups)

    @router.post("/groups")
    async def post_group(request: Request) -> Response:
        group = new_group(store, await smd_body(request))
        if store.get(GROUP, group["label"]):
            raise Problem(409, f"{CONFLICT} group that has the same label or duplicate ids found in request.")
        _check_exclusive(store, group, group["members"]["ids"])
        store.put(GROUP, group["label"], group)
        uri = f"/hsm/v2/groups/{group['label']}"
        return answer([{"URI": uri}], 201, location=uri)

    @router.get("/groups/labels")
    async def list_labels() -> Response:
        return answer([group["label"] for group in store.all(GROUP)])

    @router.get("/groups/{label}")
    async def get_group(label: str) -> Response:
        return answer(_known(store, label))

    @router.patch("/groups/{label}")
    async def patch_group(label: str, request: Request) -> Response:
        body = await smd_body(request)
        changes = {field: body[field] for field in ("description", "tags") if field in body}
        store.put(GROUP, label.lower(), _known(store, label) | changes)
        return empty(204, "application/json")

    @router.delete("/groups/{label}")
    async def delete_group(label: str) -> Response:
        if not store.delete(GROUP, label.lower()):
            raise Problem(404, "no such group.")
        return deleted()


def _member_routes(router: APIRouter, store: Store) -> None:
    def set_members(group: Document, members: list[str]) -> None:
        store.put(GROUP, group["label"], group | {"members": {"ids": members}})

    @router.get("/groups/{label}/members")
    async def get_members(label: str) -> Response:
        return answer({"ids": _known(store, label)["members"]["ids"]})

    @router.post("/groups/{label}/members")
    async def post_member(label: str, request: Request) -> Response:
        # The group is read when the body is there: another member may come meanwhile.
        body = await smd_body(request)
        group = _known(store, label)
        (member,) = _members(store, [body.get("id", "")])
        members = group["members"]["ids"]
        if member in members:
            raise Problem(409, f"{CONFLICT} member in the same group.")
        _check_exclusive(store, group, [member])
        set_members(group, [*members, member])
        uri = f"/hsm/v2/groups/{group['label']}/members/{member}"
        return answer([{"URI": uri}], 201, location=uri)

    @router.put("/groups/{label}/members")
    async def put_members(label: str, request: Request) -> Response:
        body = await smd_body(request)
        group = _known(store, label)
        members = _members(store, body.get("ids") or [])
        _check_exclusive(store, group, members)
        set_members(group, members)
        return empty(204, "application/json")

    @router.delete("/groups/{label}/members/{xname}")
    async def delete_member(label: str, xname: str) -> Response:
        group = _known(store, label)
        members = group["members"]["ids"]
        if normal_xname(xname) not in members:
            raise Problem(404, "group has no such member.")
        set_members(group, [member for member in members if member != normal_xname(xname)])
        return deleted()
