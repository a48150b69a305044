"""`sitewright lab up`: from nothing, or from what an earlier run left, to a lab whose services all answer."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from lab import checks, credentials, database, images, namespace, network, paths, supervisor
from lab.configuration import vm_image_file
from lab.lock import exclusive
from lab.plan import LabPlan
from lab.services import Service, services
from lab.stages import Stage, Stages
from sitewright.errors import SitewrightError

STAGES = ["check this machine", "network", "keys and certificates", "VM image", "services"]
MARKER = ".sitewright-lab"  # holds the lab's name: `lab down` removes only a directory that is its own
SERVICE_SECONDS = 60


def up(plan: LabPlan, stages: Stages) -> None:
    """Bring the lab up. Safe to run again at any time: what is there and fits is left alone.
    Raises: SitewrightError, before anything is made where this machine cannot run the lab."""
    stages.plan(STAGES)
    with stages.stage("check this machine") as stage:
        checks.check(plan)
    with exclusive(stage.say), ThreadPoolExecutor(1) as beside:
        directories(plan)
        image = beside.submit(_vm_images, plan, stages)  # the only stage that may take long
        with stages.stage("network"):
            network.create_lab()
            for net in plan.site.networks:
                network.create_bridge(net.name, plan.addresses(net))
        with stages.stage("keys and certificates"):
            credentials.create(plan)
            if plan.wanted_database:
                database.prepare(database.directory(), plan.wanted_database)
        with stages.stage("services") as stage:
            _services(services(plan), stage)
        image.result()


def directories(plan: LabPlan) -> None:
    """The state directory and what every service expects in it."""
    state = plan.state
    if state.is_dir() and any(state.iterdir()) and not is_own(state):
        raise SitewrightError(
            f"{state} holds files of something else than the lab {paths.lab_name()!r}",
            f"Give `lab.state_dir` of {plan.environment} an empty or absent directory.",
        )
    state.mkdir(parents=True, exist_ok=True, mode=0o755)
    (state / MARKER).write_text(paths.lab_name() + "\n")
    for name in ("run/nginx", "logs", "etc", "machines", "registry", "www"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "etcd").mkdir(mode=0o700, exist_ok=True)
    if plan.site.image_server:
        Path(plan.site.image_server.publish_dir).mkdir(parents=True, exist_ok=True)
    for name in ("models", "environments", "adapters"):
        (Path(plan.site.shared_filesystem.publish_dir) / name).mkdir(parents=True, exist_ok=True)


def _vm_images(plan: LabPlan, stages: Stages) -> None:
    """Build what the cache lacks, and publish it where the site file says it is downloaded from."""
    with stages.stage("VM image") as stage:
        for image in plan.vm_images:
            if not (images.cached(image.name) / "SHA512SUMS").is_file():
                stage.say(f"building {image.name} with mmdebstrap, about a minute")
            source = images.vm_image(image.name)
            stage.say("")
            _publish(source, vm_image_file(plan, str(image.url)))


def _publish(source: Path, target: Path) -> None:
    """The image and its line in SHA512SUMS, as a hard link where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.is_file() and target.stat().st_size == source.stat().st_size and _same(source, target)):
        scratch = target.with_name(f".{target.name}.new")
        scratch.unlink(missing_ok=True)
        try:
            scratch.hardlink_to(source)
        except OSError:  # the cache is on another file system
            shutil.copyfile(source, scratch)
        scratch.rename(target)
    _add_checksum(target, source.with_name("SHA512SUMS").read_text().split()[0])


def _same(source: Path, target: Path) -> bool:
    return source.samefile(target) or source.stat().st_mtime <= target.stat().st_mtime


def _add_checksum(target: Path, checksum: str) -> None:
    file = target.with_name("SHA512SUMS")
    lines = file.read_text().splitlines() if file.is_file() else []
    others = [line for line in lines if line.split()[-1:] != [target.name]]
    file.write_text("\n".join([*others, f"{checksum}  {target.name}"]) + "\n")


def _services(wanted: list[Service], stage: Stage) -> None:
    supervisor.apply(wanted)
    for service in wanted:
        for host, port in service.listens:
            stage.say(f"waiting for {service.name} on {host}:{port}")
            _wait_for(service, f"listen on {host}:{port}", partial(_listens, service, host, port))
        if service.ready:
            stage.say(f"waiting for {service.name}")
            _wait_for(service, "become ready", service.ready)
    stage.say(f"{len(wanted)} run")


def _wait_for(service: Service, what: str, condition: Callable[[], bool]) -> None:
    if not namespace.wait_until(condition, SERVICE_SECONDS):
        raise SitewrightError(
            f"{service.name} does not {what} within {SERVICE_SECONDS} s: {last_words(service.log)}",
            f"See `sitewright lab logs {service.name}`; run `sitewright lab up` again to go on.",
        )


def _listens(service: Service, host: str, port: int) -> bool:
    if service.on_host:
        return namespace.connects(host, port)
    return namespace.answers(host, port)


def last_words(log: Path, lines: int = 3) -> str:
    text = log.read_text(errors="replace").strip() if log.is_file() else ""
    return " | ".join(text.splitlines()[-lines:]) or "it logged nothing"


def is_own(state: Path) -> bool:
    """Whether the directory was made by this lab."""
    marker = state / MARKER
    return marker.is_file() and marker.read_text().strip() == paths.lab_name()
