"""Both sites that ship with the repository, as `pulumi up` and a first `pulumi preview` see them."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml

from modules.machines.vm_image import IMPORT_ENDED
from tests.stacks.conftest import REPOSITORY, SHA512
from tests.stacks.engine import PLAYBOOK_RUN, plain, texts_in_clear

PROVIDER = "pulumi:providers:kubernetes"
OUTPUTS = {"virtual_machines", "clusters", "kubeconfigs", "nodes", "models", "gateway_keys", "curl"}
RKE2_OUTPUTS = {"agent_tokens"}  # only a site that has RKE2


@pytest.mark.parametrize("name", ["lab", "example-alps"])
def test_a_first_preview_needs_no_cluster_and_shows_the_same_resources(program, site_file, name, request):
    preview = program(site_file(name), preview=True)
    after = request.getfixturevalue("lab" if name == "lab" else "alps")
    assert preview.resources.keys() == after.resources.keys()
    # What procedures return is not known yet; what the site file says is.
    known = {"virtual_machines", "models", "gateway_keys", "curl"}
    assert preview.outputs.keys() - RKE2_OUTPUTS == known


def test_the_stack_gives_up_all_that_an_operator_needs(lab):
    assert lab.outputs.keys() == OUTPUTS
    assert lab.outputs["virtual_machines"] == {"svc-cp": "10.77.0.10"}
    assert lab.outputs["clusters"]["svc"]["endpoint"] == "https://10.77.0.10:6443"
    assert lab.outputs["clusters"]["svc"]["ca_certificate"] == "CA of svc"
    assert lab.outputs["clusters"]["svc"]["images"]["pause"].startswith("registry/pause@sha256:")
    assert lab.outputs["kubeconfigs"] == {"svc": "kubeconfig of svc"}
    assert lab.outputs["nodes"] == {"gpu": {"x1000c0s0b0n0": {"address": "10.77.0.64", "kubelet": "v1.37.2"}}}
    assert lab.outputs["models"] == {"tiny": "http://127.0.0.1:18000/v1"}
    assert lab.outputs["curl"]["tiny"].startswith("curl -s http://127.0.0.1:18000/v1/chat/completions ")


def test_a_site_without_published_ports_is_reached_at_its_own_addresses(alps):
    assert alps.outputs.keys() == OUTPUTS | RKE2_OUTPUTS
    assert alps.outputs["models"] == {
        "apertus-70b": "http://apertus-70b.default.svc:8000/v1",
        "apertus-400b": "http://apertus-400b.default.svc:8000/v1",
        "apertus-8b": "http://10.101.1.0:30800/v1",
        "apertus-8b-next": "http://apertus-8b-next.default.svc:8000/v1",
    }
    assert alps.outputs["clusters"]["svc"]["endpoint"] == "https://10.100.0.100:6443"
    assert alps.outputs["kubeconfigs"].keys() == {"svc", "tds"}


def test_a_kubeconfig_is_a_secret_wherever_it_goes(site_run):
    assert site_run.secret_outputs - RKE2_OUTPUTS == {"kubeconfigs", "gateway_keys"}
    for resource in site_run.resources.values():
        for text in texts_in_clear(resource.inputs):
            assert "kubeconfig of" not in text, resource.urn


def test_tokens_and_user_data_are_secrets(site_run):
    for resource in site_run.resources.values():
        for text in texts_in_clear(resource.inputs):
            assert "canary of" not in text, resource.urn
            # That of a VM; nodes get theirs from a server that tells it to anybody.
            assert resource.type.endswith(":CloudInitGroup") or "#cloud-config" not in text, resource.urn


def test_a_new_kubeconfig_does_not_replace_what_a_provider_manages(site_run):
    providers = site_run.of(PROVIDER)
    assert providers.keys() == {"hypervisor", *site_run.outputs["kubeconfigs"]}
    for name, inputs in providers.items():
        assert inputs["clusterIdentifier"] == name


def test_a_secret_or_a_config_map_that_changes_is_never_gone_for_a_moment(site_run):
    for inputs in site_run.of(PROVIDER).values():
        assert inputs["enableSecretMutable"] == inputs["enableConfigMapMutable"] == "true"


def test_every_object_goes_to_the_cluster_it_is_meant_for(lab, alps):
    def where(run, name: str) -> str:
        return run.named(name).provider.split("::")[-2]

    for run in (lab, alps):
        for resource in run.resources.values():
            if resource.type.startswith("kubernetes:"):
                assert f"{PROVIDER}::" in resource.provider, f"{resource.urn} would go to the current context"
    assert where(lab, "svc-cp") == where(lab, "debian-12") == "hypervisor"
    assert where(lab, "svc-platform-daemonset-kube-router") == where(lab, "tiny-deployment") == "svc"
    assert where(alps, "apertus-8b-deployment") == "svc"
    assert where(alps, "apertus-8b-next-deployment") == "tds"


def test_what_becomes_ready_later_is_waited_for(site_run):
    """Pulumi knows by itself when objects of Kubernetes are ready; it must be told for all others."""
    waits = {
        "VirtualMachine": "condition=Ready",
        "VirtualMachineImage": IMPORT_ENDED,
        "LoadBalancer": "jsonpath={.status.address}",
        "LeaderWorkerSet": "condition=Available",
        "ClusterQueue": "condition=Active",
        "LocalQueue": "condition=Active",
    }
    ready_at_once = {
        *("NetworkAttachmentDefinition", "IPPool", "NetworkPolicy", "PriorityClass"),
        *("ResourceFlavor", "WorkloadPriorityClass", "CustomResourceDefinition"),
        *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
    }
    custom = [
        resource
        for resource in site_run.resources.values()
        if re.match(r"kubernetes:(?!rbac\.authorization\.k8s\.io)[-a-z0-9]+\.", resource.type)
    ]
    kinds = {resource.type.rpartition(":")[2] for resource in custom}
    # The lab has one control plane and so no load balancer.
    assert {"VirtualMachine", "VirtualMachineImage"} <= kinds <= {*waits, *ready_at_once}
    for resource in custom:
        wanted = waits.get(resource.type.rpartition(":")[2])
        annotations = resource.inputs["metadata"].get("annotations", {})
        assert annotations.get("pulumi.com/waitFor") == wanted, resource.urn
        assert (wanted is None) == ("pulumi.com/timeoutSeconds" not in annotations)


def test_the_way_from_an_image_to_an_answer_is_one_chain(lab):
    """Made in this order, and deleted in the reverse one: a node is drained while its cluster lives."""
    chain = [
        "debian-12",
        "svc-cp",
        "bootstrap-svc",
        "gpu-nodes",
        "gpu-boot",
        "power-gpu",
        "join-gpu",
        "tiny-deployment",
    ]
    assert {"join-gpu", "cloud-init-defaults"} <= lab.waits_for("release-gpu")
    for earlier, later in itertools.pairwise(chain):
        assert earlier in lab.waits_for(later), f"{later} does not wait for {earlier}"
    before = lab.waits_for("tiny-deployment")
    assert {"model-tiny", "service-images", "svc-platform-daemonset-kube-router"} <= before
    assert "boot-image-compute" in lab.waits_for("gpu-boot")
    assert {"gpu-group", "gpu-cloud-init"} <= lab.waits_for("gpu-nodes")


def test_what_does_not_need_the_nodes_does_not_wait_for_them(lab):
    for name in ("boot-image-compute", "model-tiny", "service-images", "bootstrap-svc"):
        assert "join-gpu" not in lab.waits_for(name)
    for name in ("boot-image-compute", "model-tiny", "cluster-images"):
        assert "svc-cp" not in lab.waits_for(name), f"{name} could be made while the VM boots"


def test_a_test_system_does_not_wait_for_production(alps):
    for name in ("tds-cp1", "bootstrap-tds", "join-tds", "apertus-8b-next-deployment"):
        waits_for = alps.waits_for(name)
        assert not {"bootstrap-svc", "join-inference", "join-fine-tuning"} & waits_for
    assert "join-tds" in alps.waits_for("apertus-8b-next-deployment")


def test_a_site_of_thousands_of_nodes_is_a_graph_of_pools(program, site_file, alps):
    small = program(
        site_file(
            "example-alps",
            ("x[1000-1004]c[0-7]s[0-7]b[0-1]n0", "x1000c[0-7]s[0-7]b[0-1]n0"),
            ("x[1005-1020]c[0-7]s[0-7]b[0-1]n0", "x1005c0s0b0n0"),
        )
    )
    assert small.resources.keys() == alps.resources.keys()
    assert sum(len(pool["nodes"]) for pool in alps.declared("Nodes").values()) == 2688 + 40
    assert len(alps.resources) < 200


def test_a_model_tolerates_what_keeps_others_off_its_nodes(alps, lab):
    pods = {
        name: plain(inputs)["spec"]["template"]["spec"]
        for run in (alps, lab)
        for name, inputs in run.of("Deployment").items()
    }
    gpu = {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}
    assert pods["apertus-70b-deployment"]["tolerations"] == [gpu]
    assert pods["apertus-70b-deployment"]["nodeSelector"] == {
        "sitewright.dev/pool": "inference",
        "kubernetes.io/arch": "arm64",
    }
    assert "tolerations" not in pods["apertus-8b-next-deployment"]
    assert "tolerations" not in pods["tiny-deployment"]


def test_nodes_get_the_label_by_which_models_find_them(program, site_file, site_run):
    unlabelled = program(site_file("lab", ("labels: {sitewright.dev/pool: gpu}", "labels: {rack: r1}")))
    assert plain(unlabelled.playbooks()["join-gpu"]["variables"])["labels"]["rack"] == "r1"
    for run in (site_run, unlabelled):
        for name, inputs in run.playbooks().items():
            if inputs["playbook"] == "playbooks/join-nodes.yml":
                pool = name.removeprefix("join-")
                assert plain(inputs["variables"])["labels"]["sitewright.dev/pool"] == pool
                assert inputs["limit"] == f"pool_{pool},localhost"


def test_other_mirrors_are_told_the_provisioner_and_nobody_else(program, site_file):
    """No image is built again, and no node is switched or joined: they use the mirrors when they boot next."""
    file = site_file("lab")
    before = program(file)
    file.write_text(file.read_text().replace("  # mirrors: [", "  mirrors: ["))
    after = program(file)
    changed = {urn for urn, found in before.resources.items() if found != after.resources[urn]}
    assert {before.resources[urn].name for urn in changed} == {"gpu-boot"}
    [urn] = changed
    assert after.resources[urn].inputs["arguments"] == [
        *before.resources[urn].inputs["arguments"],
        "sitewright.mirrors=http://10.77.0.2/boot",
    ]


def test_the_kernel_arguments_of_a_node_are_those_of_its_image_its_site_and_its_pool(alps):
    assert alps.declared("BootConfiguration")["inference-boot"]["arguments"] == [
        "root=live:http://10.100.0.6/boot/1/root",
        "sitewright.mirrors=http://10.100.0.8/boot,http://10.100.0.9/boot",
        *("hugepagesz=1G", "default_hugepagesz=2M", "numa_balancing=disable"),
    ]


def test_the_containers_of_a_model_are_what_was_published(lab):
    [container] = plain(lab.of("Deployment")["tiny-deployment"])["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry/vllm-base@sha256:{'0' * 64}"
    assert container["command"][0] == "/shared/environments/e/bin/python"
    assert container["args"][:2] == ["--model", "/shared/models/tiny-llama"]


def test_a_model_is_asked_from_its_namespace_and_through_its_node_port_from_the_networks_of_the_site(
    lab, alps
):
    def clients(run, model: str) -> list[str]:
        [rule] = run.of("NetworkPolicy")[f"{model}-networkpolicy"]["spec"]["ingress"]
        assert rule["from"][0] == {"podSelector": {}}
        return [one["ipBlock"]["cidr"] for one in rule["from"][1:]]

    assert clients(lab, "tiny") == ["10.77.0.0/24"], (
        "with it 10.77.0.1, from where the lab publishes the model"
    )
    # The overlay of RKE2 brings requests from other nodes under addresses of the pod network.
    assert clients(alps, "apertus-8b") == ["10.100.0.0/24", "10.101.0.0/20", "172.16.0.0/12"]
    assert clients(alps, "apertus-70b") == []


def test_the_models_of_a_cluster_share_a_priority_that_is_there_before_them(lab, alps):
    assert lab.of("PriorityClass").keys() == {"svc-priorityclass"}
    assert alps.of("PriorityClass").keys() == {"svc-priorityclass", "tds-priorityclass"}
    assert "svc-priorityclass" in lab.waits_for("tiny-deployment")
    assert "tds-priorityclass" in alps.waits_for("apertus-8b-next-deployment")


def test_the_checksum_of_a_vm_image_is_the_one_in_the_file_the_site_names(lab):
    assert lab.of("VirtualMachineImage")["debian-12"]["spec"]["checksum"] == SHA512


def test_the_operators_machine_speaks_to_a_lab_through_its_published_ports(lab):
    released = plain(lab.playbooks()["release-gpu"]["variables"])
    assert released["smd"] == "http://127.0.0.1:27779"
    defaults = plain(lab.playbooks()["cloud-init-defaults"]["variables"])
    assert defaults["cloud_init"] == "http://127.0.0.1:27777"
    assert defaults["cloud_init_url"] == "http://10.77.0.1:27777"
    powered = plain(lab.playbooks()["power-gpu"]["variables"])
    assert [node["url"] for node in powered["nodes"]] == [
        "https://127.0.0.1:18443",
        "https://127.0.0.1:18444",
    ]
    assert powered["bmc_password_file"].endswith("bmc.password")


def test_a_cluster_that_brings_its_own_network_gets_no_platform(lab, alps):
    assert lab.of("DaemonSet").keys() == {
        "svc-platform-daemonset-kube-router",
        "svc-platform-daemonset-kube-proxy",
        "svc-node-identity-daemonset",
    }
    identities = {"svc-node-identity-daemonset", "tds-node-identity-daemonset"}
    assert alps.of("DaemonSet").keys() == identities


def test_only_images_that_something_runs_are_built(lab, alps):
    assert plain(alps.playbooks()["cluster-images"]["variables"])["images"] == [
        "pause",
        "node-identity",
    ]
    assert {"etcd", "kube-router", "pause"} <= set(
        plain(lab.playbooks()["cluster-images"]["variables"])["images"]
    )


def test_rke2_gets_its_own_files_and_two_tokens(alps):
    variables = plain(alps.playbooks()["bootstrap-svc"]["variables"])
    assert variables["rke2_token"] != variables["rke2_agent_token"]
    assert variables["rke2_artifacts"] == "http://10.100.0.5/rke2"
    assert variables["rke2_files"].keys() == {"first_server", "server", "registries"}
    assert "kubeadm_configuration" not in variables


def test_what_rke2s_nodes_join_with_is_a_secret_of_the_service_that_hands_it_out(alps):
    tokens = {
        name: plain(alps.playbooks()[f"bootstrap-{name}"]["variables"])["rke2_agent_token"]
        for name in ("svc", "tds")
    }
    found = {name: alps.of("Secret")[f"{name}-node-identity-secret-rke2"] for name in tokens}
    data = {name: plain(secret)["stringData"] for name, secret in found.items()}
    assert {name: one["agent-token"] for name, one in data.items()} == tokens
    assert data["svc"]["password-key"] != data["tds"]["password-key"]
    assert plain(alps.outputs["agent_tokens"]) == tokens
    assert "agent_tokens" in alps.secret_outputs


def test_what_rke2s_nodes_read_when_they_join_holds_no_secret(alps):
    joined = plain(alps.playbooks()["join-tds"]["variables"])
    told = json.loads(joined["settings"])
    assert told["rke2"]["version"] == "1.37.2+rke2r1"
    assert told["rke2"]["config"]["server"] == "https://10.100.0.101:9345"
    assert told["memory"]["tmpfs"].keys() == {"/var/lib/rancher", "/var/lib/kubelet"}
    assert "authentication" not in told["kubelet"], "RKE2 says that itself"
    secret = plain(alps.of("Secret")["tds-node-identity-secret-rke2"])["stringData"]
    told_at_boot = alps.declared("CloudInitGroup")["tds-cloud-init"]
    for public in (joined, told_at_boot):
        assert not any(text in json.dumps(public) for text in secret.values())


def test_the_image_of_rke2s_nodes_holds_the_release_of_their_cluster(alps):
    image = alps.playbooks()["boot-image-compute-rke2"]
    variables = plain(image["variables"])
    assert variables["rke2_version"] == "1.37.2+rke2r1"
    assert variables["rke2_artifacts"] == "http://10.100.0.5/rke2"
    assert "playbooks/roles/rke2_agent/**" in image["files"]


def test_every_run_names_playbooks_that_exist(site_run):
    for name, run in site_run.playbooks().items():
        for key in ("playbook", "verify", "undo"):
            if key in run:
                assert (REPOSITORY / run[key]).is_file(), f"{name}: {key}"


def test_a_refresh_looks_at_all_that_was_built_and_published(site_run):
    made = ("fill-registry", "prepare-models", "prepare-software", "build-boot-image")
    for name, run in site_run.playbooks().items():
        if Path(run["playbook"]).stem in made:
            assert Path(run["verify"]).stem.startswith("verify-"), name


def test_what_a_run_is_repeated_for_is_there(lab):
    for name, run in lab.playbooks().items():
        for pattern in run.get("files", ()):
            assert any(REPOSITORY.glob(pattern)), f"{name}: nothing matches {pattern}"


def test_a_boot_image_is_built_anew_when_one_of_its_layers_changes(lab):
    recipe = yaml.safe_load((REPOSITORY / "images/boot/compute/recipe.yaml").read_text())
    files = lab.playbooks()["boot-image-compute"]["files"]
    assert recipe["layers"]
    for layer in recipe["layers"]:
        assert f"playbooks/roles/{layer}/**" in files


def test_procedures_read_the_site_file_that_the_program_read(program, site_file):
    file = site_file("lab")
    run = program(file)
    assert {found["environment"] for found in run.of(PLAYBOOK_RUN).values()} == {str(file)}


def test_each_team_has_a_key_that_is_a_secret_wherever_it_goes(alps):
    assert alps.outputs["gateway_keys"].keys() == {"climate", "materials"}
    assert "gateway_keys" in alps.secret_outputs
    (active,) = [
        found
        for found in alps.of("Secret").values()
        if found["metadata"]["name"] == "llm-gateway-keys-active"
    ]
    assert list(texts_in_clear(active["data"])) == []


def test_the_store_of_limits_is_there_before_the_gateway_and_its_password_is_a_secret(lab):
    assert {"llm-gateway-store-deployment", "llm-gateway-store-secret"} <= lab.waits_for(
        "llm-gateway-deployment"
    )
    (secret,) = [
        found for found in lab.of("Secret").values() if found["metadata"]["name"] == "llm-gateway-store"
    ]
    assert secret["data"]
    assert list(texts_in_clear(secret["data"])) == []


def test_without_a_limit_there_is_no_store(alps):
    assert not [name for name in alps.of("Deployment") if "store" in name]


def test_an_alias_is_served_by_versions_with_weights(alps):
    (settings,) = [found for found in alps.of("ConfigMap").values() if "config.yaml" in found.get("data", {})]
    entries = yaml.safe_load(settings["data"]["config.yaml"])["model_list"]
    shares = {
        entry["litellm_params"]["model"].rpartition("/")[2]: entry["litellm_params"]["weight"]
        for entry in entries
        if entry["model_name"] == "alps-assistant"
    }
    assert shares == {"assistant--v1": 19, "assistant--v2": 1}
    assert {entry["model_name"] for entry in entries} == {
        *("alps-assistant", "apertus-8b", "apertus-70b", "apertus-400b")
    }


def test_the_gateway_asks_the_router_of_a_model_and_the_router_the_replicas(program, site_file):
    file = site_file("lab")
    site = yaml.safe_load(file.read_text())
    site["services"]["models"][0]["router"] = {"replicas": 1}
    file.write_text(yaml.safe_dump(site))
    run = program(file)
    (settings,) = [found for found in run.of("ConfigMap").values() if "config.yaml" in found.get("data", {})]
    entries = yaml.safe_load(settings["data"]["config.yaml"])["model_list"]
    [entry] = [one for one in entries if one["model_name"] == "tiny"]
    assert entry["litellm_params"]["api_base"] == "http://tiny-router.default.svc:8080/v1"
    router = run.of("Deployment")["tiny-router-deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert "app.kubernetes.io/name=tiny" in router["args"]
    policy = run.of("NetworkPolicy")["tiny-router-networkpolicy"]["spec"]["egress"][1]
    assert policy["to"] == [{"ipBlock": {"cidr": "10.77.0.10/32"}}]


def test_a_model_over_several_nodes_is_a_group_with_the_network_between_them(alps):
    [groups] = alps.of("LeaderWorkerSet").values()
    template = groups["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 4
    [worker] = template["workerTemplate"]["spec"]["containers"]
    assert worker["resources"]["limits"]["beta.hpe.com/cxi"] == "4"
    assert "--headless" in worker["args"]


def test_retrieval_stands_between_the_gateway_and_the_model(lab):
    assert {"software-retrieval", "tiny-deployment"} <= lab.waits_for("retrieval-deployment")
    assert "retrieval-deployment" in lab.waits_for("llm-gateway-deployment")
    (settings,) = [found for found in lab.of("ConfigMap").values() if "config.yaml" in found.get("data", {})]
    entries = yaml.safe_load(settings["data"]["config.yaml"])["model_list"]
    bases = {entry["model_name"]: entry["litellm_params"]["api_base"] for entry in entries}
    retrieval = "http://retrieval.default.svc:8000/v1"
    model = "http://tiny.default.svc:8000/v1"
    assert bases == {"tiny": model, "embeddings": retrieval, "tiny-with-manuals": retrieval}
    (own,) = [found for found in lab.of("ConfigMap").values() if "settings.json" in found.get("data", {})]
    [asked] = json.loads(own["data"]["settings.json"])["models"]
    assert (asked["name"], asked["api_base"], asked["collection"]) == ("tiny-with-manuals", model, "manuals")
