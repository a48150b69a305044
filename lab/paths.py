"""Where the lab keeps things, and what it is called.

Everything the lab leaves on a machine is found again by these names: files below `state_dir()`, and
network namespaces and control groups called `lab_name()` or below it. Both can be moved by environment
variables, so that a test can run a small lab beside the real one; `lab up` hands them to its services.
"""

import hashlib
import os
from pathlib import Path

DEFAULT_STATE_DIR = Path("/var/lib/sitewright/lab")
REPOSITORY = Path(__file__).resolve().parent.parent


def state_dir() -> Path:
    return Path(os.environ.get("SITEWRIGHT_LAB_STATE_DIR", DEFAULT_STATE_DIR))


def cache_dir() -> Path:
    return Path(os.environ.get("SITEWRIGHT_CACHE", Path.home() / ".cache" / "sitewright"))


def lab_name() -> str:
    """Name of the lab's network namespace and of its control group."""
    return os.environ.get("SITEWRIGHT_LAB_NAME", "sitewright-lab")


def machines_dir() -> Path:
    return state_dir() / "machines"


def machine_dir(name: str) -> Path:
    return machines_dir() / name


def services_cgroup() -> str:
    return f"{lab_name()}/services"


def machine_cgroup(name: str) -> str:
    return f"{lab_name()}/machines/{name}"


def machine_namespace(name: str) -> str:
    return f"{lab_name()}-{name}"


def short(prefix: str, name: str) -> str:
    """An interface name of at most 15 characters (the kernel's limit), the same every time for `name`."""
    plain = prefix + name
    return (
        plain if len(plain) <= 15 else prefix + hashlib.sha256(name.encode()).hexdigest()[: 15 - len(prefix)]
    )
