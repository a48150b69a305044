"""Where tables of commands go."""

from rich.console import Console


def console() -> Console:
    """Wide where it is not a terminal, so that a pipe gets whole names."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)
