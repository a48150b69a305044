"""`pulumi-resource-random`: started by the Pulumi engine with its address."""

from tools.pins import PULUMI_RANDOM
from tools.pulumi_glue.random_provider.provider import RandomProvider
from tools.pulumi_glue.serving import serve

serve(RandomProvider(), PULUMI_RANDOM)
