"""Ansible's way to sitewright.provisioning.openchami: what the cloud-init server says to every node of the site."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami import OpenChami
from sitewright.provisioning.openchami_http import Services

DOCUMENTATION = """
module: openchami_defaults
short_description: tell the cloud-init server where nodes reach it
description: Returns `differences`, a list of texts. In check mode nothing is written.
options:
  cloud_init: {description: base URL, type: str, required: true}
  cloud_init_url: {description: base URL as nodes reach it, type: str, required: true}
  token: {description: JWT, type: str}
"""

ARGUMENTS = {
    "cloud_init": {"type": "str", "required": True},
    "cloud_init_url": {"type": "str", "required": True},
    "token": {"type": "str", "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    services = Services(smd="", bss="", cloud_init=given["cloud_init"], token=given["token"])
    try:
        differences = OpenChami(services, check=module.check_mode).set_defaults(given["cloud_init_url"])
    except SitewrightError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(differences), differences=differences)


if __name__ == "__main__":
    main()
