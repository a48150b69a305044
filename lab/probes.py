"""How one knows that a service is ready: a question in the lab's network, answered as it should be."""

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from lab.namespace import within

# True: ready. Raises nothing: a service that is not up yet is simply not ready.
Probe = Callable[[], bool]


def http(url: str, ca: Path | None = None, statuses: range = range(200, 500)) -> Probe:
    """Ready when the URL answers with one of the statuses. ca: the authority its certificate must be from.
    (A connection proves little: some services listen before they can answer.)"""
    return lambda: within(_answers, url, ca, None, statuses)


def kubernetes_kind(server: str, kind: str, pki: Path) -> Probe:
    """Ready when the API server serves `<plural>.<group>`. pki: directory of admin.crt and admin.key."""
    url = f"{server}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind}"
    login = (str(pki / "admin.crt"), str(pki / "admin.key"))
    return lambda: within(_established, url, pki / "ca.crt", login)


def _answers(url: str, ca: Path | None, login: tuple[str, str] | None, statuses: range) -> bool:
    try:
        return _get(url, ca, login).status_code in statuses
    except (httpx.HTTPError, OSError):
        return False


def _established(url: str, ca: Path, login: tuple[str, str]) -> bool:
    try:
        answer = _get(url, ca, login)
        # 404 until the controller made it, and plain text while the server still starts.
        found = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, OSError, json.JSONDecodeError):
        return False
    # A definition that was just made has `conditions: null`.
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _get(url: str, ca: Path | None, login: tuple[str, str] | None) -> httpx.Response:
    context = ssl.create_default_context(cafile=ca) if urlsplit(url).scheme == "https" else False
    if login and isinstance(context, ssl.SSLContext):
        context.load_cert_chain(*login)
    # trust_env: a proxy of the host knows no way into the lab.
    return httpx.get(url, verify=context, timeout=2, trust_env=False)
