"""Software environments of recipes, made of the same locks on this machine."""

import hashlib
import subprocess
import sys
from pathlib import Path

from sitewright.artifacts.scratch import keep, scratch_of
from sitewright.site.files import REPOSITORY


def environment_python(name: str) -> Path:
    """The Python of images/environments/<name>, made once per lock."""
    requirements = REPOSITORY / "images/environments" / name / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    place = Path.home() / ".cache/sitewright/test-environments" / f"{name}-{digest}"
    with scratch_of(place.parent) as scratch:
        if not place.exists():
            uv, made = Path(sys.executable).with_name("uv"), scratch / "environment"
            subprocess.run([uv, "venv", "-q", "--no-config", "--python", _interpreter(), made], check=True)
            packages = ["--require-hashes", "--only-binary=:all:", "-r", requirements]
            subprocess.run(
                [uv, "pip", "install", "-q", "--python", made / "bin/python", *packages], check=True
            )
            keep(made, place)
    return place / "bin/python"


def _interpreter() -> str:
    """That of the recipe, and where there is none, this one: its minor version is the same."""
    return "/usr/bin/python3.11" if Path("/usr/bin/python3.11").exists() else sys.executable
