"""What the engine asks about PlaybookRun resources, and our answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pulumi.provider.experimental import provider as protocol
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import CheckFailure

from sitewright.errors import SitewrightError
from sitewright.provider.diffs import diff, needs_run
from sitewright.provider.failures import NotDone, RunFailed
from sitewright.provider.inputs import COMPUTED, INPUTS, host_pattern, problems, seconds
from sitewright.provider.progress import Log, NoLog
from sitewright.provider.redact import Redactor
from sitewright.provider.repository import find_repository
from sitewright.provider.run import INVENTORY, Job, Run, RunResult
from sitewright.provider.sources import SourceError, digest, extra_sources, playbook_sources
from sitewright.provider.values import (
    UNKNOWN,
    has_unknown,
    is_unknown,
    plain,
    secret_texts,
    texts_of,
    to_property,
)

Properties = dict[str, PropertyValue]

_DRIFTS = 5
"""Findings of a verify playbook that are shown; its log has all."""

_ALL = "*"
"""In `stableResults`: every result."""


class PlaybookRuns:
    """repository: where playbooks/ is; without it, found at the first question from the working directory
    upwards."""

    def __init__(self, repository: Path | None = None, log: Log | None = None) -> None:
        self._given_repository = repository
        self._log: Log = log or NoLog()
        self._runs: set[Run] = set()
        self._cancelled = False

    async def check(self, request: protocol.CheckRequest) -> protocol.CheckResponse:
        """The inputs with the digests of all files behind the run added, or everything that is wrong with
        them."""
        inputs = {name: value for name, value in request.new_inputs.items() if name not in COMPUTED}
        failures = problems(inputs)
        if not failures:
            failures = self._missing(inputs)
        if not failures:
            inputs, failures = self._with_sources(inputs)
        return protocol.CheckResponse(inputs=inputs, failures=failures)

    async def diff(self, request: protocol.DiffRequest) -> protocol.DiffResponse:
        return diff(request.old_state, request.new_inputs)

    async def create(self, request: protocol.CreateRequest) -> protocol.CreateResponse:
        inputs = dict(request.properties)
        if request.preview:
            return protocol.CreateResponse(resource_id="", properties={**inputs, **_unknown_outputs()})
        identity = f"{_text(inputs, 'environment') or 'localhost'}/{request.name}"
        job = self._job(request.urn, "run", _text(inputs, "playbook"), inputs, request.timeout)
        try:
            result = await self._run(job)
        except RunFailed as error:
            raise NotDone(str(error), identity, {**inputs, **_failed_outputs(error, {})}) from None
        return protocol.CreateResponse(
            resource_id=identity, properties={**inputs, **_outputs(result, inputs)}
        )

    async def update(self, request: protocol.UpdateRequest) -> protocol.UpdateResponse:
        old, inputs = dict(request.olds), dict(request.news)
        if not needs_run(old, inputs):
            kept = {name: value for name, value in old.items() if name not in INPUTS and name not in COMPUTED}
            kept["results"] = _mark_secrets(plain(kept.get("results", PropertyValue({}))), inputs)
            return protocol.UpdateResponse(properties={**inputs, **kept})
        if request.preview:
            return protocol.UpdateResponse(
                properties={**inputs, **_unknown_outputs(), **_predicted(old, inputs)}
            )
        job = self._job(request.urn, "run", _text(inputs, "playbook"), inputs, request.timeout, old)
        try:
            result = await self._run(job)
        except RunFailed as error:
            # The old inputs stay: they are what the machines were last known to be like, and what `undo` goes
            # by.
            raise NotDone(str(error), request.resource_id, {**old, **_failed_outputs(error, old)}) from None
        return protocol.UpdateResponse(properties={**inputs, **_outputs(result, inputs)})

    async def delete(self, request: protocol.DeleteRequest) -> None:
        old = request.properties
        undo = _text(old, "undo")
        if not undo:
            return
        if not (self.repository / undo).is_file():
            raise SitewrightError(
                f"{undo}: no such playbook in the repository, so {request.name} cannot be undone",
                f"Bring the file back, or undo by hand and run `pulumi state delete '{request.urn}'`.",
            )
        await self._run(self._job(request.urn, "undo", undo, old, request.timeout))

    async def read(self, request: protocol.ReadRequest) -> protocol.ReadResponse:
        """The state as it is; with a verify playbook, whether it still holds."""
        state = dict(request.properties)
        if not state:
            raise SitewrightError(
                f"{request.name}: a PlaybookRun cannot be imported",
                "Declare it; a play that finds all done changes nothing.",
            )
        verify = _text(state, "verify")
        if verify and plain(state.get("status", PropertyValue("ok"))) in ("ok", "drifted"):
            state |= {
                name: to_property(value) for name, value in (await self._verify(request, verify)).items()
            }
        return protocol.ReadResponse(resource_id=request.resource_id, properties=state, inputs=request.inputs)

    async def cancel(self) -> None:
        self._cancelled = True
        for run in self._runs:
            run.stop("cancelled")

    @property
    def repository(self) -> Path:
        """Root of the checkout. Raises: SitewrightError where there is none."""
        if self._given_repository is None:
            self._given_repository = find_repository(Path.cwd())
        return self._given_repository

    def _missing(self, inputs: Mapping[str, PropertyValue]) -> list[CheckFailure]:
        """Playbooks and inventory that are named and not there."""
        failures = []
        for name in ("verify", "undo"):
            value = inputs.get(name)
            if value is not None and value.value and not is_unknown(value):
                try:
                    playbook_sources(self.repository, plain(value))
                except SourceError as error:
                    failures.append(CheckFailure(name, str(error)))
        environment = inputs.get("environment")
        if environment is not None and environment.value and not (self.repository / INVENTORY).is_file():
            failures.append(CheckFailure("environment", f"{INVENTORY}: no such file, so no hosts are known"))
        return failures

    def _with_sources(self, inputs: Properties) -> tuple[Properties, list[CheckFailure]]:
        names = [name for name in ("playbook", "environment", "files") if name in inputs]
        if any(has_unknown(inputs[name]) for name in names):
            return {**inputs, "sources": UNKNOWN, "digest": UNKNOWN}, []
        try:
            playbook = plain(inputs["playbook"])
            sources = playbook_sources(self.repository, playbook, _text(inputs, "environment"))
        except SourceError as error:
            return inputs, [CheckFailure("playbook", str(error))]
        for index, pattern in enumerate(plain(inputs.get("files", PropertyValue(None))) or []):
            try:
                sources |= extra_sources(self.repository, [pattern])
            except SourceError as error:
                return inputs, [CheckFailure(f"files[{index}]", str(error))]
        return {**inputs, "sources": to_property(sources), "digest": PropertyValue(digest(sources))}, []

    def _job(
        self,
        urn: str,
        action: str,
        playbook: str | None,
        inputs: Mapping[str, PropertyValue],
        limit_of_engine: float,
        old: Mapping[str, PropertyValue] = MappingProxyType({}),
    ) -> Job:
        """limit_of_engine: `custom_timeouts` of the resource in seconds, 0 for none; the shorter timeout
        counts. old: of an update, the inputs of the last run that ended well."""
        timeout = _text(inputs, "timeout")
        limits = [*([seconds(timeout)] if timeout else []), *([limit_of_engine] if limit_of_engine else [])]
        limit = _text(inputs, "limit")
        assert playbook is not None
        return Job(
            name=urn.rpartition("::")[2],
            urn=urn,
            action=action,
            playbook=playbook,
            environment=_text(inputs, "environment"),
            limit=host_pattern(limit) if limit else None,
            variables=plain(inputs.get("variables", PropertyValue({}))) or {},
            previous=plain(old.get("variables", PropertyValue({}))) or {},
            secrets=frozenset(
                text for value in (*inputs.values(), *old.values()) for text in secret_texts(value)
            ),
            secret_results=tuple(plain(inputs.get("secretResults", PropertyValue(None))) or ()),
            timeout=min(limits) if limits else None,
            digest=_text(inputs, "digest") or "",
        )

    async def _run(self, job: Job) -> RunResult:
        run = Run(job, self.repository, self._log)
        self._runs.add(run)
        if self._cancelled:
            run.stop("cancelled")
        try:
            return await run.execute()
        finally:
            self._runs.discard(run)

    async def _verify(self, request: protocol.ReadRequest, verify: str) -> dict[str, Any]:
        """Outputs that say how the verify playbook ended. Raises: RunFailed where it was stopped."""
        job = replace(self._job(request.urn, "verify", verify, request.properties, 0), digest="")
        try:
            result = await self._run(job)
        except RunFailed as error:
            if error.status in ("cancelled", "timed out"):
                raise
            drift = error.message
        else:
            drift = _drift(result)
        if not drift:
            return {"status": "ok", "drift": None}
        drift = Redactor(job.secrets)(drift)
        repair = f"the next `pulumi up` runs {_text(request.properties, 'playbook')}"
        await self._log.warning(request.urn, f"drift: {drift}; {repair}")
        return {"status": "drifted", "drift": drift}


def _drift(result: RunResult) -> str:
    """What a verify playbook found: its stat `drift`, or what it changed (in check mode: what it would have)."""
    said = result.results.get("drift")
    found = said if isinstance(said, list) else [said] if said else list(result.changes)
    more = f" and {len(found) - _DRIFTS} more" if len(found) > _DRIFTS else ""
    return ", ".join(map(str, found[:_DRIFTS])) + more


def _text(properties: Mapping[str, PropertyValue], name: str) -> str | None:
    value = properties.get(name)
    return None if value is None or value.value is None else str(plain(value))


def _outputs(result: RunResult, inputs: Mapping[str, PropertyValue]) -> Properties:
    return {
        "results": _mark_secrets(result.results, inputs),
        "changed": PropertyValue(result.changed),
        "log": PropertyValue(result.log),
        "status": PropertyValue("ok"),
        "drift": PropertyValue(None),
    }


def _unknown_outputs() -> Properties:
    return dict.fromkeys(("results", "changed", "log"), UNKNOWN)


def _failed_outputs(error: RunFailed, old: Mapping[str, PropertyValue]) -> Properties:
    return {
        "results": old.get("results", PropertyValue({})),
        "changed": old.get("changed", PropertyValue(False)),
        "log": PropertyValue(error.log),
        "status": PropertyValue(error.status),
        "drift": PropertyValue(None),
    }


def _predicted(old: Mapping[str, PropertyValue], inputs: Mapping[str, PropertyValue]) -> Properties:
    """Results in the preview of an update: the stable ones as they are, the others unknown."""
    stable = plain(inputs.get("stableResults", PropertyValue(None))) or []
    results = old.get("results")
    if not stable or results is None or not isinstance(results.value, Mapping):
        return {}
    keep = {name: _ALL in stable or name in stable for name in results.value}
    return {
        "results": PropertyValue(
            {name: value if keep[name] else UNKNOWN for name, value in results.value.items()}
        )
    }


def _mark_secrets(results: dict[str, Any], inputs: Mapping[str, PropertyValue]) -> PropertyValue:
    """Results as a property. Secret are those named so, and those that contain a secret that went in."""
    names = plain(inputs.get("secretResults", PropertyValue(None))) or []
    given = [text for value in inputs.values() for text in secret_texts(value) if len(text) >= 4]

    def is_secret(name: str, value: Any) -> bool:
        return name in names or any(secret in text for text in texts_of(value) for secret in given)

    return PropertyValue(
        {name: to_property(value, is_secret(name, value)) for name, value in results.items()}
    )
