"""What must be true before the lab makes anything: every problem is found and reported in one run."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab import cgroup, database, emulator, listeners, network_boot, paths
from lab.commands import SYSTEM_PATH
from lab.plan import LabPlan
from sitewright.errors import SitewrightError
from tools.locate import bin_dir

GIB = 2**30
# Debian package of each program that the lab starts.
PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "veritysetup": "cryptsetup-bin",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "losetup": "mount",
    "sysctl": "procps",
    "socat": "socat",
    "ssh": "openssh-client",
}
# And of each file that emulated nodes boot with.
EMULATOR = {
    f"/usr/bin/{emulator.PROGRAM}": "qemu-system-x86",
    str(emulator.FIRMWARE): "ovmf",
    str(emulator.FIRMWARE_VARIABLES): "ovmf",
    str(network_boot.IPXE): "ipxe",
}
# And of what keeps the budgets of teams.
DATABASE = {str(database.BIN / name): "postgresql" for name in ("postgres", "initdb")}
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
FILE_SYSTEMS = ("overlay", "squashfs", "tmpfs")
SERVICES_MEMORY = GIB  # all services of the lab together, measured: 0.7 GiB
# Boot image with its build, VM image, registry, the environment of the served models, logs.
DISK = 16 * GIB
DISK_WHEN_BUILT = 4 * GIB
# Instances of inotify held by a control plane, a node and the services, measured: 29, 14 and 4.
WATCHERS_OF_A_VM, WATCHERS_OF_A_NODE, WATCHERS_OF_SERVICES = 32, 16, 8


def check(plan: LabPlan) -> None:
    """Raises one SitewrightError with all problems; changes nothing."""
    require_root()
    problems = [
        *missing_programs(),
        *(missing_files(EMULATOR, "lab.qemu_nodes") if plan.site.emulated_nodes else []),
        *(missing_files(DATABASE, "services.gateway.database") if plan.wanted_database else []),
        *missing_file_systems(),
        *ports_in_use(plan),
        *too_little_memory(plan, available_memory(), cgroup.memory_used(paths.lab_name())),
        *too_little_disk(plan.state),
        *too_few_watchers(plan, int(INOTIFY_LIMIT.read_text()), watchers_of_others()),
        *tools_not_built(),
    ]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        listed = "".join(f"\n- {problem.message}\n    {problem.hint}" for problem in problems)
        raise SitewrightError(f"{len(problems)} problems, nothing was changed:{listed}")


def require_root() -> None:
    if os.geteuid() != 0:
        raise SitewrightError(
            "the lab makes network namespaces, mounts and control groups, which takes root",
            "Run it as root, or with `sudo`.",
        )


def missing_programs(find: str = SYSTEM_PATH) -> list[SitewrightError]:
    missing = [name for name in PACKAGES if shutil.which(name, path=find) is None]
    if not missing:
        return []
    packages = " ".join(sorted({PACKAGES[name] for name in missing}))
    return [
        SitewrightError(
            f"these programs are missing: {', '.join(missing)}", f"Run `apt-get install -y {packages}`."
        )
    ]


def missing_files(needed: Mapping[str, str], section: str) -> list[SitewrightError]:
    """needed: Debian package of each file that a section of the site file takes."""
    missing = [name for name in needed if not Path(name).is_file()]
    if not missing:
        return []
    packages = " ".join(sorted({needed[name] for name in missing}))
    return [
        SitewrightError(
            f"for `{section}` these files are missing: {', '.join(missing)}",
            f"Run `apt-get install -y --no-install-recommends {packages}`, or leave `{section}` out.",
        )
    ]


def missing_file_systems(known: str | None = None) -> list[SitewrightError]:
    """known: text of /proc/filesystems. One that is a module is loaded by the first mount of it."""
    known = known if known is not None else Path("/proc/filesystems").read_text()
    modules = Path("/lib/modules") / os.uname().release
    missing = [
        name for name in FILE_SYSTEMS if name not in known.split() and not any(modules.rglob(f"{name}.ko*"))
    ]
    if not missing:
        return []
    return [
        SitewrightError(
            f"this kernel ({os.uname().release}) has no {', '.join(missing)}",
            "Machines are booted from these file systems; use Debian's own kernel.",
        )
    ]


def ports_in_use(plan: LabPlan) -> list[SitewrightError]:
    """Published ports on which something that is not this lab listens."""
    ours = cgroup.processes(paths.services_cgroup())
    problems = []
    for published in plan.site.lab.publish if plan.site.lab else []:
        if (other := listeners.on_port(published.port)) and other.pid not in ours:
            what = f"port {published.port} on 127.0.0.1, wanted for {published.name}, is taken by {other}"
            hint = f"End it, or give `lab.publish` of {plan.environment} another port."
            problems.append(SitewrightError(what, hint))
    return problems


def too_little_memory(plan: LabPlan, available: int, used: int) -> list[SitewrightError]:
    """available: bytes free on this host; used: bytes that the running lab holds and would use again."""
    machines = sum(vm.memory for vm in plan.site.vms) + sum(node.memory for node in plan.site.nodes)
    machines += emulator.OVERHEAD * len(plan.site.emulated_nodes)
    needed = machines + SERVICES_MEMORY
    if available + used >= needed:
        return []
    count = len(plan.site.vms) + len(plan.site.nodes)
    return [
        SitewrightError(
            f"memory: {_gib(available + used)} are available, {_gib(needed)} are needed"
            f" ({count} machines with {_gib(machines)}, services {_gib(SERVICES_MEMORY)})",
            f"Free some, or lower `memory` of virtual_machines and pools in {plan.environment}.",
        )
    ]


def too_little_disk(state: Path, free: int | None = None) -> list[SitewrightError]:
    """free: bytes free where the state directory is, or will be."""
    there = next(path for path in (state, *state.parents) if path.exists())
    needed = DISK_WHEN_BUILT if any((state / "shared/environments").glob("*")) else DISK
    free = free if free is not None else shutil.disk_usage(there).free
    if free >= needed:
        return []
    return [
        SitewrightError(
            f"disk: {_gib(free)} are free below {there}, {_gib(needed)} are needed",
            "Free some, or put `lab.state_dir` on another file system.",
        )
    ]


def too_few_watchers(plan: LabPlan, limit: int, others: int) -> list[SitewrightError]:
    """All machines share the host's instances of inotify; where they run out, containerd and kube-proxy end with "too
    many open files". limit: what the host allows; others: held by processes outside of the lab."""
    vms, nodes = len(plan.site.vms), len(plan.site.nodes)
    needed = vms * WATCHERS_OF_A_VM + nodes * WATCHERS_OF_A_NODE + WATCHERS_OF_SERVICES
    if limit - others >= needed:
        return []
    return [
        SitewrightError(
            f"inotify: {limit} instances are allowed, others hold {others}, {vms + nodes} machines need {needed}",
            "Allow more: `sysctl -w fs.inotify.max_user_instances=1024`.",
        )
    ]


def watchers_of_others() -> int:
    ours = cgroup.processes(paths.lab_name())
    return sum(
        _watchers(process) for process in Path("/proc").glob("[0-9]*") if int(process.name) not in ours
    )


def _watchers(process: Path) -> int:
    """Instances of inotify that it holds; none once it has ended."""
    found = 0
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            found += str(descriptor.readlink()) == "anon_inode:inotify"
    return found


def tools_not_built() -> Iterable[SitewrightError]:
    try:
        bin_dir()
    except SitewrightError as problem:
        return [problem]
    return []


def available_memory() -> int:
    line = next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
