"""Ansible's way to sitewright.artifacts.image_signatures: boot images are signed, and verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts import image_signatures
from sitewright.artifacts.signing import signature_path
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: image_signature
short_description: the operator's signature of a boot image
description: >-
  signed has the image carry a signature of the key, and verifies every file; the secret key is only read where there
  is none yet. published has a copy of the image carry the same one, and verifies it. Returns `differing`, paths of
  signatures that are not or were not right.
options:
  image: {description: directory with a manifest.json, type: path, required: true}
  key: {description: 'minisign secret key; its public half is <key>.pub', type: path, required: true}
  state: {description: what shall be, choices: [signed, published], type: str, required: true}
  source: {description: the image whose copy a published one is, type: path, default: ''}
"""

ARGUMENTS = {
    "image": {"type": "path", "required": True},
    "key": {"type": "path", "required": True},
    "state": {"type": "str", "required": True, "choices": ["signed", "published"]},
    "source": {"type": "path", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    image, key = Path(module.params["image"]), Path(module.params["key"])
    try:
        wrong = bool(image_signatures.problem(image, key))
        if not module.check_mode:
            act(image, key, wrong, module.params)
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    signature = signature_path(image / "manifest.json")
    module.exit_json(changed=wrong, differing=[str(signature)] if wrong else [])


def act(image: Path, key: Path, wrong: bool, given: dict[str, Any]) -> None:
    if given["state"] == "signed":
        image_signatures.sign(image, key)
        image_signatures.verify(image, key)
        return
    if wrong:
        image_signatures.copy(Path(given["source"]), image)
    image_signatures.verify_published(image, key)


if __name__ == "__main__":
    main()
