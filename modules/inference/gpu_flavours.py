"""Kinds of nodes, and what of a node's build decides how a model runs on it. No GPU has run any of this here.

gh200: four Grace Hopper modules and four network cards per node (cscs-docs, docs/alps/hardware.md); about 96 GB of HBM
       per GPU (swiss-ai/model-launch, docs/sizing.md). Each Grace is a NUMA domain of its own, and its cores are arm64.
h100:  HGX boards with 4 or 8 H100 SXM of 80 GB and two x86 sockets (mlcommons/inference_results_v3.1, system
       XE9680_H100_SXM_80GBx8). One NUMA domain per socket holds unless the firmware splits sockets further. How many
       network cards there are differs from vendor to vendor, so nothing is checked.
cpu:   no GPU; either architecture, so nothing is said about it.

Memory of the node itself is not here: the pool of the site file says what is left of it beside the root file system.
"""

from dataclasses import dataclass
from typing import Literal

FlavourName = Literal["gh200", "h100", "cpu"]
GB = 10**9
GIB = 2**30
# Activations, buffers of the framework, workspaces of CUDA. Source: swiss-ai/model-launch, docs/sizing.md, step 1.
OVERHEAD_PERCENT = 20
SHARED_MEMORY = 4 * GIB  # of /dev/shm per GPU: 16 GiB for four, as before; it counts as memory of the pod


@dataclass(frozen=True)
class Flavour:
    """arch: as the kubelet labels its node, None where it does not matter. hbm: bytes per GPU. cards: of the high-speed
    network, None where a vendor may choose."""

    name: str
    arch: Literal["arm64", "amd64"] | None
    gpus: tuple[int, ...]
    hbm: int
    numa_domains: int
    cards: int | None

    @property
    def selector(self) -> dict[str, str]:
        """Of nodes that can run what was built for this flavour: else an image for amd64 starts on arm64, and dies."""
        return {"kubernetes.io/arch": self.arch} if self.arch else {}

    def arguments(self, gpus: int) -> list[str]:
        """Of vLLM. A worker whose memory lies at another GPU's CPU pays for every copy (`--numa-bind`, vllm 0.32).

        vLLM finds the domain of its GPUs by itself where the kubelet leaves all cores to pods (CPU manager `none`).
        The program `numactl` must be in the image.
        """
        return ["--numa-bind"] if gpus and self.numa_domains > 1 else []

    def shared_memory(self, gpus: int) -> int:
        return SHARED_MEMORY * gpus

    def needed(self, weights: int) -> int:
        """GPUs that hold weights of so many bytes, and leave nothing for the cache yet."""
        return -(-weights * (100 + OVERHEAD_PERCENT) // (100 * self.hbm))

    def tensor_parallel(self, weights: int) -> int | None:
        """GPUs of one node that a model is split over, a power of two; None where a node has too few."""
        fits = (number for number in (1, 2, 4, 8) if number >= self.needed(weights))
        found = next(fits, None)
        return found if found is not None and found <= max(self.gpus) else None


FLAVOURS: dict[str, Flavour] = {
    "gh200": Flavour("gh200", "arm64", gpus=(4,), hbm=96 * GB, numa_domains=4, cards=4),
    "h100": Flavour("h100", "amd64", gpus=(4, 8), hbm=80 * GB, numa_domains=2, cards=None),
    "cpu": Flavour("cpu", None, gpus=(0,), hbm=0, numa_domains=1, cards=None),
}
