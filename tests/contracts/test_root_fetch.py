"""How the initial root fetches the root file system, from servers that do not behave. Its own script is run.

It is given the curl of this machine, and pauses that are a thousandth of the real ones.
"""

import hashlib
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULE = REPOSITORY / "playbooks/roles/boot_image/files/95sitewright-root"
ROOT = bytes(range(256)) * 4096  # 1 MiB
PLACE = f"{'a' * 64}/rootfs.squashfs"
QUICK = {"FETCH_FIRST_PAUSE": "20", "FETCH_LONGEST_PAUSE": "80", "FETCH_SILENT_SECONDS": "1"}


@dataclass
class Server:
    """behaviours: of one request each, in turn; then it behaves. ranges: what was asked for, "" for all.

    base: where the site file has the server; url: of the root, below it.
    """

    behaviours: list[Callable[["Handler"], None]]
    base: str
    ranges: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.base}/{PLACE}"


class Handler(BaseHTTPRequestHandler):
    server: "_Http"

    def do_GET(self) -> None:
        told = self.server.told
        told.ranges.append(self.headers.get("range", ""))
        told.paths.append(self.path)
        (told.behaviours.pop(0) if told.behaviours else whole)(self)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    @property
    def first(self) -> int:
        """The first byte that was asked for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else 0

    def head(self, length: int | None) -> None:
        if self.first:
            self.send_response(206)
            self.send_header("content-range", f"bytes {self.first}-{len(ROOT) - 1}/{len(ROOT)}")
        else:
            self.send_response(200)
        if length is not None:
            self.send_header("content-length", str(length))
        self.end_headers()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    told: Server

    def handle_error(self, *_: object) -> None:
        """Nothing: a client that hangs up is what some tests are about."""


def whole(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(ROOT[handler.first :])


def busy(handler: Handler) -> None:
    handler.send_error(503)


def not_there(handler: Handler) -> None:
    handler.send_error(404)


def hangs_up(handler: Handler) -> None:
    """Closes before it has said anything."""
    handler.close_connection = True


def cut_short(handler: Handler) -> None:
    """Promises all, gives 300,000 bytes more."""
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(ROOT[handler.first : handler.first + 300_000])


def cut_short_without_a_length(handler: Handler) -> None:
    handler.head(None)
    handler.wfile.write(ROOT[:300_000])


def goes_silent(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(ROOT[handler.first : handler.first + 300_000])
    handler.wfile.flush()
    time.sleep(20)


def drips(handler: Handler) -> None:
    """A hundred bytes, ten times a second, of which it never gets done."""
    handler.head(len(ROOT) - handler.first)
    for start in range(handler.first, handler.first + 4000, 100):
        handler.wfile.write(ROOT[start : start + 100])
        time.sleep(0.1)


def knows_no_ranges(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(ROOT)))
    handler.end_headers()
    handler.wfile.write(ROOT)


def whole_and_then_hangs_up(handler: Handler) -> None:
    """Promises more than there is."""
    handler.head(len(ROOT) + 1)
    handler.wfile.write(ROOT)


def has_no_more(handler: Handler) -> None:
    handler.send_error(416)


def half_copied(handler: Handler) -> None:
    """A file there that ends after 300,000 bytes, and says so."""
    if handler.first >= 300_000:
        handler.send_error(416)
        return
    handler.head(300_000 - handler.first)
    handler.wfile.write(ROOT[handler.first : 300_000])


def other_bytes(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(bytes(len(ROOT) - handler.first))


def other_bytes_cut_short(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(bytes(300_000))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers = []

    def start(*behaviours: Callable[[Handler], None]) -> Server:
        http = _Http(("127.0.0.1", 0), Handler)
        http.told = Server(list(behaviours), f"http://127.0.0.1:{http.server_port}/boot")
        threading.Thread(target=http.serve_forever, daemon=True).start()
        servers.append(http)
        return http.told

    yield start
    for http in servers:
        http.shutdown()
        http.server_close()


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

ALWAYS = 99
DOWN = Server([], "http://127.0.0.1:1/boot")


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


# What comes after the fetching: dracut's library and the mount are stand-ins, the check is the real one. ----------

LIBRARY = """
getarg() { case $1 in sitewright.root=) echo "$DIGEST" ;; sitewright.mirrors=) echo "$MIRRORS" ;; esac; }
die() { echo "FATAL: $*" >&2; }
"""


def boot(
    server: Server, tmp_path: Path, digest: str, mirrors: Sequence[Server] = ()
) -> subprocess.CompletedProcess[str]:
    """livenet-root.sh as dracut calls it, every path of the initial root below tmp_path. The server comes before the
    mirrors."""
    (tmp_path / "dracut-lib.sh").write_text(LIBRARY)
    (tmp_path / "url-lib.sh").write_text("")
    (tmp_path / "mount").write_text('#!/bin/sh\necho "mounted $(sha256sum < "$1")"\n')
    moved = {
        "/tmp/": f"{tmp_path}/",  # first: the others lie below it
        "/run/": f"{tmp_path}/",
        "/lib/dracut-lib.sh": tmp_path / "dracut-lib.sh",
        "/lib/url-lib.sh": tmp_path / "url-lib.sh",
        "/lib/sitewright-fetch.sh": MODULE / "fetch.sh",
        "/sbin/dmsquash-live-root": tmp_path / "verify-root.sh",
        "/sbin/dmsquash-live-mount": tmp_path / "mount",
    }
    for name in ("livenet-root.sh", "verify-root.sh"):
        text = (MODULE / name).read_text()
        for theirs, ours in moved.items():
            text = re.sub(rf"(?<![\w/]){re.escape(theirs)}", str(ours), text)
        (tmp_path / name).write_text(text)
    for name in ("livenet-root.sh", "verify-root.sh", "mount"):
        (tmp_path / name).chmod(0o755)
    return subprocess.run(
        [tmp_path / "livenet-root.sh", "eth0", f"livenet:{server.url}", "/sysroot"],
        env={
            "DIGEST": f"sha256:{digest}",
            "MIRRORS": ",".join(mirror.base for mirror in mirrors),
            "FETCH_TURN": "0",
            **QUICK,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


RIGHT = hashlib.sha256(ROOT).hexdigest()


def test_the_right_root_is_mounted(serve, tmp_path: Path) -> None:
    done = boot(serve(), tmp_path, RIGHT)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["mounted", RIGHT])
    assert f"sitewright: the root file system matches sitewright.root=sha256:{RIGHT}" in done.stderr


def test_an_answer_that_only_looks_whole_is_fetched_again(serve, tmp_path: Path) -> None:
    server = serve(cut_short_without_a_length)
    done = boot(server, tmp_path, RIGHT)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["mounted", RIGHT])
    assert "the root file system is fetched again: it has sha256:" in done.stderr
    assert server.ranges == ["", ""]


def test_another_root_is_refused_after_three_rounds_and_never_mounted(serve, tmp_path: Path) -> None:
    server = serve()
    done = boot(server, tmp_path, "0" * 64)
    assert done.returncode == 1 and done.stdout == ""
    assert len(server.ranges) == 3
    assert f"FATAL: sitewright: the root file system is refused: it has sha256:{RIGHT}" in done.stderr
    assert not list(tmp_path.glob("*.squashfs"))


def test_a_second_interface_does_not_fetch_it_again(serve, tmp_path: Path) -> None:
    (tmp_path / "livenet.downloaded").touch()
    server = serve()
    assert boot(server, tmp_path, RIGHT).returncode == 0
    assert server.ranges == []


def test_a_mirror_has_the_root_below_its_own_base(serve, tmp_path: Path) -> None:
    mirrors = [serve(busy), serve()]
    mirrors[0].base += "/of/cabinet-1"
    done = boot(DOWN, tmp_path, RIGHT, mirrors)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["mounted", RIGHT])
    assert mirrors[0].paths == [f"/boot/of/cabinet-1/{PLACE}"]
    assert mirrors[1].paths == [f"/boot/{PLACE}"]


@pytest.mark.parametrize("behaviour", [other_bytes, half_copied, cut_short_without_a_length])
def test_a_server_with_another_root_is_not_asked_again(serve, tmp_path: Path, behaviour) -> None:
    """However long the server that has the right one is busy: a node that halts needs somebody."""
    server, mirror = serve(*[behaviour] * ALWAYS), serve(*[busy] * 8)
    done = boot(server, tmp_path, RIGHT, [mirror])
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["mounted", RIGHT])
    assert "the root file system is fetched again: it has sha256:" in done.stderr
    assert f"sitewright: {server.url} holds something else, and is not asked again" in done.stderr
    assert (len(server.ranges), mirror.ranges) == (1, [""] * 9)


def test_a_root_in_parts_of_which_one_was_wrong_is_fetched_anew_from_another_server(
    serve, tmp_path: Path
) -> None:
    server, mirror = serve(*[other_bytes_cut_short] * ALWAYS), serve()
    done = boot(server, tmp_path, RIGHT, [mirror])
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["mounted", RIGHT])
    assert (server.ranges, mirror.ranges) == ([""], ["bytes=300000-", ""])


def test_one_server_of_five_that_has_the_root_is_enough(serve, tmp_path: Path) -> None:
    wrong = [serve(*[other_bytes] * ALWAYS) for _ in range(4)]
    done = boot(wrong[0], tmp_path, RIGHT, [*wrong[1:], serve()])
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["mounted", RIGHT])


def test_another_root_on_all_servers_is_refused(serve, tmp_path: Path) -> None:
    servers = [serve(), serve()]
    done = boot(servers[0], tmp_path, "0" * 64, servers[1:])
    assert done.returncode == 1 and done.stdout == ""
    assert [len(one.ranges) for one in servers] == [1, 3]
    assert f"FATAL: sitewright: the root file system is refused: it has sha256:{RIGHT}" in done.stderr
