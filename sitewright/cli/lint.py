"""`sitewright lint`: look at manifests that serve models before they are applied."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from sitewright.lint import manifests, rules


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--diskless", is_flag=True, help="For diskless nodes, where memory is the only disk.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def lint(ctx: click.Context, files: tuple[Path, ...], diskless: bool, style: str) -> None:
    """Look at rendered manifests that serve models with vLLM, ours or others'. Reads only, changes nothing.

    \b
    FILES are YAML or JSON files, directories of them, or - for what is piped in.
    Exit status: 0 no errors (warnings are printed), 1 errors, 2 something is no manifest.
    Example:     helm template stack vllm/vllm-stack | sitewright lint --diskless -
    """
    objects = manifests.read(files)
    found = rules.lint(objects, diskless)
    if style == "json":
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(
                f"{finding.place}: {finding.object}: {finding.severity}: {finding.message} [{finding.rule}]"
            )
            click.echo(f"  do: {finding.fix}\n  why: {finding.source}")
        served = sum(1 for _ in manifests.engines(objects))
        errors = sum(finding.severity == "error" for finding in found)
        click.echo(
            f"{len(objects)} objects, {served} containers that run vLLM: "
            f"{errors} errors, {len(found) - errors} warnings"
        )
    ctx.exit(1 if any(finding.severity == "error" for finding in found) else 0)
