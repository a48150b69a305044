"""`sitewright nodes` over fakes of BMCs, provisioner and cluster: what is told, and what is left alone."""

import json

import pytest
from click.testing import CliRunner

from lab.bmc.report import Report
from sitewright.cli import main
from sitewright.errors import SitewrightError
from sitewright.provisioning import node_states
from sitewright.provisioning.node_states import Joined
from sitewright.provisioning.openchami import Known
from sitewright.provisioning.redfish import Outcome

FIRST, SECOND = "x1000c0s0b0n0", "x1000c0s0b1n0"
KERNEL = "http://10.77.0.1:8080/vmlinuz"


def joined(state: str = "Ready") -> Joined:
    return Joined(state, "v1.37.2", "6.1.0", "Debian", {}, ())


class Site:
    """What BMCs, provisioner and cluster answer; an error is raised. asked: power actions, with their nodes."""

    def __init__(self) -> None:
        self.power = {FIRST: "On", SECOND: "On"}
        self.known = {name: Known("Ready", "gpu", KERNEL) for name in (FIRST, SECOND)}
        self.joined = {name: joined() for name in (FIRST, SECOND)}
        self.asked: list[tuple[str, list[str], bool]] = []

    def power_nodes(self, _, nodes, action, limit=16, wait=60.0, check=False):
        names = [node.xname for node in nodes]
        self.asked.append((action, names, check))
        return [self._outcome(name, action) for name in names]

    def _outcome(self, name: str, action: str) -> Outcome:
        state = self.power[name]
        if isinstance(state, Exception):
            return Outcome(name, action, error=state)
        return Outcome(name, action, state, state, sent="" if action == "status" else "ForceOff")


def answer(value):
    if isinstance(value, Exception):
        raise value
    return value


@pytest.fixture
def site(monkeypatch, tmp_path) -> Site:
    made = Site()
    monkeypatch.setattr(node_states, "power_nodes", made.power_nodes)
    monkeypatch.setattr("sitewright.cli.nodes.power_nodes", made.power_nodes)
    monkeypatch.setattr(
        node_states, "provisioner", lambda _: type("P", (), {"known": lambda _: answer(made.known)})()
    )
    monkeypatch.setattr(node_states, "cluster_nodes", lambda: answer(made.joined))
    return made


def types(*words: str, status: int = 0, **more) -> str:
    """What is printed, both streams."""
    done = CliRunner().invoke(main, ["nodes", *words], **more)
    assert done.exit_code == status, done.output
    return done.output


def document(*words: str):
    return json.loads(CliRunner().invoke(main, ["nodes", *words]).stdout)


def row(output: str, name: str) -> list[str]:
    return next(line.split() for line in output.splitlines() if line.startswith(name))


def test_a_site_that_is_as_it_should_be(site):
    assert row(types("list", "lab"), FIRST) == [FIRST, "1", "gpu", "On", "Ready", "-"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda site: site.known.pop(FIRST), "not declared"),
        (lambda site: site.known.update({FIRST: Known("Ready", "gpu", "")}), "not declared"),
        (lambda site: site.known.update({FIRST: Known("Ready", "cpu", KERNEL)}), "in pool cpu"),
        (lambda site: site.known.update({FIRST: Known("Ready", "", KERNEL)}), "in pool none"),
        (lambda site: site.joined.pop(FIRST), "not in the cluster"),
        (lambda site: site.joined.update({FIRST: joined("NotReady")}), "NotReady"),
        (
            lambda site: site.joined.update({FIRST: joined("Ready,SchedulingDisabled")}),
            "Ready,SchedulingDisabled",
        ),
    ],
)
def test_what_differs_from_the_site_file_is_named(site, change, says):
    change(site)
    first, second = document("list", "lab", "--json")
    assert (first["differs"], second["differs"]) == (says, "")


