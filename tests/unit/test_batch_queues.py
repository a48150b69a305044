"""What the queues of a site become, and that they count what a run requests."""

import json
import re

import pulumi
import pytest
import yaml
from pydantic import ValidationError

from modules.queues.batch_queues import FINE_TUNING, INFERENCE, BatchQueues, queues, render
from modules.queues.batch_queues_controller import FILE, NAMESPACE, UPSTREAM, WEBHOOKS, controller
from modules.queues.batch_queues_spec import COVERED, BatchQueuesSpec
from modules.tuning.fine_tuning import FineTuningSpec
from modules.tuning.fine_tuning import render as render_fine_tuning
from sitewright.artifacts.container_recipe import ContainerRecipe
from sitewright.artifacts.recipes import load_recipe
from sitewright.site.files import REPOSITORY
from sitewright.tuning.template import TEMPLATE, TrainingTemplate, Turn, job
from tests.unit.golden import cases, check
from tests.unit.mock_engine import Engine

GIB = 2**30
FLAVOR = {"pool": "gpu", "fine_tuning": {"cpus": 1, "memory": 2 * GIB}}


def spec(**more) -> BatchQueuesSpec:
    given = {"image": "i@sha256:1", "pool": "gpu", "flavors": [FLAVOR], "teams": ["demo"]}
    return BatchQueuesSpec.model_validate({**given, **more})


def one(kind: str, name: str = "", **more) -> dict:
    [found] = [
        manifest
        for manifest in render(spec(**more))
        if manifest["kind"] == kind and manifest["metadata"]["name"].endswith(name)
    ]
    return found


def pod(**more) -> dict:
    return one("Deployment", **more)["spec"]["template"]["spec"]


def webhooks() -> list[dict]:
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    return [webhook for kind in kinds for webhook in one(kind)["webhooks"]]


def job_of(gpus: int, **turn: str) -> dict:
    tiny = {"path": "/m", "digest": "sha256:1", "python": "/e/bin/python", "image": "i@sha256:2"}
    given = {
        "pool": "gpu",
        "gpus": gpus,
        "cpus": 2,
        "memory": 2 * GIB,
        "publish_dir": "/p",
        "models": {"tiny": tiny},
    }
    config_map = render_fine_tuning(FineTuningSpec.model_validate(given))[-1]
    template = TrainingTemplate.model_validate_json(config_map["data"][TEMPLATE])
    return job(template, "trial-1", "tiny", 3600, Turn(**turn))


