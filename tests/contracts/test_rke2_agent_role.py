"""The role rke2_agent, run for real below a temporary root: what it puts into a boot image, and what it refuses.

As in test_rke2_role.py, only RKE2's installer and program are stand-ins. The image itself needs a mirror with a real
release to be built, which is not here.
"""

import subprocess
from pathlib import Path

import pytest

from tests.contracts.test_rke2_role import CHECKSUMS, SPEC, TARBALL, mirror, play

DROP_IN = "etc/systemd/system/rke2-agent.service.d/10-memory.conf"
REFUSED = {
    "half": (
        lambda release: (release / TARBALL).write_text("an arch"),
        f"{TARBALL} of RKE2 {SPEC.version} is not",
    ),
    "unlisted": (
        lambda release: (release / CHECKSUMS).write_text(""),
        "expected none, the list does not name it",
    ),
    "gone": (lambda release: (release / "install.sh").unlink(), "Could not find or access"),
}
BAD_INPUT = {
    "kubeadm": ({"rke2_agent_version": "1.37.2"}, "1.37.2 is no release of RKE2"),
    "nothing": ({"rke2_agent_version": None}, "missing required arguments: rke2_agent_version"),
    "no-mirror": ({"rke2_agent_artifacts": ""}, "No mirror of RKE2 is named"),
    "no-machine": ({"rke2_agent_architecture": "riscv"}, "value of rke2_agent_architecture must be one of"),
}


class Images:
    """A root per case; what the role said of it, run twice."""

    def __init__(self, tmp: Path):
        self.tmp = tmp
        good = mirror(tmp / "mirrors/good").parent
        hosts = {"good": {}, **{name: own for name, (own, _) in BAD_INPUT.items()}}
        for name, (spoil, _) in REFUSED.items():
            spoil(mirror(tmp / "mirrors" / name))
            hosts[name] = {"rke2_agent_artifacts": f"{tmp}/mirrors/{name}"}
        common = {"rke2_agent_version": SPEC.version, "rke2_agent_artifacts": str(good)}
        told = {name: {**common, "rke2_agent_root": str(tmp / name), **own} for name, own in hosts.items()}
        for name in hosts:
            (tmp / name / "etc/systemd/system").mkdir(parents=True)
        tasks = [{"ansible.builtin.include_role": {"name": "rke2_agent"}}]
        self.first, self.second = (play(tmp, [{"tasks": tasks}], told) for _ in range(2))

    def files(self, name: str) -> set[str]:
        root = self.tmp / name
        return {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}

    def said(self, name: str) -> str:
        return "\n".join(line for line in self.first.stdout.splitlines() if f"[{name}]" in line)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Images(tmp_path_factory.mktemp("images"))


def test_an_image_has_the_programs_and_nothing_of_a_node(images):
    assert images.files("good") == {"usr/local/bin/rke2", "usr/local/bin/installed-from", DROP_IN}
    assert (images.tmp / "good/usr/local/bin/installed-from").read_text().split()[0] == "agent"


def test_the_agent_starts_with_memory_for_its_images_and_a_configuration_only(images):
    text = (images.tmp / "good" / DROP_IN).read_text()
    assert "RequiresMountsFor=/var/lib/rancher /var/lib/kubelet" in text
    assert "ConditionPathExists=/etc/rancher/rke2/config.yaml" in text


def test_systemd_understands_what_is_added_to_the_agent(images, tmp_path):
    unit = "[Service]\nExecStart=/bin/true\n"
    (tmp_path / "rke2-agent.service").write_text(unit + (images.tmp / "good" / DROP_IN).read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "rke2-agent.service"], capture_output=True, text=True
    )
    assert "Unknown" not in done.stderr and done.returncode == 0, done.stderr


def test_a_second_run_changes_nothing(images):
    assert "good" in images.second.stdout
    assert "changed: [good]" in images.first.stdout
    assert "changed: [good]" not in images.second.stdout


@pytest.mark.parametrize("case", REFUSED)
def test_an_artifact_that_is_not_the_released_one_is_in_no_image(images, case):
    assert REFUSED[case][1] in images.said(case)
    assert images.files(case) & {"usr/local/bin/rke2", DROP_IN} == set()


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_before_anything_is_done(images, case):
    assert BAD_INPUT[case][1] in images.said(case)
    assert images.files(case) == set()
