"""How Ansible is set up for a run: everything by environment variables, nothing by an ansible.cfg.

The environment is made from nothing, so that no secret of the operator's shell (a passphrase, a cloud token)
reaches a play or the processes it starts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.provider.processes import MARK

FORKS = 25
"""Hosts worked on at once. Above it a round of one task over a pool takes several turns."""

_KEPT = (
    *("HOME", "USER", "LOGNAME", "SHELL", "TZ", "SSH_AUTH_SOCK", "PATH", "XDG_CACHE_HOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),  # who vouches for the site's own mirrors and proxies
)
_KEPT_IN_ANY_CASE = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_PLUGIN_DIRECTORIES = {
    "library": "ANSIBLE_LIBRARY",
    "module_utils": "ANSIBLE_MODULE_UTILS",
    "action_plugins": "ANSIBLE_ACTION_PLUGINS",
    "connection_plugins": "ANSIBLE_CONNECTION_PLUGINS",
    "filter_plugins": "ANSIBLE_FILTER_PLUGINS",
    "lookup_plugins": "ANSIBLE_LOOKUP_PLUGINS",
    "test_plugins": "ANSIBLE_TEST_PLUGINS",
}


def ansible_playbook() -> Path:
    """The program, beside the Python that runs us. Raises: SitewrightError where it is not installed."""
    program = Path(sys.executable).parent / "ansible-playbook"
    if not program.is_file():
        raise SitewrightError(
            f"{program}: no such program, so no playbook can run",
            "Install the locked dependencies: `uv sync` in the checkout.",
        )
    return program


def environment(
    repository: Path, private: Path, site: str | None, operator: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of a run's processes.

    private:  the run's private directory; site: name of the environment whose inventory is used.
    operator: the environment we were started in, of which only what is harmless is kept.
    """
    playbooks = repository / "playbooks"
    kept = {
        name: value for name, value in operator.items() if name in _KEPT or name.upper() in _KEPT_IN_ANY_CASE
    }
    search = [str(ansible_playbook().parent), *kept.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").split(":")]
    return {
        **kept,
        **{name: value for name, value in operator.items() if name.startswith("SITEWRIGHT_")},
        "PATH": ":".join(dict.fromkeys(search)),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": str(private / "tmp"),
        MARK: str(private),
        "SITEWRIGHT_EVENTS": str(private / "events.sock"),
        "SITEWRIGHT_REPO": str(repository),
        **({"SITEWRIGHT_ENVIRONMENT": site} if site else {}),
        **{variable: str(playbooks / name) for name, variable in _PLUGIN_DIRECTORIES.items()},
        **_ansible(playbooks, private),
        **_ssh(repository, private, site),
    }


def _ansible(playbooks: Path, private: Path) -> dict[str, str]:
    return {
        "ANSIBLE_CONFIG": str(private / "ansible.cfg"),
        "ANSIBLE_HOME": str(private / "home"),
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_ROLES_PATH": str(playbooks / "roles"),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "sitewright_events",
        "ANSIBLE_FORKS": str(FORKS),
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_NOCOLOR": "True",
    }


def _ssh(repository: Path, private: Path, site: str | None) -> dict[str, str]:
    """Host keys: those in environments/<site>.known_hosts count where that file exists. Without it the first
    key seen in a run is taken and must stay the same during the run, because machines that a site makes anew
    have new keys."""
    pinned = repository / "environments" / f"{site}.known_hosts"
    known, check = (pinned, "yes") if pinned.is_file() else (private / "known_hosts", "accept-new")
    return {
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=15 "
        f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking={check}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "ssh"),
        "ANSIBLE_SSH_RETRIES": "3",
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_PIPELINING": "True",
    }
