"""Programs that are already on this machine and fit: linked into the bin directory instead of being built."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.launchers import is_launcher
from tools.paths import foreign_directories, official_pulumi_directories
from tools.pins import PULUMI_KUBERNETES, PULUMI_RANDOM, Fit, Module, Program

ANSWER_SECONDS = 20


@dataclass(frozen=True)
class Found:
    """A program of this machine: its name below bin/, where it is, and the version it reports."""

    name: str
    path: Path
    version: str


@dataclass(frozen=True)
class Refused:
    """A program that was looked at and left: shown by the builder, so that nobody wonders."""

    path: Path
    reason: str


def find(environ: Mapping[str, str], modules: tuple[Module, ...]) -> tuple[dict[str, Found], list[Refused]]:
    """Programs to use instead of building, by name, and those that were refused with the reason."""
    found: dict[str, Found] = {}
    refused: list[Refused] = []
    for program in (program for module in modules for program in module.programs):
        for path in _candidates(program, environ):
            version = _version_of(path, program)
            if version and fits(version, program.version, program.fit):
                found[program.name] = Found(program.name, path, version)
                break
            refused.append(Refused(path, f"reports {version or 'no version'}, {program.version} is pinned"))
    if "pulumi" in found:
        found.update(_companions_of_pulumi(found["pulumi"], environ))
    return found, refused


def fits(version: str, pinned: str, fit: Fit) -> bool:
    """Whether a program of this version may replace the pinned one.

    >>> [fits(version, "3.274.1", "major") for version in ("3.280.0", "3.200.0", "4.0.0")]
    [True, False, False]
    """
    have, want = _numbers(version), _numbers(pinned)
    if fit == "minor":
        return have[:2] == want[:2]
    return have[0] == want[0] and have[1] >= want[1]


def _candidates(program: Program, environ: Mapping[str, str]) -> list[Path]:
    directories = foreign_directories(environ)
    official = official_pulumi_directories(environ)
    paths = []
    for directory in directories:
        if directory in official and not program.name.startswith("pulumi"):
            continue  # a kubectl that happens to lie beside pulumi was not offered to us
        paths += [directory / program.name, directory / Path(program.name).name]
    if program.name == "pulumi-resource-kubernetes" and official:
        paths.append(_installed_plugin(environ, "kubernetes", PULUMI_KUBERNETES))
    return [path for path in dict.fromkeys(paths) if path.is_file() and os.access(path, os.X_OK)]


def _companions_of_pulumi(pulumi: Found, environ: Mapping[str, str]) -> dict[str, Found]:
    """The official language host and random provider beside an official pulumi, where they are there."""
    companions = {
        "pulumi-language-python": pulumi.path.with_name("pulumi-language-python"),
        "pulumi-resource-random": _installed_plugin(environ, "random", PULUMI_RANDOM),
    }
    return {
        name: Found(name, path, pulumi.version if "language" in name else PULUMI_RANDOM)
        for name, path in companions.items()
        if path.is_file() and not is_launcher(path)
    }


def _installed_plugin(environ: Mapping[str, str], name: str, version: str) -> Path:
    home = Path(environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"


def _version_of(path: Path, program: Program) -> str:
    """The version a program reports about itself; empty where it reports none."""
    if not program.version_arguments:
        return _version_of_plugin(path)
    try:
        answer = subprocess.run(
            [path, *program.version_arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"\d+\.\d+\.\d+", answer.stdout + answer.stderr)
    return match.group() if match else ""


def _version_of_plugin(path: Path) -> str:
    """A provider plugin prints the port it serves; its version is a call."""
    installed = re.search(r"resource-\w+-v(\d+\.\d+\.\d+)$", str(path.parent))
    if installed:
        return installed.group(1)  # Pulumi's own plugin directory names the version
    # Slow to import and rarely needed.
    import grpc  # type: ignore[import-untyped]
    from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
    from pulumi.runtime.proto import provider_pb2_grpc

    plugin = subprocess.Popen([path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert plugin.stdout is not None
        port = plugin.stdout.readline().strip()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        return str(stub.GetPluginInfo(Empty(), timeout=ANSWER_SECONDS).version).lstrip("v")
    except grpc.RpcError:
        return ""
    finally:
        plugin.kill()
        plugin.wait()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])
