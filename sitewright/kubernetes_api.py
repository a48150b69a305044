"""Calls of the Kubernetes API that fail in a sentence."""

import json
from typing import Any

from kubernetes.client import ApiException
from kubernetes.config import ConfigException, load_kube_config
from urllib3.exceptions import HTTPError

from sitewright.errors import SitewrightError

TIMEOUT = 15  # seconds for one answer of the API server


class Missing(SitewrightError):
    """The API server knows no such object, or no such kind."""


class Refused(SitewrightError):
    """The API server answered with an error. status: of HTTP; retry_after: seconds that it asks to wait, or 0."""

    def __init__(self, message: str, status: int, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class NoAnswer(SitewrightError):
    """Nobody answered at the API server's address."""


def load_kubeconfig() -> None:
    """Have the clients speak to the cluster that KUBECONFIG names. Raises: SitewrightError where it names none."""
    try:
        load_kube_config()
    except (ConfigException, OSError) as error:
        raise SitewrightError(
            f"kubeconfig: {error}", "Let KUBECONFIG name the cluster's kubeconfig (docs/README.md)."
        ) from error


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What the API server answers. Raises: Missing, Refused, or NoAnswer."""
    try:
        return function(*args, **{"_request_timeout": TIMEOUT, **kwargs})
    except ApiException as error:
        if error.status == 404:
            raise Missing(_said(error)) from error
        raise Refused(f"the cluster refused: {_said(error)}", error.status, _retry_after(error)) from error
    except (HTTPError, OSError) as error:
        raise NoAnswer(
            f"the cluster's API server does not answer: {error}",
            "Look whether KUBECONFIG names the right one.",
        ) from error


def _said(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"


def _retry_after(error: ApiException) -> float:
    try:
        return float((error.headers or {})["Retry-After"])
    except (KeyError, ValueError):
        return 0.0
