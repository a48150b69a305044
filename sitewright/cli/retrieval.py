"""`sitewright retrieval`: documents that models answer from, and what that is worth against other ways."""

import os
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sitewright.errors import SitewrightError
from sitewright.retrieval import build as building
from sitewright.retrieval import documents, report, versions
from sitewright.retrieval.compare import Asked
from sitewright.retrieval.compare import compare as compared
from sitewright.retrieval.questions import read as read_questions
from sitewright.site import Site, load
from sitewright.site.service_sections import Retrieval, RetrievalCollection
from sitewright.tuning.findings import Findings

PROBLEMS = 2  # exit status: what was given cannot be used
KEY_VARIABLE = "OPENAI_API_KEY"

_environment = click.option(
    "--environment", "-e", default="lab", show_default=True, help="Name of the site, or path of its file."
)


@click.group()
def retrieval() -> None:
    """Build collections of documents, say which version is served, compare answers.

    \b
    build, list and use need the shared file system mounted where the site file's publish_dir says.
    """


@retrieval.command()
@click.argument("collection")
@click.option(
    "--from", "source", required=True, type=click.Path(path_type=Path), help="Directory of documents."
)
@click.option("--python", type=click.Path(path_type=Path), help="Default: that of the published environment.")
@click.option("--dry-run", is_flag=True, help="Read and cut the documents, say what would be built.")
@_environment
def build(collection: str, source: Path, python: Path | None, dry_run: bool, environment: str) -> None:
    """Build the next version of COLLECTION from .md, .txt and .jsonl files. It is not served before `use`.

    \b
    What is served does not change, also when the build fails or is killed.
    Exit status: 0 built, or there already; 1 it failed; 2 problems in the documents (all printed).
    Example:     sitewright retrieval build manuals --from docs/examples/retrieval/manuals
    """
    site = load(environment)
    section, wanted = _collection(site, collection)
    findings = Findings()
    found = documents.read(source, findings)
    _judge(findings, f"{source}: these documents cannot be used; nothing was built.")
    plan = building.plan(found, wanted.passage_length, wanted.overlap)
    what = f"{len(found):,} documents, {len(plan.passages):,} passages"
    if dry_run:
        click.echo(f"{what}; nothing was changed")
        return
    publish_dir = Path(site.shared_filesystem.publish_dir)
    place = versions.place(publish_dir, collection)
    chosen = python or building.interpreter(publish_dir, section.environment)
    version, fresh = building.build(plan, place, chosen, _progress(len(plan.passages)))
    click.echo(f"{collection} {version.name}: {what}, {'built' if fresh else 'there already, built before'}")
    if versions.current(place) != version.name:
        click.echo(f"Next: sitewright retrieval use {collection} {version.name}")


@retrieval.command(name="list")
@_environment
def list_(environment: str) -> None:
    """List the versions of all collections, and which are served. Reads only, changes nothing.

    \b
    Exit status: 0, also when there is none.
    Example:     sitewright retrieval list
    """
    site = load(environment)
    table = Table(
        "collection", "version", "served", "documents", "passages", "built", box=None, pad_edge=False
    )
    for wanted in _section(site).collections:
        place = versions.place(Path(site.shared_filesystem.publish_dir), wanted.name)
        served = versions.current(place)
        for version in versions.every(place):
            told = version.manifest
            mark = "yes" if version.name == served else ""
            counts = (f"{told['documents']:,}", f"{told['passages']:,}")
            table.add_row(wanted.name, version.name, mark, *counts, told["built"])
    if not table.row_count:
        click.echo("No versions yet. Next: sitewright retrieval build --help")
        return
    Console().print(table)


@retrieval.command()
@click.argument("collection")
@click.argument("version")
@_environment
def use(collection: str, version: str, environment: str) -> None:
    """Have VERSION of COLLECTION served. Replicas take it within seconds; requests that run end with the old one.

    \b
    Exit status: 0, 1 there is no such version, or its file is damaged.
    Example:     sitewright retrieval use manuals v2
    """
    site = load(environment)
    _collection(site, collection)
    place = versions.place(Path(site.shared_filesystem.publish_dir), collection)
    before = versions.current(place)
    versions.use(place, version)
    click.echo(f"{collection} {version} is in use")
    if before not in (None, version):
        click.echo(f"Undo: sitewright retrieval use {collection} {before}")


