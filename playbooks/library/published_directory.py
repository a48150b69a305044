"""Ansible's way to sitewright.artifacts.publishing: a finished directory is put onto the shared file system."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts.model_store import damaged_files
from sitewright.artifacts.publishing import differences, publish
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: published_directory
short_description: make a directory the same as another; readers see the old one or the new one whole
description: >-
  Returns `differing`, the paths that are not or were not as in `source`. In check mode a `source` that is not
  on this machine is no difference.
options:
  source: {description: finished directory with a manifest.json, type: path, required: true}
  target: {description: where it shall be, type: path, required: true}
  link: {description: hard links instead of copies where possible, type: bool, default: false}
  verify: {description: the manifest holds digests; check every file against them, type: bool, default: false}
"""

ARGUMENTS = {
    "source": {"type": "path", "required": True},
    "target": {"type": "path", "required": True},
    "link": {"type": "bool", "default": False},
    "verify": {"type": "bool", "default": False},
}
MANIFEST = "manifest.json"


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    source, target = Path(module.params["source"]), Path(module.params["target"])
    try:
        damaged = damaged_files(target) if module.params["verify"] and target.exists() else []
        differing = damaged or differences(source, target, MANIFEST)
        if differing and not module.check_mode:
            _publish(source, target, bool(damaged), module.params)
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    except (OSError, shutil.Error) as error:
        module.fail_json(msg=f"publishing {target}: {error}")
    module.exit_json(changed=bool(differing), differing=[str(target / name) for name in differing])


def _publish(source: Path, target: Path, damaged: bool, given: dict[str, Any]) -> None:
    if damaged:
        # Without its manifest it counts as something else, and is replaced.
        (target / MANIFEST).unlink(missing_ok=True)
    publish(source, target, MANIFEST, link=given["link"])
    if given["verify"] and (broken := damaged_files(target)):
        raise SitewrightError(f"{target}: after copying, {', '.join(broken)} differ from the manifest")


if __name__ == "__main__":
    main()
