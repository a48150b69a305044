"""Ansible's way to sitewright.openchami: a pool is declared, or forgotten."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from sitewright.errors import SitewrightError
from sitewright.openchami import Boot, OpenChami, Services

DOCUMENTATION = """
module: openchami_pool
short_description: declare the nodes of a pool to SMD, BSS and the cloud-init server
options:
  state: {description: present or absent, type: str, default: present}
  pool: {description: name of the pool and of its group in SMD, type: str, required: true}
  cluster: {description: name of the cluster the pool belongs to, type: str, default: ''}
  nodes: {description: dicts of the site model's Node, type: list, elements: dict, required: true}
  boot: {description: 'kernel_url, initrd_url, kernel_arguments', type: dict, default: {}}
  smd: {description: base URL, type: str, required: true}
  bss: {description: base URL, type: str, required: true}
  cloud_init: {description: base URL, type: str, required: true}
  cloud_init_url: {description: base URL as nodes reach it, type: str, default: ''}
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
    "cloud_init_url": {"type": "str", "default": ""},
    "cloud_config": {"type": "str", "default": ""},
    "token": {"type": "str", "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    given = module.params
    openchami = OpenChami(Services(given["smd"], given["bss"], given["cloud_init"], given["token"]))
    try:
        if given["state"] == "absent":
            openchami.forget(given["pool"], given["nodes"])
            module.exit_json(changed=True)
        boot = Boot(
            given["boot"]["kernel_url"], given["boot"]["initrd_url"], given["boot"]["kernel_arguments"]
        )
        # The group's configuration first: a node that boots early must find it.
        configured = openchami.configure_group(
            given["pool"], given["cluster"], given["cloud_init_url"], given["cloud_config"]
        )
        declared = openchami.declare(given["pool"], given["nodes"], boot)
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=configured or declared)


if __name__ == "__main__":
    main()