@retrieval.command()
@click.option("--questions", required=True, type=click.Path(path_type=Path), help="Rows like held-out data.")
@click.option("--base", help="Model as it is.")
@click.option("--rag", help="Model that looks things up first.")
@click.option("--adapter", help="Model with an adapter, or a tuned one.")
@click.option("--url", required=True, help="Of the gateway, with /v1.")
@click.option("--key-file", type=click.Path(path_type=Path), help=f"Default: the variable {KEY_VARIABLE}.")
@click.option(
    "--json", "document", type=click.Path(path_type=Path), default=Path("comparison.json"), show_default=True
)
@click.option(
    "--html", "page", type=click.Path(path_type=Path), default=Path("comparison.html"), show_default=True
)
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Of an answer."
)
@click.option(
    "--parallel", type=click.IntRange(1, 64), default=1, show_default=True, help="Questions at a time."
)
@click.option("--seed", default=1, show_default=True, help="Of the confidence intervals.")
def compare(
    questions: Path,
    base: str | None,
    rag: str | None,
    adapter: str | None,
    url: str,
    key_file: Path | None,
    document: Path,
    page: Path,
    max_tokens: int,
    parallel: int,
    seed: int,
) -> None:
    """Ask two or three models the same questions, and write a report: a JSON document and a page for browsers.

    \b
    The last message of each row is the wanted answer. Temperature 0. Questions that got no answer are listed, and
    count as wrong.
    Exit status: 0 all were answered, 1 some were not (the report is written), 2 problems in the arguments or rows.
    Example:     sitewright retrieval compare --questions eval.jsonl --base tiny --rag tiny-with-manuals --url URL
    """
    models = {kind: name for kind, name in (("base", base), ("rag", rag), ("adapter", adapter)) if name}
    if len(set(models.values())) < 2:
        raise _problem("give two or three different models, of --base, --rag and --adapter")
    findings = Findings()
    rows = read_questions(questions, findings)
    _judge(findings, f"{questions}: these questions cannot be asked; nothing was asked.")
    asked = Asked(url.rstrip("/"), _key(key_file), max_tokens, parallel, seed)
    total = len(rows) * len(models)
    found = compared(
        rows, models, asked, lambda done: click.echo(f"  {done:,} of {total:,} answers", err=True)
    )
    report.write(found, document, page)
    click.echo(report.text(found))
    click.echo(f"{document} and {page} were written")
    if failed := sum(len(model["failed"]) for model in found["models"]):
        raise SitewrightError(
            f"{failed:,} of {total:,} questions got no answer; they are listed in both files"
        )


def _section(site: Site) -> Retrieval:
    if site.services.retrieval is None:
        raise _problem(f"environment {site.name} has no services.retrieval")
    return site.services.retrieval


def _collection(site: Site, name: str) -> tuple[Retrieval, RetrievalCollection]:
    section = _section(site)
    for one in section.collections:
        if one.name == name:
            return section, one
    there = ", ".join(one.name for one in section.collections) or "none"
    raise _problem(f"no collection {name!r} in services.retrieval of {site.name}; there is {there}")


def _judge(findings: Findings, otherwise: str) -> None:
    """Prints what was found. Raises: SitewrightError where it is more than warnings."""
    for line in findings.lines():
        click.echo(line, err=True)
    if findings.total("error"):
        raise _problem(otherwise)


def _problem(message: str) -> SitewrightError:
    problem = SitewrightError(message)
    problem.exit_status = PROBLEMS  # type: ignore[attr-defined]
    return problem


def _progress(total: int) -> Callable[[int], None]:
    shown = max(1, total // 10)

    def say(done: int) -> None:
        if done == total or done % shown < 512:
            click.echo(f"  {done:,} of {total:,} passages", err=True)

    return say


def _key(key_file: Path | None) -> str:
    """From a file or a variable, and never from an argument, which everybody on the machine sees."""
    if key_file is None:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise _problem(f"no key: set {KEY_VARIABLE}, or give --key-file")
        return key
    try:
        key = key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _problem(f"{key_file}: the key cannot be read: {error}") from None
    if not key or not key.isascii() or any(character.isspace() for character in key):
        raise _problem(f"{key_file}: a key is one word")
    return key
