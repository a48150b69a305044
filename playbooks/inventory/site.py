#!/usr/bin/env python3
"""Dynamic inventory of a site, for Ansible.

Example: SITEWRIGHT_ENVIRONMENT=lab ansible-inventory -i playbooks/inventory/site.py --graph

Hosts:  every VM by its name, every node by its xname, and localhost for what the operator's machine does.
Groups: virtual_machines, nodes, cluster_<name>, control_plane_<cluster>, pool_<name>.
"""

import json
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> None:
    """Answers `--list`; `--host` gives nothing, since the list carries the variables of every host."""
    if "--host" in sys.argv:
        print("{}")
        return
    environment = os.environ.get("SITEWRIGHT_ENVIRONMENT")
    if not environment:
        sys.exit("SITEWRIGHT_ENVIRONMENT is not set; it names the environment, for example lab")
    from sitewright.errors import SitewrightError
    from sitewright.site.inventory import inventory_of

    try:
        json.dump(inventory_of(environment), sys.stdout)
    except SitewrightError as error:
        sys.exit(str(error))


def use_our_python() -> None:
    """Starts again with the repository's own Python where this one lacks sitewright's dependencies."""
    python = REPOSITORY / ".venv" / "bin" / "python"
    try:
        import pydantic  # noqa: F401
        import ruamel.yaml  # noqa: F401
    except ImportError:
        if Path(sys.prefix) == python.parent.parent or not python.exists():
            raise
        os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    use_our_python()
    sys.path.insert(0, str(REPOSITORY))
    main()
