"""The site is broken as runbooks say it can break; the user sees what they say, and their commands mend it.

Runbooks for what is no damage are followed in test_2_changes.py and test_4_rebuild.py, lab-does-not-start in
test_lab_up_down.py.
"""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from sitewright.provisioning.openchami_access import provisioner
from sitewright.site import Site
from tests.lab.conftest import eventually, supervisor
from tests.lab.test_1_site import answers
from tests.lab.user import REPOSITORY, Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

NODE = "x1000c0s0b0n0"  # the node of the runbooks
UPDATE = "pulumi up -s lab --refresh --yes --skip-preview"


@pytest.fixture
def whole(outputs, site: Site, shell: Shell):
    """Call it at the end of a test: nothing is left to do, every machine is Ready, the model answers."""

    def check() -> None:
        shell.must("pulumi preview -s lab --expect-no-changes")
        machines = len(site.vms) + len(site.nodes)
        ready = f"kubectl get nodes | tee /dev/stderr | test $(grep -cw Ready) -eq {machines}"
        assert eventually(lambda: shell.run(ready).returncode == 0, 120), shell.run(ready).stdout
        assert eventually(lambda: answers(outputs["models"]["tiny"]), 300), "the model does not answer"

    return check


def test_an_image_server_that_is_down(site: Site, shell: Shell, runbook, whole):
    book = runbook("node-does-not-boot")
    forget_boot_images(site)
    supervisor(site, "stop", "image-server")
    shell.must(f"sitewright nodes power lab {NODE} off --yes")
    failed = shell.run(UPDATE)
    assert failed.returncode != 0
    book.quotes("join-gpu", failed.stdout)
    book.quotes("Wait until the machine answers", failed.stdout)
    shell.must(f"sitewright nodes power lab {NODE} status", "On")
    book.quotes("Connection refused", book.look(1))
    seen = book.look(2)
    book.quotes("The lab is partly.", seen)
    assert re.search(r"image-server +stopped", seen)
    book.follow(3)
    book.wait_for(2, "The lab is up.", 30)
    book.wait_for(4, "up", 120)
    book.follow(1, 4, 6)
    book.worked()
    whole()


def test_the_data_of_a_provisioner_come_from_the_site_file(site: Site, shell: Shell, runbook, whole):
    book = runbook("provisioner-lost-its-data")
    before = shell.must("kubectl get nodes -o jsonpath={.items[*].status.nodeInfo.bootID}")
    lost = provisioner(site, check=False)
    lost.forget_boot("gpu", [node.xname for node in site.nodes])
    lost.forget_nodes("gpu", [asdict(node) for node in site.nodes])
    lost.forget_configuration("gpu")
    lost.forget_group("gpu")
    book.follow(1, 2)
    book.worked()
    assert shell.must("kubectl get nodes -o jsonpath={.items[*].status.nodeInfo.bootID}") == before
    assert [one.pool for one in provisioner(site).known().values()] == ["gpu"] * len(site.nodes)
    whole()


def test_a_bmc_with_another_password(site: Site, shell: Shell, runbook, whole):
    book = runbook("bmc-out-of-control")
    assert site.bmc is not None
    password = Path(site.bmc.password_file)
    right = REPOSITORY / "bmc-password.right"
    right.write_text(password.read_text())
    try:
        password.write_text("wrong\n")
        failed = shell.run(f"sitewright nodes power lab {NODE} status")
        assert failed.returncode != 0
        book.quotes("401", failed.stdout)
        book.follow(2, 3)
        book.worked()
    finally:
        password.write_text(right.read_text())
        right.unlink()
    whole()


def test_an_image_that_is_not_what_was_published(site: Site, shell: Shell, runbook, whole):
    book = runbook("node-does-not-boot")
    corrupt_boot_images(site)
    boot_again(shell)
    refused = "has sha256 …, but sitewright.root says …; refused"
    book.quotes(refused, book.wait_for(1, refused, 60))
    book.quotes("drift:", book.follow(6))
    book.worked()
    whole()


def test_a_provisioner_that_lost_its_data(site: Site, shell: Shell, runbook, whole):
    book = runbook("node-does-not-boot")
    supervisor(site, "stop", "provisioner")
    for file in state(site).glob("provisioner.db*"):
        file.unlink()
    supervisor(site, "start", "provisioner")
    boot_again(shell)
    nothing = "the provisioner has nothing for this node yet"
    book.quotes(nothing, book.wait_for(1, nothing, 60))
    book.quotes("drift:", book.follow(6))
    book.worked()
    whole()


def test_a_node_that_does_not_answer(shell: Shell, runbook, whole):
    book = runbook("node-does-not-boot")
    book.follow(1, 4)
    on_node(shell, "systemctl stop ssh.socket ssh.service")
    assert "refused" in book.look(4)
    book.follow(5)
    book.wait_for(4, "up", 180)
    book.follow(1, 6)
    book.worked()
    whole()


def test_a_bmc_that_refuses_the_password(site: Site, shell: Shell, runbook, whole):
    book = runbook("node-lost-power")
    shell.must(f"sitewright nodes power lab {site.nodes[1].xname} off --yes")
    password = Path(site.bmc.password_file)
    password.write_text(f"{password.read_text().strip()}, mistyped\n")
    refused = "user 'admin' was refused (HTTP 401): wrong user or password"
    book.quotes(refused, book.look(1))
    failed = book.look(2)
    book.quotes("power-gpu", failed)
    book.quotes(refused, failed)
    book.follow(3, 4, 5)
    book.worked()
    whole()


