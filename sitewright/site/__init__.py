"""The site: `load("lab")` gives the validated `Site`, or one SiteFileError with every problem of the file."""

from sitewright.site.load import load
from sitewright.site.model import Cluster, Site
from sitewright.site.plan import Node, Vm
from sitewright.site.problems import Problem, SiteFileError
from sitewright.site.sections import Network, Pool, VirtualMachineGroup
from sitewright.site.service_sections import ServedModel

__all__ = [
    "Cluster",
    "Network",
    "Node",
    "Pool",
    "Problem",
    "ServedModel",
    "Site",
    "SiteFileError",
    "VirtualMachineGroup",
    "Vm",
    "load",
]
