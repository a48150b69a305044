"""From a name to what an operator wants of it: the log of a service or machine, a shell on a machine."""

import difflib
import shlex
from collections.abc import Iterable
from pathlib import Path

from lab import machine, paths
from lab.plan import LabPlan
from sitewright.errors import SitewrightError


def log_file(plan: LabPlan, name: str) -> Path:
    """Raises SitewrightError for a name that is no service and no machine."""
    logs = {file.stem: file for file in (paths.state_dir() / "logs").glob("*.log")}
    consoles = {known: machine.console(known) for known in _addresses(plan)}
    files = logs | {known: file for known, file in consoles.items() if file.exists()}
    if name in files:
        return files[name]
    if name in consoles:
        raise SitewrightError(f"{name} was never switched on, so its console is empty")
    raise unknown("service or machine", name, files)


def ssh_command(plan: LabPlan, name: str, command: Iterable[str] = ()) -> list[str]:
    """The `ssh` line that logs in on a machine. Host keys are not remembered: a machine of the lab makes new
    ones whenever it is made anew, and nothing but the lab can be at the other end."""
    addresses = _addresses(plan)
    if name not in addresses:
        raise unknown("machine", name, addresses)
    ssh = plan.site.ssh
    if ssh is None:
        raise SitewrightError(f"the site {plan.site.name} has no `ssh` section")
    options = {
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "ConnectTimeout": "5",
    }
    if ssh.proxy_command:
        options["ProxyCommand"] = ssh.proxy_command
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    line = ["ssh", "-i", str(ssh.private_key), *flags, f"{ssh.user}@{addresses[name]}"]
    words = list(command)
    # ssh joins words with blanks and hands them to a shell: one word is taken as a shell line.
    return [*line, "--", words[0] if len(words) == 1 else shlex.join(words)] if words else line


def unknown(kind: str, name: str, known: Iterable[str]) -> SitewrightError:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return SitewrightError(f"no {kind} named {name!r}{hint}", f"There are {', '.join(known) or 'none'}.")


def _addresses(plan: LabPlan) -> dict[str, str]:
    found = {vm.name: vm.address for vm in plan.site.vms}
    return found | {node.xname: node.address for node in plan.site.nodes}
