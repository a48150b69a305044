"""Ansible's way to sitewright.provisioning.openchami: which of some nodes another owner has."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami import OpenChami
from sitewright.provisioning.openchami_http import Services

DOCUMENTATION = """
module: openchami_others
short_description: which nodes another pool or the batch system owns
description: Returns `others`, a list of xnames. Writes nothing.
options:
  pool: {description: the owner that is no other one, type: str, required: true}
  nodes: {description: xnames, type: list, elements: str, required: true}
  smd: {description: base URL, type: str, required: true}
  token: {description: JWT, type: str}
"""

ARGUMENTS = {
    "pool": {"type": "str", "required": True},
    "nodes": {"type": "list", "elements": "str", "required": True},
    "smd": {"type": "str", "required": True},
    "token": {"type": "str", "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    openchami = OpenChami(Services(smd=given["smd"], bss="", cloud_init="", token=given["token"]))
    try:
        others = openchami.of_others(given["pool"], given["nodes"])
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, others=sorted(others))


if __name__ == "__main__":
    main()
