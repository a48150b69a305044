"""Figures as JSON lines: `make bench`, or `python -m tests.bench --only hostlist,preview`.

Each line has name, value, unit; `target` where the project has set one, `peer` where something else was
measured in the same run. Progress goes to standard error.
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from tests.bench import lab, pure

Figure = dict[str, Any]
GROUPS: dict[str, Callable[[], Iterator[Figure]]] = {
    "hostlist": pure.hostlist,
    "preview": pure.preview,
    "warm": lab.warm,
    "noop": lab.noop,
    "nodes": lab.nodes,
    "idle": lab.idle,
}


@click.command()
@click.option("--only", default=",".join(GROUPS), show_default=True, help="groups to measure, with commas")
def main(only: str) -> None:
    """Measure and print JSON lines. `warm` takes the lab down and brings it up again.

    Example: python -m tests.bench --only hostlist,preview
    """
    chosen = only.split(",")
    if unknown := set(chosen) - set(GROUPS):
        raise click.UsageError(f"no group {', '.join(sorted(unknown))}; there is {', '.join(GROUPS)}")
    for group in chosen:
        print(f"bench: {group}", file=sys.stderr)
        for figure in GROUPS[group]():
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
