"""How the initial root fetches the root file system, from servers that do not behave. Its own script is run.

It is given the curl of this machine, and pauses that are a thousandth of the real ones.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contracts.image_servers import (
    ALWAYS,
    DOWN,
    MODULE,
    QUICK,
    ROOT,
    Server,
    busy,
    cut_short,
    drips,
    goes_silent,
    half_copied,
    hangs_up,
    has_no_more,
    image_servers,
    knows_no_ranges,
    not_there,
    whole_and_then_hangs_up,
)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with image_servers() as start:
        yield start


def fetch(servers: Server | list[Server], target: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The first of several servers is the first to be asked."""
    urls = [one.url for one in (servers if isinstance(servers, list) else [servers])]
    if len(urls) > 1:
        more["FETCH_TURN"] = "0"
    return subprocess.run(
        ["sh", "-c", f'. {MODULE}/fetch.sh; fetch_root "$@"', "fetch", str(target), *urls],
        env={"PATH": "/usr/bin:/bin", "no_proxy": "127.0.0.1", **QUICK, **more},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("behaviours", "said", "ranges"),
    [
        ([busy, busy], "the server answered 503", ["", "", ""]),
        ([not_there], "the server answered 404", ["", ""]),
        ([hangs_up], "the server hung up", ["", ""]),
        ([cut_short, cut_short], "the answer was cut short", ["", "bytes=300000-", "bytes=600000-"]),
        ([goes_silent], "no data for 1 s", ["", "bytes=300000-"]),
        ([cut_short, busy], "the server answered 503", ["", "bytes=300000-", "bytes=300000-"]),
        ([cut_short, knows_no_ranges], "the server does not continue", ["", "bytes=300000-", ""]),
    ],
    ids=lambda value: (
        "-".join(one.__name__ for one in value) if isinstance(value, list) and callable(value[0]) else ""
    ),
)
def test_the_whole_root_comes_all_the_same(
    serve, tmp_path: Path, behaviours, said: str, ranges: list[str]
) -> None:
    server = serve(*behaviours)
    done = fetch(server, tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root").read_bytes() == ROOT
    assert said in done.stderr and "again in 0." in done.stderr
    assert server.ranges == ranges


def test_a_body_that_drips_is_as_good_as_silent(serve, tmp_path: Path) -> None:
    server = serve(drips)
    begun = time.monotonic()
    done = fetch(server, tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root").read_bytes() == ROOT
    assert time.monotonic() - begun < 10, "at its pace the root would take three quarters of an hour"
    assert server.ranges[1].startswith("bytes="), "what came is kept"


def test_a_server_that_never_gives_it_ends_the_boot_with_the_reason(serve, tmp_path: Path) -> None:
    server = serve(*[busy] * 9)
    done = fetch(server, tmp_path / "root", FETCH_ATTEMPTS="3")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("did not come in 3 attempts: the server answered 503")
    assert len(server.ranges) == 3


# Several servers. ---------------------------------------------------------------------------------------------


def test_a_server_that_is_down_has_the_next_one_asked(serve, tmp_path: Path) -> None:
    mirror = serve()
    done = fetch([DOWN, mirror], tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root").read_bytes() == ROOT
    [said] = done.stderr.splitlines()
    assert said.startswith(f"sitewright: {DOWN.url}: no connection; attempt 1 of 100, again in 0.")


@pytest.mark.parametrize(
    ("behaviour", "asked_of_the_mirror"),
    [
        (busy, ""),
        (not_there, ""),
        (hangs_up, ""),
        (cut_short, "bytes=300000-"),
        (goes_silent, "bytes=300000-"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_server_does_not_give_comes_from_the_next_one(
    serve, tmp_path: Path, behaviour, asked_of_the_mirror: str
) -> None:
    server, mirror = serve(*[behaviour] * ALWAYS), serve()
    done = fetch([server, mirror], tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root").read_bytes() == ROOT
    assert (server.ranges, mirror.ranges) == ([""], [asked_of_the_mirror])


def test_servers_are_asked_in_turn_until_one_has_it(serve, tmp_path: Path) -> None:
    servers = [serve(*[not_there] * ALWAYS), serve(busy), serve(*[not_there] * ALWAYS)]
    done = fetch(servers, tmp_path / "root")
    assert (tmp_path / "root").read_bytes() == ROOT
    assert [len(one.ranges) for one in servers] == [2, 2, 1]
    assert [line.split()[1] for line in done.stderr.splitlines()] == [
        f"{one.url}:" for one in (*servers, servers[0])
    ]


def test_a_mirror_that_has_half_of_it_does_not_cost_what_came(serve, tmp_path: Path) -> None:
    server, mirror = serve(*[cut_short] * ALWAYS), serve(*[half_copied] * ALWAYS)
    done = fetch([server, mirror], tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root").read_bytes() == ROOT
    assert server.ranges == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_what_no_server_has_more_of_is_whole(serve, tmp_path: Path) -> None:
    server, mirror = serve(whole_and_then_hangs_up, has_no_more), serve(has_no_more)
    done = fetch([server, mirror], tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root").read_bytes() == ROOT
    assert (len(server.ranges), len(mirror.ranges)) == (2, 1)


def test_what_no_server_continues_is_begun_again(serve, tmp_path: Path) -> None:
    server, mirror = serve(cut_short, knows_no_ranges), serve(knows_no_ranges)
    done = fetch([server, mirror], tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root").read_bytes() == ROOT
    assert (server.ranges, mirror.ranges) == (["", "bytes=300000-"], ["bytes=300000-", ""])


def test_servers_that_all_do_not_give_it_end_the_boot_after_as_many_attempts_as_one(
    serve, tmp_path: Path
) -> None:
    servers = [serve(*[busy] * ALWAYS), serve(*[not_there] * ALWAYS)]
    done = fetch(servers, tmp_path / "root", FETCH_ATTEMPTS="4")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"sitewright: {servers[1].url} did not come in 4 attempts: the server answered 404"
    )
    assert [len(one.ranges) for one in servers] == [2, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_nodes_that_begin_together_use_all_servers(count: int) -> None:
    names = [str(number) for number in range(count)]
    pick = f'FETCH_TURN=; . {MODULE}/fetch.sh; url_of "$FETCH_TURN" {" ".join(names)}'
    script = f"i=0; while [ $i -lt 200 ]; do ({pick}); i=$((i + 1)); done"
    done = subprocess.run(["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert not done.stderr
    picked = Counter(done.stdout.split())
    assert picked.keys() == set(names)
    assert max(picked.values()) - min(picked.values()) < 80


def pauses(attempt: int) -> list[float]:
    script = f". {MODULE}/fetch.sh; i=0; while [ $i -lt 40 ]; do pause_before {attempt}; i=$((i + 1)); done"
    done = subprocess.run(["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert not done.stderr
    return [float(line) for line in done.stdout.split()]


@pytest.mark.parametrize(("attempt", "middle"), [(1, 1), (2, 2), (4, 8), (5, 15), (60, 15)])
def test_the_pauses_grow_and_no_two_nodes_wait_equally_long(attempt: int, middle: int) -> None:
    found = pauses(attempt)
    assert all(middle / 2 <= one <= middle * 1.5 for one in found)
    assert len(set(found)) > 30
    assert max(found) - min(found) > middle / 2
