"""What images/boot/<name>/recipe.yaml may say: the root file system of diskless nodes, and how it is made."""

from __future__ import annotations

import datetime
import json
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from sitewright.artifacts.recipes import Recipe
from sitewright.artifacts.sbom import DPKG_QUERY, RPM_QUERY

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+._-]*$")]
STEPS = ("base", "initramfs")  # layers that no role makes, before those that roles make
_DECIDES = {
    "base": {"distribution", "release", "date", "repositories", "packages"},
    "initramfs": {"initramfs_modules"},
    "boot_node": {"mask"},
}
Shell = Annotated[str, StringConstraints(min_length=1)]


class Repository(Recipe):
    """Of RPM packages."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    url: str = Field(pattern=r"^(https?|file)://[^\s,]+$")
    key: str = Field(
        pattern=r"^(https?://|file://|/)[^\s,]+$", description="that its packages are signed with"
    )


class BootRecipe(Recipe):
    distribution: Literal["debian", "rhel", "sles"] = Field(
        description="rhel: also what is built from it, by dnf. sles: also openSUSE Leap, by zypper"
    )
    release: str = Field(
        pattern=r"^[a-z0-9.]+$", description="code name of Debian; number, for example 9 or 15.6"
    )
    repositories: tuple[Repository, ...] = Field(
        (), description="of rhel and sles; Debian's are those of the building machine"
    )
    date: datetime.date = Field(
        description="of the packages: the time of every file of the image. Another date installs the packages anew"
    )
    packages: tuple[Name, ...] = Field(min_length=1, description="nothing recommended is added")
    layers: tuple[Name, ...] = Field(
        description="roles that playbooks/build-boot-image.yml knows, in its order"
    )
    initramfs_modules: tuple[Name, ...] = Field(min_length=1, description="of dracut")
    kernel_arguments: tuple[str, ...] = ()
    mask: tuple[str, ...] = Field((), description="units that never start")
    size_budget: str = Field(
        pattern=r"^[1-9][0-9]*[MG]i$", description="a larger rootfs.squashfs fails the build"
    )
    check: tuple[Shell, ...] = Field(min_length=1, description="shell commands, run inside the finished root")

    @model_validator(mode="after")
    def _has_the_repositories_it_needs(self) -> BootRecipe:
        if self.distribution == "debian" and self.repositories:
            raise ValueError("repositories: a Debian root comes from the mirrors of the building machine")
        if self.distribution != "debian" and not self.repositories:
            raise ValueError(f"repositories: REQUIRED for {self.distribution}")
        return self

    @property
    def epoch(self) -> int:
        """Seconds since 1970 of `date`. Source: reproducible-builds.org, SOURCE_DATE_EPOCH."""
        midnight = datetime.datetime.combine(self.date, datetime.time(), datetime.UTC)
        return int(midnight.timestamp())

    @property
    def query(self) -> tuple[str, ...]:
        """The command that lists the packages inside the root, as sbom.inventory reads them."""
        if self.distribution == "debian":
            return ("dpkg-query", "--show", "--showformat", DPKG_QUERY)
        return ("rpm", "--query", "--all", "--queryformat", RPM_QUERY)

    def decides(self, layer: str) -> str:
        """What the recipe says of a layer, as a text that is another one if and only if the layer is."""
        return json.dumps(self.model_dump(mode="json", include=_DECIDES.get(layer, set())), sort_keys=True)
