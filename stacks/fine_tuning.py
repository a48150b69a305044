"""Fine-tuning of layer 5: where the runs of `sitewright tune` go."""

from collections.abc import Mapping
from typing import Any

import pulumi

from modules.tuning.fine_tuning import FineTuning, FineTuningSpec
from sitewright.site import Site
from sitewright.site.service_sections import FineTuning as FineTuningSection
from stacks.handles import ClusterHandle


def fine_tuning(
    site: Site,
    wanted: FineTuningSection,
    cluster: ClusterHandle,
    tunable: Mapping[str, pulumi.Output[dict[str, Any]]],
) -> FineTuning:
    pool = site.pool(wanted.pool)
    spec = FineTuningSpec(
        namespace=wanted.namespace,
        pool=pool.name,
        taints=tuple(pool.taints),
        flavour=pool.flavour,
        gpus=wanted.gpus,
        cpus=wanted.cpus,
        memory=wanted.memory,
        shared_path=site.shared_filesystem.path,
        publish_dir=str(site.shared_filesystem.publish_dir),
    )
    return FineTuning(
        spec,
        {name: tunable[name] for name in wanted.models},
        opts=pulumi.ResourceOptions(provider=cluster.provider, depends_on=cluster.ready),
    )
