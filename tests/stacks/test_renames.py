"""What another hostlist does to machines that are there already.

Pulumi knows a resource by its name: under another name it is made first and the old one deleted after, and where
both are the same object, that object is gone while the state says it is there (pulumi/pulumi#9894, #458, #11173).
"""

import pytest

from tests.stacks.engine import plain

BEHIND = "\n# How an operator's machine reaches"  # the VMs of the lab's site file


@pytest.fixture(scope="module")
def machines(program, site_file):
    """By URN what the lab has with a group of VMs more: `machines("vm[1-3]", "vm3: {…}")`."""

    def of(hostlist: str, override: str = ""):
        group = f"  - {{name: '{hostlist}', image: debian-12, network: nodes, overrides: {{{override}}}}}\n"
        run = program(site_file("lab", (BEHIND, f"{group}{BEHIND}")), layers='["hypervisor"]')
        providers = {"pulumi:providers:kubernetes"}
        return {urn: plain(one.inputs) for urn, one in run.resources.items() if one.type not in providers}

    return of


def test_a_vm_that_is_taken_out_takes_nothing_else_along(machines):
    """vm3 keeps the address it has, which is said in the site file."""
    before, after = machines("vm[1-3]"), machines("vm[1,3]", "vm3: {address: 10.77.0.13}")
    gone = {urn.rpartition("::")[2] for urn in before.keys() - after.keys()}
    assert gone == {"vm2", "vm2-cloudinit"}
    assert after == {urn: inputs for urn, inputs in before.items() if urn in after}


def test_the_vm_behind_one_that_is_taken_out_stays_the_object_it_is(machines):
    before, after = machines("vm[1-3]"), machines("vm[1,3]")
    [vm3] = [urn for urn in after if urn.endswith("kubevirt.io/v1:VirtualMachine::vm3")]
    assert after[vm3] == before[vm3]


@pytest.mark.parametrize("hostlist", ["vm1,vm2,vm3", "vm[1-2],vm3", "vm[1,2,3]"])
def test_a_group_by_another_name_for_the_same_vms_changes_nothing(machines, hostlist):
    assert machines(hostlist) == machines("vm[1-3]")
