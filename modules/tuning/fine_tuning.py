"""Where researchers' fine-tuning runs go: a namespace, and the template from which `sitewright tune` makes Jobs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pulumi
from pydantic import Field

from modules.inference.gpu_flavours import FLAVOURS, FlavourName
from modules.inference.serving import toleration
from modules.manifest import Manifest
from modules.spec import DNS_LABEL, MEBI, TAINT, Model, quantity
from sitewright.site.names import POOL_LABEL
from sitewright.tuning.template import CONFIG_MAP, PROGRAM, TEMPLATE, TrainingTemplate, TunableModel

PROGRAMS = {name: (Path(__file__).parent / name).read_text(encoding="utf-8") for name in PROGRAM}


class FineTuningSpec(Model):
    namespace: str = Field("fine-tuning", pattern=DNS_LABEL, description="of the runs")
    serving_namespace: str = Field("default", pattern=DNS_LABEL, description="of the served models")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes train")
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    flavour: FlavourName | None = Field(None, description="kind of node that runs were built for; None: any")
    gpus: int = Field(1, ge=0, description="per run, all of one node; 0 trains on CPU")
    cpus: int = Field(ge=1, description="per run")
    memory: int = Field(ge=256 * MEBI, description="bytes, limit per run")
    shared_path: str = Field("/shared", description="shared file system as nodes see it")
    publish_dir: str = Field(description="the shared file system as the operator's machine sees it")
    models: dict[str, TunableModel] = Field(
        default_factory=dict, description="by the name under which a model is served"
    )


def render(spec: FineTuningSpec) -> list[dict[str, Any]]:
    """The manifests, in the order they are applied."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": spec.namespace}},
        _no_way_in(spec),
        _config_map(spec),
    ]


class FineTuning(pulumi.ComponentResource):
    """models: what each of them is once it is published; they replace those of `spec`."""

    def __init__(
        self,
        spec: FineTuningSpec,
        models: Mapping[str, pulumi.Input[dict[str, Any]]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:FineTuning", spec.namespace, None, opts)
        data = pulumi.Output.from_input(models).apply(
            lambda found: _config_map(FineTuningSpec.model_validate({**spec.model_dump(), "models": found}))[
                "data"
            ]
        )
        inside: list[pulumi.Resource] = []
        for manifest in render(spec):
            if manifest["kind"] == "ConfigMap":
                manifest["data"] = data
            name = f"{spec.namespace}-{manifest['kind'].lower()}"
            options = pulumi.ResourceOptions(parent=self, depends_on=inside[:1])
            inside.append(Manifest(manifest, name, options))
        self.register_outputs({"namespace": spec.namespace})


def _no_way_in(spec: FineTuningSpec) -> dict[str, Any]:
    """A run listens to nobody, and needs nothing but the shared file system."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": CONFIG_MAP, "namespace": spec.namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def _config_map(spec: FineTuningSpec) -> dict[str, Any]:
    template = TrainingTemplate(
        namespace=spec.namespace,
        serving_namespace=spec.serving_namespace,
        models=spec.models,
        node_selector={POOL_LABEL: spec.pool, **(FLAVOURS[spec.flavour].selector if spec.flavour else {})},
        tolerations=[toleration(taint) for taint in spec.taints],
        gpus=spec.gpus,
        cpus=spec.cpus,
        memory=quantity(spec.memory),
        shared_path=spec.shared_path,
        publish_dir=spec.publish_dir,
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": spec.namespace},
        "data": {TEMPLATE: template.model_dump_json(indent=2), **PROGRAMS},
    }