def test_a_bmc_that_does_not_answer_is_told_and_the_rest_is_shown(site):
    site.power[FIRST] = SitewrightError(f"{FIRST}: no answer within 10 s")
    output = types("list", "lab", status=1)
    assert row(output, FIRST)[3] == "unknown"
    assert row(output, SECOND)[3] == "On"
    assert output.count("no answer within 10 s") == 1


def test_without_a_cluster_power_and_provisioner_are_shown_and_it_is_told_once(site):
    site.joined = SitewrightError("kubeconfig: there is none")
    output = types("list", "lab", status=1)
    assert row(output, SECOND)[3:5] == ["On", "-"]
    assert output.count("there is none") == 1


@pytest.mark.parametrize("words", [("list", "lab", "x9c0s0b0n0"), ("show", "lab", "x9c0s0b0n0")])
def test_a_node_that_the_site_has_not_is_refused_before_anything_is_asked(site, words):
    assert "no node 'x9c0s0b0n0' in site lab" in types(*words, status=1)
    assert site.asked == []


def test_only_what_was_named_is_asked(site):
    types("power", "lab", SECOND, "status")
    assert site.asked == [("status", [SECOND], False)]


@pytest.mark.parametrize("action", ["off", "shutdown", "restart", "force-restart", "cycle"])
def test_what_ends_the_work_of_nodes_is_asked_about_first(site, action):
    types("power", "lab", "x1000c0s0b[0-1]n0", action, status=1, input="n\n")
    assert site.asked == []
    types("power", "lab", "x1000c0s0b[0-1]n0", action, "--yes")
    assert site.asked == [(action, [FIRST, SECOND], False)]


def test_a_dry_run_changes_nothing(site):
    assert "would be sent" in types("power", "lab", FIRST, "off", "--dry-run")
    assert site.asked == [("off", [FIRST], True)]


def test_nodes_that_failed_are_named_with_the_command_for_them(site):
    site.power[SECOND] = SitewrightError("wrong user or password")
    output = types("power", "lab", "x1000c0s0b[0-1]n0", "off", "--yes", status=1)
    assert f"{SECOND}: wrong user or password" in output
    assert f"1 of 2 nodes failed: {SECOND}" in output
    assert f"sitewright nodes power lab '{SECOND}' off" in output


def test_all_that_is_known_of_a_node_is_one_document(site):
    shown = document("show", "lab", FIRST)
    assert shown["node"]["mac"]
    assert shown["known"]["kernel"] == KERNEL
    assert shown["joined"]["kubelet"] == "v1.37.2"


def test_the_last_boot_of_a_node_of_the_lab_is_in_it(site, tmp_path, monkeypatch):
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path))
    assert document("show", "lab", FIRST)["boot"] is None
    told = Report(FIRST)
    told.stage("power-on", power="On", driver="qemu")
    told.stage("script", "http://10.77.0.1:27778/…", "Connection timed out", hint="look at BSS")
    boot = document("show", "lab", FIRST)["boot"]
    assert (boot["driver"], boot["stage"], boot["reached"]) == ("qemu", "script", "script")
    assert (boot["error"], boot["hint"]) == ("Connection timed out", "look at BSS")
    assert "bmc] script: " in boot["last_lines"][-1]
    assert boot["console"] == f"{tmp_path}/machines/{FIRST}/console.log"


def test_a_real_site_has_no_record_of_boots(site):
    assert document("show", "example-alps", FIRST)["boot"] is None


def test_a_token_that_cannot_be_read_is_told_by_its_path(tmp_path):
    urls = dict.fromkeys(("smd", "bss", "cloud_init"), "http://10.0.0.1")
    given = type("Provisioner", (), {**urls, "token_file": tmp_path / "jwt"})
    somewhere = type("Site", (), {"name": "lab", "provisioner": given})
    with pytest.raises(
        SitewrightError, match=r"cannot read the provisioner's token from .*/jwt: No such file"
    ):
        node_states.provisioner(somewhere)
