"""Golden cases: a folder with a spec and what has to come of it. `UPDATE_GOLDEN=1 pytest` writes them anew."""

import os
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"


def cases(module: str) -> list[Path]:
    return sorted(path for path in (DATA / module).iterdir() if path.is_dir())


def check(path: Path, text: str) -> None:
    """The text is the recorded one; a reviewed change of it is recorded on request."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), (
        f"{path} differs; look at the change, then record it with UPDATE_GOLDEN=1"
    )
