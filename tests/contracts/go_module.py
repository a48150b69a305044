"""Files of Go modules, such as the definitions of the kinds that their controllers serve."""

import json
import os
import subprocess
from pathlib import Path


def go_module(name: str, place: Path) -> Path:
    """Where the files of `module@version` are; Go checks that they are what was published. place: any directory."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", name],
        cwd=place,
        env={**os.environ, "GOFLAGS": "-mod=mod"},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])
