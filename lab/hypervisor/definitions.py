"""Installs the custom resource definitions of `crds/` and waits until the API serves them."""

import logging
import time
from pathlib import Path

import yaml

from lab.hypervisor import conditions
from lab.hypervisor.api import DEFINITION, Api, ApiError, Key, Object
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
        _until(deadline, lambda body=definition: _apply(api, body))
    for definition in wanted:
        _until(deadline, lambda body=definition: _is_served(api, body))
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
    return found is not None and conditions.holds(found, "Established")


def _until(deadline: float, done) -> None:
    while not done():
        if time.monotonic() > deadline:
            raise SitewrightError(
                "the hypervisor's API server does not take the definitions in time",
                "`sitewright lab logs` shows what it says.",
            )
        time.sleep(0.2)
