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


def load_kubeconfig() -> None:
    """Have the clients speak to the cluster that KUBECONFIG names. Raises: SitewrightError where it names none."""
    try:
        load_kube_config()
    except (ConfigException, OSError) as error:
        raise SitewrightError(
            f"kubeconfig: {error}", "Let KUBECONFIG name the cluster's kubeconfig (docs/README.md)."
        ) from error


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What the API server answers. Raises: Missing, or SitewrightError when it refuses or does not answer."""
    try:
        return function(*args, **{"_request_timeout": TIMEOUT, **kwargs})
    except ApiException as error:
        if error.status == 404:
            raise Missing(_said(error)) from error
        raise SitewrightError(f"the cluster refused: {_said(error)}") from error
    except (HTTPError, OSError) as error:
        raise SitewrightError(
            f"the cluster's API server does not answer: {error}",
            "Look whether KUBECONFIG names the right one.",
        ) from error


def _said(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"
