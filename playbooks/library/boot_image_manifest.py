"""Ansible's way to sitewright.artifacts.boot_manifest: the manifest of an image that was packed."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts import boot_manifest
from sitewright.artifacts.boot_recipe import BootRecipe
from sitewright.artifacts.recipes import load_recipe
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: boot_image_manifest
short_description: writes the bill of materials and the manifest of a boot image
description: Returns `manifest`. A root that is larger than its recipe allows is refused.
options:
  out: {description: directory of the packed files, type: path, required: true}
  name: {description: of the image, type: str, required: true}
  recipe: {description: directory of the recipe, type: path, required: true}
  sources: {description: digest of the sources, type: str, required: true}
  kernel: {description: version of the kernel, type: str, required: true}
  installed: {description: what the query of the packages printed, type: str, required: true}
  root: {description: the root that was packed, type: path, required: true}
"""

ARGUMENTS = {
    name: {"type": kind, "required": True}
    for name, kind in {
        "out": "path",
        "name": "str",
        "recipe": "path",
        "sources": "str",
        "kernel": "str",
        "installed": "str",
        "root": "path",
    }.items()
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    given = module.params
    try:
        manifest = boot_manifest.write(
            Path(given["out"]),
            given["name"],
            load_recipe(Path(given["recipe"]), BootRecipe),
            given["sources"],
            given["kernel"],
            given["installed"],
            Path(given["root"]),
        )
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=True, manifest=manifest)


if __name__ == "__main__":
    main()
