"""Ansible's way to sitewright.artifacts.debian: a Debian root file system is made."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts.debian import TIMEOUT, make_root
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: debian_root
short_description: makes a Debian root file system with mmdebstrap, from the mirrors this host uses itself
description: >-
  Always makes it, so it is always a change; `said` is what mmdebstrap printed. Packages that are only recommended
  are left out. The task's `environment` is seen by the scripts of the packages.
options:
  path: {description: directory of the root; absent or empty, type: path, required: true}
  release: {description: 'code name, for example bookworm', type: str, required: true}
  packages: {description: beyond those of the variant, type: list, elements: str, required: true}
  variant: {description: of mmdebstrap, type: str, required: true}
  apt_options: {description: for the build and for apt in the root, type: list, elements: str, default: []}
  exclude: {description: globs of absolute paths not to unpack, type: list, elements: str, default: []}
  timeout: {description: seconds until the build is ended, type: int, default: 1200}
"""

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "release": {"type": "str", "required": True},
    "packages": {"type": "list", "elements": "str", "required": True},
    "variant": {"type": "str", "required": True},
    "apt_options": {"type": "list", "elements": "str", "default": []},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": TIMEOUT},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted, said = module.params, ""
    try:
        if not module.check_mode:
            said = make_root(
                Path(wanted["path"]),
                wanted["release"],
                wanted["packages"],
                wanted["variant"],
                apt_options=wanted["apt_options"],
                exclude=wanted["exclude"],
                timeout=wanted["timeout"],
            )
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, said=said)


if __name__ == "__main__":
    main()
