"""`sitewright tune`: a researcher's fine-tuning runs, from the data to the weights."""

import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from sitewright.cli.tune_output import HOUR, POLL, line_of, print_table, state_of
from sitewright.cli.tune_output import follow as follow_run
from sitewright.errors import SitewrightError
from sitewright.tuning import curve, dataset, progress, runs, tokens
from sitewright.tuning import recipe as recipes
from sitewright.tuning.cluster import Cluster
from sitewright.tuning.template import TrainingTemplate

DAY = 86_400
WAITING = ("waiting", "queued", "admitted", "preempted")
_CONTEXT = 512  # tokens, where neither recipe nor model say how long a row may be

_namespace = click.option(
    "--namespace", "-n", default="fine-tuning", show_default=True, help="Kubernetes namespace of the runs."
)

_queue = click.option("--queue", help="Of your team. Default: the one it had, or the only one there is.")
_priority = click.option(
    "--priority",
    help="One that the site offers; lower ones make way. Default: the one it had, or none, which is 0.",
)


@click.group()
def tune() -> None:
    """Fine-tune a served model: check data, submit runs, follow, stop and continue them.

    \b
    Needs KUBECONFIG, and the shared file system mounted where the site file's publish_dir says.
    """


@tune.command()
@click.argument("train", type=click.Path(path_type=Path))
@click.option(
    "--evaluation", type=click.Path(path_type=Path), help="Held-out rows; none of train may be in it."
)
@click.option("--max-length", type=click.IntRange(min=1), default=_CONTEXT, show_default=True, help="Tokens.")
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the model, whose tokenizer counts. Default: the tokens are estimated.",
)
def check(train: Path, evaluation: Path | None, max_length: int, tokenizer: Path | None) -> None:
    """Check the data set TRAIN (JSON lines). Reads only, needs no cluster.

    \b
    Exit status: 0 can be trained with (warnings are printed), 2 problems in the data.
    Example:     sitewright tune check train.jsonl --evaluation held-out.jsonl
    """
    _checked(train, evaluation, max_length, tokens.counter(tokenizer) if tokenizer else None)
    click.echo("Next: sitewright tune submit MODEL TRAIN RECIPE")


@tune.command()
@click.argument("model")
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--name", help="Of the run; the time is put behind it. Default: the model's.")
@click.option("--evaluation", type=click.Path(path_type=Path), help="Held-out rows, on which it is judged.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=24.0,
    show_default=True,
    help="Hours.",
)
@_queue
@_priority
@click.option("--dry-run", is_flag=True, help="Check everything, ask the API server as well, change nothing.")
@click.option(
    "--follow", "-f", is_flag=True, help="Show progress until the run ends; Ctrl-C leaves it running."
)
@_namespace
def submit(
    model: str,
    train: Path,
    recipe: Path,
    name: str | None,
    evaluation: Path | None,
    time_limit: float,
    queue: str | None,
    priority: str | None,
    dry_run: bool,
    follow: bool,
    namespace: str,
) -> None:
    """Submit a run: MODEL is tuned with the data TRAIN as RECIPE says.

    \b
    Data and recipe are checked before anything is asked for. With a --queue the run starts when it is its turn.
    Exit status: 0 submitted (with --follow: finished), 1 refused or failed, 2 problems in data or recipe.
    Example:     sitewright tune submit tiny train.jsonl recipe.yaml --evaluation held-out.jsonl --follow
    """
    wanted = recipes.load(recipe)
    cluster = Cluster(namespace)
    template = cluster.template()
    tuned = _model(template, model)
    length = min(wanted.max_length, tuned.max_length or wanted.max_length)
    report = _checked(train, evaluation, length, tokens.counter(template.seen_here(tuned.path)))
    run, limit = runs.run_id(name or model), round(time_limit * HOUR)
    turn = cluster.queues.turn(queue, priority)
    cluster.queues.refuse_uncovered(turn, cluster.requests(template, run, model) if turn.queue else ())
    if dry_run:
        cluster.submit(template, run, model, limit, turn, dry_run=True)
        click.echo(f"{run} would be submitted; nothing was changed")
        return
    request = {
        "run": run,
        "model": model,
        "base_model": tuned.path,
        "base_digest": tuned.digest,
        "recipe": wanted.model_dump(mode="json"),
        "train": runs.TRAIN,
        "evaluation": runs.EVALUATION if evaluation else None,
        "data_digest": report.digest,
        "code_version": version("sitewright"),
        "image": tuned.image,
        "environment_digest": Path(tuned.python).parents[1].name,
        "submitted": datetime.now(UTC).isoformat(timespec="seconds"),
        "time_limit": limit,
        "queue": turn.queue,
        "priority": turn.priority,
    }
    made = runs.create(template, run, request, train, evaluation)
    try:
        cluster.submit(template, run, model, limit, turn)
    except SitewrightError:
        runs.remove(made)
        raise
    click.echo(f"{run} was submitted")
    if follow:
        follow_run(cluster, made)
    else:
        click.echo(f"Next: sitewright tune logs {run} --follow")


