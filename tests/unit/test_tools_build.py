"""The builder, on tiny Go modules without imports: each compiles in a fraction of a second."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from sitewright.errors import SitewrightError
from tools import __main__ as command
from tools import build, compile, locate, pins
from tools.build import Builder
from tools.launchers import LAUNCHERS
from tools.paths import bin_digest, module_digest, pins_digest
from tools.pins import Module, Program
from tools.progress import Lines, Screen, Silent

GOOD = 'package main\n\nvar word = "unset"\n\nfunc main() { println(word) }\n'


class Spy(Silent):
    """Remembers which modules were built and what was said; `at_show` runs while a compiler runs."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.notes: list[str] = []

    def begin(self, module: Module, programs: Sequence[Program]) -> None:
        self.built.append(module.name)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Module, ...]]:
    """Two modules: `hello` has a renamed program and one below cni/, `second` has one program."""
    folder = tmp_path / "go"
    for name, packages in {"hello": ("server/v3", "bridge"), "second": (".",)}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "go.mod").write_text(f"module example.test/{name}\n\ngo 1.21\n")
        for package in packages:
            (folder / name / package).mkdir(parents=True, exist_ok=True)
            (folder / name / package / "main.go").write_text(GOOD)
    monkeypatch.setattr(pins, "GO_MODULES", folder)
    monkeypatch.setattr(compile, "GO_MODULES", folder)
    yield (
        Module(
            name="hello",
            minutes=0.1,
            gib=0.1,
            set_at_link=(("main.word", "linked"),),
            programs=(
                Program("etcd", "example.test/hello/server/v3", "1.2.3"),
                Program("cni/bridge", "example.test/hello/bridge", "1.2.3"),
            ),
        ),
        Module(name="second", minutes=0.1, gib=0.1, programs=(Program("second", ".", "1.0.0"),)),
    )


def builder(tmp_path: Path, modules: tuple[Module, ...], **environ: str) -> Builder:
    return Builder(root=tmp_path / "tools", environ=environ, modules=modules, progress=Spy())


def built(some: Builder) -> list[str]:
    assert isinstance(some.progress, Spy)
    return some.progress.built


def test_programs_appear_under_their_usual_names_and_a_second_run_builds_nothing(tmp_path, modules):
    directory = builder(tmp_path, modules).build()
    assert {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()} == {
        "etcd",
        "cni/bridge",
        "second",
        "sitewright-tools.json",
        *LAUNCHERS,
    }
    said = subprocess.run([directory / "etcd"], stderr=subprocess.PIPE, text=True, check=True).stderr
    assert said == "linked\n"
    assert (tmp_path / "tools" / "current").resolve() == directory
    manifest = json.loads((directory / "sitewright-tools.json").read_text())
    assert manifest["programs"]["etcd"] == {"version": "1.2.3"}

    again = builder(tmp_path, modules)
    assert again.build() == directory
    assert built(again) == []


def test_only_the_module_whose_pins_changed_is_built_again(tmp_path, modules):
    first = builder(tmp_path, modules).build()
    (pins.GO_MODULES / "second" / "go.mod").write_text("module example.test/second\n\ngo 1.22\n")
    changed = builder(tmp_path, modules)
    assert changed.build() != first
    assert built(changed) == ["second"]


def test_a_failed_build_shows_the_compilers_words_and_keeps_what_was_built(tmp_path, modules):
    source = pins.GO_MODULES / "second" / "main.go"
    source.write_text("package main\n\nfunc main() { undefinedFunction() }\n")
    failing = builder(tmp_path, modules)
    with pytest.raises(SitewrightError) as failure:
        failing.build()
    assert "undefined: undefinedFunction" in str(failure.value)
    assert str(tmp_path / "tools" / "logs" / "second.log") in str(failure.value)
    assert not failing.plan().complete

    source.write_text(GOOD)
    resumed = builder(tmp_path, modules)
    resumed.build()
    assert built(resumed) == ["second"]


