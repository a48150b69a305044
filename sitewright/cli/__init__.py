"""The `sitewright` command. Each subcommand is a module of its own, imported when it is called."""

import importlib
import importlib.util
import traceback
from typing import Any

import click

from sitewright.errors import SitewrightError

COMMANDS = {
    "adapters": "What fine-tuning made: list, show, check, publish, warm, canary, promote, rollback.",
    "config": "Look at site files: check, show, schema.",
    "images": "Boot images: list, diff, prune, verify, new-key.",
    "lab": "The one-machine site: up, down, status, logs, ssh.",
    "lint": "Manifests that serve models: what will fail on a site, and why.",
    "nodes": "Diskless nodes: list, show, power, drain, roll, reassign, replace.",
    "retrieval": "Documents that models answer from: build, list, use, compare.",
    "runs": "The recorded runs of playbooks: list, show.",
    "tools": "The pinned programs: build, locate.",
    "tune": "Fine-tuning runs: check, submit, list, logs, cancel, resume.",
    "usage": "What teams have used of a gateway: show, set-used.",
}
"""Subcommand → its line in the help; the command itself is `sitewright.cli.<name>.<name>`."""


class Commands(click.Group):
    """Imports a subcommand when it is called; turns a SitewrightError into text and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(f"{__name__}.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of subcommands, written without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SitewrightError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            else:
                click.echo(str(error), err=True)
            ctx.exit(getattr(error, "exit_status", 1))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sitewright")
@click.option("--debug", is_flag=True, help="Print the traceback of an error as well.")
def main(debug: bool) -> None:
    """Bring up an HPC centre's AI factory from code, and look after it.

    The site itself is deployed by `pulumi up`; this command is for what stands around it.

    \b
    Exit status: 0 done, 1 failed, 2 problems in the site file or in the arguments.
    Example:     sitewright config check lab
    """
