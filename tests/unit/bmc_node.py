"""The node that the tests of the lab's BMCs boot."""

from sitewright.site import Node

NODE = Node(
    xname="x1000c0s0b0n0",
    nid=1,
    pool="gpu",
    cluster="svc",
    network="nodes",
    address="10.77.0.64",
    prefix_length=24,
    gateway="10.77.0.1",
    mac="02:00:00:00:00:01",
    bmc="x1000c0s0b0",
    bmc_address="10.77.0.160",
    bmc_mac="02:00:00:00:00:02",
    cpus=2,
    memory=6 << 30,
    gpus=0,
    labels={},
    taints=[],
)
