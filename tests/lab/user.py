"""A user of the lab who follows a runbook word for word."""

import re
import subprocess
import tempfile
import time
from pathlib import Path

from tests.runbook import DIRECTORY, console, pattern, steps, typed, worked_if

REPOSITORY = Path(__file__).parents[2]


class Shell:
    """A user's shell in the checkout: what a command exports or unsets holds for those after it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def run(self, command: str, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
        """The command, its output and its errors in one as on a terminal."""
        with tempfile.NamedTemporaryFile(mode="r") as left:
            script = f"{command}\nstatus=$?\nenv -0 >{left.name}\nexit $status"
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
            )
            self.environment = dict(entry.split("=", 1) for entry in left.read().split("\0") if "=" in entry)
        return done

    def must(self, command: str, prints: str = "") -> str:
        """The command, which ends well and prints that. Returns all that it prints."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-4000:]}"
        assert not prints or pattern(prints).search(done.stdout), (
            f"{command}: no {prints!r} in\n{done.stdout[-4000:]}"
        )
        return done.stdout

    def prepare(self) -> "Shell":
        """As docs/README.md says."""
        for command in typed(console((DIRECTORY.parent / "README.md").read_text())):
            self.must(command)
        return self


class Runbook:
    """Steps are called by their numbers."""

    def __init__(self, name: str, shell: Shell) -> None:
        self._text = (DIRECTORY / f"{name}.md").read_text()
        self._steps = {step.number: step for step in steps(self._text)}
        self._shell = shell

    def rename(self, names: dict[str, str]) -> None:
        """Put names of this site in the place of those the runbook uses."""
        # All at once: what one name becomes may be another name of the runbook.
        self._text = re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], self._text)
        self._steps = {step.number: step for step in steps(self._text)}

    def look(self, number: int) -> str:
        """Do a step that finds something wrong. Returns what the user sees."""
        return self._shell.run(self._steps[number].command).stdout

    def follow(self, *numbers: int) -> str:
        """Do these steps, in this order; each ends well and prints what the runbook shows. Returns what the last
        one printed."""
        return [
            self._shell.must(self._steps[number].command, self._steps[number].prints) for number in numbers
        ][-1]

    def quotes(self, words: str, seen: str) -> None:
        """The runbook quotes these words as what the user sees, and he sees them."""
        assert f"`{words}`" in self._text, f"the runbook does not quote {words!r}"
        assert pattern(words).search(seen), f"{words!r} was not seen in\n{seen[-4000:]}"

    def wait_for(self, number: int, words: str, seconds: float) -> str:
        """Repeat a step that only looks until its output holds the words. Returns the output."""
        deadline = time.monotonic() + seconds
        while not pattern(words).search(seen := self.look(number)):
            assert time.monotonic() < deadline, f"step {number}: no {words!r} within {seconds} s in\n{seen}"
            time.sleep(1)
        return seen

    def worked(self, seconds: float = 120) -> None:
        """What the runbook calls its success comes true, at the latest after these seconds."""
        command, prints = worked_if(self._text)
        deadline = time.monotonic() + seconds
        while (done := self._shell.run(command)).returncode or not pattern(prints).search(done.stdout):
            assert time.monotonic() < deadline, f"{command}: no {prints!r} in\n{done.stdout}"
            time.sleep(1)
