"""Ansible's way to sitewright.artifacts.rpm: a root file system of RPM packages is made."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts.boot_recipe import BootRecipe
from sitewright.artifacts.recipes import load_recipe
from sitewright.artifacts.rpm import make_root
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: rpm_root
short_description: makes a root file system with dnf or zypper, from the repositories of a recipe
description: Always makes it, so it is always a change; `said` is what the programs printed.
options:
  path: {description: directory of the root; absent or empty, type: path, required: true}
  recipe: {description: directory of the recipe, type: path, required: true}
"""


def main() -> None:
    arguments = {name: {"type": "path", "required": True} for name in ("path", "recipe")}
    module = AnsibleModule(argument_spec=arguments)
    try:
        said = make_root(Path(module.params["path"]), load_recipe(Path(module.params["recipe"]), BootRecipe))
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, said=said)


if __name__ == "__main__":
    main()
