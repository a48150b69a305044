"""Ansible's way to sitewright.artifacts.container_images: images of images/containers/ are looked up, or built."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts.container_images import build, default_cache, find
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: container_image
short_description: where the OCI layouts of container images are; builds those that are missing
description: >-
  Returns `images`, one dict per name in the order given: name, built (before this task), layout, repository,
  tags, digest (empty while not built).
options:
  names: {description: directories of `recipes`, type: list, elements: str, required: true}
  recipes: {description: images/containers of the checkout, type: path, required: true}
  tools: {description: directory of the programs, type: path, required: true}
  state: {description: 'built builds, found only looks', choices: [built, found], type: str, default: built}
"""

ARGUMENTS = {
    "names": {"type": "list", "elements": "str", "required": True},
    "recipes": {"type": "path", "required": True},
    "tools": {"type": "path", "required": True},
    "state": {"type": "str", "default": "built", "choices": ["built", "found"]},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    tools, recipes = Path(module.params["tools"]), Path(module.params["recipes"])
    found, changed = [], False
    try:
        for name in module.params["names"]:
            image = find(name, recipes, tools, default_cache())
            was_built = image.built
            if module.params["state"] == "built" and not was_built:
                changed = True
                if not module.check_mode:
                    build(image, tools)
            found.append(
                {
                    "name": name,
                    "built": was_built,
                    "layout": str(image.layout),
                    "repository": image.recipe.repository,
                    "tags": list(image.recipe.tags),
                    "digest": image.digest if image.built else "",
                }
            )
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, images=found)


if __name__ == "__main__":
    main()
