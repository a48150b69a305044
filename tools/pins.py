"""Which programs sitewright runs, at which version, and where each comes from.

One table. A program belongs to one Go module below tools/go/ (its go.mod and go.sum are the pins); programs
that can share dependencies share a module, because what they share is compiled once. The minutes and GiB are
those of a first build on 2 cores; they are shown to the operator and used to refuse a disk that is too small.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GO_MODULES = Path(__file__).parent / "go"

GO_FLAGS = ("-buildvcs=false", "-trimpath", "-v")
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOGC": "400", "GOFLAGS": "", "GOWORK": "off"}

Fit = Literal["major", "minor"]
"""What else fits than the pin itself: `major`, the same major and no older minor; `minor`, the same minor."""


@dataclass(frozen=True)
class Program:
    name: str
    """Path below the bin directory."""
    package: str
    """Go package (`.` is the module itself), or the C file for a module in C."""
    version: str
    fit: Fit = "major"
    version_arguments: tuple[str, ...] = ("--version",)
    """What makes the program print its version; empty for a Pulumi plugin, which is asked over gRPC."""


@dataclass(frozen=True)
class Module:
    name: str
    programs: tuple[Program, ...]
    minutes: float
    gib: float
    language: Literal["go", "c"] = "go"
    set_at_link: tuple[tuple[str, str], ...] = ()
    """Go variables that upstream's release build sets with -X; without them programs report odd versions."""

    @property
    def folder(self) -> Path:
        return GO_MODULES / self.name

    @property
    def ldflags(self) -> str:
        return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.set_at_link)])


KUBERNETES = "1.37.2"
ETCD = "3.7.3"
CONTAINERD = "2.4.2"
COREDNS = "1.14.7"
CRANE = "0.22.1"
DISTRIBUTION = "3.1.2"
PULUMI = "3.274.1"
PULUMI_KUBERNETES = "4.25.0"
PULUMI_RANDOM = "4.21.4"
KUBE_ROUTER = "2.1.0"
KUEUE = "0.17.0"
KWOK = "0.8.0"
CNI_PLUGINS = "1.9.1"
PAUSE = "3.10.2"


def _kubernetes(name: str, *version_arguments: str) -> Program:
    # kubeadm, kubelet and API server of one cluster must agree on the minor, so a newer one does not fit.
    package = f"k8s.io/kubernetes/cmd/{name}"
    return Program(name, package, KUBERNETES, "minor", version_arguments or ("--version",))


def _containerd(name: str, *version_arguments: str) -> Program:
    package = f"github.com/containerd/containerd/v2/cmd/{name}"
    return Program(name, package, CONTAINERD, version_arguments=version_arguments or ("--version",))


def _cni(group: str, name: str) -> Program:
    return Program(
        f"cni/{name}", f"github.com/containernetworking/plugins/plugins/{group}/{name}", CNI_PLUGINS
    )


MODULES: tuple[Module, ...] = (
    Module(
        name="kubernetes",
        minutes=11,
        gib=8.0,
        set_at_link=(
            ("k8s.io/component-base/version.gitVersion", f"v{KUBERNETES}"),
            ("k8s.io/component-base/version.gitMajor", KUBERNETES.split(".")[0]),
            ("k8s.io/component-base/version.gitMinor", KUBERNETES.split(".")[1]),
            ("k8s.io/component-base/version.gitTreeState", "clean"),
            ("k8s.io/client-go/pkg/version.gitVersion", f"v{KUBERNETES}"),
            ("github.com/containerd/containerd/v2/version.Version", f"v{CONTAINERD}"),
            ("github.com/distribution/distribution/v3/version.version", f"v{DISTRIBUTION}"),
            ("github.com/google/go-containerregistry/cmd/crane/cmd.Version", f"v{CRANE}"),
        ),
        programs=(
            _kubernetes("kube-apiserver"),
            _kubernetes("kube-controller-manager"),
            _kubernetes("kube-scheduler"),
            _kubernetes("kube-proxy"),
            _kubernetes("kubelet"),
            _kubernetes("kubeadm", "version", "-o", "short"),
            _kubernetes("kubectl", "version", "--client"),
            Program("etcd", "go.etcd.io/etcd/server/v3", ETCD),
            _containerd("containerd"),
            _containerd("containerd-shim-runc-v2", "-v"),
            _containerd("ctr"),
            Program("coredns", "github.com/coredns/coredns", COREDNS, version_arguments=("-version",)),
            Program(
                "crane",
                "github.com/google/go-containerregistry/cmd/crane",
                CRANE,
                version_arguments=("version",),
            ),
            Program("registry", "github.com/distribution/distribution/v3/cmd/registry", DISTRIBUTION),
        ),
    ),
    Module(
        name="pulumi",
        minutes=4,
        gib=4.0,
        set_at_link=(("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version", f"v{PULUMI}"),),
        programs=(
            Program(
                "pulumi",
                "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
                PULUMI,
                version_arguments=("version",),
            ),
        ),
    ),
    Module(
        name="pulumi-kubernetes",
        minutes=6,
        gib=5.0,
        programs=(Program("pulumi-resource-kubernetes", ".", PULUMI_KUBERNETES, version_arguments=()),),
    ),
    Module(
        name="kube-router",
        minutes=1.5,
        gib=1.5,
        set_at_link=(("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version", f"v{KUBE_ROUTER}"),),
        programs=(
            Program("kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router", KUBE_ROUTER),
        ),
    ),
    Module(
        name="kueue",
        minutes=6,
        gib=3.0,
        set_at_link=(("sigs.k8s.io/kueue/pkg/version.GitVersion", f"v{KUEUE}"),),
        programs=(
            # It has no flag for it: it logs its version, and ends since there is no cluster in that file.
            Program(
                "kueue", "sigs.k8s.io/kueue/cmd/kueue", KUEUE, version_arguments=("--kubeconfig=/dev/null",)
            ),
        ),
    ),
    Module(
        name="kwok",
        minutes=1.5,
        gib=1.0,
        programs=(Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", KWOK),),
    ),
    Module(
        name="cni-plugins",
        minutes=0.2,
        gib=0.2,
        set_at_link=(
            (
                "github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion",
                f"v{CNI_PLUGINS}",
            ),
        ),
        programs=(
            _cni("main", "bridge"),
            _cni("main", "loopback"),
            _cni("ipam", "host-local"),
            _cni("meta", "portmap"),
        ),
    ),
    Module(
        name="pause",
        minutes=0.1,
        gib=0.1,
        language="c",
        programs=(Program("pause", "build/pause/linux/pause.c", PAUSE, version_arguments=("-v",)),),
    ),
)
