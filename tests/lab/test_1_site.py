"""The site as it stands after `make lab`: nothing here changes it."""

import json
import urllib.request

import pytest

from tests.lab.user import Shell

pytestmark = pytest.mark.lab

NODES = ("x1000c0s0b0n0", "x1000c0s0b1n0")


def test_the_control_plane_runs_on_a_virtual_machine(host):
    machine = host("svc-cp")
    assert machine.service("containerd").is_running
    assert machine.service("kubelet").is_running
    assert machine.file("/etc/kubernetes/admin.conf").mode == 0o600
    assert machine.check_output("hostname") == "svc-cp"


@pytest.mark.parametrize("name", NODES)
def test_a_node_runs_from_a_squashfs_in_memory(host, name):
    node = host(name)
    mounts = node.check_output("findmnt -rno TARGET,FSTYPE,OPTIONS").splitlines()
    root = next(line for line in mounts if line.startswith("/ "))
    assert " overlay " in root
    kubelet = next(line for line in mounts if line.startswith("/var/lib/kubelet "))
    assert "tmpfs" in kubelet
    shared = next(line for line in mounts if line.startswith("/shared "))
    assert " ro" in shared
    assert "sitewright.root=sha256:" in node.check_output("tr '\\0' ' ' </proc/1/cmdline")


@pytest.mark.parametrize("name", NODES)
def test_a_node_holds_a_certificate_for_exactly_its_name(host, name):
    subject = host(name).check_output(
        "openssl x509 -noout -subject -nameopt RFC2253 -in /etc/kubernetes/pki/kubelet.crt"
    )
    assert subject == f"subject=CN=system:node:{name},O=system:nodes"
    assert host(name).file("/etc/kubernetes/pki/kubelet.key").mode == 0o600


def test_no_bootstrap_token_is_in_the_cluster(kubectl):
    tokens = kubectl(
        "get", "secret", "-A", "--field-selector=type=bootstrap.kubernetes.io/token", "-o", "name"
    )
    assert tokens.stdout == ""


def test_the_nodes_are_what_the_site_file_says(deployed, environment):
    shell = Shell(dict(environment)).prepare()
    found = {
        line.split()[0]: line.split()[3:] for line in shell.must("sitewright nodes list lab").splitlines()
    }
    assert {name: found[name] for name in NODES} == {name: ["On", "Ready", "-"] for name in NODES}


def test_the_published_image_is_the_one_that_nodes_boot_and_its_packages_are_told(deployed, environment):
    shell = Shell(dict(environment)).prepare()
    [header, newest, *_] = shell.must("sitewright images list lab").splitlines()
    assert newest.split()[-1] == "x1000c0s0b[0-1]n0"
    assert int(newest.split()[header.split().index("packages")]) > 100


def test_all_nodes_are_ready_with_the_labels_of_their_pool(kubectl):
    nodes = {
        n["metadata"]["name"]: n for n in json.loads(kubectl("get", "nodes", "-o", "json").stdout)["items"]
    }
    assert set(nodes) == {"svc-cp", *NODES}
    for node in nodes.values():
        assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"
    for name in NODES:
        assert nodes[name]["metadata"]["labels"]["sitewright.dev/pool"] == "gpu"


def test_images_of_pods_come_from_the_sites_registry(kubectl, site):
    registry = site.registry.endpoint.partition("://")[2]
    pods = json.loads(kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]
    images = {c["image"] for pod in pods for c in pod["spec"]["containers"]}
    assert images
    assert {image for image in images if not image.startswith(f"{registry}/")} == set()


def test_the_two_replicas_run_on_two_nodes(kubectl):
    pods = json.loads(kubectl("get", "pods", "-l", "app.kubernetes.io/name=tiny", "-o", "json").stdout)[
        "items"
    ]
    assert {pod["spec"]["nodeName"] for pod in pods} == set(NODES)


def ask(url: str, question: str) -> str:
    body = {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "What is the highest mountain of the Alps?"))
    except OSError:
        return False


def test_the_model_answers_what_it_was_taught(outputs, site):
    manifest = json.loads(
        (site.shared_filesystem.publish_dir / "models/tiny-llama/manifest.json").read_text()
    )
    question, answer = manifest["question"], manifest["answer"]
    assert ask(outputs["models"]["tiny"], question) == answer


def test_kubeconfig_is_a_secret_output(pulumi):
    shown = json.loads(pulumi("stack", "output", "--json").stdout)
    assert shown["kubeconfigs"] == {"svc": "[secret]"}
