"""Which files decide what a playbook does, and their digests.

The files are found without running Ansible, by reading what Ansible would read. A reference that only the
play can resolve (`include_tasks: "{{ distribution }}.yml"`) stands for every file that it could mean: better
a run too many, which changes nothing, than a changed file that goes unnoticed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from sitewright.errors import SitewrightError
from sitewright.provider.references import Reference, references

PLUGIN_DIRECTORIES = (
    *("library", "module_utils", "action_plugins", "connection_plugins"),
    *("filter_plugins", "lookup_plugins", "test_plugins"),
)
_NOT_SOURCES = frozenset({"README.md", "molecule", "tests", "__pycache__"})
_TEXTS = frozenset({".yml", ".yaml", ".j2", ".json"})
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLUGIN_NAME = re.compile(r"""["']([a-z_][a-z0-9_]*)["']\s*:""")


class SourceError(SitewrightError):
    """A playbook, or something it uses, that is missing or cannot be read."""


def playbook_sources(repository: Path, playbook: str, environment: str | None = None) -> dict[str, str]:
    """The files behind a playbook: path below the repository → first 16 hex digits of its sha256, by path.

    environment: value of `sitewright_environment` in paths; None stands for any.
    Raises: SourceError, naming file and line of the reference that leads nowhere.
    """
    return _Search(repository, environment).run(playbook)


def extra_sources(repository: Path, patterns: Iterable[str]) -> dict[str, str]:
    """Digests of further files. A pattern is a path below the repository, a directory (all in it) or a glob.

    Raises: SourceError for a pattern that matches nothing.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = [*repository.glob(pattern)] if not pattern.startswith("/") else []
        files = {file for match in matches for file in _files(match)}
        if not files:
            raise SourceError(
                f"{pattern!r} matches no file in the repository", "Paths are relative to its root."
            )
        found |= files
    return _digests(repository, found)


def digest(sources: dict[str, str]) -> str:
    """One digest over all files and their names."""
    lines = "".join(f"{path}\0{sha}\n" for path, sha in sorted(sources.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


class _Search:
    """Follows references from a playbook until no new file turns up."""

    def __init__(self, repository: Path, environment: str | None) -> None:
        self._repository = repository.resolve()
        self._known = {"sitewright_repository": str(self._repository)}
        if environment is not None:
            self._known["sitewright_environment"] = environment
        self._playbooks = self._repository / "playbooks"
        self._roles = self._playbooks / "roles"
        self._found: set[Path] = set()
        self._read: set[Path] = set()
        self._playbook_directory = self._playbooks

    def run(self, playbook: str) -> dict[str, str]:
        path = self._repository / playbook
        if not path.is_file():
            raise SourceError(
                f"{playbook}: no such playbook in the repository", _did_you_mean(self._repository, path)
            )
        self._playbook_directory = path.parent
        self._read_tasks(path)
        for directory in {self._playbooks, path.parent, self._playbooks / "inventory"}:
            for name in ("group_vars", "host_vars"):
                self._found |= _files(directory / name)
        self._add_plugins()
        return _digests(self._repository, self._found)

    def _read_tasks(self, path: Path) -> None:
        """Add a file of plays, tasks or role dependencies, and everything it refers to."""
        path = path.resolve()
        if path in self._read or not path.is_relative_to(self._repository):
            return
        self._read.add(path)
        self._found.add(path)
        if path.suffix in (".yml", ".yaml"):
            for reference in self._references(path):
                self._follow(reference, path)

    def _references(self, path: Path) -> list[Reference]:
        shown = path.relative_to(self._repository)
        try:
            return references(path.read_text(encoding="utf-8"), self._substitutions(path))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            raise SourceError(f"{shown}{where}: not valid YAML: {error.problem or error.context}") from None
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise SourceError(f"{shown}: not valid YAML: {error}") from None

    def _substitutions(self, path: Path) -> dict[str, str]:
        """Variables whose value is known beforehand."""
        role = self._role_of(path)
        of_role = {"role_path": str(role), "role_name": role.name} if role else {}
        return {"playbook_dir": str(self._playbook_directory), **self._known, **of_role}

    def _role_of(self, path: Path) -> Path | None:
        if not path.is_relative_to(self._roles) or path.parent == self._roles:
            return None
        return self._roles / path.relative_to(self._roles).parts[0]

    def _follow(self, reference: Reference, origin: Path) -> None:
        where = f"{origin.relative_to(self._repository)}:{reference.line}"
        if reference.kind == "role":
            self._add_role(reference, where, origin)
            return
        matches = self._resolve(reference, origin)
        needed = reference.kind in ("required", "playbook")
        if not matches and needed and "*" not in reference.text:
            raise SourceError(
                f"{where}: {reference.text!r}: no such file", "Correct the path, or add the file."
            )
        for match in matches:
            if needed:
                self._read_tasks(match)
            else:
                self._found.add(match)

    def _add_role(self, reference: Reference, where: str, origin: Path) -> None:
        """The whole directory of a role: tasks, handlers, defaults, vars, files, templates, meta and
        plugins."""
        known = sorted(path.name for path in self._roles.glob("*") if path.is_dir())
        pattern = re.compile(".*".join(map(re.escape, reference.text.split("*"))))
        names = [name for name in known if pattern.fullmatch(name)]
        beside = (origin.parent / reference.text).resolve()
        if not names and "*" not in reference.text and not beside.is_dir():
            listed = ", ".join(known) or "none"
            raise SourceError(
                f"{where}: no role {reference.text!r} in playbooks/roles", f"Roles here: {listed}."
            )
        for directory in [self._roles / name for name in names] or [beside]:
            files = _files(directory)
            self._found |= files
            for file in sorted(files):
                if file.relative_to(directory.resolve()).parts[0] in ("tasks", "handlers", "meta"):
                    self._read_tasks(file)

    def _resolve(self, reference: Reference, origin: Path) -> set[Path]:
        """Files that a path may mean: of the places where Ansible looks, the first that has any."""
        text = reference.text
        if text.startswith("/"):
            path = Path(text)
            inside = path.is_relative_to(self._repository)
            return (
                _matches(self._repository, str(path.relative_to(self._repository)), reference)
                if inside
                else set()
            )
        if reference.kind == "playbook":
            return _matches(origin.parent, text, reference)
        role = self._role_of(origin)
        for base in [*([role] if role else []), origin.parent, self._playbook_directory]:
            inner = ["tasks", "files", "templates", "vars", "handlers", ""]
            if base == self._playbook_directory and text.startswith("*"):
                inner.remove("")  # would stand for every playbook
            if found := set().union(*(_matches(base / name, text, reference) for name in inner)):
                return found
        return set()

    def _add_plugins(self) -> None:
        """Plugins beside the playbooks that some file found so far calls by name, and the module_utils these
        import."""
        words: set[str] = set()
        for path in self._found:
            if path.suffix in _TEXTS:
                words |= set(_WORD.findall(path.read_text(encoding="utf-8", errors="replace")))
        imported: set[str] = set()
        for base in {self._playbooks, self._playbook_directory}:
            for kind in PLUGIN_DIRECTORIES:
                for path in sorted((base / kind).glob("*.py")):
                    if kind != "module_utils" and words & _plugin_names(path, kind):
                        self._found.add(path.resolve())
                        imported |= set(_WORD.findall(path.read_text(encoding="utf-8")))
            for path in sorted((base / "module_utils").rglob("*.py")):
                of_package = path.parent != base / "module_utils" and path.parent.name in imported
                if path.stem in imported or of_package:
                    self._found.add(path.resolve())


def _plugin_names(path: Path, kind: str) -> set[str]:
    """What a plugin file is called by: its own name, or the names its `filters()` or `tests()` returns."""
    if kind in ("filter_plugins", "test_plugins"):
        return set(_PLUGIN_NAME.findall(path.read_text(encoding="utf-8"))) | {path.stem}
    return {path.stem}


def _matches(base: Path, text: str, reference: Reference) -> set[Path]:
    """Files below `base` that a path or glob names; of a directory all files in it, if one can be meant."""
    if not text.strip("./*") or ("*" in text and ".." in Path(text).parts):
        return set()
    paths = [base / text] if "*" not in text else list(base.glob(text))
    if reference.kind != "possible":
        paths = [path for path in paths if path.is_file()]
    return {file for path in paths for file in _files(path)}


def _files(path: Path) -> set[Path]:
    """The file, or all files below the directory that can matter to a run."""
    if path.is_file():
        return {path.resolve()}
    return {
        file.resolve()
        for file in path.rglob("*")
        if file.is_file() and not _NOT_SOURCES & set(file.relative_to(path).parts) and file.suffix != ".pyc"
    }


def _digests(repository: Path, files: Iterable[Path]) -> dict[str, str]:
    root = repository.resolve()
    digests = {}
    for file in sorted(set(files)):
        if file.is_relative_to(root):
            with file.open("rb") as content:
                digests[str(file.relative_to(root))] = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    return digests


def _did_you_mean(repository: Path, path: Path) -> str:
    there = sorted(file.name for file in (repository / "playbooks").glob("*.yml"))
    return f"Playbooks here: {', '.join(there)}." if there else f"{path.parent} has no playbooks."
