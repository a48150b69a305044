"""Where the memory of a diskless node goes: it is its disk as well, and pods get what is left.

Measured in the lab, two nodes with ten pods each: 350 MiB for kubelet, containerd, its shims and systemd, 1,080 MiB of
unpacked container images. A pod's own files count as the pod's memory, wherever on a tmpfs they are.
"""

from dataclasses import dataclass

MIB, GIB = 2**20, 2**30
SYSTEM, ROOT = 512 * MIB, 256 * MIB
"""Bytes kept for kubelet, container runtime and systemd, beside a hundredth of the node; for what they write."""
LARGEST_IMAGE_STORE, LARGEST_POD_FILES, LARGEST_EVICTION = 64 * GIB, 64 * GIB, 2 * GIB
SMALLEST_EVICTION = 100 * MIB  # the kubelet's own default


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes of one node. total: what it has; root_image: the squashfs, which the initial root keeps in memory;
    image_store, pod_files: sizes of the tmpfs of container images and of what pods and their logs write."""

    total: int
    root_image: int
    image_store: int

    @property
    def system(self) -> int:
        return SYSTEM + self.total // 100

    @property
    def eviction(self) -> int:
        """With less than this the kubelet ends pods, before the kernel ends something."""
        return min(max(self.total // 100, SMALLEST_EVICTION), LARGEST_EVICTION)

    @property
    def pod_files(self) -> int:
        return min(self.total // 4, LARGEST_POD_FILES)

    @property
    def reserved(self) -> int:
        """What no pod may have."""
        return self.root_image + ROOT + self.image_store + self.system

    @property
    def allocatable(self) -> int:
        """What all pods of the node may ask for together; negative where not even the node itself fits."""
        return self.total - self.reserved - self.eviction

    def said(self) -> str:
        """For a message: `root image 400 MiB, …`."""
        parts = {
            "root image": self.root_image,
            "its writes": ROOT,
            "container images": self.image_store,
            "system": self.system,
            "kept free": self.eviction,
        }
        return ", ".join(f"{name} {size / MIB:,.0f} MiB" for name, size in parts.items())


def budget(total: int, root_image: int, image_store: int | None) -> MemoryBudget:
    """image_store: None takes a sixth of the node, at most 64 GiB."""
    store = min(total // 6, LARGEST_IMAGE_STORE) if image_store is None else image_store
    return MemoryBudget(total, root_image, store)
