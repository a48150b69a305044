"""What waits for what, where getting it wrong would only show on a large site."""

from tests.stacks.engine import plain


def test_a_control_plane_of_three_starts_once_its_address_leads_to_its_machines(alps):
    balancers = alps.of("LoadBalancer")
    assert balancers.keys() == {"svc-api", "tds-api"}
    assert [port["port"] for port in balancers["svc-api"]["spec"]["listeners"]] == [6443, 9345]
    assert alps.of("IPPool")["alps-platform-svc-api"]["spec"]["ranges"][0]["rangeStart"] == "10.100.0.100"
    assert {"svc-api", "svc-cp1", "svc-cp2", "svc-cp3"} <= alps.waits_for("bootstrap-svc")
    assert {"svc-cp1", "svc-cp2", "svc-cp3"} <= alps.waits_for("svc-api")


def test_a_single_control_plane_needs_no_address_in_front(lab):
    assert lab.of("LoadBalancer") == lab.of("IPPool") == {}


def test_one_node_more_in_a_pool_is_another_join(program, site_file):
    """The hosts of a run come from the inventory, which no diff looks at: the names must be inputs."""
    two = program(site_file("lab"), layers='["clusters", "nodes"]')
    one = program(
        site_file("lab", ("x1000c0s0b[0-1]n0", "x1000c0s0b0n0"), ("replicas: 2", "replicas: 1")),
        layers='["clusters", "nodes"]',
    )
    for name in ("gpu-nodes", "gpu-boot"):
        assert one.named(name).inputs["nodes"] != two.named(name).inputs["nodes"]
    for run in ("power-gpu", "join-gpu", "release-gpu"):
        before, after = (plain(found.playbooks()[run]["variables"]) for found in (one, two))
        assert before != after, run


def test_models_of_one_software_environment_are_prepared_in_turn(alps):
    assert "model-apertus-70b" in alps.waits_for("model-apertus-8b")
    assert "model-apertus-8b" in alps.waits_for("model-apertus-8b-next")
