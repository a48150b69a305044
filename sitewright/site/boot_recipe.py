"""What checks of a site file have to know of a boot image: its recipe, as far as it can be read."""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sitewright.site.files import REPOSITORY
from sitewright.site.kubernetes_values import quantity


def recipe(image: str) -> dict[str, Any]:
    """images/boot/<image>/recipe.yaml. What cannot be read is told by who builds the image, and is empty here."""
    try:
        found = YAML(typ="safe").load(REPOSITORY / f"images/boot/{image}/recipe.yaml")
    except (OSError, YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def size_budget(image: str) -> int | None:
    """Bytes that the packed root may have; None where the recipe does not say."""
    try:
        return quantity(recipe(image)["size_budget"])
    except (KeyError, ValueError):
        return None


def layers(image: str) -> frozenset[str]:
    """The roles that the recipe applies to the root; none where it cannot be read."""
    found = recipe(image).get("layers")
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()
