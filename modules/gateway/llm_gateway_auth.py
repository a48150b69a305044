"""Who may ask the gateway for which model: keys of teams from two mounted Secrets, without a database.

    <keys>/active/<team>        a key; <keys>/active/<team>.next is a second one that is valid at the same time
    <keys>/blocked/<team>       this team is refused with every key; <keys>/blocked/<team>.next: that key only

The names are those of Envoy AI Gateway's keys (client id: key), so what moves an entry from one Secret to the other
to pause a team, as Waldur's agent does, works here unchanged. A key that stands in both is refused. The kubelet swaps
the files in place, and they are read again when they change: keys rotate without a restart.

LiteLLM calls `user_api_key_auth` for each request (`general_settings.custom_auth`); llm_gateway_limits.py
is asked last.
"""

import hashlib
import hmac
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
NEXT = ".next"
MIN_KEY_LENGTH = 16  # an empty or guessable entry opens nothing
LOOK_SECONDS = 1.0  # between two looks at the mount
# What a request may say: OpenAI's API and vLLM's sampling. LiteLLM understands many more, such as `fallbacks`,
# `mock_response` or `user_config`, with which a client would choose other models or addresses than its own.
# fmt: off
PARAMETERS = frozenset(
    [
        "add_generation_prompt", "add_special_tokens", "bad_words", "best_of", "chat_template_kwargs",
        "continue_final_message", "dimensions", "echo", "encoding_format", "frequency_penalty",
        "ignore_eos", "include_reasoning", "input", "length_penalty", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "messages", "min_p", "min_tokens", "model", "n",
        "parallel_tool_calls", "presence_penalty", "prompt", "prompt_logprobs", "reasoning_effort",
        "repetition_penalty", "response_format", "seed", "skip_special_tokens",
        "spaces_between_special_tokens", "stop", "stop_token_ids", "stream", "stream_options",
        "structured_outputs", "suffix", "temperature", "tool_choice", "tools", "top_k", "top_logprobs",
        "top_p", "truncate_prompt_tokens", "use_beam_search", "user",
    ]
)
# fmt: on
log = logging.getLogger("sitewright.gateway")


class Refused(Exception):
    """status: HTTP status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Entry(NamedTuple):
    name: str
    digest: bytes

    @property
    def team(self) -> str:
        return self.name.removesuffix(NEXT)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def read_entries(directory: Path) -> list[Entry]:
    """The entries of a mounted Secret. Keys too short to be one are left out and named in the log.

    Raises: OSError where the mount is not there.
    """
    # The kubelet keeps a Secret below `..data` and swaps that link, so one look at it sees one state.
    content = (directory / "..data") if (directory / "..data").exists() else directory
    entries = []
    for path in sorted(content.resolve(strict=True).iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        key = path.read_text(encoding="utf-8", errors="replace").strip()
        if len(key) < MIN_KEY_LENGTH:
            log.warning("%s: a key needs %d characters; this entry is ignored", path.name, MIN_KEY_LENGTH)
        entries.append(Entry(path.name, _digest(key) if len(key) >= MIN_KEY_LENGTH else b""))
    return entries


def _state(directory: Path) -> tuple[Any, ...]:
    """Something that differs once the mount has changed."""
    content = (directory / "..data") if (directory / "..data").exists() else directory
    resolved = content.resolve(strict=True)
    with os.scandir(resolved) as found:
        stats = [(one.name, one.stat().st_mtime_ns, one.stat().st_ino) for one in found]
    return str(resolved), *sorted(stats)


class Keys:
    """The teams' keys as the mounts have them now."""

    def __init__(self, directory: Path, look_seconds: float = LOOK_SECONDS) -> None:
        self._active, self._blocked = directory / "active", directory / "blocked"
        self._look_seconds = look_seconds
        self._looked = float("-inf")
        self._state: tuple[Any, ...] = ()
        self._entries: tuple[list[Entry], list[Entry]] = ([], [])
        self._lock = threading.Lock()

    def entry(self, key: str) -> Entry:
        """The active entry whose key this is, and with it the team.

        Raises: Refused with 401 for no key or one that nobody has, 403 for a blocked one or one that two teams
                have, 503 where the mounts cannot be read: then nobody gets in.
        """
        active, blocked = self._now()
        presented = _digest(key)
        # Every entry is compared, so that the time of the answer says nothing about the keys.
        found = [entry for entry in active if hmac.compare_digest(entry.digest, presented)]
        owners, names = {entry.team for entry in found}, {entry.name for entry in found}
        names |= {entry.name for entry in blocked if hmac.compare_digest(entry.digest, presented)}
        barred = {entry.name for entry in blocked}
        if not names or len(key) < MIN_KEY_LENGTH:
            raise Refused(401, "no valid key; send it as `Authorization: Bearer KEY`")
        if not owners or owners & barred or names & barred:
            raise Refused(403, "this key is blocked; ask the site's support")
        if len(owners) > 1:
            log.error("teams %s have the same key; it is refused", ", ".join(sorted(owners)))
            raise Refused(403, "this key belongs to two teams; ask the site's support")
        return found[0]

    def _now(self) -> tuple[list[Entry], list[Entry]]:
        with self._lock:
            if time.monotonic() - self._looked >= self._look_seconds:
                self._look()
            return self._entries

    def _look(self) -> None:
        try:
            state = (_state(self._active), _state(self._blocked))
            if state != self._state:
                self._entries = (read_entries(self._active), read_entries(self._blocked))
                self._state = state
        except OSError as error:
            log.error("the keys cannot be read: %s", error)
            raise Refused(503, "the gateway cannot read its keys; try again") from error
        self._looked = time.monotonic()


