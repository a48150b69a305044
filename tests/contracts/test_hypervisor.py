"""The lab's hypervisor behaves as Harvester does for what sitewright uses: a real API server, the manifests of
the modules, a host that only pretends (fake_hypervisor.py)."""

import contextlib

import pytest
from fake_hypervisor import until
from hypervisor_client import Hypervisor

from lab.hypervisor import conditions, places
from lab.hypervisor.api import (
    CLAIM,
    INSTANCE,
    NAMESPACE,
    NETWORK,
    SECRET,
    VIRTUAL_MACHINE,
    ApiError,
    Key,
)
from modules import virtual_machine
from modules.spec import GIBI


def test_a_network_cannot_be_deleted_while_a_machine_is_attached(hypervisor: Hypervisor) -> None:
    machine = hypervisor.start_machine()
    hypervisor.see_ready(machine)
    with pytest.raises(ApiError, match=f"machine {machine.name} is attached to it"):
        hypervisor.delete(NETWORK, Key(hypervisor.place, "nodes"))


@pytest.mark.parametrize(
    ("same", "message"),
    [("macAddress", "has the same MAC address"), ("claimName", "has the same volume")],
)
def test_two_machines_cannot_share(hypervisor: Hypervisor, same: str, message: str) -> None:
    machine = hypervisor.start_machine(run_strategy="Halted")
    other = hypervisor.machine_spec(Key(hypervisor.place, "image"), name="other", mac="52:54:00:00:00:99")
    body = virtual_machine.render(other, "any")[1]
    template = body["spec"]["template"]["spec"]
    if same == "macAddress":
        template["domain"]["devices"]["interfaces"][0]["macAddress"] = "52:54:00:00:00:10"
    else:
        template["volumes"][0]["persistentVolumeClaim"]["claimName"] = f"{machine.name}-root"

    def refused() -> bool:
        try:
            hypervisor.apply(body)
        except ApiError as problem:
            assert f"machine {machine.name} {message}" in problem.message
            return True
        hypervisor.api.delete(VIRTUAL_MACHINE, Key(hypervisor.place, "other"))
        return False  # the API server has not seen the first machine yet

    until(refused, "refusal")


