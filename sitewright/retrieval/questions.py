"""Questions with the answers that are wanted, as rows of held-out data: the last message is the answer."""

from dataclasses import dataclass
from pathlib import Path

from sitewright.tuning.dataset_file import lines, open_for_reading, other_kind
from sitewright.tuning.dataset_rows import Messages, messages_of
from sitewright.tuning.findings import Fault, Findings


@dataclass(frozen=True)
class Question:
    """line: of its row; messages: what is asked; wanted: the answer."""

    line: int
    messages: Messages
    wanted: str

    @property
    def text(self) -> str:
        return self.messages[-1]["content"]


def read(path: Path, findings: Findings) -> list[Question]:
    """The questions of a file; what is wrong with its rows goes to findings. Raises: SitewrightError without a file."""
    found: list[Question] = []
    with open_for_reading(path) as file:
        if other := other_kind(file):
            findings.add(path, None, [other])
            return found
        for line in lines(file, path, findings):
            messages, faults = messages_of(line)
            findings.add(path, line.number, faults)
            if messages:
                found.append(Question(line.number, messages[:-1], messages[-1]["content"]))
    if not found and not findings.total("error"):
        findings.add(path, None, [Fault("no-rows", "the file has no rows", "one row at least is wanted")])
    return found
