"""The part of iPXE that boot scripts use, read from top to bottom: set, kernel, initrd, boot, sleep, chain.

Source: ipxe.org/cmd; the scripts of BSS and boot-service in tests/data/contracts.
"""

import re
from dataclasses import dataclass
from urllib.parse import urljoin

from sitewright.errors import SitewrightError

# What iPXE on the lab's nodes knows by itself.
VARIABLES = {"buildarch": "x86_64", "platform": "efi"}


class BootError(SitewrightError):
    """A step of a boot that failed; the node tries again, as the script says."""


@dataclass(frozen=True)
class Script:
    """What a script makes of a node.

    kernel:     URL, "" if the script boots nothing; arguments: the kernel command line, word by word.
    chain:      URL of the script to run next, after `sleep` seconds, if there is nothing to boot or it
                fails; "" if none.
    message:    the last thing the script prints, for a script that gives up.
    """

    kernel: str = ""
    arguments: tuple[str, ...] = ()
    initrd: str = ""
    sleep: float = 0.0
    chain: str = ""
    message: str = ""

    def argument(self, name: str) -> str:
        """The value of the last `name=value` on the command line, "" if there is none."""
        values = [word.partition("=")[2] for word in self.arguments if word.startswith(f"{name}=")]
        return values[-1] if values else ""


def parse(text: str, url: str) -> Script:
    """The script fetched from `url`. Raises BootError if it is none."""
    if not text.startswith("#!ipxe"):
        raise BootError(f"{url} answered with something that is no iPXE script: {text[:60]!r}")
    variables = dict(VARIABLES)
    found: dict[str, str] = {}
    arguments: tuple[str, ...] = ()
    boots = False
    for line in text.splitlines():
        # `||` separates commands only where blanks surround it; a kernel argument may contain it.
        command = re.split(r"\s+\|\|\s", line.strip(), maxsplit=1)[0]
        name, _, rest = _expanded(command, variables).partition(" ")
        words = _without_options(rest.split())
        if name == "set" and words:
            variables[words[0]] = rest.split(None, 1)[1] if len(words) > 1 else ""
        elif name in ("kernel", "initrd", "chain") and words:
            found[name] = urljoin(url, words[0])
            arguments = tuple(words[1:]) if name == "kernel" else arguments
        elif name == "sleep" and words:
            found["sleep"] = words[0]
        elif name == "echo":
            found["message"] = rest
        boots = boots or name == "boot"
    kernel = found.get("kernel", "") if boots else ""
    return Script(
        kernel,
        arguments,
        found.get("initrd", ""),
        _seconds(found.get("sleep", "0"), url),
        found.get("chain", ""),
        found.get("message", ""),
    )


def _expanded(command: str, variables: dict[str, str]) -> str:
    """An unknown variable is empty, as in iPXE."""
    return re.sub(r"\$\{([^}]*)\}", lambda match: variables.get(match[1], ""), command)


def _without_options(words: list[str]) -> list[str]:
    while words and words[0].startswith("--"):
        words = words[1:] if "=" in words[0] else words[2:]
    return words


def _seconds(text: str, url: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BootError(f"{url}: `sleep {text}` is no number of seconds") from None
