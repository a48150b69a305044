"""Lists of hosts and what they boot with. Each function checks one value and returns it tidied."""

from collections.abc import Callable

from sitewright.errors import SitewrightError
from sitewright.site.hostlist import expand
from sitewright.site.names import vm_name
from sitewright.site.xname import Xname, XnameType


def hostlist(text: str) -> str:
    """A hostlist that can be expanded; blanks around it are taken away."""
    try:
        expand(text)
    except SitewrightError as error:
        raise ValueError(error.message) from None
    return text.strip()


def vm_hostlist(text: str) -> str:
    """A hostlist of names that Harvester, Kubernetes and Ansible can use."""
    checked = hostlist(text)
    _all_names(checked, vm_name)
    return checked


def node_hostlist(text: str) -> str:
    """A hostlist of xnames of nodes."""
    checked = hostlist(text)
    _all_names(checked, lambda name: Xname.parse(name, XnameType.NODE))
    return checked


def _all_names(text: str, check: Callable[[str], object]) -> None:
    """Refuses the names that the check refuses; names the first three."""
    faults = []
    for name in expand(text):
        try:
            check(name)
        except (ValueError, SitewrightError) as error:
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError("; ".join(faults[:3]) + more)


def kernel_argument(text: str) -> str:
    """One or more kernel arguments, kept character for character: no shell reads them on their way."""
    if "initrd" in text:
        raise ValueError(
            f"{text!r} contains 'initrd'; BSS cuts kernel arguments at that word, use another name"
        )
    if not text.strip():
        raise ValueError("an empty kernel argument")
    strange = next((character for character in text if ord(character) < 32 or ord(character) == 127), None)
    if strange:
        raise ValueError(f"{text!r} holds the control character U+{ord(strange):04X}; one line is wanted")
    return str(text)
