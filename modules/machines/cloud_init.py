"""The user data and network data cloud-init gets, checked before any machine is made.

cloud-init ignores user data with a wrong first line and drops all of it at one bad byte: the machine comes
up bare and only its own log says why (canonical/cloud-init issues 3929 and 2180). User data may hold secrets,
so a problem names the line and never its text.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

import yaml

HEADER = "#cloud-config"
_AUTHORIZED_KEYS = "ssh_authorized_keys"
# What YAML does not take, or takes as a line break nobody sees: all control characters but tab and newline,
# the byte order mark, lone surrogates and the two non-characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff\ufffe\uffff]")


def user_data_problems(text: str) -> list[str]:
    """What cloud-init would not take, a sentence per problem with its line; empty when all is well."""
    lines = text.split("\n")
    problems = []
    if lines[0].rstrip() != HEADER:
        problems.append(
            f"line 1: the first line must be `{HEADER}`, otherwise cloud-init ignores the user data"
        )
    for number, line in enumerate(lines, start=1):
        if line.startswith("\t"):
            problems.append(f"line {number}: begins with a tab; YAML indents with spaces only")
        problems += [f"line {number}: {_character_name(found)}" for found in _FORBIDDEN.findall(line)]
    return problems or _yaml_problems(text)


def checked_user_data(text: str) -> str:
    """`text` itself. Raises ValueError with every problem; the message is safe to print."""
    if problems := user_data_problems(text):
        raise ValueError("; ".join(problems))
    return text


def user_data(hostname: str, user: str, ssh_keys: Sequence[str]) -> str:
    """A cloud-config that names the machine and lets the operator in by key, and nobody by password."""
    config: dict[str, Any] = {
        "hostname": hostname,
        "ssh_pwauth": False,
        **({"disable_root": False} if user == "root" else {"user": user}),
        _AUTHORIZED_KEYS: list(ssh_keys),
    }
    return f"{HEADER}\n{yaml.safe_dump(config, sort_keys=False, width=2**16)}"


def with_ssh_keys(text: str, ssh_keys: Sequence[str]) -> str:
    """`text` unchanged, the keys appended where it has no list of its own.

    Raises ValueError where its own list lacks one of them: the operator would be locked out of the machine.
    """
    listed = (yaml.safe_load(text) or {}).get(_AUTHORIZED_KEYS)
    if listed is None:
        end = "" if text.endswith("\n") else "\n"
        return f"{text}{end}{yaml.safe_dump({_AUTHORIZED_KEYS: list(ssh_keys)}, width=2**16)}"
    if not isinstance(listed, list) or not all(key in listed for key in ssh_keys):
        raise ValueError(
            f"{_AUTHORIZED_KEYS} lacks the site's own key; leave the list out (the key is added) or add it"
        )
    return text


def network_data(
    mac: str,
    address: IPv4Address,
    prefix_length: int,
    gateway: IPv4Address | None,
    dns: Sequence[IPv4Address],
) -> str:
    """A network configuration, version 2, that gives the interface with this MAC its static address.

    Matched by MAC because the name of the interface differs between hypervisors and images.
    """
    nic: dict[str, Any] = {"match": {"macaddress": mac}, "addresses": [f"{address}/{prefix_length}"]}
    if gateway is not None:
        nic["routes"] = [{"to": "0.0.0.0/0", "via": str(gateway)}]
    if dns:
        nic["nameservers"] = {"addresses": [str(server) for server in dns]}
    return yaml.safe_dump({"version": 2, "ethernets": {"nic-0": nic}}, sort_keys=False)


def _character_name(character: str) -> str:
    code = f"U+{ord(character):04X}"
    if character == "\r":
        return f"carriage return ({code}); save the file with Unix line ends"
    if character == "\ufeff":
        return f"byte order mark ({code}); save the file as UTF-8 without it"
    return f"control character {code}; cloud-init would drop the whole user data"


def _yaml_problems(text: str) -> list[str]:
    """The first place that is no YAML. The parser's own message quotes the text and is not passed on."""
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is None:
            return ["not valid YAML"]
        line = text.split("\n")[mark.line]
        tab = "; the line holds a tab, and YAML indents with spaces only" if "\t" in line else ""
        return [f"line {mark.line + 1}: not valid YAML at column {mark.column + 1}{tab}"]
    except yaml.YAMLError:
        return ["not valid YAML"]
    if content is not None and not isinstance(content, dict):
        return ["line 2: user data must be a mapping (`key: value`)"]
    return []
