"""Ansible's way to sitewright.artifacts.model_store: a model of images/models/ is found, or trained."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts import container_images, software_environment
from sitewright.artifacts.model_store import build, damaged_files, default_cache, find
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: trained_model
short_description: where a model is in the cache; trains it when it is missing
description: >-
  Returns directory (in the cache), built (before this task), base, base_built, and manifest (once it is
  built). A model in the cache whose files are not what its manifest says is refused.
options:
  name: {description: directory of images/models/, type: str, required: true}
  environment: {description: directory of images/environments/, type: str, required: true}
  repository: {description: checkout of sitewright, type: path, required: true}
  tools: {description: directory of the programs, type: path, required: true}
  state: {description: 'built builds, found only looks', choices: [built, found], type: str, default: built}
"""

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "environment": {"type": "str", "required": True},
    "repository": {"type": "path", "required": True},
    "tools": {"type": "path", "required": True},
    "state": {"type": "str", "default": "built", "choices": ["built", "found"]},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    images = Path(given["repository"]) / "images"
    try:
        recipe = software_environment.read_recipe(given["environment"], images / "environments")
        base = container_images.find(
            recipe.base, images / "containers", Path(given["tools"]), container_images.default_cache()
        )
        environment = software_environment.find(
            given["environment"], images / "environments", base, software_environment.default_cache()
        )
        model = find(given["name"], images / "models", environment, default_cache())
        was_built = model.built
        changed = given["state"] == "built" and not was_built
        if changed and not module.check_mode:
            build(model, environment, base)
        if model.built and (damaged := damaged_files(model.directory)):
            raise SitewrightError(
                f"{model.directory}: {', '.join(damaged)} not as {model.directory}/manifest.json says",
                f"Remove {model.directory}; the model is trained again.",
            )
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changed,
        built=was_built,
        directory=str(model.directory),
        base=base.name,
        base_built=base.built,
        manifest=model.manifest if model.built else {},
    )


if __name__ == "__main__":
    main()
