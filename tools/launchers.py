"""Launchers of our own Pulumi plugins: small scripts that Pulumi finds on PATH and that start the checkout's
Python.

The bin directory is shared by all checkouts of one machine, so a launcher looks for the checkout when it
starts: the engine starts plugins in the project's directory.
"""

from __future__ import annotations

from pathlib import Path

MARK = "launcher made by sitewright"

_SCRIPT = f"""\
#!/bin/sh
# {MARK} (tools/launchers.py): starts `python -m @MODULE@` of the checkout Pulumi runs in.
# The checkout is found through SITEWRIGHT_PYTHON, SITEWRIGHT_REPO, an activated virtual environment that has
# sitewright installed, or the nearest parent directory with a Pulumi.yaml and a .venv; first match wins.
python="$SITEWRIGHT_PYTHON"
if [ -z "$python" ] && [ -n "$SITEWRIGHT_REPO" ]; then
    python="$SITEWRIGHT_REPO/.venv/bin/python"
fi
if [ -z "$python" ] && [ -n "$VIRTUAL_ENV" ]; then
    for installed in "$VIRTUAL_ENV"/lib/python3*/site-packages/sitewright-*.dist-info; do
        if [ -d "$installed" ]; then python="$VIRTUAL_ENV/bin/python"; fi
    done
fi
directory="$PWD"
while [ -z "$python" ] && [ -n "$directory" ]; do
    if [ -f "$directory/Pulumi.yaml" ] && [ -x "$directory/.venv/bin/python" ]; then
        python="$directory/.venv/bin/python"
    fi
    directory="${{directory%/*}}"
done
if [ ! -x "$python" ]; then
    echo "@NAME@: no Python of a sitewright checkout${{python:+ at $python}}; looked from $PWD upwards." \\
         "Run \\`uv sync\\` in the checkout, or set SITEWRIGHT_REPO to it." >&2
    exit 1
fi
# -P: a directory named like one of our packages below the working directory must not be imported instead.
exec "$python" -P -m @MODULE@ "$@"
"""


def _script(name: str, module: str) -> str:
    return _SCRIPT.replace("@MODULE@", module).replace("@NAME@", name)


LAUNCHERS: dict[str, str] = {
    name: _script(name, module)
    for name, module in {
        "pulumi-language-python": "tools.pulumi_glue.language_host",
        "pulumi-resource-random": "tools.pulumi_glue.random_provider",
        "pulumi-resource-sitewright": "sitewright.provider",
    }.items()
}


def write_launcher(directory: Path, name: str) -> None:
    path = directory / name
    path.write_text(LAUNCHERS[name])
    path.chmod(0o755)


def is_launcher(path: Path) -> bool:
    """Whether a file is one of these scripts (then it is not an official program)."""
    with path.open("rb") as file:
        return MARK.encode() in file.read(400)
