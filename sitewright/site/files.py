"""Where site files lie, and how their paths are shown to an operator."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def display(path: Path) -> str:
    """The path as it reads shortest: below the repository, below the working directory, or absolute."""
    for base in (REPOSITORY, Path.cwd()):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


def environments_directory() -> Path:
    """`environments/` of the working directory or the nearest directory above it, else the repository's."""
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / "environments").is_dir():
            return directory / "environments"
    return REPOSITORY / "environments"


def environment_names(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.glob("*.yaml"))


def site_file(environment: str | Path) -> Path:
    """The path meant by a name (`lab`) or a path (`environments/lab.yaml`); it need not exist."""
    text = str(environment)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(text).absolute()
    return environments_directory() / f"{text}.yaml"
