"""The life of nodes as its runbooks say, while the site serves: another image, another owner, another blade, a new
cabinet."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.user import REPOSITORY, Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

LENT = "x1000c0s0b1n0"
RECIPE = REPOSITORY / "images/boot/compute/recipe.yaml"


@pytest.fixture
def other_recipe() -> Iterator[Path]:
    """One unit more is masked: another root, so another digest."""
    before = RECIPE.read_text()
    RECIPE.write_text(before.replace("mask:\n", "mask:\n  - apt-daily.service\n"))
    yield RECIPE
    RECIPE.write_text(before)


def boot_ids(shell: Shell) -> list[str]:
    ids = "jsonpath={.items[*].status.nodeInfo.bootID}"
    return shell.must(f"kubectl get nodes -l sitewright.dev/pool=gpu -o {ids}").split()


def test_a_pool_comes_to_a_new_image_and_back(outputs, shell: Shell, runbook, other_recipe) -> None:
    book = runbook("roll-an-image")
    first = boot_ids(shell)
    book.follow(1)
    assert boot_ids(shell) == first, "to declare an image disturbs no node"
    book.follow(2)
    rolled = book.follow(3)
    book.worked()
    second = boot_ids(shell)
    assert not set(first) & set(second)
    [image] = re.findall(r"(?m)^2 nodes run ([0-9a-f]{12})", rolled)
    book.follow(4)
    third = boot_ids(shell)
    assert not set(second) & set(third)
    annotation = r"jsonpath={.items[*].metadata.annotations.sitewright\.dev/boot-image}"
    running = shell.must(f"kubectl get nodes -l sitewright.dev/pool=gpu -o '{annotation}'").split()
    assert len(set(running)) == 1 and not running[0].startswith(f"sha256:{image}")


@pytest.fixture
def site_file_of_now() -> Iterator[None]:
    file = REPOSITORY / "environments/lab.yaml"
    before = file.read_text()
    yield
    file.write_text(before)


def test_a_node_is_lent_and_comes_back(outputs, shell: Shell, runbook, site_file_of_now) -> None:
    def pool() -> dict[str, str]:
        words = shell.must("kubectl get nodes -l sitewright.dev/pool=gpu --no-headers")
        return {line.split()[0]: line.split()[1] for line in words.splitlines()}

    book = runbook("reassign-nodes")
    book.follow(1, 2)
    assert pool() == {"x1000c0s0b0n0": "Ready", LENT: "Ready"}
    book.follow(3)
    shell.must(f"sitewright nodes power lab {LENT} status", f"{LENT} Off")
    book.follow(4, 5)
    assert pool() == {"x1000c0s0b0n0": "Ready"}
    book.follow(6, 7, 8)
    assert pool() == {"x1000c0s0b0n0": "Ready", LENT: "Ready"}


def bmc_process(xname: str) -> int | None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text().split("\0")
        except OSError:
            continue  # it ended meanwhile
        if "lab.bmc" in words and xname in words:
            return int(entry.parent.name)
    return None


def swap_blade(shell: Shell, bmc: str) -> None:
    """The lab's DHCP learns the address from the site file, and the stand-in of a BMC what is in its slots, when they
    start; the latter is started again by itself."""
    shell.must("sitewright lab up")
    before = bmc_process(bmc)
    assert before is not None
    os.kill(before, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while (
        bmc_process(bmc) in (before, None)
        or shell.run(f"sitewright nodes power lab {bmc}n0 status").returncode
    ):
        assert time.monotonic() < deadline, f"the BMC {bmc} did not start again"
        time.sleep(1)


def test_a_blade_is_replaced(outputs, shell: Shell, runbook, site_file_of_now) -> None:
    file = REPOSITORY / "environments/lab.yaml"
    before, address = file.read_text(), f"sitewright lab ssh {LENT} cat /sys/class/net/host0/address"
    old = shell.must(address).split()[-1]
    book = runbook("replace-a-blade")
    book.follow(1, 2, 3)
    swap_blade(shell, LENT[:-2])
    book.follow(4, 5, 6, 7)
    book.worked()
    shell.must(address, "02:00:00:00:00:17")
    book.follow(1, 2)
    file.write_text(before)
    swap_blade(shell, LENT[:-2])
    shell.must(f"sitewright nodes replace lab {LENT} --mac {old}", "changed: …")
    book.follow(6, 7)
    book.worked()
    shell.must(address, old)


def test_a_new_cabinet_boots_and_goes_again(outputs, shell: Shell, runbook, site_file_of_now) -> None:
    file = REPOSITORY / "environments/lab.yaml"
    before, first = file.read_text(), boot_ids(shell)
    book = runbook("first-boot-of-a-cabinet")
    book.follow(1, 2, 3, 4, 5, 6, 7, 8)
    book.worked()
    assert boot_ids(shell) == first, "the nodes that were there are in the boot they were in"
    file.write_text(before)
    shell.must("pulumi up -s lab --yes --skip-preview")
    assert "x1001" not in shell.must("kubectl get nodes")
    assert boot_ids(shell) == first
    shell.must("sitewright lab up")


def test_the_site_is_as_its_file_says_afterwards(outputs, shell: Shell) -> None:
    shell.must("pulumi up -s lab --refresh --yes --skip-preview")
    shell.must("sitewright nodes roll lab gpu --dry-run", "0 nodes, 1 at a time")
    shell.must("pulumi preview -s lab --expect-no-changes")
