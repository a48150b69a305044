"""Running the system's programs, with errors an operator can read."""

import os
import subprocess

from sitewright.errors import SitewrightError

# Where Debian puts programs. A shell of root that was made by `su` does not look into the directories of sbin.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(*command: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
    """Output of the command. A failure names the command and what it printed."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"},
            check=False,
        )
    except FileNotFoundError as problem:
        raise SitewrightError(
            f"the program `{command[0]}` is not there", "`sitewright lab up` lists what is missing."
        ) from problem
    except subprocess.TimeoutExpired as problem:
        raise SitewrightError(f"`{' '.join(command)}` did not end within {timeout:.0f} s") from problem
    if check and done.returncode:
        what = (done.stderr or done.stdout).strip()
        raise SitewrightError(f"`{' '.join(command)}` failed with status {done.returncode}: {what}")
    return done.stdout
