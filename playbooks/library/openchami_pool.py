"""Ansible's way to sitewright.provisioning.openchami: a pool is declared, or nodes of it are forgotten."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami import Boot, OpenChami, Pool
from sitewright.provisioning.openchami_http import Services

DOCUMENTATION = """
module: openchami_pool
short_description: declare the nodes of a pool to SMD, BSS and the cloud-init server
description: >-
  Returns `differences`, a list of texts: what was not as declared, and of which nodes. In check mode nothing is
  written.
options:
  state: {description: 'present, or absent: only these nodes are forgotten', type: str, default: present}
  pool: {description: name of the pool and of its group in SMD, type: str, required: true}
  cluster: {description: name of the cluster the pool belongs to, type: str, default: ''}
  nodes: {description: dicts of the site model's Node, type: list, elements: dict, required: true}
  boot: {description: 'kernel_url, initrd_url, kernel_arguments', type: dict, default: {}}
  smd: {description: base URL, type: str, required: true}
  bss: {description: base URL, type: str, required: true}
  cloud_init: {description: base URL, type: str, required: true}
  cloud_config: {description: text of the pool's cloud-config, type: str, default: ''}
  token: {description: JWT, type: str}
"""

ARGUMENTS = {
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "pool": {"type": "str", "required": True},
    "cluster": {"type": "str", "default": ""},
    "nodes": {"type": "list", "elements": "dict", "required": True},
    "boot": {"type": "dict", "default": {}},
    "smd": {"type": "str", "required": True},
    "bss": {"type": "str", "required": True},
    "cloud_init": {"type": "str", "required": True},
    "cloud_config": {"type": "str", "default": ""},
    "token": {"type": "str", "no_log": True},
}


def pool_of(given: dict[str, Any]) -> Pool:
    boot = Boot(given["boot"]["kernel_url"], given["boot"]["initrd_url"], given["boot"]["kernel_arguments"])
    return Pool(given["pool"], given["cluster"], given["nodes"], boot, given["cloud_config"])


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    services = Services(given["smd"], given["bss"], given["cloud_init"], given["token"])
    openchami = OpenChami(services, check=module.check_mode)
    try:
        if given["state"] == "absent":
            openchami.forget(given["pool"], given["nodes"])
            module.exit_json(changed=True)
        differences = openchami.declare(pool_of(given))
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(differences), differences=differences)


if __name__ == "__main__":
    main()
