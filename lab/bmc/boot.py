"""From power-on to the node's first process: boot script, root file system, overlay, start.

A step that fails is tried again for as long as the node is on, in the rhythm the boot script gives,
as iPXE does: a node waits for its provisioner, not the other way round.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from lab import machine
from lab.bmc import image, ipxe, root
from lab.bmc.fetch import Fetcher, Stopped, pause_before
from lab.bmc.report import Report
from lab.machine import Bind, Machine
from sitewright.errors import SitewrightError
from sitewright.site import Node, Site
from sitewright.tuning.template import RUNS


@dataclass(frozen=True)
class Surroundings:
    """What a node boots from. boot_script: URL that it asks with `?mac=`; shared: directory seen at `shared_path`."""

    boot_script: str
    shared: Path
    shared_path: str

    @classmethod
    def of(cls, site: Site) -> "Surroundings":
        if site.provisioner is None:
            raise SitewrightError(f"the site {site.name} has no `provisioner`", "Add it to the site file.")
        files = site.shared_filesystem
        return cls(site.provisioner.boot_script, Path(files.publish_dir or files.path), files.path)


class Boot:
    """The boot of one node. start, prepare and fetcher: replaced in tests."""

    def __init__(
        self,
        node: Node,
        surroundings: Surroundings,
        report: Report,
        start: Callable[[Machine], None] = machine.start,
        prepare: Callable[[str, Path, int], root.Root] = root.prepare,
        fetcher: Callable[..., Fetcher] = Fetcher,
    ) -> None:
        self._node = node
        self._surroundings = surroundings
        self._report = report
        self._start = start
        self._prepare = prepare
        self._fetcher = fetcher

    def run(self, stop: Event) -> None:
        """Returns once the node runs. Raises Stopped when `stop` is set before."""
        fetcher = self._fetcher(stop, self._report.console)
        first = f"{self._surroundings.boot_script}?mac={self._node.mac}"
        url, attempt = first, 0
        self._report.stage("power-on", self._node.mac, driver="nspawn", power="On", image="", attempt=0)
        while True:
            attempt += 1
            script = ipxe.Script()
            try:
                script = self._script(url, fetcher, attempt)
                if script.kernel:
                    self._boot(script, fetcher)
                    return
                error, detail = "", script.message or "the provisioner has nothing for this node yet"
            except SitewrightError as problem:
                error, detail = str(problem), "failed"
            pause = script.sleep if script.chain else pause_before(attempt)
            self._report.stage("retry", f"{detail}; again in {pause:.0f} s", error)
            if stop.wait(pause):
                raise Stopped
            url = script.chain or first

    def _script(self, url: str, fetcher: Fetcher, attempt: int) -> ipxe.Script:
        self._report.stage("script", url, attempt=attempt)
        return ipxe.parse(fetcher.text(url), url)

    def _boot(self, script: ipxe.Script, fetcher: Fetcher) -> None:
        url, digest = image.named_by(script)
        self._report.stage("image", url, image=digest)
        squashfs = image.fetch(url, digest, fetcher)
        image.check_tree(squashfs, script)
        self._note_missing(script, fetcher)
        self._report.stage("root", f"{squashfs.name}, overlay of {self._node.memory >> 20} MiB")
        mounted = self._prepare(self._node.xname, squashfs, self._node.memory)
        self._report.stage("start", " ".join(script.arguments))
        self._start(self._machine(script, mounted))
        self._report.stage("running")

    def _note_missing(self, script: ipxe.Script, fetcher: Fetcher) -> None:
        """This driver uses the host's kernel: it says, but does not mind, that a real node would stop."""
        for name, url in (("kernel", script.kernel), ("initrd", script.initrd)):
            if url and not fetcher.is_there(url):
                self._report.console(f"warning: {name} {url} is not there: a real node would not boot")

    def _machine(self, script: ipxe.Script, mounted: root.Root) -> Machine:
        node = self._node
        return Machine(
            name=node.xname,
            root=mounted.directory,
            network=node.network,
            mac=node.mac,
            cpus=node.cpus,
            memory=node.memory,
            binds=(*mounted.binds, *self._shared()),
            init_args=script.arguments,
            exit_on_reboot=True,  # a diskless node that reboots boots from the network again
        )

    def _shared(self) -> list[Bind]:
        """The parallel file system, which nodes can write where fine-tuning runs are kept."""
        shared, path = self._surroundings.shared, self._surroundings.shared_path
        runs = shared / RUNS
        runs.mkdir(parents=True, exist_ok=True)
        return [Bind(shared, path, read_only=True), Bind(runs, f"{path}/{RUNS}")]
