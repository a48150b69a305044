"""What every module's Spec is made of: a strict base class, names, quantities."""

from pydantic import BaseModel, ConfigDict

# RFC 1123 label: what Kubernetes accepts as the name of a Service, a host or a namespace.
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
# RFC 1123 subdomain, at most 253 characters: what Kubernetes accepts as the name of most objects.
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
# One spelling only, so that two notations of one address cannot hide a duplicate; the site model normalises.
MAC = r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$"
# As kubectl writes one.
TAINT = r"^[^=:\s]+(=[^=:\s]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$"
SHA512 = r"^[0-9a-f]{128}$"

# Old ReplicaSets of a Deployment. With one that has the template wanted again, Kubernetes goes on with it, and
# pulumi-kubernetes (await/deployment.go) says the way back is done before its first pod has changed.
REVISIONS_KEPT = 0

KIBI, MEBI, GIBI = 1024, 1024**2, 1024**3


class Model(BaseModel):
    """A spec: unknown keys are refused by name, and a validated spec does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def quantity(number: int) -> str:
    """`number` bytes as a Kubernetes quantity without loss: 2147483648 is `2Gi`, 1500 is `1500`."""
    for size, suffix in ((GIBI, "Gi"), (MEBI, "Mi"), (KIBI, "Ki")):
        if number and number % size == 0:
            return f"{number // size}{suffix}"
    return str(number)
