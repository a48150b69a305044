"""A version of a collection, built from documents with the Python of the retrieval environment."""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sitewright.artifacts.recipes import file_digest
from sitewright.artifacts.scratch import scratch_of
from sitewright.errors import SitewrightError
from sitewright.retrieval.documents import Document
from sitewright.retrieval.passages import Passage, passages
from sitewright.retrieval.versions import INDEX, MANIFEST, Version, every, keep
from sitewright.site.files import REPOSITORY

FORMAT = 1  # raised when the same documents shall give another index
PROGRAM = "modules.retrieval.retrieval_index"
PASSAGES = "passages.jsonl"


@dataclass(frozen=True)
class Plan:
    """What would be built. settings: all that the index follows from, but for the embedding model."""

    passages: list[Passage]
    settings: dict[str, Any]


def plan(documents: Sequence[Document], length: int, overlap: int) -> Plan:
    listed = "".join(f"{one.digest}  {one.name}\n" for one in documents)
    settings = {
        "format": FORMAT,
        "sources": hashlib.sha256(listed.encode()).hexdigest(),
        "documents": len(documents),
        "passage_length": length,
        "overlap": overlap,
    }
    return Plan(passages(documents, length, overlap), settings)


def interpreter(publish_dir: Path, environment: str) -> Path:
    """The Python of the newest published environment of that name. Raises: SitewrightError where there is none."""
    found = sorted(
        publish_dir.glob(f"environments/{environment}-*/manifest.json"),
        key=lambda path: (path.stat().st_mtime, path.parent.name),
    )
    if not found:
        raise SitewrightError(
            f"{publish_dir}/environments: no environment {environment} is published",
            "`pulumi up` publishes it.",
        )
    return found[-1].parent / "bin/python"


def build(
    wanted: Plan, collection: Path, python: Path, say: Callable[[int], None] = lambda done: None
) -> tuple[Version, bool]:
    """The version with these documents, and whether it had to be built. say: is told how many passages are done.

    A build that fails or is killed leaves nothing, and what is served stays; two builds at once wait for one another.
    Raises: SitewrightError with what the program printed, or why nothing can be written.
    """
    try:
        with scratch_of(collection) as scratch:
            embedding = _embedding(python)
            settings = {**wanted.settings, "embedding": embedding}
            for version in reversed(every(collection)):
                if {key: version.manifest.get(key) for key in settings} == settings:
                    return version, False
            made = scratch / "version"
            made.mkdir()
            _index(wanted.passages, made, python, say)
            _describe(made, settings, len(wanted.passages))
            return keep(made, collection), True
    except OSError as error:
        raise SitewrightError(
            f"{collection}: {error.strerror or error}; nothing was built",
            "Run it where the shared file system is mounted writable and has room.",
        ) from error


def _embedding(python: Path) -> str:
    code = "from modules.retrieval.retrieval_embeddings import Embedder; print(Embedder().version)"
    done = subprocess.run(
        [python, "-c", code], env=_variables(), capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise SitewrightError(f"{python}: the embedding model does not load:\n{done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def _index(found: Sequence[Passage], made: Path, python: Path, say: Callable[[int], None]) -> None:
    listed = made / PASSAGES
    with listed.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in found)
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [python, "-m", PROGRAM, listed, made / INDEX],
            env=_variables(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            if "done" in (told := json.loads(line)):
                say(told["done"])
        if process.wait():
            errors.seek(0)
            raise SitewrightError(f"{PROGRAM} failed; nothing was built:\n{errors.read().strip()[-2000:]}")


def _describe(made: Path, settings: dict[str, Any], count: int) -> None:
    """The manifest; it is written last, so that it marks a complete version."""
    content = {
        **settings,
        "passages": count,
        "digest": file_digest(made / INDEX),
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (made / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _variables() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
