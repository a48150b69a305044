"""The Slingshot network of a Cray EX in pods: its cards, its interfaces, and what NCCL and libfabric are told.

Unwired, NCCL falls back to TCP without a word: 5.4 instead of 122.6 GB/s (CSCS documentation, NCCL). So NCCL_NET is
set: where the plugin is missing, a job ends at once and says so. No Slingshot is here: what this renders is linted and
compared with recorded forms, and modules/fabric/fabric_preflight.py says on a site whether it works.
"""

from typing import Any

from pydantic import Field

from modules.spec import DNS_LABEL, Model

MULTUS = "k8s.v1.cni.cncf.io/networks"

# As vLLM runs on the GH200 nodes of Clariden. Source: swiss-ai/model-launch, vllm.toml. Newer host software of HPE
# calls the first one OFI.
ENVIRONMENT = {
    "NCCL_NET": "AWS Libfabric",
    "NCCL_SOCKET_IFNAME": "hsn",
    "NCCL_CROSS_NIC": "1",
    "NCCL_NET_GDR_LEVEL": "PHB",
    "NCCL_PROTO": "^LL128",
    "FI_CXI_COMPAT": "0",
    "FI_CXI_DEFAULT_CQ_SIZE": "131072",
    "FI_CXI_DEFAULT_TX_SIZE": "32768",
    "FI_CXI_DISABLE_HOST_REGISTER": "1",
    "FI_CXI_RX_MATCH_MODE": "software",
    "FI_MR_CACHE_MONITOR": "userfaultfd",
    "OFI_NCCL_DISABLE_DMABUF": "1",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
}


class Fabric(Model):
    """How pods of a cluster get to the cards."""

    resource: str = Field(
        "beta.hpe.com/cxi", pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$", description="of the device plugin"
    )
    cards: int = Field(4, ge=1, description="per node")
    networks: tuple[str, ...] = Field(
        ("hsn0", "hsn1", "hsn2", "hsn3"), description="NetworkAttachmentDefinitions of Multus, one per card"
    )
    namespace: str = Field(
        "kube-system", pattern=DNS_LABEL, description="of the NetworkAttachmentDefinitions"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="other values than the table's; an empty one leaves a variable out"
    )

    def variables(self) -> dict[str, str]:
        given = ENVIRONMENT | self.environment
        return {name: value for name, value in given.items() if value}


def wire(template: dict[str, Any], fabric: Fabric) -> dict[str, Any]:
    """A pod template whose containers have the cards. Annotations that are there stay: HPE's own admission policy would
    replace all of them, Kueue's too. Returns a new template."""
    networks = ",".join(f"{fabric.namespace}/{name}" for name in fabric.networks)
    metadata = template["metadata"]
    annotations = {**metadata.get("annotations", {}), MULTUS: networks}
    pod = template["spec"]
    containers = [_with_cards(container, fabric) for container in pod["containers"]]
    return {"metadata": {**metadata, "annotations": annotations}, "spec": {**pod, "containers": containers}}


def _with_cards(container: dict[str, Any], fabric: Fabric) -> dict[str, Any]:
    cards = {fabric.resource: str(fabric.cards)}
    resources = {kind: {**amount, **cards} for kind, amount in container["resources"].items()}
    variables = [{"name": name, "value": value} for name, value in fabric.variables().items()]
    return {**container, "resources": resources, "env": [*container.get("env", []), *variables]}
