"""LoadBalancer: an address of its pool, and the machines it names behind it, as Harvester does."""

from hypervisor_client import Hypervisor

from lab.hypervisor import conditions
from lab.hypervisor.api import LOAD_BALANCER, VIRTUAL_MACHINE, Object
from lab.hypervisor.balancing import Server
from modules import load_balancer


def balancer(place: str, machine: str) -> list[Object]:
    """The pool and the load balancer in front of a machine."""
    fields = {
        "name": "api",
        "namespace": place,
        "address": "10.1.0.100",
        "cidr": "10.1.0.0/24",
        "gateway": "10.1.0.1",
        "network": f"{place}/nodes",
        "machines": (machine,),
        "ports": (6443, 9345),
    }
    return load_balancer.render(load_balancer.LoadBalancerSpec.model_validate(fields))


def test_a_load_balancer_has_its_address_before_a_machine_is_there_and_finds_it_then(
    hypervisor: Hypervisor,
) -> None:
    for manifest in balancer(hypervisor.place, hypervisor.place):
        key = hypervisor.apply(manifest)
    found = hypervisor.see(
        LOAD_BALANCER, key, "an address", lambda body: body.get("status", {}).get("address")
    )
    assert found["status"]["address"] == "10.1.0.100"
    assert found["status"]["backendServers"] == []

    machine = hypervisor.start_machine()
    hypervisor.see_ready(machine)
    hypervisor.see(
        LOAD_BALANCER, key, "a server", lambda body: body["status"]["backendServers"] == ["10.1.0.10"]
    )
    made = hypervisor.host.balancers[f"{hypervisor.place}-api"]
    assert made.servers == (Server(machine.name, "10.1.0.10"),)
    assert made.ports == ((6443, 6443), (9345, 9345))

    hypervisor.delete(VIRTUAL_MACHINE, machine)
    hypervisor.see(LOAD_BALANCER, key, "no server", lambda body: body["status"]["backendServers"] == [])
    hypervisor.delete(LOAD_BALANCER, key)
    hypervisor.see_gone(LOAD_BALANCER, key)
    assert f"{hypervisor.place}-api" not in hypervisor.host.balancers


def test_a_load_balancer_leads_to_no_machine_that_it_does_not_name(hypervisor: Hypervisor) -> None:
    hypervisor.see_ready(hypervisor.start_machine())
    pool, other = balancer(hypervisor.place, "other")
    hypervisor.apply(pool)
    key = hypervisor.apply(other)
    found = hypervisor.see(LOAD_BALANCER, key, "Ready", lambda body: conditions.holds(body, "Ready"))
    assert found["status"]["backendServers"] == []


def test_a_load_balancer_waits_for_its_pool_and_says_so(hypervisor: Hypervisor) -> None:
    pool, waiting = balancer(hypervisor.place, hypervisor.place)
    key = hypervisor.apply(waiting)
    said = f"there is no IPPool {pool['metadata']['name']}"
    hypervisor.see(LOAD_BALANCER, key, said, lambda body: conditions.message(body, "Ready") == said)
    hypervisor.apply(pool)
    hypervisor.see(LOAD_BALANCER, key, "Ready", lambda body: conditions.holds(body, "Ready"))
