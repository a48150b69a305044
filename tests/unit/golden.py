"""Golden cases: a folder with a spec and what has to come of it. `UPDATE_GOLDEN=1 pytest` writes them anew."""

import os
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"


def cases(module: str) -> list[Path]:
    return sorted(path for path in (DATA / module).iterdir() if path.is_dir())


def without_digest(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The manifests with one name for their settings, whatever these are: programs are among them."""
    [settings] = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    name = settings["metadata"]["name"]
    fixed = f"{name.rpartition('-')[0]}-0123456789"
    for volume in manifests[-1]["spec"]["template"]["spec"]["volumes"]:
        if volume.get("configMap", {}).get("name") == name:
            volume["configMap"]["name"] = fixed
    settings["metadata"] = {**settings["metadata"], "name": fixed}
    return manifests


def check(path: Path, text: str) -> None:
    """The text is the recorded one; a reviewed change of it is recorded on request."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), (
        f"{path} differs; look at the change, then record it with UPDATE_GOLDEN=1"
    )
