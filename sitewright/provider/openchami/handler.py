"""What the engine asks about resources of OpenCHAMI, and our answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from pulumi.provider.experimental import provider as protocol
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import CheckFailure, PropertyDiff, PropertyDiffKind
from pydantic import ValidationError

from sitewright.errors import SitewrightError
from sitewright.provider.diffs import answer, changes
from sitewright.provider.failures import NotDone
from sitewright.provider.openchami.kinds import KINDS, Declared
from sitewright.provider.progress import Log
from sitewright.provider.redact import Redactor
from sitewright.provider.values import has_unknown, is_unknown, path_key, plain, secret_texts, to_property
from sitewright.provisioning.openchami import OpenChami
from sitewright.provisioning.openchami_access import provisioner
from sitewright.provisioning.openchami_http import Held
from sitewright.site import load

Properties = dict[str, PropertyValue]

DRIFT = "drift"
"""Output: what refresh found changed by hand, or why the last update did not end well; either is put right next."""

_PAUSE = 5.0
_PATIENCE = 600.0
"""Seconds that another pool has to release a node, or to declare the first one of a BMC they share."""


class OpenChamiResources:
    """log: where messages go. services: how the provisioner of an environment is reached."""

    def __init__(
        self,
        log: Log,
        services: Callable[[str, bool], OpenChami] = lambda environment, check: provisioner(
            load(environment), check
        ),
        pause: float = _PAUSE,
    ) -> None:
        self._log, self._services, self._pause = log, services, pause
        self._working: set[OpenChami] = set()
        self._cancelled = False

    async def check(self, request: protocol.CheckRequest) -> protocol.CheckResponse:
        inputs = {name: value for name, value in request.new_inputs.items() if value.value is not None}
        return protocol.CheckResponse(inputs=inputs, failures=_problems(_kind(request.urn), inputs))

    async def diff(self, request: protocol.DiffRequest) -> protocol.DiffResponse:
        kind = _kind(request.urn)
        replaces = {"environment", kind.KEY}
        names = [field.alias or name for name, field in kind.model_fields.items()]
        changed = changes(request.old_state, request.new_inputs, names, replaces)
        if _drift(request.old_state):
            changed[DRIFT] = PropertyDiff(PropertyDiffKind.UPDATE, input_diff=False)
        return answer(changed, replaces)

    async def create(self, request: protocol.CreateRequest) -> protocol.CreateResponse:
        inputs = dict(request.properties)
        if request.preview:
            return protocol.CreateResponse(resource_id="", properties=_state(inputs))
        declared = _declared(_kind(request.urn), inputs)
        try:
            await self._declare(request.urn, declared, request.timeout)
        except SitewrightError as error:
            message = _redacted(error, inputs)
            raise NotDone(message, declared.identity, _state(inputs, message)) from None
        return protocol.CreateResponse(resource_id=declared.identity, properties=_state(inputs))

    async def update(self, request: protocol.UpdateRequest) -> protocol.UpdateResponse:
        inputs = dict(request.news)
        if not request.preview:
            kind = _kind(request.urn)
            declared, before = _declared(kind, inputs), _declared(kind, _inputs(request.olds))
            services = self._services(declared.environment, False)
            try:
                await self._at_work(request.urn, services, lambda told: declared.leave(told, before))
                await self._declare(request.urn, declared, request.timeout)
            except SitewrightError as error:
                message = _redacted(error, inputs)
                # The old inputs stay, so that the next preview still shows what is to change.
                raise NotDone(message, request.resource_id, _state(_inputs(request.olds), message)) from None
        return protocol.UpdateResponse(properties=_state(inputs))

    async def delete(self, request: protocol.DeleteRequest) -> None:
        declared = _declared(_kind(request.urn), _inputs(request.properties))
        await self._at_work(request.urn, self._services(declared.environment, False), declared.forget)

    async def read(self, request: protocol.ReadRequest) -> protocol.ReadResponse:
        """Refresh: whether it is still so; gone where nothing of it is there. Import: what is there."""
        kind = _kind(request.urn)
        environment, _, key = request.resource_id.rpartition("/")
        if not environment:
            raise SitewrightError(
                f"{request.resource_id!r} is no id of a {kind.__name__}: it is environment/name",
                f"For example: pulumi import {request.urn.rpartition('$')[2].split('::')[-2]} gpu lab/gpu",
            )
        services = self._services(environment, True)
        if not request.properties:
            return await self._import(request, kind, services, environment, key)
        state = _inputs(request.properties)
        declared = _declared(kind, state)
        if not await self._at_work(request.urn, services, declared.exists):
            return protocol.ReadResponse(resource_id="", properties={}, inputs={})
        differs = ", ".join(await self._at_work(request.urn, services, declared.declare))
        if differs:
            await self._log.warning(request.urn, f"drift: {differs}; the next `pulumi up` puts it back")
        return protocol.ReadResponse(request.resource_id, _state(state, differs), request.inputs)

    async def _import(
        self,
        request: protocol.ReadRequest,
        kind: type[Declared],
        services: OpenChami,
        environment: str,
        key: str,
    ) -> protocol.ReadResponse:
        found = await self._at_work(request.urn, services, lambda asked: kind.found(asked, environment, key))
        if found is None:
            return protocol.ReadResponse(resource_id="", properties={}, inputs={})
        inputs = {
            name: to_property(value)
            for name, value in found.model_dump(by_alias=True, exclude_defaults=True).items()
        }
        return protocol.ReadResponse(request.resource_id, _state(inputs), inputs)

    async def cancel(self) -> None:
        self._cancelled = True
        for services in self._working:
            services.stop()

    async def _declare(self, urn: str, declared: Declared, timeout: float) -> None:
        """timeout: `custom_timeouts` of the resource in seconds, 0 for none."""
        services = self._services(declared.environment, False)
        deadline = time.monotonic() + (timeout or _PATIENCE)
        while True:
            try:
                await self._at_work(urn, services, declared.declare)
                return
            except Held as held:
                if self._cancelled or time.monotonic() > deadline:
                    raise
                await self._log.status(urn, f"waits: {held.message}")
                await asyncio.sleep(self._pause)

    async def _at_work(self, urn: str, services: OpenChami, work: Callable[[OpenChami], Any]) -> Any:
        """The result of `work`, which asks the services from a thread of its own. Says how far it is."""
        if self._cancelled:
            raise SitewrightError("cancelled before it began")
        self._working.add(services)
        began = time.monotonic()
        working = asyncio.ensure_future(asyncio.to_thread(work, services))
        try:
            while not (await asyncio.wait({working}, timeout=1))[0]:
                seconds = time.monotonic() - began
                await self._log.status(urn, f"{services.answered} requests answered, {seconds:.0f} s")
            return working.result()
        finally:
            self._working.discard(services)


def _kind(urn: str) -> type[Declared]:
    return KINDS[urn.split("::")[-2].rpartition("$")[2]]


def _declared(kind: type[Declared], inputs: Mapping[str, PropertyValue]) -> Declared:
    return kind.model_validate({name: plain(value) for name, value in inputs.items()})


def _problems(kind: type[Declared], inputs: Mapping[str, PropertyValue]) -> list[CheckFailure]:
    """What is wrong, by property path. Unknown values pass: they are checked when they are known."""
    unknown = {name for name, value in inputs.items() if has_unknown(value)}
    try:
        _declared(kind, inputs)
    except ValidationError as error:
        return [
            CheckFailure(_path(one["loc"]), one["msg"].removeprefix("Value error, "))
            for one in error.errors(include_url=False)
            if not (one["loc"] and one["loc"][0] in unknown and _is_unknown(one["input"]))
        ]
    return []


def _is_unknown(value: object) -> bool:
    return isinstance(value, str) and is_unknown(PropertyValue(value))


def _path(loc: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else path_key(part) for part in loc if part != "[key]"]
    return "".join(parts).removeprefix(".")


def _state(inputs: Mapping[str, PropertyValue], drift: str = "") -> Properties:
    return {**inputs, DRIFT: PropertyValue(drift or None)}


def _inputs(state: Mapping[str, PropertyValue]) -> Properties:
    return {name: value for name, value in state.items() if name != DRIFT}


def _drift(state: Mapping[str, PropertyValue]) -> str:
    return str(plain(state.get(DRIFT, PropertyValue(None))) or "")


def _redacted(error: SitewrightError, inputs: Mapping[str, PropertyValue]) -> str:
    return Redactor(text for value in inputs.values() for text in secret_texts(value))(str(error))