def test_a_machine_starts_with_what_its_objects_say(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    machine = hypervisor.see_ready(key)
    assert machine["status"]["printableStatus"] == "Running"
    assert machine["status"]["created"] and machine["status"]["ready"]
    assert conditions.holds(machine, "Ready")
    boot = hypervisor.host.machines[key.name].boot
    assert (boot.network, boot.mac, boot.cpus, boot.memory) == ("nodes", "52:54:00:00:00:10", 2, 2 * GIBI)
    assert boot.volume == places.volume(Key(key.namespace, f"{key.name}-root"))
    assert (boot.volume / "upper").is_dir() and (boot.volume / "data" / "etcd").is_dir()
    assert sorted(boot.seed) == ["meta-data", "network-config", "user-data"]
    assert boot.seed["user-data"].startswith("#cloud-config\n") and "AAAA operator" in boot.seed["user-data"]
    assert f"local-hostname: {key.name}" in boot.seed["meta-data"]
    assert "10.1.0.10/24" in boot.seed["network-config"]


def test_an_instance_shows_phase_address_and_mac(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    instance = hypervisor.see(INSTANCE, key, "there")
    assert instance["status"]["phase"] == "Running"
    [interface] = instance["status"]["interfaces"]
    assert (interface["ipAddress"], interface["mac"]) == ("10.1.0.10", "52:54:00:00:00:10")
    assert conditions.holds(instance, "Ready") and conditions.holds(instance, "AgentConnected")


def test_the_volume_is_a_bound_claim_that_grows_and_does_not_shrink(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    claim = Key(key.namespace, f"{key.name}-root")
    assert hypervisor.see(CLAIM, claim, "bound")["status"]["phase"] == "Bound"
    hypervisor.start_machine(disk=30 * GIBI)
    hypervisor.see(CLAIM, claim, "30Gi", lambda claim: claim["status"]["capacity"] == {"storage": "30Gi"})
    assert hypervisor.host.starts.count(key.name) == 1


def test_a_machine_waits_for_a_missing_secret_and_says_so(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine(run_strategy="Halted")
    hypervisor.see_status(key, "Stopped")
    secret = Key(key.namespace, f"{key.name}-cloudinit")
    content = hypervisor.see(SECRET, secret, "there")["data"]
    hypervisor.api.delete(SECRET, secret)
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"spec": {"runStrategy": "RerunOnFailure"}})
    machine = hypervisor.see(
        VIRTUAL_MACHINE, key, "waits", lambda vm: "Secret" in conditions.message(vm, "Ready")
    )
    assert conditions.message(machine, "Ready") == f"Secret {secret} is not there"
    hypervisor.api.create(
        SECRET, {"metadata": {"name": secret.name, "namespace": secret.namespace}, "data": content}
    )
    machine = hypervisor.see_ready(key)
    assert not conditions.holds(machine, "Failure")


def test_a_crashed_machine_starts_again(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    first = hypervisor.see(INSTANCE, key, "there")["metadata"]["uid"]
    hypervisor.host.end(key.name, well=False)
    until(lambda: hypervisor.host.starts.count(key.name) == 2, "a second start")
    machine = hypervisor.see_ready(key)
    assert machine["status"]["startFailure"]["consecutiveFailCount"] == 1
    assert hypervisor.see(INSTANCE, key, "there")["metadata"]["uid"] != first


def test_a_machine_that_shut_itself_down_stays_off(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.host.end(key.name, well=True)
    machine = hypervisor.see_status(key, "Stopped")
    assert not conditions.holds(machine, "Ready")
    assert hypervisor.see(INSTANCE, key, "there")["status"]["phase"] == "Succeeded"
    assert hypervisor.host.starts.count(key.name) == 1


def test_halted_powers_off_and_back_on(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"spec": {"runStrategy": "Halted"}})
    machine = hypervisor.see_status(key, "Stopped")
    assert not hypervisor.host.runs(key.name) and "created" not in machine["status"]
    assert hypervisor.api.get(INSTANCE, key) is None
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"spec": {"runStrategy": "RerunOnFailure"}})
    hypervisor.see_ready(key)
    assert hypervisor.host.starts.count(key.name) == 2


def test_a_changed_template_waits_for_the_next_start(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.start_machine(memory=4 * GIBI)
    hypervisor.see(
        VIRTUAL_MACHINE, key, "to be restarted", lambda vm: conditions.holds(vm, "RestartRequired")
    )
    assert hypervisor.host.machines[key.name].boot.memory == 2 * GIBI
    restart = {"metadata": {"annotations": {"sitewright.dev/restart": "2026-01-01T00:00:00Z"}}}
    hypervisor.api.patch(VIRTUAL_MACHINE, key, restart)
    until(lambda: hypervisor.host.machines[key.name].boot.memory == 4 * GIBI, "the new memory")
    hypervisor.see(VIRTUAL_MACHINE, key, "up to date", lambda vm: not conditions.holds(vm, "RestartRequired"))
    assert hypervisor.host.starts.count(key.name) == 2 and hypervisor.host.graces[-1] == 120


def test_deleting_the_instance_restarts_the_machine(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.api.delete(INSTANCE, key)
    until(lambda: hypervisor.host.starts.count(key.name) == 2, "a second start")
    hypervisor.see_ready(key)


def test_a_new_controller_adopts_what_runs_and_starts_what_died_meanwhile(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.controller.stop()
    hypervisor.controller.start()
    hypervisor.api.patch(VIRTUAL_MACHINE, key, {"metadata": {"labels": {"touched": "yes"}}})
    hypervisor.start_machine(disk=40 * GIBI)
    claim = Key(key.namespace, f"{key.name}-root")
    hypervisor.see(
        CLAIM, claim, "seen by the new controller", lambda c: c["status"]["capacity"] == {"storage": "40Gi"}
    )
    assert hypervisor.host.starts.count(key.name) == 1
    hypervisor.controller.stop()
    hypervisor.host.end(key.name, well=False)
    hypervisor.controller.start()
    until(lambda: hypervisor.host.starts.count(key.name) == 2, "a second start")


def test_a_machine_that_cannot_start_is_tried_ever_more_slowly(hypervisor: Hypervisor) -> None:
    hypervisor.host.broken.add(hypervisor.place)
    key = hypervisor.start_machine()
    machine = hypervisor.see_status(key, "CrashLoopBackOff")
    assert machine["status"]["startFailure"]["consecutiveFailCount"] >= 2
    hypervisor.host.broken.clear()
    hypervisor.see_ready(key)


def test_deleting_a_machine_leaves_nothing(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    volume = hypervisor.host.machines[key.name].boot.volume
    hypervisor.delete(VIRTUAL_MACHINE, key)
    hypervisor.see_gone(VIRTUAL_MACHINE, key)
    assert hypervisor.api.get(INSTANCE, key) is None
    assert hypervisor.api.list(CLAIM, key.namespace) == []
    assert key.name not in hypervisor.host.machines and not volume.exists()
    assert hypervisor.host.graces[-1] == 120


def test_a_kept_disk_outlives_its_machine_and_goes_when_it_is_deleted(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine(keep_disk=True)
    hypervisor.see_ready(key)
    volume = hypervisor.host.machines[key.name].boot.volume
    claim = Key(key.namespace, f"{key.name}-root")
    hypervisor.delete(CLAIM, claim)
    hypervisor.see(
        CLAIM, claim, "only marked as deleted", lambda claim: "deletionTimestamp" in claim["metadata"]
    )
    assert volume.exists()
    hypervisor.delete(VIRTUAL_MACHINE, key)
    hypervisor.see_gone(CLAIM, claim)
    assert not volume.exists()


def test_a_deleted_namespace_goes_with_all_that_is_in_it(hypervisor: Hypervisor) -> None:
    key = hypervisor.start_machine()
    hypervisor.see_ready(key)
    hypervisor.delete(NAMESPACE, Key("", hypervisor.place))
    hypervisor.see_gone(NAMESPACE, Key("", hypervisor.place))
    assert key.name not in hypervisor.host.machines


@pytest.mark.parametrize(("text", "refused"), [("a" * 2048, False), ("a" * 2049, True), ("é" * 1025, True)])
def test_inline_user_data_is_limited_to_2048_bytes(hypervisor: Hypervisor, text: str, refused: bool) -> None:
    machine = virtual_machine.render(hypervisor.machine_spec(Key("any", "image")), "any")[1]
    machine["spec"]["runStrategy"] = "Halted"
    machine["spec"]["template"]["spec"]["volumes"][1] = {
        "name": "cloudinitdisk",
        "cloudInitNoCloud": {"userData": text},
    }
    with pytest.raises(ApiError, match="at most 2048 bytes") if refused else contextlib.nullcontext():
        hypervisor.apply(machine)
