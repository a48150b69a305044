"""What makes a bare control plane usable."""

import yaml

from modules.platform import PlatformSpec, render
from tests.unit.golden import DATA, check


def rendered() -> list[dict]:
    return render(PlatformSpec.model_validate(yaml.safe_load((DATA / "platform/lab/spec.yaml").read_text())))


def test_rendered_manifests_are_the_recorded_ones():
    check(DATA / "platform/lab/manifests.yaml", yaml.safe_dump_all(rendered(), sort_keys=False))


def test_nothing_waits_for_the_services_it_brings_up():
    for manifest in rendered():
        if manifest["kind"] in ("DaemonSet", "Deployment"):
            [container] = manifest["spec"]["template"]["spec"]["containers"]
            assert {"name": "KUBERNETES_SERVICE_HOST", "value": "10.77.0.10"} in container["env"]


def test_every_account_is_bound_to_a_role():
    manifests = rendered()
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    bound = {m["subjects"][0]["name"] for m in manifests if m["kind"] == "ClusterRoleBinding"}
    assert accounts == bound == {"kube-router", "kube-proxy", "coredns"}
