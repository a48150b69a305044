"""What a role says that it needs, each play that takes it gives: Ansible would find out at the site."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
ROLE_WORDS = ("include_role", "import_role")


def required(role: str, entry: str) -> set[str]:
    """Those with the role's name in front: others are variables of the whole run."""
    file = PLAYBOOKS / "roles" / role / "meta/argument_specs.yml"
    specs = yaml.safe_load(file.read_text())["argument_specs"] if file.exists() else {}
    options = (specs.get(entry) or {}).get("options") or {}
    return {
        name for name, option in options.items() if option.get("required") and name.startswith(f"{role}_")
    }


def taken(tasks: list[dict[str, Any]] | None, given: set[str]) -> Iterator[tuple[str, str, set[str]]]:
    """Role, entry and the variables that are set where it is taken, of all tasks and blocks."""
    for task in tasks or []:
        here = given | set(task.get("vars") or {})
        for part in ("block", "rescue", "always"):
            yield from taken(task.get(part), here)
        for word in ROLE_WORDS:
            if role := task.get(f"ansible.builtin.{word}"):
                yield role["name"], str(role.get("tasks_from", "main")).removesuffix(".yml"), here


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS.glob("*.yml")), ids=lambda path: path.stem)
def test_a_role_is_given_what_it_needs(playbook: Path):
    missing = []
    for play in yaml.safe_load(playbook.read_text()):
        given = set(play.get("vars") or {})
        for part in ("pre_tasks", "tasks", "post_tasks"):
            for role, entry, here in taken(play.get(part), given):
                missing += [f"{role}.{entry}: {name}" for name in required(role, entry) - here]
    assert not missing
