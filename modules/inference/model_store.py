"""Weights and Python software on the shared file system, where nodes read them and cannot write."""

import pulumi
from pydantic import Field

from modules.spec import DNS_LABEL, Model
from sitewright.provider import PlaybookRun


class ModelStoreSpec(Model):
    name: str = Field(pattern=DNS_LABEL, description="of the served model")
    model: str = Field(description="directory below <shared>/models")
    environment: str = Field(description="images/environments/<name>")
    publish_dir: str = Field(description="the shared file system as this machine sees it")
    path: str = Field(description="the shared file system as nodes see it")
    adapters: str = Field("", description="directory of the model's LoRA adapters there; empty: it has none")


class ModelStore(pulumi.ComponentResource):
    """model_path, python and model_digest, as a node sees them once they are there."""

    def __init__(
        self, spec: ModelStoreSpec, environment: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("sitewright:modules:ModelStore", spec.name, None, opts)
        prepared = PlaybookRun(
            f"model-{spec.name}",
            playbook="playbooks/prepare-models.yml",
            verify="playbooks/verify-models.yml",
            environment=environment,
            variables={
                "software_environment": spec.environment,
                "model": spec.model,
                "publish_dir": spec.publish_dir,
                "path": spec.path,
                **({"adapters": spec.adapters} if spec.adapters else {}),
            },
            files=[f"images/environments/{spec.environment}/**", f"images/models/{spec.model}/**"],
            timeout="60m",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.model_path: pulumi.Output[str] = prepared.result("model_path")
        self.python: pulumi.Output[str] = prepared.result("python")
        self.model_digest: pulumi.Output[str] = prepared.result("model_digest")
        self.register_outputs({"model_path": self.model_path, "model_digest": self.model_digest})
