"""What the lab's services are told."""

import configparser
import json
import re
from pathlib import Path

import pytest
from lab_site import plan_below

from lab import configuration, services
from lab.plan import LabPlan
from sitewright.errors import SitewrightError
from sitewright.site import load


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(services, "bin_dir", lambda: Path("/tools"))
    return plan_below(tmp_path)


@pytest.fixture
def programs(plan):
    text = services.supervisord_conf(services.services(plan))
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser


def test_haproxy_listens_on_loopback_only_and_connects_inside_the_lab(plan):
    text = configuration.haproxy(plan)
    binds = re.findall(r"^  bind (\S+)$", text, re.M)
    assert len(binds) == len(plan.site.lab.publish)
    assert all(address.startswith("127.0.0.1:") for address in binds)
    assert all(
        "namespace sitewright-lab" in line for line in text.splitlines() if line.startswith("  server ")
    )


def test_only_targets_that_share_a_port_are_checked(plan):
    servers = [line for line in configuration.haproxy(plan).splitlines() if line.startswith("  server ")]
    assert [line.split()[2] for line in servers if " check " in line] == [
        "10.77.0.64:30800",
        "10.77.0.65:30800",
        "10.77.0.64:30400",
        "10.77.0.65:30400",
        "10.77.0.64:30900",
        "10.77.0.65:30900",
    ]


def test_dhcp_gives_each_node_the_address_of_the_plan_and_nobody_else_one(plan):
    lines = configuration.dnsmasq(plan).splitlines()
    node = plan.site.nodes[0]
    assert f"dhcp-host={node.mac},{node.address},{node.xname},infinite" in lines
    assert len([line for line in lines if line.startswith("dhcp-host=")]) == len(plan.site.nodes)
    assert "dhcp-range=set:nodes,10.77.0.0,static,255.255.255.0,infinite" in lines
    assert "port=0" in lines, "it would answer DNS"
    assert "interface=br-nodes" in lines


def test_the_image_server_serves_both_kinds_of_images(plan, tmp_path):
    text = configuration.nginx(plan)
    assert "listen 10.77.0.1:8080;" in text
    assert f"root {tmp_path}/state/www;" in text
    assert f"location /boot/ {{ alias {tmp_path}/state/www/boot/; }}" in text
    image = plan.vm_images[0]
    assert configuration.vm_image_file(plan, str(image.url)) == tmp_path / "state/www/vm/debian-12.squashfs"


def test_the_registry_listens_where_the_site_file_says(plan):
    assert json.loads(configuration.registry(plan))["http"]["addr"] == "10.77.0.1:5000"


def test_every_service_but_haproxy_runs_inside_the_lab(programs):
    outside = {
        name
        for name in programs.sections()
        if name.startswith("program:")
        and "nsenter --net=/run/netns/sitewright-lab " not in programs[name]["command"]
    }
    assert outside == {"program:publish"}


def test_there_is_one_bmc_per_node_card(programs):
    assert {"program:bmc-x1000c0s0b0", "program:bmc-x1000c0s0b1"} <= set(programs.sections())


def test_no_secret_is_in_a_command_line_or_an_environment(plan, tmp_path):
    canary = "cAnArY-5f1d"
    password = Path(plan.site.bmc.password_file)
    password.parent.mkdir(parents=True, exist_ok=True)
    password.write_text(canary)
    assert canary not in services.supervisord_conf(services.services(plan))


def test_the_supervisor_is_reached_by_root_only(programs):
    assert programs["unix_http_server"]["chmod"] == "0600"
    assert "inet_http_server" not in programs.sections()


def test_a_service_is_started_again_when_a_file_it_reads_changes(plan, tmp_path):
    file = tmp_path / "some.conf"
    service = services.Service("one", ["true"], reads=[file])
    absent = services.supervisord_conf([service])
    file.write_text("a")
    first = services.supervisord_conf([service])
    file.write_text("b")
    assert len({absent, first, services.supervisord_conf([service])}) == 3
    file.write_text("a")
    assert services.supervisord_conf([service]) == first


def test_a_percent_sign_survives_supervisord(plan):
    text = services.supervisord_conf([services.Service("one", ["date", "+%s"], environment={"A": '5 % "x"'})])
    assert "date +%%s" in text.replace("'", "")
    assert r"A=\"5 %% \\\"x\\\"\"" not in text
    assert 'A="5 %% \\"x\\""' in text


def test_a_comment_in_the_site_file_restarts_nothing(plan, tmp_path):
    before = services.supervisord_conf(services.services(plan))
    file = Path(plan.environment)
    file.write_text(file.read_text() + "# a word more\n")
    assert services.supervisord_conf(services.services(LabPlan(load(file)))) == before


def test_the_bridge_has_the_gateway_and_the_addresses_of_the_bmcs(plan):
    assert plan.addresses(plan.site.networks[0]) == ["10.77.0.1/24", "10.77.0.160/24", "10.77.0.161/24"]


def test_a_real_site_is_refused():
    with pytest.raises(
        SitewrightError, match="example-alps is a real site: its site file has no `lab` section"
    ):
        LabPlan(load("example-alps"))
