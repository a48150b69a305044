"""From a name or a path to a validated `Site`."""

from dataclasses import dataclass
from pathlib import Path

from sitewright.site import checks, extends
from sitewright.site.draft import Draft, draft
from sitewright.site.files import display, environment_names, environments_directory, site_file
from sitewright.site.model import Site
from sitewright.site.problems import Loc, Position, Problem, SiteFileError, did_you_mean
from sitewright.site.source import Tree

_HINT = "Nothing was changed. Mend the file, then run: sitewright config check {environment}"


@dataclass
class Loaded:
    """A site file that was read: the site, and the tree that knows where each value was written."""

    site: Site
    tree: Tree


def load(environment: str | Path) -> Site:
    """The site of an environment, by name (`lab`) or by path (`environments/lab.yaml`).

    Raises: SiteFileError with every problem of the file and of the files it extends.
    """
    return load_with_origin(environment).site


def load_with_origin(environment: str | Path) -> Loaded:
    path = site_file(environment)
    if not path.is_file():
        raise _no_such_environment(environment, path)
    path = path.resolve()
    problems: list[Problem] = []
    tree = extends.read(path, problems)
    if tree is None:
        raise SiteFileError(problems, _HINT.format(environment=environment))
    written = draft(tree)
    findings = _findings(written, tree, path.stem)
    problems += [place(tree, loc, message) for loc, message in written.faults]
    problems += [place(tree, finding.loc, finding.message) for finding in findings if not finding.warning]
    if problems or written.site is None:
        raise SiteFileError(problems, _HINT.format(environment=environment))
    written.site._file = path
    written.site._warnings = tuple(place(tree, finding.loc, finding.message) for finding in findings)
    return Loaded(written.site, tree)


def _findings(written: Draft, tree: Tree, stem: str) -> list[checks.Finding]:
    if written.site is None:
        return []
    known = checks.Known.of(tree.plain(), stem, frozenset(written.dropped))
    return [
        checks.Finding(written.original_loc(finding.loc), finding.message, finding.warning)
        for finding in checks.run(written.site, known)
    ]


def place(tree: Tree, loc: Loc, message: str) -> Problem:
    return Problem(tree.find(loc)[0], loc, message)


def _no_such_environment(environment: str | Path, path: Path) -> SiteFileError:
    directory = path.parent if path.parent.is_dir() else environments_directory()
    known = did_you_mean(path.stem, environment_names(directory))
    message = f"no environment {str(environment)!r}: there is no file {display(path)}{known}"
    return SiteFileError([Problem(Position(path, 1, 1), (), message)])
