"""Our Pulumi provider: procedures as resources.

    from sitewright.provider import PlaybookRun

`python -m sitewright.provider` is the provider's executable (`pulumi-resource-sitewright`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sitewright.provider.resource import PlaybookRun

__all__ = ["PlaybookRun"]


def __getattr__(name: str) -> Any:
    # Lazily, because the process that runs a playbook lies in this package and must not wait for the Pulumi
    # SDK.
    if name == "PlaybookRun":
        from sitewright.provider.resource import PlaybookRun

        return PlaybookRun
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
