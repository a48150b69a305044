"""What an operator sees of a roll: a table that lives in a terminal, and lines elsewhere."""

import time
from types import TracebackType

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_STYLES = {"waits": "dim", "failed": "red", "runs": "green"}


class RollView:
    """As a context manager while the roll runs; `tell` and `show` may be called outside of it too."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._console = console
        self._states = dict.fromkeys(names, "waits")
        self._since = dict.fromkeys(names, time.monotonic())
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=False)

    def __enter__(self) -> "RollView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, name: str, state: str) -> None:
        """A node is at something else now."""
        self._states[name], self._since[name] = state, time.monotonic()
        if not self._console.is_terminal:
            click.echo(f"{name}: {state}")

    def tell(self, line: str) -> None:
        """Something happened on the way. In a terminal it stays above the table."""
        if self._console.is_terminal:
            self._console.print(line, markup=False)
        else:
            click.echo(line)

    def _table(self) -> Table:
        table = Table("node", "state", box=None, pad_edge=False)
        table.add_column("seconds", justify="right")
        now = time.monotonic()
        for name, state in self._states.items():
            style = _STYLES.get(state.partition(" ")[0].rstrip(":"), "cyan")
            moving = style == "cyan"
            table.add_row(name, Text(state, style), f"{now - self._since[name]:.0f}" if moving else "")
        return table
