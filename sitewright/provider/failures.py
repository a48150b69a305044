"""From what went wrong in a play to the message an operator reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sitewright.errors import SitewrightError

if TYPE_CHECKING:  # the process that runs a playbook must not wait for the Pulumi SDK
    from pulumi.provider.experimental.property_value import PropertyValue

_SHOWN = 5
"""Different failures in one message; the log has all."""


@dataclass(frozen=True)
class HostFailure:
    """The task that ended the play for one host."""

    host: str
    task: str
    message: str
    detail: str = ""
    unreachable: bool = False


class RunFailed(SitewrightError):
    """A playbook that did not end well.

    status: failed, unreachable (no host failed otherwise), timed out, cancelled; log: path of the run's
    artifacts.
    """

    def __init__(self, message: str, hint: str, status: str, log: str, run: str) -> None:
        super().__init__(message, hint)
        self.status = status
        self.log = log
        self.run = run


class NotDone(SitewrightError):
    """A create or update that did not end well: the engine keeps `properties` and comes back to it.

    identity: id of the resource.
    """

    def __init__(self, message: str, identity: str, properties: dict[str, PropertyValue]) -> None:
        super().__init__(message)
        self.identity = identity
        self.properties = properties


def describe(playbook: str, failures: Iterable[HostFailure], output: list[str]) -> str:
    """The message of a failed run.

    failures: one for each host; hosts that failed alike are named together.
    output:   the last lines Ansible printed, used where no host failed (a syntax error, an inventory that
    breaks).
    """
    alike: dict[tuple[str, str, bool], list[HostFailure]] = {}
    for failure in failures:
        alike.setdefault((failure.task, failure.message, failure.unreachable), []).append(failure)
    if not alike:
        return f"{playbook}: Ansible stopped:\n{_indent(_error_lines(output))}"
    parts = [_paragraph(playbook, group) for group in list(alike.values())[:_SHOWN]]
    if len(alike) > _SHOWN:
        parts.append(f"and {len(alike) - _SHOWN} more failures")
    return "\n".join(parts)


def _paragraph(playbook: str, group: list[HostFailure]) -> str:
    from sitewright.site.hostlist import fold  # here: the site model takes a while to import

    first = group[0]
    hosts = fold([failure.host for failure in group])
    if first.unreachable:
        return f'{playbook}: {hosts} unreachable in task "{first.task}": {first.message}'
    text = f'{playbook}: task "{first.task}" failed on {hosts}: {first.message}'
    shown = [line for line in first.detail.splitlines() if line.strip() not in first.message]
    return text + ("\n" + _indent(shown) if shown else "")


def _error_lines(output: list[str]) -> list[str]:
    """Ansible's error, from the line that announces it on, or else the last lines; never a traceback."""
    lines = [line for line in output if line.strip()]
    starts = [index for index, line in enumerate(lines) if line.startswith(("[ERROR]", "ERROR:", "ERROR!"))]
    error = lines[starts[0] :] if starts else lines[-12:]
    return list(itertools.takewhile(lambda line: not line.startswith("Traceback"), error))[:20]


def _indent(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
