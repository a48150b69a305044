"""`python -m lab.hypervisor`: run the controller until SIGTERM. Machines keep running.

Environment: KUBECONFIG, the API server whose objects it serves; SITEWRIGHT_LAB_STATE_DIR, see `lab.paths`.
"""

import logging
import os
import sys
import threading
from pathlib import Path

import kopf

from lab.hypervisor import definitions, policies
from lab.hypervisor.api import Api
from lab.hypervisor.controller import registry
from lab.hypervisor.host import LabHost
from sitewright.errors import SitewrightError


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for noisy in ("httpx", "httpcore", "kopf", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if "KUBECONFIG" not in os.environ:
        raise SitewrightError(
            "KUBECONFIG is not set", "`sitewright lab up` starts the hypervisor with all it needs."
        )
    api = Api(Path(os.environ["KUBECONFIG"]))
    definitions.install(api)
    policies.install(api)
    kopf.run(registry=registry(api, LabHost(), threading.Event()), clusterwide=True, standalone=True)
    sys.stdout.flush()
    # A call that waits for a machine to shut down is cut off here; the next controller goes on with it.
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except SitewrightError as problem:
        sys.exit(f"lab.hypervisor: {problem}")
