"""What diskless nodes boot: kernel, initial root and squashfs root, built from a recipe, named by digest."""

import pulumi
from pydantic import Field

from modules.spec import DNS_LABEL, Model
from sitewright.provider import PlaybookRun


class Rke2Release(Model):
    version: str = Field(
        pattern=r"^\d+\.\d+\.\d+\+rke2r\d+$", description="of the cluster, without the leading v"
    )
    artifacts: str = Field(
        pattern=r"^(https?://|/)\S+$", description="the site's mirror, as the operator's machine reaches it"
    )


class BootImageSpec(Model):
    name: str = Field(pattern=DNS_LABEL, description="recipe is images/boot/<name>/recipe.yaml")
    publish_dir: str = Field(description="directory the image server serves")
    url: str = Field(pattern=r"^https?://\S+$", description="URL of that directory as nodes reach it")
    registry: str = Field(pattern=r"^https?://[^/\s]+$", description="as nodes reach it")
    rke2: Rke2Release | None = Field(None, description="of an image with the layer rke2_agent")
    signing_key: str | None = Field(
        None, description="file of the operator's key; without it nothing is signed"
    )


class BootImage(pulumi.ComponentResource):
    """A published image.

    boot: `kernel_url`, `initrd_url`, `kernel_arguments` as the provisioner takes them; digest: of its files.
    """

    def __init__(
        self,
        spec: BootImageSpec,
        environment: str,
        pause_image: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:BootImage", spec.name, None, opts)
        built = PlaybookRun(
            f"boot-image-{spec.name}",
            playbook="playbooks/build-boot-image.yml",
            verify="playbooks/verify-boot-image.yml",
            environment=environment,
            variables={
                "image": spec.name,
                "publish_dir": spec.publish_dir,
                "url": spec.url,
                "registry": spec.registry,
                "pause_image": pause_image,
                **_release(spec),
                "signing_key": spec.signing_key,
            },
            # The recipe, and the roles it names as layers.
            files=[
                f"images/boot/{spec.name}/**",
                "images/common/**",
                "playbooks/roles/container_runtime/**",
                "playbooks/roles/kubernetes_node/**",
                "playbooks/roles/rke2_agent/**",
                "playbooks/roles/boot_node/**",
            ],
            timeout="30m",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.boot = built.results.apply(
            lambda found: {key: found[key] for key in ("kernel_url", "initrd_url", "kernel_arguments")}
        )
        self.digest: pulumi.Output[str] = built.result("digest")
        self.register_outputs({"digest": self.digest})


def _release(spec: BootImageSpec) -> dict[str, str]:
    return {f"rke2_{name}": value for name, value in spec.rke2.model_dump().items()} if spec.rke2 else {}
