"""Ansible's way to sitewright.artifacts.registry: built images are compared with a registry, or pushed to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts.registry import Registry
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: registry_image
short_description: push container images under every tag that the registry does not have yet
description: >-
  Returns `missing`, the images (as given) that the registry lacks or lacked under a tag, and `references`,
  a dict from the image's name to `node_registry/repository@sha256:…`.
options:
  images: {description: 'what container_image returns', type: list, elements: dict, required: true}
  registry: {description: URL of the registry as this machine reaches it, type: str, required: true}
  node_registry: {description: URL of the same registry as nodes reach it, type: str, required: true}
  crane: {description: the program crane, type: path, required: true}
  state: {description: 'present pushes, compared only asks', choices: [present, compared], type: str, default: present}
"""

ARGUMENTS = {
    "images": {"type": "list", "elements": "dict", "required": True},
    "registry": {"type": "str", "required": True},
    "node_registry": {"type": "str", "required": True},
    "crane": {"type": "path", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "compared"]},
}


def missing_tags(registry: Registry, images: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Tags, by the image's name, under which the registry has another image or none.

    An image that is not built on this machine has no digest; then any will do.
    """
    wanted = {(item["repository"], tag): item for item in images for tag in item["tags"]}
    missing: dict[str, list[str]] = {}
    for reference, digest in registry.digests(list(wanted)).items():
        image = wanted[reference]
        if digest is None or image["digest"] not in ("", digest):
            missing.setdefault(image["name"], []).append(reference[1])
    return missing


def references(node_registry: str, images: list[dict[str, Any]]) -> dict[str, str]:
    """What a pod names: by digest, so that a node runs exactly what was built."""
    prefix = node_registry.rstrip("/").rpartition("://")[2]
    return {item["name"]: f"{prefix}/{item['repository']}@{item['digest']}" for item in images}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    images = module.params["images"]
    registry = Registry(module.params["registry"], Path(module.params["crane"]))
    try:
        registry.require()
        missing = missing_tags(registry, images)
        push = module.params["state"] == "present" and not module.check_mode
        for item in images if push else []:
            for tag in missing.get(item["name"], []):
                registry.push(Path(item["layout"]), item["repository"], tag)
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    changed = bool(missing) and module.params["state"] == "present"
    module.exit_json(
        changed=changed,
        missing=[item for item in images if item["name"] in missing],
        references=references(module.params["node_registry"], images),
    )


if __name__ == "__main__":
    main()
