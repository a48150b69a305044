"""Installs the custom resource definitions of `crds/` and waits until the API serves them."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from lab.hypervisor import conditions
from lab.hypervisor.api import DEFINITION, Api, ApiError, Key, Kind, Object
from sitewright.errors import SitewrightError

log = logging.getLogger(__name__)

DIRECTORY = Path(__file__).parent / "crds"


def definitions() -> list[Object]:
    """The CustomResourceDefinitions, in the order of their files."""
    documents = (yaml.safe_load_all(file.read_text()) for file in sorted(DIRECTORY.glob("*.yaml")))
    return [document for file in documents for document in file]


def install(api: Api, timeout: float = 120.0) -> None:
    """Install all of them, over older ones too. Waits for an API server that is still starting."""
    deadline = time.monotonic() + timeout
    wanted = definitions()
    for definition in wanted:
        _until(deadline, partial(_apply, api, definition))
    for definition in wanted:
        _until(deadline, partial(_is_served, api, definition))
    log.info("%d kinds are served", len(wanted))


def _apply(api: Api, body: Object) -> bool:
    try:
        api.apply(DEFINITION, Key("", body["metadata"]["name"]), body)
    except ApiError as problem:
        # 0: not listening yet; 401, 403, 5xx: listening, but still filling its own tables.
        if problem.status in (0, 401, 403) or problem.status >= 500:
            log.info("waiting for the API: %s", problem.message)
            return False
        raise
    return True


def _is_served(api: Api, body: Object) -> bool:
    found = api.get(DEFINITION, Key("", body["metadata"]["name"]))
    if found is None or not conditions.holds(found, "Established"):
        return False
    try:
        api.list(_kind(body))
    except ApiError as problem:
        log.debug("waiting for %s: %s", body["metadata"]["name"], problem.message)
        return False  # established, but its storage is not ready yet
    return True


def _kind(definition: Object) -> Kind:
    spec = definition["spec"]
    names, version = spec["names"], spec["versions"][0]["name"]
    return Kind(f"{spec['group']}/{version}", names["kind"], names["plural"], spec["scope"] == "Namespaced")


def _until(deadline: float, done: Callable[[], bool]) -> None:
    while not done():
        if time.monotonic() > deadline:
            raise SitewrightError(
                "the hypervisor's API server does not take the definitions in time",
                "`sitewright lab logs` shows what it says.",
            )
        time.sleep(0.2)