def allowed_models(policy: dict[str, Any], team: str) -> list[str]:
    """Models a team may ask for. policy: {"models": [...], "teams": {team: [...]}}; others get `default`."""
    return list(policy["teams"].get(team, policy["default"]))


def check_request(body: dict[str, Any], allowed: list[str]) -> None:
    """Raises: Refused with 400 for a parameter the gateway does not pass on, 404 for a model not allowed."""
    unknown = sorted(set(body) - PARAMETERS)
    if unknown:
        raise Refused(400, f"unknown parameter {', '.join(unknown)}")
    if body.get("model") not in allowed:
        raise Refused(
            404, f"no model {body.get('model')!r} for this key; there is {', '.join(allowed) or 'none'}"
        )


KEYS = Keys(Path(os.environ.get("GATEWAY_KEYS", "/run/gateway/keys")))


async def user_api_key_auth(request: Any, api_key: str | None) -> Any:
    """LiteLLM's hook: the team and the models it may ask for.

    Raises: ProxyException, which LiteLLM turns into an answer in the form of OpenAI's errors.
    """
    from litellm.proxy._types import ProxyException, UserAPIKeyAuth  # type: ignore[import-not-found]

    try:
        entry = KEYS.entry((api_key or "").removeprefix("Bearer ").strip())
        team = entry.team
        allowed = allowed_models(_policy(), team)
        request.state.team = team
        if request.method == "POST":
            body = await _body(request)
            check_request(body, allowed)
            request.state.model = body["model"]
    except Refused as refusal:
        raise ProxyException(str(refusal), type="gateway_error", param=None, code=refusal.status) from None
    if request.method == "POST":
        await _take(team, request.scope)
    return UserAPIKeyAuth(
        api_key=f"team:{team}", key_alias=entry.name, team_id=team, user_id=team, models=allowed
    )


async def _take(team: str, scope: Any) -> None:
    """Takes what the request takes of its team's limits; llm_gateway_server.py gives back at its end what is lent."""
    import llm_gateway_limits  # type: ignore[import-not-found]
    from litellm.proxy._types import ProxyException

    if llm_gateway_limits.LIMITS is None:
        return
    try:
        permit = await llm_gateway_limits.LIMITS.admit(team)
    except llm_gateway_limits.OverLimit as over:
        kind = "insufficient_quota" if over.limit == "token_budget" else "rate_limit_exceeded"
        headers = {"retry-after": str(over.seconds)}
        raise ProxyException(str(over), type=kind, param=over.limit, code=429, headers=headers) from None
    scope["sitewright.permits"].append(permit)


async def _body(request: Any) -> dict[str, Any]:
    """The request as LiteLLM itself has understood it, so that what is checked is what is done."""
    from litellm.proxy.common_utils import http_parsing_utils  # type: ignore[import-not-found]

    body: dict[str, Any] = await http_parsing_utils._read_request_body(request)
    return body


def _policy() -> dict[str, Any]:
    # Pods are made anew when the ConfigMap changes, so what was read once stays true.
    global _POLICY
    if _POLICY is None:
        _POLICY = json.loads((HERE / "policy.json").read_text(encoding="utf-8"))
    return _POLICY


_POLICY: dict[str, Any] | None = None
