"""Ansible's way to sitewright.artifacts.layers: the layers of a boot image, begun, kept and cleaned up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from sitewright.artifacts import layers
from sitewright.errors import SitewrightError

DOCUMENTATION = """
module: image_layer
short_description: layers of a root file system, each built once for the same sources
description: >-
  Returns `layers`, the names of those that are to be built; `key`, of all of them together; for `begun` also
  `root`, where the layer is to be made; `log`, of the layers that are there.
options:
  cache: {description: directory of the layers, type: path, required: true}
  work: {description: directory of this build, type: path, required: true}
  digests: {description: digest of the sources of each layer by its name, in their order, type: dict, required: true}
  state:
    description: >-
      planned changes nothing. begun makes the layer ready to be written; finished keeps it. opened makes a root of
      all layers, whose changes are dropped by cleaned, as is everything that builds left behind.
    choices: [planned, begun, finished, opened, cleaned]
    type: str
    required: true
  name: {description: of the layer that is begun or finished, type: str, default: ''}
  log: {description: what the programs said that made it, type: str, default: ''}
"""

ARGUMENTS = {
    "cache": {"type": "path", "required": True},
    "work": {"type": "path", "required": True},
    "digests": {"type": "dict", "required": True},
    "state": {
        "type": "str",
        "required": True,
        "choices": ["planned", "begun", "finished", "opened", "cleaned"],
    },
    "name": {"type": "str", "default": ""},
    "log": {"type": "str", "default": ""},
}
TOP = "opened"


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    try:
        found = act(module.params)
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=module.params["state"] != "planned", **found)


def act(given: dict[str, Any]) -> dict[str, Any]:
    cache, work, state = Path(given["cache"]), Path(given["work"]), given["state"]
    planned = layers.plan(cache, given["digests"])
    index = next((at for at, layer in enumerate(planned) if layer.name == given["name"]), len(planned))
    top = layers.Layer(TOP, "", work / TOP)
    root = ""
    if state == "begun":
        root = str(layers.begin(planned[index], planned[:index], work))
    elif state == "finished":
        layers.finish(planned[index], work, given["log"])
    elif state == "opened":
        root = str(layers.begin(top, planned, work))
    elif state == "cleaned":
        layers.unmount(work)
        shutil.rmtree(work, ignore_errors=True)
        layers.clean(cache)
    logs = [layer.directory / "log" for layer in planned if layer.built]
    return {
        "layers": [layer.name for layer in layers.missing(planned)],
        "key": planned[-1].key,
        "root": root,
        "log": "".join(log.read_text(encoding="utf-8") for log in logs),
    }


if __name__ == "__main__":
    main()
