"""Which files a playbook's digest covers."""

from __future__ import annotations

from pathlib import Path

import pytest

from sitewright.provider.sources import SourceError, digest, extra_sources, playbook_sources

FILES = {
    "playbooks/site.yml": """
- import_playbook: first.yml
- hosts: all
  vars_files: [vars/common.yml]
  roles:
    - common
    - {role: web, vars: {port: 80}}
  tasks:
    - include_tasks: "tasks/{{ distribution }}.yml"
    - ansible.builtin.include_role:
        name: "{{ kind }}_node"
        tasks_from: special
    - copy: {src: motd, dest: playbooks/other.yml}
    - template: {src: "{{ sitewright_repository }}/images/recipe.j2", dest: /etc/recipe}
    - debug: {msg: "{{ lookup('file', playbook_dir + '/files/looked-up') }} {{ 1 | double }}"}
    - script: scripts/prepare.sh --fast
    - own_module: {}
""",
    "playbooks/first.yml": "- hosts: all\n  tasks:\n    - import_tasks: tasks/first.yml\n",
    "playbooks/tasks/first.yml": "- debug:\n",
    "playbooks/tasks/debian.yml": "- debug:\n",
    "playbooks/tasks/suse.yml": "- debug:\n",
    "playbooks/vars/common.yml": "a: 1\n",
    "playbooks/files/motd": "hello",
    "playbooks/files/looked-up": "seen",
    "playbooks/files/unused": "x",
    "playbooks/scripts/prepare.sh": "true",
    "playbooks/other.yml": "- hosts: all\n",
    "playbooks/group_vars/all.yml": "b: 1\n",
    "playbooks/library/own_module.py": "from ansible.module_utils.own_util import x\n",
    "playbooks/library/unused_module.py": "",
    "playbooks/module_utils/own_util.py": "x = 1\n",
    "playbooks/module_utils/unused_util.py": "",
    "playbooks/filter_plugins/numbers.py": "def filters(self):\n    return {'double': lambda x: 2 * x}\n",
    "playbooks/filter_plugins/unused.py": "def filters(self):\n    return {'triple': lambda x: 3 * x}\n",
    "playbooks/roles/common/tasks/main.yml": "- copy: {src: a, dest: /a}\n",
    "playbooks/roles/common/files/a": "a",
    "playbooks/roles/common/meta/main.yml": "dependencies: [{role: base}]\n",
    "playbooks/roles/common/README.md": "words",
    "playbooks/roles/base/defaults/main.yml": "c: 1\n",
    "playbooks/roles/web/tasks/main.yml": "- import_role: {name: certificates}\n",
    "playbooks/roles/web/templates/conf.yml": "{% if no %} not: [yaml\n",
    "playbooks/roles/certificates/handlers/main.yml": "- name: Reload\n  debug:\n",
    "playbooks/roles/gpu_node/tasks/special.yml": "- debug:\n",
    "playbooks/roles/cpu_node/tasks/special.yml": "- debug:\n",
    "playbooks/roles/unused/tasks/main.yml": "- debug:\n",
    "images/recipe.j2": "recipe",
}
UNUSED = {
    "playbooks/files/unused",
    "playbooks/other.yml",  # only a `dest`
    "playbooks/library/unused_module.py",
    "playbooks/module_utils/unused_util.py",
    "playbooks/filter_plugins/unused.py",
    "playbooks/roles/common/README.md",
    "playbooks/roles/unused/tasks/main.yml",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        write(tmp_path, path, text)
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_a_playbook_stands_for_all_files_it_uses_and_no_other(repository: Path) -> None:
    assert set(playbook_sources(repository, "playbooks/site.yml")) == set(FILES) - UNUSED


@pytest.mark.parametrize("path", sorted(set(FILES) - UNUSED - {"playbooks/first.yml", "playbooks/site.yml"}))
def test_a_change_of_any_used_file_is_seen_and_named(repository: Path, path: str) -> None:
    before = playbook_sources(repository, "playbooks/site.yml")
    write(repository, path, FILES[path] + "\n# changed\n")
    after = playbook_sources(repository, "playbooks/site.yml")
    assert [name for name in after if after[name] != before[name]] == [path]
    assert digest(before) != digest(after)


def test_the_environment_narrows_a_path_that_names_it(repository: Path) -> None:
    write(
        repository,
        "playbooks/p.yml",
        "- hosts: all\n  vars_files: ['vars/{{ sitewright_environment }}.yml']\n",
    )
    write(repository, "playbooks/vars/lab.yml", "{}")
    write(repository, "playbooks/vars/prod.yml", "{}")
    wanted = {"playbooks/p.yml", "playbooks/vars/lab.yml", "playbooks/group_vars/all.yml"}
    assert set(playbook_sources(repository, "playbooks/p.yml", "lab")) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- hosts: all\n  roles: [nowhere]\n", r"p\.yml:2: no role 'nowhere' in playbooks/roles"),
        ("- hosts: all\n  tasks:\n    - import_tasks: gone.yml\n", r"p\.yml:3: 'gone\.yml': no such file"),
        ("- import_playbook: gone.yml\n", r"p\.yml:1: 'gone\.yml': no such file"),
        ("- hosts: [all\n", r"p\.yml:2:1: not valid YAML"),
    ],
)
def test_what_is_missing_is_named_with_file_and_line(repository: Path, text: str, message: str) -> None:
    write(repository, "playbooks/p.yml", text)
    with pytest.raises(SourceError, match=message):
        playbook_sources(repository, "playbooks/p.yml")


def test_a_missing_playbook_is_answered_with_those_that_are_there(repository: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)no such playbook.*first\.yml, other\.yml, site\.yml"):
        playbook_sources(repository, "playbooks/sit.yml")


def test_extra_files_are_paths_directories_or_globs(repository: Path) -> None:
    assert set(extra_sources(repository, ["images/recipe.j2"])) == {"images/recipe.j2"}
    assert set(extra_sources(repository, ["playbooks/vars"])) == {"playbooks/vars/common.yml"}
    assert len(extra_sources(repository, ["playbooks/tasks/*.yml"])) == 3
    with pytest.raises(SourceError, match="'images/none' matches no file"):
        extra_sources(repository, ["images/none"])


def test_the_playbooks_of_this_repository_can_all_be_resolved() -> None:
    repository = Path(__file__).parents[2]
    playbooks = sorted((repository / "playbooks").glob("*.yml"))
    assert playbooks
    for playbook in playbooks:
        name = str(playbook.relative_to(repository))
        assert name in playbook_sources(repository, name)
