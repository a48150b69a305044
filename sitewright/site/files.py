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


def is_path(environment: str | Path) -> bool:
    """Whether a path (`environments/lab.yaml`) is meant, and not a name (`lab`)."""
    text = str(environment)
    return text.endswith((".yaml", ".yml")) or "/" in text


def site_file(environment: str | Path) -> Path:
    """The path meant by a name or a path; it need not exist."""
    if is_path(environment):
        return Path(environment).absolute()
    return environments_directory() / f"{environment}.yaml"