def test_a_bmc_that_does_not_answer(site: Site, shell: Shell, runbook, whole):
    book = runbook("node-lost-power")
    shell.must(f"sitewright nodes power lab {site.nodes[1].xname} off --yes")
    supervisor(site, "stop", f"bmc-{site.nodes[1].bmc}")
    book.quotes("cannot be reached", book.look(1))
    book.follow(4, 1, 2)
    book.worked()
    whole()


def test_a_certificate_of_another_cluster(shell: Shell, runbook, whole):
    book = runbook("node-does-not-join")
    on_node(
        shell,
        "systemctl stop kubelet && cd /etc/kubernetes/pki &&"
        f" openssl req -x509 -key kubelet.key -subj /O=system:nodes/CN=system:node:{NODE} -out kubelet.crt &&"
        " rm -rf /var/lib/kubelet/pki",
    )
    seen = f"kubectl get node {NODE}"
    assert eventually(lambda: "NotReady" in shell.must(seen), 120)
    # All of the site would be waited for: ten minutes for the daemons that have to run on every node.
    failed = shell.run(f"{UPDATE} --target '**::join-gpu'")
    assert failed.returncode != 0
    book.quotes("join-gpu", failed.stdout)
    book.follow(1, 2)
    shown = book.look(2)
    book.quotes("Wait until the node has its identity, and its kubelet what is wanted now", shown)
    book.quotes("its kubelet does not register it", shown)
    book.follow(3)
    book.quotes("Unauthorized", book.look(4))
    book.follow(5, 6)
    book.worked()
    whole()


def test_a_certificate_that_is_gone(shell: Shell, runbook, whole):
    book = runbook("node-does-not-join")
    on_node(shell, "rm /etc/kubernetes/pki/kubelet.crt && systemctl restart kubelet || true")
    gone = "kubelet.crt: no such file or directory"
    book.quotes(gone, book.wait_for(4, gone, 60))
    book.follow(5, 6)
    book.worked()
    whole()


def test_a_kubelet_that_was_stopped(shell: Shell, runbook, whole):
    book = runbook("node-does-not-join")
    on_node(shell, "systemctl stop kubelet")
    book.quotes("Stopped kubelet.service", book.look(4))
    book.follow(6)
    book.worked()
    whole()


def test_a_node_that_was_deleted(shell: Shell, runbook, whole):
    book = runbook("node-does-not-join")
    shell.must(f"kubectl delete node {NODE}")
    assert NODE not in shell.must("kubectl get nodes")
    book.follow(5, 6)
    book.worked()
    whole()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("export PULUMI_CONFIG_PASSPHRASE=mistyped", "incorrect passphrase"),
        (
            "unset PULUMI_CONFIG_PASSPHRASE_FILE",
            "passphrase must be set with PULUMI_CONFIG_PASSPHRASE …",
        ),
        (
            "export PULUMI_CONFIG_PASSPHRASE_FILE=/nowhere",
            "unable to read PULUMI_CONFIG_PASSPHRASE_FILE",
        ),
    ],
)
def test_a_shell_with_another_passphrase_or_none(shell: Shell, runbook, broken, said):
    book = runbook("wrong-passphrase")
    shell.must(broken)
    seen = shell.run("pulumi preview -s lab")
    assert seen.returncode != 0
    book.quotes(said, seen.stdout)
    book.follow(1, 2)
    book.worked()


def test_the_salt_of_another_lab(shell: Shell, runbook, whole):
    book = runbook("wrong-passphrase")
    config = REPOSITORY / "Pulumi.lab.yaml"
    salted = re.sub(r"(?m)^(encryptionsalt: v1:)[^:]+", r"\1b3RoZXJzYWx0", config.read_text())
    assert salted != config.read_text()
    config.write_text(salted)
    seen = shell.run("pulumi preview -s lab")
    assert seen.returncode != 0
    book.quotes("incorrect passphrase", seen.stdout)
    book.follow(1)
    book.quotes("incorrect passphrase", book.look(2))
    book.follow(3, 4)
    book.worked()
    (REPOSITORY / ".sitewright/Pulumi.lab.yaml.old").unlink()
    whole()


# Last, because the second one makes a new cluster.
def test_it_shut_itself_down(shell: Shell, runbook, whole):
    book = runbook("control-plane-vm-gone")
    book.follow(1)
    shell.run("sitewright lab ssh svc-cp systemctl poweroff")
    book.wait_for(1, "Stopped", 90)
    book.follow(2)
    book.worked()
    whole()


def test_it_was_deleted_with_its_disk(site: Site, shell: Shell, runbook, whole):
    book = runbook("control-plane-vm-gone")
    shell.must(f"kubectl --kubeconfig {site.hypervisor.kubeconfig} delete vm svc-cp -n lab")
    book.quotes("NotFound", book.look(1))
    book.follow(3, 4, 5, 6)
    book.worked()
    whole()


def state(site: Site) -> Path:
    return Path(site.lab.state_dir)


def corrupt_boot_images(site: Site) -> None:
    """What the image server holds, and not the copies that BMCs keep: those are checked and good."""
    forget_boot_images(site)
    for image in Path(site.image_server.publish_dir).glob("*/rootfs.squashfs"):
        content = image.read_bytes()
        image.unlink()  # a hard link of the file in the cache
        image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def forget_boot_images(site: Site) -> None:
    for image in (state(site) / "bmc/images").glob("*.squashfs"):
        image.unlink()


def boot_again(shell: Shell) -> None:
    shell.must(f"sitewright nodes power lab {NODE} off --yes")
    shell.must(f"sitewright nodes power lab {NODE} on")


def on_node(shell: Shell, command: str) -> None:
    shell.must(f"sitewright lab ssh {NODE} '{command}'")
