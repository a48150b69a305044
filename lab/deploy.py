"""`sitewright lab up --deploy`: tools, lab, Pulumi, and a question to the model, as one list of stages."""

from lab.plan import LabPlan
from lab.stages import Stages


def deploy(plan: LabPlan, stages: Stages) -> str:
    raise NotImplementedError


def exports(plan: LabPlan) -> list[str]:
    raise NotImplementedError
