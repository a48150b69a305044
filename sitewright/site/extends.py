"""`extends: base.yaml`: one tree out of a site file and the files it builds on."""

from pathlib import Path

from sitewright.site.files import display
from sitewright.site.problems import Position, Problem, did_you_mean
from sitewright.site.source import Tree, merge, parse


def read(path: Path, problems: list[Problem], opened: tuple[Path, ...] = ()) -> Tree | None:
    """The effective tree of a site file: later files of `extends` win over earlier ones, the file over all.

    opened: the files that led here, to tell a loop. None where a file of the chain cannot be used.
    """
    tree = parse(path, problems)
    if tree is None:
        return None
    bases, position = _bases(tree)
    effective: Tree | None = None
    broken = bases is None
    if bases is None:
        problems.append(Problem(position, ("extends",), "a file name or a list of file names is wanted"))
    for name in bases or ():
        base = (path.parent / name).resolve()
        if reason := _unusable(base, (*opened, path)):
            problems.append(Problem(position, ("extends",), reason))
            broken = True
            continue
        base_tree = read(base, problems, (*opened, path))
        broken = broken or base_tree is None
        if base_tree is not None:
            effective = base_tree if effective is None else merge(effective, base_tree)
    if broken:  # what is missing from the base would be reported as missing here
        return None
    return tree if effective is None else merge(effective, tree)


def _bases(tree: Tree) -> tuple[list[str] | None, Position]:
    """The names under `extends`, which is taken out of the tree; None where they are no names."""
    entry = tree.content.pop("extends", None)
    if entry is None:
        return [], tree.position
    position = tree.keys.pop("extends")
    names = entry.plain()
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None, position
    return names, position


def _unusable(base: Path, opened: tuple[Path, ...]) -> str:
    if base in opened:
        chain = " → ".join(display(path) for path in (*opened[opened.index(base) :], base))
        return f"the files extend each other in a loop: {chain}"
    if not base.is_file():
        beside = [path.name for path in base.parent.glob("*.yaml")] if base.parent.is_dir() else []
        return f"no file {display(base)}{did_you_mean(base.name, beside)}"
    return ""
