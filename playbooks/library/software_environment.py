"""An environment of images/environments/ is found or built (sitewright.artifacts.software_environment)."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts import container_images
from sitewright.artifacts.software_environment import build, default_cache, find, read_recipe
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: software_environment
short_description: where a Python environment is in the cache; builds it when it is missing
description: >-
  Returns name, directory (in the cache), base (name of its container image), base_built, and built (before
  this task).
options:
  name: {description: directory of images/environments/, type: str, required: true}
  repository: {description: checkout of sitewright, type: path, required: true}
  tools: {description: directory of the programs, type: path, required: true}
  state: {description: 'built builds, found only looks', choices: [built, found], type: str, default: built}
"""

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "repository": {"type": "path", "required": True},
    "tools": {"type": "path", "required": True},
    "state": {"type": "str", "default": "built", "choices": ["built", "found"]},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    images, name = Path(module.params["repository"]) / "images", module.params["name"]
    try:
        recipe = read_recipe(name, images / "environments")
        base = container_images.find(
            recipe.base, images / "containers", Path(module.params["tools"]), container_images.default_cache()
        )
        environment = find(name, images / "environments", base, default_cache())
        was_built = environment.built
        changed = module.params["state"] == "built" and not was_built
        if changed and not module.check_mode:
            build(environment, base)
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changed,
        name=name,
        built=was_built,
        directory=str(environment.directory),
        base=base.name,
        base_built=base.built,
    )


if __name__ == "__main__":
    main()
