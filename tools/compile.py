"""Compiles the programs of one module into a directory; knows Go and the one C file, nothing about caches."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from sitewright.errors import SitewrightError
from tools.pins import GO_ENVIRONMENT, GO_FLAGS, GO_MODULES, PULUMI_KUBERNETES, Module, Program

LAST_LINES = 25
Watch = Callable[[str], None]
"""Called about twice a second while a compiler runs, with the Go package it finished last."""


def compile_programs(
    module: Module, programs: Sequence[Program], work: Path, log: Path, watch: Watch
) -> Path:
    """Directory below `work` that holds the programs by their Go names' last part, see `built_name`.

    work: an empty directory of ours; log: receives the compiler's output.
    Raises: SitewrightError with the last lines of the output when the compiler fails.
    """
    out = work / "out"
    out.mkdir()
    if module.language == "c":
        source = module_directory("k8s.io/kubernetes", GO_MODULES / "kubernetes", log) / programs[0].package
        command = ["gcc", "-static", "-Os", f"-DVERSION={programs[0].version}", "-o", str(out / "pause")]
        _run([*command, str(source)], work, log, watch, what=module.name)
        return out
    # A copy, because generated files belong beside main.go and the checkout must stay as it is.
    folder = Path(shutil.copytree(module.folder, work / module.name))
    if module.name == "pulumi-kubernetes":
        write_embedded_files(folder, log)
    packages = [program.package for program in programs]
    command = ["go", "build", *GO_FLAGS, "-ldflags", module.ldflags, "-o", f"{out}/", *packages]
    _run(command, folder, log, watch, what=module.name)
    return out


def built_name(module: Module, program: Program) -> str:
    """The file name `go build -o DIR/` gives a program.

    >>> from tools.pins import MODULES
    >>> [built_name(MODULES[0], p) for p in MODULES[0].programs if p.name in ("etcd", "kubelet")]
    ['kubelet', 'server']
    """
    if module.language == "c":
        return Path(program.name).name
    parts = module.name if program.package == "." else program.package
    named = [part for part in parts.split("/") if not re.fullmatch(r"v\d+", part)]
    return named[-1]


def module_directory(path: str, folder: Path, log: Path) -> Path:
    """Where the Go module cache holds a module that `folder`/go.mod requires; downloads it if need be."""
    answer = subprocess.run(
        ["go", "mod", "download", "-json", path],
        cwd=folder,
        env=go_environment(),
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        log.write_text(answer.stdout + answer.stderr)
        raise _failure(f"download of {path}", log)
    return Path(json.loads(answer.stdout)["Dir"])


def write_embedded_files(folder: Path, log: Path) -> None:
    """The two files that upstream's build makes from its schema: compact, with the version filled in."""
    module = "github.com/pulumi/pulumi-kubernetes/provider/v4"
    upstream = module_directory(module, folder, log) / "cmd" / "pulumi-resource-kubernetes"
    schema = json.loads((upstream / "schema.json").read_text())
    schema["version"] = PULUMI_KUBERNETES
    (folder / "schema-embed.json").write_text(json.dumps(schema, separators=(",", ":")))
    mapping = json.loads((upstream / "terraform-mapping.json").read_text())
    (folder / "terraform-mapping-embed.json").write_text(json.dumps(mapping, separators=(",", ":")))


def go_environment() -> dict[str, str]:
    return {**os.environ, **GO_ENVIRONMENT}


def go_caches() -> list[Path]:
    """The directories Go fills while it builds: compiled packages, and downloaded modules."""
    answer = subprocess.run(
        ["go", "env", "GOCACHE", "GOMODCACHE"],
        env=go_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in answer.stdout.split()]


def check_compilers(modules: Sequence[Module]) -> None:
    """Raises SitewrightError where Go or gcc is missing, or Go is older than a module asks for."""
    if any(module.language == "c" for module in modules) and not shutil.which("gcc"):
        raise SitewrightError(
            "no gcc on PATH; the pause program of every pod is compiled with it", "apt install gcc libc6-dev"
        )
    if not shutil.which("go"):
        raise SitewrightError(
            "no go on PATH; the pinned programs are built from Go modules",
            f"Install Go {_needed_go(modules)} or newer (https://go.dev/doc/install), or name a directory "
            "that has the programs in SITEWRIGHT_TOOLS.",
        )
    answer = subprocess.run(
        ["go", "env", "GOVERSION", "GOTOOLCHAIN"], cwd="/", capture_output=True, text=True
    )
    have, _, switching = answer.stdout.strip().partition("\n")
    needed = _needed_go(modules)
    # With GOTOOLCHAIN=auto an older go fetches the one that go.mod names.
    if switching == "local" and _go_numbers(have) < _go_numbers(needed):
        raise SitewrightError(
            f"go on PATH is {have.removeprefix('go')}, tools/go/*/go.mod need {needed}",
            f"Install Go {needed} or newer, or let it fetch that toolchain (go env -w GOTOOLCHAIN=auto).",
        )


def _needed_go(modules: Sequence[Module]) -> str:
    folders = [module.folder if module.language == "go" else GO_MODULES / "kubernetes" for module in modules]
    named = [re.search(r"^go (\S+)$", (folder / "go.mod").read_text(), re.M) for folder in folders]
    return max((match.group(1) for match in named if match), key=_go_numbers)


def _go_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _run(command: list[str], folder: Path, log: Path, watch: Watch, what: str) -> None:
    """Runs a compiler with its output in `log`; on Ctrl-C the compiler has ended before this returns."""
    with log.open("w") as output:
        compiler = subprocess.Popen(
            command, cwd=folder, env=go_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while (status := _wait(compiler)) is None:
                watch(_last_line(log))
        except BaseException:
            compiler.terminate()
            compiler.wait()
            raise
    if status != 0:
        raise _failure(f"build of {what}", log)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(0.5)
    except subprocess.TimeoutExpired:
        return None


def _failure(what: str, log: Path) -> SitewrightError:
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return SitewrightError(f"{what} failed; the end of {log}:\n" + "\n".join(f"    {line}" for line in lines))


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 300))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else ""
