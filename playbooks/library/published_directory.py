"""Ansible's way to sitewright.publishing: a finished directory is put onto the shared file system."""

from __future__ import annotations

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from sitewright.errors import SitewrightError
from sitewright.model_store import damaged_files
from sitewright.publishing import publish

DOCUMENTATION = """
module: published_directory
short_description: make a directory the same as another; readers see the old one or the new one whole
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
    module = AnsibleModule(argument_spec=ARGUMENTS)
    source, target = Path(module.params["source"]), Path(module.params["target"])
    damaged: list[str] = []
    try:
        if module.params["verify"] and target.exists():
            damaged = damaged_files(target)
        if damaged:
            # Without its manifest it counts as something else, and is replaced.
            (target / MANIFEST).unlink(missing_ok=True)
        changed = publish(source, target, MANIFEST, link=module.params["link"])
        if module.params["verify"] and (broken := damaged_files(target)):
            raise SitewrightError(f"{target}: after copying, {', '.join(broken)} differ from the manifest")
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    except (OSError, shutil.Error) as error:
        module.fail_json(msg=f"publishing {target}: {error}")
    module.exit_json(changed=changed, repaired=damaged)


if __name__ == "__main__":
    main()
