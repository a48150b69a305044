"""Kernel arguments from the site file to what the provisioner is told."""

import json

LINES = [
    "ro root=live:http://10.1.0.1:9000/img/rootfs ip=dhcp ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init/",
    """x.sources='["url:http://10.1.0.1/c.yml"]'""",
]


def test_they_arrive_character_for_character(program, site_file):
    """What followed the `;` was lost elsewhere, and inner quotes too: redhat-cip/edeploy#92,
    canonical/cloud-init#2120, #2133, rancher/os#1088."""
    file = site_file("lab", ("kernel_arguments: []  ", f"kernel_arguments: {json.dumps(LINES)}  "))
    assert program(file).declared("BootConfiguration")["gpu-boot"]["arguments"][-2:] == LINES
