"""Fills the bin directory: what is on this machine and fits is linked, the rest is built once per pin.

Safe when two runs start at once (one builds, the other waits and finds everything there), and after Ctrl-C or
SIGKILL at any point: a module's programs appear by one rename each, the bin directory by one rename at the
end, and Go keeps what it compiled.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sitewright.errors import SitewrightError
from tools import compile
from tools.found import Found, Refused, find
from tools.launchers import LAUNCHERS, write_launcher
from tools.paths import MANIFEST, bin_digest, foreign_directories, module_store, pins_digest, tools_root
from tools.pins import MODULES, Module, Program
from tools.progress import Progress, Silent

WARM_GIB = 0.7
"""What a module takes that was built before from other pins: its programs, and the packages that changed."""


@dataclass(frozen=True)
class Plan:
    """What a build would do. `to_build`: modules and their missing programs, in order."""

    directory: Path
    found: dict[str, Found] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    to_build: list[tuple[Module, list[Program]]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.directory.is_dir()


@dataclass(frozen=True)
class Builder:
    """root: the tools directory; environ: what decides which programs of this machine count."""

    root: Path = field(default_factory=tools_root)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    modules: tuple[Module, ...] = MODULES
    progress: Progress = field(default_factory=Silent)

    def plan(self) -> Plan:
        directory = self.root / bin_digest(self.environ, self.modules) / "bin"
        if directory.is_dir():
            return Plan(directory)
        for named in (entry for entry in foreign_directories(self.environ) if not entry.is_dir()):
            raise SitewrightError(f"SITEWRIGHT_TOOLS: {named} is not a directory", "Correct it, or unset it.")
        programs, refused = find(self.environ, self.modules)
        to_build = []
        for module in self.modules:
            store = module_store(self.root, module)
            missing = [
                p for p in module.programs if p.name not in programs and not (store / p.name).is_file()
            ]
            if missing:
                to_build.append((module, missing))
        return Plan(directory, programs, refused, to_build)

    def build(self, ignore_space: bool = False) -> Path:
        """The complete bin directory; builds what is missing.

        Raises: SitewrightError when a compiler or disk space is missing or a build fails; what was built
        stays.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock():
            plan = self.plan()
            if not plan.complete:
                self._build_missing(plan, ignore_space)
                self._assemble(plan)
            self._point_current_at(plan.directory)
        return plan.directory

    def prune(self) -> list[Path]:
        """Removes what other pins left behind, and returns it; another checkout builds its own again in a minute."""
        keep = {module_store(self.root, module) for module in self.modules}
        keep.add(self.root / bin_digest(self.environ, self.modules))
        with self._lock():
            old = [path for path in self.root.glob("built/*") if path not in keep]
            old += [
                path.parent
                for path in self.root.glob("*/bin")
                if path.parent not in keep and not path.parent.is_symlink()
            ]
            for path in old:
                shutil.rmtree(path)
        return old

    def _build_missing(self, plan: Plan, ignore_space: bool) -> None:
        modules = [module for module, _ in plan.to_build]
        if not modules:
            return
        compile.check_compilers(modules)
        if not ignore_space:
            self._check_space(modules)
        self._remove_left_overs()
        self.progress.start(plan.to_build)
        for module, programs in plan.to_build:
            self._build_module(module, programs)

    def _remove_left_overs(self) -> None:
        """Work of a run that was killed; nobody else works here, because we hold the lock."""
        for left_over in self.root.glob("tmp-*"):
            if left_over.is_symlink():
                left_over.unlink()
            else:
                shutil.rmtree(left_over)

    def _build_module(self, module: Module, programs: list[Program]) -> None:
        log = self.root / "logs" / f"{module.name}.log"
        log.parent.mkdir(exist_ok=True)
        store = module_store(self.root, module)
        names = {compile.built_name(module, program): program for program in programs}
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=self.root) as work:
            out = Path(work) / "out"

            def watch(line: str) -> None:
                linked = len(list(out.iterdir()))
                self.progress.show(module, linked, line)

            self.progress.begin(module, programs)
            compile.compile_programs(module, programs, Path(work), log, watch)
            for name, program in names.items():
                (store / program.name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).rename(store / program.name)
        self.progress.end(module)

    def _assemble(self, plan: Plan) -> None:
        """Makes the bin directory whole under another name, then renames it."""
        partial = Path(tempfile.mkdtemp(prefix="tmp-", dir=self.root))
        directory = partial / "bin"
        manifest = {}
        for module in self.modules:
            for program in module.programs:
                source = module_store(self.root, module) / program.name
                here = plan.found.get(program.name)
                _place(here.path if here else source, directory / program.name, link=bool(here))
                manifest[program.name] = (
                    {"version": here.version, "found": str(here.path)}
                    if here
                    else {"version": program.version}
                )
        for name in LAUNCHERS:
            if name in plan.found:
                _place(plan.found[name].path, directory / name, link=True)
            else:
                write_launcher(directory, name)
        about = {"pins": pins_digest(self.modules), "programs": manifest}
        (directory / MANIFEST).write_text(json.dumps(about, indent=1))
        partial.chmod(0o755)
        if plan.directory.parent.exists():
            shutil.rmtree(plan.directory.parent)  # somebody removed its bin directory
        partial.rename(plan.directory.parent)

    def _point_current_at(self, directory: Path) -> None:
        new = self.root / f"tmp-current-{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(directory.relative_to(self.root))
        new.rename(self.root / "current")

    def _check_space(self, modules: list[Module]) -> None:
        gib = sum(WARM_GIB if self._was_built_before(module) else module.gib for module in modules)
        for directory in (self.root, *compile.go_caches()):
            free = _free_gib(directory)
            if free < gib:
                raise SitewrightError(
                    f"{directory}: {free:.1f} GiB free, building {', '.join(m.name for m in modules)} needs "
                    f"about {gib:.1f} GiB",
                    "Free some space, let GOCACHE and GOMODCACHE name a larger disk, or add --ignore-space.",
                )

    def _was_built_before(self, module: Module) -> bool:
        return any(self.root.glob(f"built/{module.name}-????????????"))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / "build.lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                self.progress.note(
                    f"another build is running (process {file.read().strip() or '?'}); waiting for it"
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _place(source: Path, target: Path, link: bool) -> None:
    """A program under its usual name: a symbolic link to one of the machine, a hard link to one we built."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(source.resolve())
    else:
        target.hardlink_to(source)


def _free_gib(path: Path) -> float:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free / 2**30
