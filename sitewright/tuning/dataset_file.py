"""The lines of a JSONL file, read as bytes so that every fault of the encoding has its line and column."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.tuning.findings import Fault, Findings

LONGEST_LINE = 16 * 2**20
"""Bytes of one line; above, a file is more likely no JSONL than one with such a row."""

_BOM = b"\xef\xbb\xbf"
_ONE_ROW_A_LINE = "a data set is JSONL: one JSON object per line, in UTF-8"
_STARTS = {
    b"\x1f\x8b": ("is compressed with gzip", "unpack it: gunzip -c FILE > rows.jsonl"),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", "unpack it: zstd -dc FILE > rows.jsonl"),
    b"PK\x03\x04": ("is a zip archive", "unpack it"),
    b"PAR1": (
        "is a Parquet file",
        "write it as JSONL: python -c 'import sys, datasets; "
        'datasets.Dataset.from_parquet(sys.argv[1]).to_json("rows.jsonl")\' FILE',
    ),
    b"\xff\xfe": ("is UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 FILE > rows.jsonl"),
    b"\xfe\xff": ("is UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 FILE > rows.jsonl"),
    b"[": (
        "begins with '[': it is one JSON array",
        "write one object per line: jq -c '.[]' FILE > rows.jsonl",
    ),
    b"{\n": ("holds objects over several lines", "write one object per line: jq -c . FILE > rows.jsonl"),
    b"{\r\n": ("holds objects over several lines", "write one object per line: jq -c . FILE > rows.jsonl"),
}


@dataclass(frozen=True)
class Line:
    """One line that is not blank. text: without the line end; None where it is not UTF-8 or too long.

    ended: whether a line end follows; only the last line can be without.
    """

    number: int
    text: str | None
    ended: bool


def open_for_reading(path: Path) -> BufferedReader:
    """The file, opened. Raises: SitewrightError where there is no file, or none that can be read."""
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no file"
        raise SitewrightError(f"{path}: there is {found}, a JSONL file is wanted", "Look at the path.")
    try:
        return path.open("rb")
    except OSError as error:
        raise SitewrightError(
            f"{path}: cannot be read: {error.strerror}", "Look at its permissions."
        ) from None


def sha256_of(file: BufferedReader) -> str:
    """The sum of a whole file, as sha256sum prints it; the file stands at its beginning afterwards."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


def other_kind(file: BufferedReader) -> Fault | None:
    """What a file is that is no JSONL at all, told by its first bytes; the file stands at its beginning after."""
    start = file.read(4096).removeprefix(_BOM).lstrip(b" \t\r\n")
    file.seek(0)
    for magic, (what, fix) in _STARTS.items():
        if start.startswith(magic):
            return Fault("not-jsonl", f"the file {what}; {_ONE_ROW_A_LINE}", fix)
    return None


def lines(file: BufferedReader, path: Path, findings: Findings) -> Iterator[Line]:
    """The lines of a file that are not blank; one at a time in memory. What is wrong with them goes to findings."""
    number, crlf = 0, 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            _skip_to_line_end(file, raw)
            findings.add(path, number, [_too_long()])
            yield Line(number, None, True)
            continue
        if number == 1 and raw.startswith(_BOM):
            findings.add(path, 1, [_byte_order_mark()])
            raw = raw.removeprefix(_BOM)
        crlf += raw.endswith(b"\r\n")
        if not raw.strip():
            findings.add(path, number, [_blank()])
            continue
        line, faults = _decoded(number, raw)
        findings.add(path, number, faults)
        yield line
    if crlf:
        findings.add(path, None, [_windows_line_ends(crlf)])


def cut_off(column: int) -> Fault:
    """The last line ends in the middle of its row."""
    return Fault(
        "cut-off",
        f"the last line is cut off: it has no line end, and its row breaks off after column {column}",
        "write or copy the file anew; rows may be missing after it",
    )


def _decoded(number: int, raw: bytes) -> tuple[Line, list[Fault]]:
    ended = raw.endswith(b"\n")
    raw = raw.rstrip(b"\r\n")
    try:
        return Line(number, raw.decode(), ended), []
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode()) + 1
        if not ended and error.reason == "unexpected end of data":
            return Line(number, None, ended), [cut_off(column - 1)]
        byte = raw[error.start]
        guess = f" ({bytes([byte]).decode('latin-1')!r} in Latin-1)" if byte >= 0xA0 else ""
        message = f"column {column}: the byte 0x{byte:02x}{guess} is not UTF-8"
        fault = Fault(
            "not-utf8",
            message,
            "convert the file, if that is what it is: iconv -f LATIN1 -t UTF-8 FILE > mended.jsonl",
        )
        return Line(number, None, ended), [fault]


def _skip_to_line_end(file: BufferedReader, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(LONGEST_LINE)


def _too_long() -> Fault:
    size = LONGEST_LINE // 2**20
    return Fault(
        "long-line", f"the line has more than {size} MiB; {_ONE_ROW_A_LINE}", "split or remove the row"
    )


def _byte_order_mark() -> Fault:
    """Readers differ: some drop the first row without a word, some the whole file (datasets issue 8241)."""
    message = (
        "the file begins with a byte order mark (BOM), which some readers take for a part of the first row"
    )
    return Fault("bom", message, r"remove it: sed -i '1s/^\xEF\xBB\xBF//' FILE")


def _blank() -> Fault:
    return Fault("blank-line", "the line is blank; it is skipped", "remove it", "warning")


def _windows_line_ends(count: int) -> Fault:
    message = f"{count:,} lines end with CRLF, as on Windows; they are read alike"
    return Fault("crlf", message, r"for the same digest everywhere: sed -i 's/\r$//' FILE", "warning")
