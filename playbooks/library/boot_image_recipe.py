"""Ansible's way to sitewright.artifacts.boot_recipe: a recipe, read and checked, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts.boot_recipe import STEPS, BootRecipe
from sitewright.artifacts.recipes import load_recipe
from sitewright.artifacts.sources import path_digest
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: boot_image_recipe
short_description: the recipe of a boot image, and the digests of what its layers follow from
description: >-
  Returns `recipe`; in it `epoch`, seconds since 1970 of its date, and `query`, the command that lists the packages
  in the root. `digests`, of the sources of each layer by its name, in their order; `sources`, of all of them and of
  the packing. A wrong key of the recipe is named.
options:
  path: {description: directory of the recipe, type: path, required: true}
  sources:
    description: >-
      For each layer that there is, `paths` and `texts` that it follows from; what the recipe says of it counts anyway.
    type: dict
    required: true
  packing: {description: paths that the packing follows from, type: list, elements: path, required: true}
"""

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "sources": {"type": "dict", "required": True},
    "packing": {"type": "list", "elements": "path", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    try:
        recipe = load_recipe(Path(given["path"]), BootRecipe)
        digests = {step: _digest(recipe, step, given["sources"]) for step in (*STEPS, *recipe.layers)}
        sources = path_digest([given["path"], *given["packing"]], digests.values())
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    more = {"epoch": recipe.epoch, "query": recipe.query}
    module.exit_json(
        changed=False,
        recipe={**recipe.model_dump(mode="json"), **more},
        digests=digests,
        sources=sources,
    )


def _digest(recipe: BootRecipe, step: str, sources: dict[str, dict[str, Any]]) -> str:
    if step not in sources:
        raise SitewrightError(f"layers: {step!r} is no layer", f"There are: {', '.join(sources)}.")
    found = sources[step]
    return path_digest(found["paths"], [recipe.decides(step), *found.get("texts", ())])


if __name__ == "__main__":
    main()
