"""Container images as OCI image layouts on disk, made from directories and files without a daemon.

The same content gives the same digest on every machine: entries are sorted, times are those of packages
or zero, owners are numbers, and gzip writes no time. A layout holds one image and is what `crane push` takes.

Source: OCI Image Format Specification 1.1 (image layout, manifest, configuration, layer).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import shutil
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from sitewright.artifacts.inside import SEARCH_PATH
from sitewright.errors import SitewrightError

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
GZIP_LEVEL = 1  # built once and read on a local network: time counts more than the last tenth of the size
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Layer:
    """One layer as a file. digest: of the compressed bytes; diff_id: of the tar; both `sha256:<hex>`."""

    path: Path
    digest: str
    diff_id: str
    size: int


@dataclass(frozen=True)
class Runtime:
    """How a container of the image starts. user: a number, or empty for root."""

    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class _Hashing:
    """A file that digests what is written to it."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def digest(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def layer_from_directory(root: Path, target: Path, newest: float) -> Layer:
    """A layer that holds everything below `root`, written to the file `target`.

    newest: a time in seconds; what was changed later (by the build itself) gets time 0. Older times come
    from packages, are the same everywhere, and must stay: compiled Python names the time of its source.
    Keeps modes, numeric owners, links and hard links; device nodes and sockets are left out, since a
    container gets its own /dev.
    """
    with _layer(target) as (tar, finish):
        links: dict[tuple[int, int], str] = {}
        for path in _walk(root):
            _add(tar, path, str(path.relative_to(root)), links, newest)
        return finish()


def layer_from_files(files: Mapping[str, Path], directories: Mapping[str, int], target: Path) -> Layer:
    """A layer of single files, mode 0755, owned by root.

    files: path in the image → file here; directories: path in the image → mode, for those a program needs
    and for parents; parents that are not named are made with mode 0755.
    """
    wanted = {str(PurePosixPath(name).relative_to("/")): mode for name, mode in directories.items()}
    for name in files:
        for parent in PurePosixPath(name).relative_to("/").parents:
            if parent.name:
                wanted.setdefault(str(parent), 0o755)
    with _layer(target) as (tar, finish):
        for name in sorted(wanted):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, wanted[name]
            tar.addfile(info)
        for name, path in sorted(files.items()):
            info = tarfile.TarInfo(str(PurePosixPath(name).relative_to("/")))
            info.mode, info.size = 0o755, path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(info, content)
        return finish()


def write_layout(directory: Path, layers: Sequence[Layer], runtime: Runtime) -> str:
    """Writes an OCI image layout into `directory` (which must not exist); the digest of the image.

    Layers are hard-linked where the file system allows it, else copied.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in layers:
        _link_or_copy(layer.path, blobs / layer.digest.removeprefix("sha256:"))
    config = _put(blobs, _config(layers, runtime))
    manifest = _put(
        blobs,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **config},
            "layers": [{"mediaType": LAYER, "digest": item.digest, "size": item.size} for item in layers],
        },
    )
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": MANIFEST, **manifest}]}
    (directory / "index.json").write_bytes(_json(index))
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return str(manifest["digest"])


def layout_digest(directory: Path) -> str:
    """Digest of the image in a layout, `sha256:<hex>`.

    Raises: SitewrightError where the directory is no layout of one image.
    """
    try:
        manifests = json.loads((directory / "index.json").read_text(encoding="utf-8"))["manifests"]
        (manifest,) = manifests
        return str(manifest["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SitewrightError(
            f"{directory}: not an OCI image layout of one image ({error})",
            f"Remove {directory}; it is built again.",
        ) from error


def unpack(directory: Path, root: Path) -> None:
    """Lays the layers of a layout over one another in `root`, which is made.

    Needs root to keep owners. Our own layers only add files, so deletion marks are refused.
    Raises: SitewrightError for a layer whose bytes do not have the digest that the manifest names.
    """
    blobs = directory / "blobs" / "sha256"
    manifest = json.loads((blobs / layout_digest(directory).removeprefix("sha256:")).read_bytes())
    root.mkdir(parents=True)
    for layer in manifest["layers"]:
        blob = blobs / layer["digest"].removeprefix("sha256:")
        with blob.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != blob.name:
            raise SitewrightError(
                f"{blob}: content has digest {found}", f"The cache is damaged; remove {directory}."
            )
        with tarfile.open(blob, mode="r:gz") as tar:
            # By attribute: Debian 12's Python (3.11.2) has no filters yet, and trusts as this one does.
            tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
            for member in tar:
                if PurePosixPath(member.name).name.startswith(".wh."):
                    raise SitewrightError(f"{blob}: {member.name} deletes a file of a layer below")
                tar.extract(member, root, numeric_owner=True)


class _layer:
    """Context of a layer being written: gives the tar and a function that finishes it.

    The file appears under its name only when it is complete.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(f".{target.name}.{os.getpid()}")

    def __enter__(self) -> tuple[tarfile.TarFile, Any]:
        self._file = self._partial.open("wb")
        # The casts: gzip and tarfile write to whatever has `write`, but declare more.
        self._outer = _Hashing(self._file)
        self._gzip = gzip.GzipFile("", "wb", GZIP_LEVEL, cast(Any, self._outer), mtime=0)
        self._inner = _Hashing(self._gzip)
        self._tar = tarfile.open(fileobj=cast(Any, self._inner), mode="w|", format=tarfile.PAX_FORMAT)
        return self._tar, self._finish

    def _finish(self) -> Layer:
        self._tar.close()
        self._gzip.close()
        self._file.close()
        size = self._partial.stat().st_size
        self._partial.rename(self._target)
        return Layer(self._target, self._outer.digest(), self._inner.digest(), size)

    def __exit__(self, *_: object) -> None:
        self._tar.close()  # nothing, after _finish
        self._gzip.close()
        self._file.close()
        self._partial.unlink(missing_ok=True)


def _walk(root: Path) -> Iterator[Path]:
    """Everything below `root`, parents first, in the order of the names; links are not followed."""
    for entry in sorted(root.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)


def _add(
    tar: tarfile.TarFile, path: Path, name: str, links: dict[tuple[int, int], str], newest: float
) -> None:
    status = path.lstat()
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    info.mtime = int(status.st_mtime) if status.st_mtime < newest else 0
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
    elif not stat.S_ISREG(status.st_mode):
        return
    elif (first := links.setdefault((status.st_dev, status.st_ino), name)) != name:
        info.type, info.linkname = tarfile.LNKTYPE, first
    else:
        info.size = status.st_size
        with path.open("rb") as content:
            tar.addfile(info, content)
        return
    tar.addfile(info)


def _config(layers: Sequence[Layer], runtime: Runtime) -> dict[str, Any]:
    machine = platform.machine()
    environment = [
        f"PATH={SEARCH_PATH}",
        *(f"{name}={value}" for name, value in sorted(runtime.environment.items())),
    ]
    config: dict[str, Any] = {"Env": environment}
    if runtime.entrypoint:
        config["Entrypoint"] = list(runtime.entrypoint)
    if runtime.user:
        config["User"] = runtime.user
    if runtime.labels:
        config["Labels"] = dict(sorted(runtime.labels.items()))
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }


def _put(blobs: Path, content: Mapping[str, Any]) -> dict[str, str | int]:
    data = _json(content)
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