@pytest.mark.parametrize("last_act", ["interrupt", "kill"])
def test_a_run_that_ended_early_leaves_nothing_half_made(tmp_path, modules, last_act, monkeypatch):
    some = builder(tmp_path, modules)
    if last_act == "interrupt":
        monkeypatch.setattr(compile, "_wait", lambda process: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            some.build()
        monkeypatch.undo()
        monkeypatch.setattr(pins, "GO_MODULES", tmp_path / "go")
        assert not list((tmp_path / "tools").glob("tmp-*"))
    else:
        (tmp_path / "tools" / "tmp-left" / "out").mkdir(parents=True)
        (tmp_path / "tools" / "tmp-current-1").symlink_to("nowhere")
    assert not (tmp_path / "tools" / "built").exists()
    assert builder(tmp_path, modules).build().is_dir()
    assert not list((tmp_path / "tools").glob("tmp-*"))


def test_two_runs_at_once_build_once(tmp_path, modules):
    begun, waiting = threading.Event(), threading.Event()

    class First(Spy):
        def begin(self, module: Module, programs: Sequence[Program]) -> None:
            super().begin(module, programs)
            begun.set()
            assert waiting.wait(20)  # the second run has found the lock taken

    class Second(Spy):
        def note(self, text: str) -> None:
            super().note(text)
            waiting.set()

    first, second = (
        Builder(root=tmp_path / "tools", environ={}, modules=modules, progress=spy)
        for spy in (First(), Second())
    )
    with ThreadPoolExecutor() as pool:
        one = pool.submit(first.build)
        assert begun.wait(20)
        two = pool.submit(second.build)
        assert one.result() == two.result()
    assert built(first) == ["hello", "second"]
    assert built(second) == []
    assert second.progress.notes == [f"another build is running (process {os.getpid()}); waiting for it"]


def test_a_disk_that_is_too_small_is_refused_with_both_numbers(tmp_path, modules, monkeypatch):
    monkeypatch.setattr(build, "_free_gib", lambda path: 0.15)
    with pytest.raises(SitewrightError, match=r"0\.1 GiB free, building hello, second needs about 0\.2 GiB"):
        builder(tmp_path, modules).build()
    assert builder(tmp_path, modules).build(ignore_space=True).is_dir()


def test_a_missing_or_old_go_is_named_with_the_version_that_would_do(tmp_path, modules, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SitewrightError, match=r"no go on PATH[^\n]*\n.*Install Go 1\.21 or newer"):
        builder(tmp_path, modules).build()
    (tmp_path / "go-old").mkdir()
    old = tmp_path / "go-old" / "go"
    old.write_text("#!/bin/sh\nprintf 'go1.20.5\\nlocal\\n'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent))
    with pytest.raises(SitewrightError, match=r"go on PATH is 1\.20\.5, tools/go/\*/go\.mod need 1\.21"):
        builder(tmp_path, modules).build()


def test_prune_removes_what_other_pins_left(tmp_path, modules):
    old = builder(tmp_path, modules).build()
    (pins.GO_MODULES / "second" / "go.mod").write_text("module example.test/second\n\ngo 1.22\n")
    new = builder(tmp_path, modules).build()
    removed = builder(tmp_path, modules).prune()
    assert len(removed) == 2
    assert old.parent in removed
    assert new.is_dir()
    assert builder(tmp_path, modules).plan().complete


def test_the_digest_covers_sources_and_flags_but_not_generated_files(modules):
    hello = modules[0]
    before = module_digest(hello)
    (hello.folder / "schema-embed.json").write_text("{}")
    assert module_digest(hello) == before
    (hello.folder / "go.sum").write_text("example.test/x v1.0.0 h1:abc=\n")
    assert module_digest(hello) != before
    other_flags = Module("hello", hello.programs, 0.1, 0.1, set_at_link=(("main.word", "other"),))
    assert module_digest(other_flags) != module_digest(hello)


def test_every_pinned_program_is_a_tool_of_its_go_module_at_the_version_named():
    required = {
        "k8s.io/kubernetes": pins.KUBERNETES,
        "go.etcd.io/etcd/server/v3": pins.ETCD,
        "github.com/containerd/containerd/v2": pins.CONTAINERD,
        "github.com/coredns/coredns": pins.COREDNS,
        "github.com/google/go-containerregistry": pins.CRANE,
        "github.com/distribution/distribution/v3": pins.DISTRIBUTION,
        "github.com/pulumi/pulumi/pkg/v3": pins.PULUMI,
        "github.com/cloudnativelabs/kube-router/v2": pins.KUBE_ROUTER,
        "sigs.k8s.io/kueue": pins.KUEUE,
        "sigs.k8s.io/kwok": pins.KWOK,
        "github.com/containernetworking/plugins": pins.CNI_PLUGINS,
    }
    for module in pins.MODULES:
        if module.language == "c" or module.programs[0].package == ".":
            continue
        answer = subprocess.run(
            ["go", "mod", "edit", "-json"], cwd=module.folder, capture_output=True, text=True, check=True
        )
        described = json.loads(answer.stdout)
        assert {tool["Path"] for tool in described["Tool"]} == {p.package for p in module.programs}
        versions = {entry["Path"]: entry["Version"] for entry in described["Require"]}
        for program in module.programs:
            path = next(path for path in required if program.package.startswith(path))
            assert versions[path] == f"v{required[path]}" == f"v{program.version}"


def test_a_tool_that_is_not_there_is_reported_with_what_to_do(tmp_path, modules, monkeypatch):
    monkeypatch.setattr(locate, "tools_root", lambda: tmp_path / "tools")
    with pytest.raises(SitewrightError, match=r"not built on this machine\n.*make tools"):
        locate.tool("etcd")
    directory = tmp_path / "tools" / bin_digest(os.environ) / "bin"
    directory.mkdir(parents=True)
    (directory / "etcd").touch()
    assert locate.tool("etcd") == directory / "etcd"
    with pytest.raises(SitewrightError, match=r"etcdctl: no such program\n.*here are etcd"):
        locate.tool("etcdctl")


def test_a_process_with_another_environment_finds_what_was_built_from_the_same_pins(
    tmp_path, modules, monkeypatch
):
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "second").write_text("#!/bin/sh\necho 1.0.0\n")
    (tmp_path / "named" / "second").chmod(0o755)
    directory = builder(tmp_path, modules, SITEWRIGHT_TOOLS=str(tmp_path / "named")).build()
    monkeypatch.setattr(locate, "tools_root", lambda: tmp_path / "tools")
    monkeypatch.setattr(locate, "bin_digest", lambda environ: bin_digest(environ, modules))
    monkeypatch.setattr(locate, "pins_digest", lambda: pins_digest(modules))
    assert locate.tool("second").parent == directory
    monkeypatch.setattr(locate, "pins_digest", lambda: "of another checkout")
    with pytest.raises(SitewrightError, match="not built on this machine"):
        locate.tool("second")


def test_a_dry_run_names_what_would_be_built_and_changes_nothing(tmp_path, modules, monkeypatch):
    monkeypatch.setattr(command, "Builder", lambda **rest: builder(tmp_path, modules))
    result = CliRunner().invoke(command.main, ["build", "--dry-run"])
    assert "build  module hello (up to 0.1 min): etcd 1.2.3, cni/bridge 1.2.3" in result.output
    assert result.exit_code == 0
    assert not (tmp_path / "tools").exists()


def test_a_terminal_shows_a_row_per_module_and_a_log_a_line_per_event(modules, capsys):
    work = [(module, list(module.programs)) for module in modules]
    screen = Screen(Console(width=100, force_terminal=False))
    for progress in (screen, Lines()):
        progress.start(work)
        progress.begin(*work[0])
        progress.show(modules[0], 1, "example.test/hello/bridge")
        progress.end(modules[0])
        progress.begin(*work[1])
        progress.stop()
    shown = capsys.readouterr().out
    assert re.search(r"hello +done +0:00 +2 of 2", shown)
    assert re.search(r"second +building +0:00 +0 of 1", shown)
    assert "0:00, 1 modules left" in shown
    assert "hello: building etcd, cni/bridge (2 modules left)\n" in shown
    assert "hello: done in 0:00\nsecond: building second (1 modules left)\n" in shown
