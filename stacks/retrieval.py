"""Retrieval, of layer 5: embeddings, and models that look things up first, behind the gateway."""

from collections.abc import Sequence

import pulumi

from modules.gateway.llm_gateway_spec import GatewayModel, Target
from modules.inference.vllm_pod import PORT as MODEL_PORT
from modules.retrieval.retrieval import COMPONENT, PORT, Retrieval
from modules.retrieval.retrieval_spec import RetrievalModel, RetrievalSpec
from sitewright.site import Site
from sitewright.site.service_sections import Retrieval as Section
from stacks.handles import ClusterHandle
from stacks.software import software

NAME = "retrieval"


def retrieval(
    site: Site,
    wanted: Section,
    images: pulumi.Output[dict[str, str]],
    cluster: ClusterHandle,
    after: Sequence[pulumi.Resource],
) -> pulumi.Resource:
    """Makes the service. after: what must be there first."""
    environment = software(site, wanted.environment)
    return Retrieval(
        _spec(site, wanted),
        pulumi.Output.all(image=images[wanted.image], python=environment.result("python")),
        pulumi.ResourceOptions(provider=cluster.provider, depends_on=[*after]),
    )


def retrieval_models(site: Site) -> tuple[GatewayModel, ...]:
    """What the gateway passes on to the service, under the same names."""
    wanted = site.services.retrieval
    if wanted is None:
        return ()
    target = Target(api_base=f"http://{NAME}.default.svc:{PORT}/v1", component=COMPONENT)
    names = [wanted.embeddings, *(collection.alias for collection in wanted.collections)]
    return tuple(GatewayModel(name=name, targets=(target,)) for name in names)


def _spec(site: Site, wanted: Section) -> RetrievalSpec:
    return RetrievalSpec(
        name=NAME,
        image="",
        python="",
        shared_path=site.shared_filesystem.path,
        pool=wanted.pool,
        taints=tuple(site.pool(wanted.pool).taints),
        replicas=wanted.replicas,
        memory=wanted.memory,
        embeddings=wanted.embeddings,
        models=tuple(
            RetrievalModel(
                name=one.alias,
                collection=one.name,
                model=one.model,
                api_base=f"http://{one.model}.default.svc:{MODEL_PORT}/v1",
                top_k=one.top_k,
                answer_tokens=one.answer_tokens,
            )
            for one in wanted.collections
        ),
    )
