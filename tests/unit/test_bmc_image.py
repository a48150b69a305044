"""A node's root file system is fetched patiently and used only if its digest is right."""

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Event

import httpx
import pytest

from lab.bmc import image
from lab.bmc.fetch import ATTEMPTS, LONGEST_PAUSE, Fetcher, Stopped, pause_before
from lab.bmc.ipxe import BootError

URL = "http://10.77.0.1:8080/boot/abc/rootfs.squashfs"


def squashfs(size: int = 4096, used: int | None = None) -> bytes:
    """The beginning of a squashfs, padded to `size`."""
    head = b"hsqs".ljust(40, b"\0") + struct.pack("<Q", size if used is None else used)
    return head.ljust(size, b"x")


IMAGE = squashfs()
DIGEST = hashlib.sha256(IMAGE).hexdigest()


class Cut(httpx.SyncByteStream):
    """A body whose connection breaks after some bytes."""

    def __init__(self, part: bytes) -> None:
        self.part = part

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield self.part
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


class Server:
    """An image server. faults: answered first, one per request; then the content, ranges included."""

    def __init__(self, content: bytes, faults: list[Callable[[httpx.Request], httpx.Response]] = ()) -> None:  # type: ignore[assignment]
        self.content = content
        self.faults = list(faults)
        self.ranges: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.ranges.append(request.headers.get("range", ""))
        if self.faults:
            return self.faults.pop(0)(request)
        begin = int(self.ranges[-1].removeprefix("bytes=").rstrip("-") or 0)
        return httpx.Response(206 if begin else 200, content=self.content[begin:])


def broken_after(size: int) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(200, stream=Cut(IMAGE[:size]))


def busy(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503)


def silent(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("nothing came")


class Bench:
    def __init__(self, server: Server) -> None:
        self.stop = Event()
        self.told: list[str] = []
        self.server = server
        self.fetcher = Fetcher(self.stop, self.told.append, httpx.MockTransport(server), pause=lambda n: 0.0)

    def fetch(self, digest: str = DIGEST) -> Path:
        return image.fetch(URL, digest, self.fetcher)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path))


def test_an_image_is_fetched_once_and_then_taken_from_the_cache() -> None:
    bench = Bench(Server(IMAGE))
    assert bench.fetch().read_bytes() == IMAGE
    assert bench.fetch().read_bytes() == IMAGE
    assert len(bench.server.ranges) == 1


def test_a_download_that_breaks_off_is_continued_where_it_stopped() -> None:
    bench = Bench(Server(IMAGE, [broken_after(1000)]))
    assert bench.fetch().read_bytes() == IMAGE
    assert bench.server.ranges == ["", "bytes=1000-"]
    assert "the answer was cut short" in bench.told[0]


def test_a_server_without_ranges_is_read_from_the_beginning() -> None:
    bench = Bench(Server(IMAGE, [broken_after(1000), lambda request: httpx.Response(200, content=IMAGE)]))
    assert bench.fetch().read_bytes() == IMAGE


@pytest.mark.parametrize("fault", [busy, silent])
def test_a_busy_or_silent_server_is_asked_again(fault: Callable[[httpx.Request], httpx.Response]) -> None:
    bench = Bench(Server(IMAGE, [fault, fault]))
    bench.fetch()
    assert len(bench.server.ranges) == 3


def test_a_server_that_stays_busy_is_given_up_with_the_reason() -> None:
    bench = Bench(Server(IMAGE, [busy] * 99))
    with pytest.raises(BootError, match=rf"503 Service Unavailable, after {ATTEMPTS} attempts"):
        bench.fetch()


def test_a_missing_image_is_not_asked_for_again() -> None:
    bench = Bench(Server(IMAGE, [lambda request: httpx.Response(404)] * 9))
    with pytest.raises(BootError, match="answered 404 Not Found"):
        bench.fetch()
    assert len(bench.server.ranges) == 1


def test_a_wrong_digest_is_refused_with_both_and_leaves_nothing() -> None:
    other = hashlib.sha256(b"declared").hexdigest()
    with pytest.raises(BootError) as refused:
        Bench(Server(IMAGE)).fetch(other)
    assert f"has sha256 {DIGEST}, but sitewright.root says {other}; refused" in refused.value.message
    assert [file.suffix for file in image.directory().iterdir()] == [".lock"]


def test_a_cache_that_went_bad_is_fetched_again() -> None:
    bench = Bench(Server(IMAGE))
    bench.fetch().write_bytes(b"rotten")
    assert bench.fetch().read_bytes() == IMAGE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>not found</html>".ljust(500), r"is no squashfs: it begins with b'<htm'"),
        (squashfs(4096, used=9000), r"cut short: it holds 4096 of 9000 bytes"),
        (b"hsqs", r"is no squashfs"),
    ],
)
def test_a_corrupt_squashfs_is_refused_though_its_digest_is_right(content: bytes, said: str) -> None:
    with pytest.raises(BootError, match=said):
        Bench(Server(content)).fetch(hashlib.sha256(content).hexdigest())


def test_switching_off_ends_a_download() -> None:
    bench = Bench(Server(IMAGE, [busy] * 99))
    bench.fetcher._pause = lambda attempt: bench.stop.set() or 60.0
    with pytest.raises(Stopped):
        bench.fetch()


def test_only_the_images_used_last_are_kept() -> None:
    names = []
    for number in range(image.KEPT + 2):
        content = squashfs(4096 + number)
        names.append(Bench(Server(content)).fetch(hashlib.sha256(content).hexdigest()).name)
        file = image.directory() / names[-1]
        os.utime(file, (1000 + number, 1000 + number))
    left = {file.name for file in image.directory().glob("*.squashfs")}
    assert len(left) == image.KEPT
    assert names[0] not in left
    assert names[-1] in left


def test_pauses_grow_are_spread_and_have_an_end() -> None:
    seconds = [[pause_before(attempt) for _ in range(50)] for attempt in range(1, 9)]
    assert all(len(set(row)) > 1 for row in seconds)
    assert max(seconds[0]) < min(seconds[3])
    assert max(map(max, seconds)) <= LONGEST_PAUSE * 1.5