@tune.command(name="list")
@_namespace
def list_(namespace: str) -> None:
    """List the runs, newest last. Reads only, changes nothing.

    \b
    Exit status: 0, also when there is none.
    Example:     sitewright tune list
    """
    cluster = Cluster(namespace)
    found = runs.every(cluster.template())
    if not found:
        click.echo("No runs yet. Next: sitewright tune submit --help")
        return
    print_table(found, cluster.states())


@tune.command()
@click.argument("run")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends; Ctrl-C leaves it running.")
@click.option(
    "--curve", "picture", type=click.Path(path_type=Path), help="Write the loss curve there, as SVG."
)
@_namespace
def logs(run: str, follow: bool, picture: Path | None, namespace: str) -> None:
    """Show how far RUN is, and what it printed last. Reads only, changes nothing.

    \b
    Exit status: 0; with --follow: 1 when the run fails.
    Example:     sitewright tune logs tiny-20261126-120000 --follow
    """
    cluster = Cluster(namespace)
    found = runs.find(cluster.template(), run)
    if picture is not None:
        curve.loss_curve(progress.points(found.progress), picture)
        click.echo(f"{picture} was written")
    if follow:
        follow_run(cluster, found)
        return
    state = state_of(found, cluster.states())
    click.echo(line_of(found, state))
    click.echo(cluster.log(run, 20), nl=False)


@tune.command()
@click.argument("run")
@_namespace
def cancel(run: str, namespace: str) -> None:
    """Stop RUN. It writes a checkpoint before it ends, and can be continued with `resume`.

    \b
    Exit status: 0 it ends, 1 there was nothing to stop.
    Example:     sitewright tune cancel tiny-20261126-120000
    """
    cluster = Cluster(namespace)
    found = runs.find(cluster.template(), run)
    state = state_of(found, cluster.states())
    if state.state not in ("running", *WAITING):
        raise SitewrightError(f"{run} is {state.state}: there is nothing to stop")
    cluster.end(run)
    click.echo(f"{run} ends once it has written a checkpoint\nNext: sitewright tune resume {run}")


@tune.command()
@click.argument("run")
@_queue
@_priority
@click.option("--follow", "-f", is_flag=True, help="Show progress until the run ends.")
@_namespace
def resume(run: str, queue: str | None, priority: str | None, follow: bool, namespace: str) -> None:
    """Continue RUN, which was cancelled or failed, from its last complete checkpoint.

    \b
    Exit status: 0 submitted (with --follow: finished), 1 it is finished, or still runs.
    Example:     sitewright tune resume tiny-20261126-120000
    """
    cluster = Cluster(namespace)
    template = cluster.template()
    found = runs.find(template, run)
    state = state_of(found, cluster.states())
    if state.state not in ("stopping", "cancelled", "failed"):
        raise SitewrightError(f"{run} is {state.state}: there is nothing to continue")
    request = found.request
    if _model(template, request["model"]).digest != request["base_digest"]:
        raise SitewrightError(
            f"{run}: the weights of {request['model']} are not those it began with", "Submit a new run."
        )
    turn = cluster.queues.turn(queue or request.get("queue") or None, priority or request.get("priority"))
    cluster.end(run)
    _wait_until_gone(cluster, run)
    cluster.submit(template, run, request["model"], int(request.get("time_limit", DAY)), turn)
    click.echo(f"{run} goes on")
    if follow:
        follow_run(cluster, found)


def _wait_until_gone(cluster: Cluster, run: str) -> None:
    for _ in range(60):
        if run not in cluster.states():
            return
        time.sleep(POLL)
    raise SitewrightError(f"{run}: its pod still writes a checkpoint", "Try again in some minutes.")


def _model(template: TrainingTemplate, name: str) -> Any:
    if name not in template.models:
        raise SitewrightError(
            f"no model {name!r} to tune here; there is {', '.join(sorted(template.models)) or 'none'}",
            "services.fine_tuning.models of the site file says which may be tuned.",
        )
    return template.models[name]


def _checked(
    train: Path, evaluation: Path | None, max_length: int, count: dataset.CountTokens | None
) -> dataset.Report:
    report = dataset.check(train, evaluation, max_length, count)
    for line in report.lines():
        click.echo(line, err=True)
    if not report.ok:
        problem = SitewrightError(f"{train}: this cannot be trained with; nothing was submitted.")
        problem.exit_status = 2  # type: ignore[attr-defined]
        raise problem
    click.echo(f"{train}: {report.train.rows:,} rows, sha256 {report.digest[:12]}")
    return report
