"""What the initial root does with what it fetched: the root is mounted, fetched again, or refused.

Its own programs are run; dracut's library and the mount are stand-ins, the check is the real one.
"""

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.contracts.image_servers import (
    ALWAYS,
    DOWN,
    MODULE,
    PLACE,
    QUICK,
    ROOT,
    Server,
    busy,
    cut_short_without_a_length,
    half_copied,
    image_servers,
    other_bytes,
    other_bytes_cut_short,
)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with image_servers() as start:
        yield start


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
