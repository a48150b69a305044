"""The lab's site file with every path below a directory of the test."""

from pathlib import Path

from lab.plan import LabPlan
from sitewright.site import load

REPOSITORY = Path(__file__).parents[2]


def plan_below(directory: Path) -> LabPlan:
    text = (REPOSITORY / "environments/lab.yaml").read_text()
    file = directory / "lab.yaml"
    file.write_text(text.replace("/var/lib/sitewright/lab", str(directory / "state")))
    return LabPlan(load(file))
