"""Ansible's way to sitewright.provisioning.openchami: nodes that left their pool are forgotten."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami import OpenChami
from sitewright.provisioning.openchami_http import Services

DOCUMENTATION = """
module: openchami_forget
short_description: have SMD, and what gives out boot scripts, forget nodes
description: What is already gone stays gone, and what another owner has is left alone. Check mode writes nothing.
options:
  pool: {description: the pool they left, type: str, required: true}
  nodes: {description: 'dicts of xname, bmc, mac', type: list, elements: dict, required: true}
  smd: {description: base URL, type: str, required: true}
  bss: {description: base URL; this or boot_service, type: str}
  boot_service: {description: base URL; this or bss, type: str}
  token: {description: JWT, type: str}
"""

ARGUMENTS = {
    "pool": {"type": "str", "required": True},
    "nodes": {"type": "list", "elements": "dict", "required": True},
    "smd": {"type": "str", "required": True},
    "bss": {"type": "str"},
    "boot_service": {"type": "str"},
    "token": {"type": "str", "no_log": True},
}


def main() -> None:
    one = [("bss", "boot_service")]
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, required_one_of=one, mutually_exclusive=one
    )
    given = module.params
    services = Services(
        smd=given["smd"],
        bss=given["bss"] or "",
        cloud_init="",
        token=given["token"],
        boot_service=given["boot_service"] or "",
    )
    openchami = OpenChami(services, check=module.check_mode)
    try:
        openchami.forget_boot(given["pool"], [node["xname"] for node in given["nodes"]])
        openchami.forget_nodes(given["pool"], given["nodes"])
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
