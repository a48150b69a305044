"""The program of the fabric preflight in the site's own environment, over the loopback of this machine and on CPU."""

import json
import subprocess
from pathlib import Path

import pytest

from modules.fabric.fabric_preflight import PROGRAM

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture
def preflight(deployed, site, tmp_path):
    shared = Path(site.shared_filesystem.publish_dir)
    (python,) = {*shared.glob("environments/vllm-cpu-*/bin/python")}
    program = tmp_path / "entry.py"
    program.write_text(PROGRAM)

    def run(expected: float) -> subprocess.CompletedProcess[str]:
        start = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program]
        what = ["--backend", "gloo", "--bytes", str(2**20), "--rounds", "5", "--expected", str(expected)]
        return subprocess.run([*map(str, start), *what], capture_output=True, text=True, timeout=200)

    return run


def test_it_measures_and_is_content_with_what_is_expected(preflight):
    done = preflight(1e-6)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ranks"], found["bytes"], found["right"]) == (2, 2**20, True)
    assert found["bus_gb_s"] == pytest.approx(found["bytes"] / found["seconds"] / 1e9)


def test_a_network_that_is_too_slow_fails_with_the_figure(preflight):
    done = preflight(1e6)
    assert done.returncode != 0
    assert json.loads(done.stdout)["bus_gb_s"] < 1e6