@pytest.mark.parametrize("case", cases("batch_queues"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    """Without the kinds, which are upstream's (tests/contracts/test_kueue_upstream.py)."""
    given = BatchQueuesSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    shown = [made for made in render(given) if made["kind"] != "CustomResourceDefinition"]
    for manifest in shown:
        if manifest["kind"] == "ConfigMap":
            manifest["data"][FILE] = json.loads(manifest["data"][FILE])
    text = yaml.safe_dump_all(json.loads(json.dumps(shown)), sort_keys=False)
    check(case / "manifests.yaml", text)


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_queues_count_all_that_a_run_requests_and_nothing_else(gpus):
    """Case Q1: what is requested and not counted is never admitted."""
    [container] = job_of(gpus)["spec"]["template"]["spec"]["containers"]
    requested = {*container["resources"]["requests"], *container["resources"]["limits"]}
    assert requested <= set(COVERED)
    assert requested == set(COVERED) - (set() if gpus else {"nvidia.com/gpu"})


@pytest.mark.parametrize("name", [INFERENCE, FINE_TUNING])
def test_every_resource_that_is_counted_has_a_quota_in_every_flavor(name):
    other = {"pool": "old", "fine_tuning": {"gpus": 1}}
    [group] = one("ClusterQueue", name, flavors=[FLAVOR, other])["spec"]["resourceGroups"]
    assert [flavor["name"] for flavor in group["flavors"]] == ["gpu", "old"]
    for flavor in group["flavors"]:
        assert [quota["name"] for quota in flavor["resources"]] == group["coveredResources"] == list(COVERED)


def test_a_run_with_a_queue_waits_for_its_turn_and_one_without_does_not():
    queued = job_of(0, queue="demo", priority="urgent")
    assert queued["spec"]["suspend"] is True
    labels = queued["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "demo"
    assert labels["kueue.x-k8s.io/priority-class"] == "urgent"
    assert "suspend" not in job_of(0)["spec"]
    assert not [label for label in job_of(0)["metadata"]["labels"] if "kueue" in label]
    template = queued["spec"]["template"]["metadata"]["labels"]
    assert not [label for label in template if "kueue" in label], "they are the Job's, not its pods'"


def test_both_cluster_queues_lend_to_each_other_and_only_the_runs_namespace_gets_in():
    inference, runs = one("ClusterQueue", INFERENCE)["spec"], one("ClusterQueue", FINE_TUNING)["spec"]
    assert inference["cohortName"] == runs["cohortName"]
    assert "namespaceSelector" not in inference, "without one nobody is admitted"
    assert runs["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "fine-tuning"}}
    assert runs["preemption"] == {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"}


def test_nothing_is_lent_unless_the_site_says_so():
    [group] = one("ClusterQueue", INFERENCE)["spec"]["resourceGroups"]
    assert {quota["lendingLimit"] for quota in group["flavors"][0]["resources"]} == {"0"}


def test_only_what_is_used_calls_kueue():
    """While Kueue does not answer, whatever calls it cannot be made: pods and deployments must not."""
    assert {webhook["name"] for webhook in webhooks()} == WEBHOOKS
    resources = {
        resource for webhook in webhooks() for rule in webhook["rules"] for resource in rule["resources"]
    }
    assert "pods" not in resources and "deployments" not in resources and "statefulsets" not in resources
    for webhook in webhooks():
        if webhook["name"] in ("mjob.kb.io", "vjob.kb.io"):
            only = {"matchLabels": {"kubernetes.io/metadata.name": "fine-tuning"}}
            assert webhook["namespaceSelector"] == only


def test_every_webhook_and_conversion_leads_to_the_service_that_finds_the_pod():
    service = one("Service")
    place = (service["metadata"]["name"], service["metadata"]["namespace"])
    kinds = [manifest for manifest in render(spec()) if manifest["kind"] == "CustomResourceDefinition"]
    clients = [webhook["clientConfig"] for webhook in webhooks()]
    clients += [
        kind["spec"]["conversion"]["webhook"]["clientConfig"]
        for kind in kinds
        if "conversion" in kind["spec"]
    ]
    assert {(client["service"]["name"], client["service"]["namespace"]) for client in clients} == {place}
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    ports = {port["containerPort"] for port in pod()["containers"][0]["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports


def test_what_upstream_says_is_not_changed_by_rendering():
    before = json.dumps(UPSTREAM)
    render(spec())
    assert json.dumps(UPSTREAM) == before


def test_kueue_may_do_nothing_with_kinds_of_other_projects():
    rules = [
        rule for made in render(spec()) if made["kind"] in ("ClusterRole", "Role") for rule in made["rules"]
    ]
    groups = {group for rule in rules for group in rule["apiGroups"]}
    assert not [group for group in groups if re.search("ray|kubeflow|spark|codeflare|leaderworkerset", group)]
    assert not [rule for rule in rules if "*" in rule["verbs"] or "*" in rule["resources"]]


def test_every_role_is_bound_to_the_account_of_the_pod():
    made = render(spec())
    for role in [found for found in made if found["kind"] in ("ClusterRole", "Role")]:
        [binding] = [found for found in made if found["kind"] == f"{role['kind']}Binding" and
                     found["roleRef"]["name"] == role["metadata"]["name"]]  # fmt: skip
        [subject] = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == (pod()["serviceAccountName"], NAMESPACE)


def test_the_pod_is_the_user_of_the_image_and_can_write_nothing():
    recipe = load_recipe(REPOSITORY / "images/containers/kueue", ContainerRecipe)
    security = pod()["securityContext"]
    assert recipe.user == f"{security['runAsUser']}:{security['runAsGroup']}"
    [container] = pod()["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in container["volumeMounts"])


def test_other_settings_are_other_pods():
    def template(**more) -> dict:
        found: dict = one("Deployment", **more)["spec"]["template"]
        return found

    assert template() == template(teams=["other"])
    assert template() != template(namespace="runs")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"quota": {}}, "quota\n.*Extra inputs"),
        ({"flavors": []}, "flavors\n.*at least 1"),
        ({"teams": []}, "teams\n.*at least 1"),
        ({"teams": ["a", "b", "a"]}, "teams: a is there twice"),
        ({"flavors": [FLAVOR, FLAVOR]}, "flavors: gpu is there twice"),
        ({"teams": ["Climate"]}, "teams.0\n.*pattern"),
        ({"priorities": {"a b": 1}}, "priorities.a b.*\n.*pattern"),
        ({"memory": 1}, "memory\n.*greater than or equal to"),
        ({"taints": ["x"]}, "taints.0\n.*pattern"),
        ({"flavors": [{**FLAVOR, "fine_tuning": {"gpus": -1}}]}, "gpus\n.*greater than or equal to 0"),
        (
            {"flavors": [{**FLAVOR, "guaranteed": {"gpus": 1}, "lendable": {"gpus": 2}}]},
            "lendable: gpus 2 are more than the 1 that models hold in pool gpu",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        spec(**more)


def test_the_component_applies_what_is_rendered_with_the_image_that_is_published():
    engine = Engine()
    pulumi.runtime.set_mocks(engine, preview=False)

    @pulumi.runtime.test
    def program() -> None:
        made = BatchQueues(spec(), pulumi.Output.from_input("new@sha256:2"))
        assert made.names == ("demo",)

    program()
    assert len(engine.made) == len(render(spec())) + 1
    deployment = engine.made["queues-deployment-kueue-controller-manager"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "new@sha256:2"


def test_the_controller_comes_before_what_its_webhooks_judge():
    assert render(spec()) == [*controller(spec()), *queues(spec())]
    assert controller(spec())[-1]["kind"] == "Deployment"
