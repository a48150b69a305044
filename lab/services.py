"""The services of the lab: what runs under supervisord, with which command, and how one knows it is up."""

import hashlib
import json
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lab import configuration, database, network, paths, probes
from lab.plan import Address, LabPlan
from lab.probes import Probe
from tools.locate import bin_dir

ETCD = "http://127.0.0.1:2379"  # inside the lab's namespace
ETCD_PEERS = "http://127.0.0.1:2380"
COLLECTOR_PORT = 10257


@dataclass(frozen=True)
class Service:
    """listens:  addresses that accept connections once it is up; on_host: they are the host's, not the lab's.
    ready:    asked after that, until it says yes.
    reads:    files whose content it reads once: when they change, it is started again.
    priority: those with a lower one are started first.
    stop_signal: what it ends soon of; others wait for their clients."""

    name: str
    command: list[str]
    listens: list[Address] = field(default_factory=list)
    ready: Probe | None = None
    on_host: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    reads: list[Path] = field(default_factory=list)
    priority: int = 20
    stop_signal: str = "TERM"

    @property
    def log(self) -> Path:
        return paths.state_dir() / "logs" / f"{self.name}.log"


def services(plan: LabPlan) -> list[Service]:
    """Every service the site needs, in the order they are started."""
    config = configuration.write(plan)
    found = [*_hypervisor(plan), *_image_server(plan, config), _registry(plan, config), *_database(plan)]
    if plan.site.nodes:
        found += [_dnsmasq(config), _provisioner(plan, config), *_bmcs(plan, config)]
    return [*found, _haproxy(plan, config)]


def supervisord_conf(services: list[Service]) -> str:
    """The supervisor's configuration. It listens on a socket that only root can open."""
    state = paths.state_dir()
    head = f"""[supervisord]
nodaemon=true
logfile={state}/logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={state}/run/supervisord.pid
childlogdir={state}/logs
directory={paths.REPOSITORY}
user=root
[unix_http_server]
file={socket_file()}
chmod=0600
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(_program(service) for service in services)


def socket_file() -> Path:
    return paths.state_dir() / "run" / "supervisord.sock"


def _program(service: Service) -> str:
    command = service.command if service.on_host else network.inside(*service.command)
    environment = {
        "SITEWRIGHT_LAB_STATE_DIR": str(paths.state_dir()),
        "SITEWRIGHT_LAB_NAME": paths.lab_name(),
        "SITEWRIGHT_CACHE": str(paths.cache_dir()),
        "PYTHONUNBUFFERED": "1",
        **service.environment,
        # Changes when the files it reads do, which makes supervisord start it again at the next `lab up`.
        "SITEWRIGHT_READS": _digest(service.reads),
    }
    pairs = ",".join(f"{name}={json.dumps(value)}" for name, value in environment.items())
    return f"""[program:{service.name}]
command={_escaped(shlex.join(command))}
environment={_escaped(pairs)}
priority={service.priority}
autorestart=true
startsecs=1
startretries=1000000
stopsignal={service.stop_signal}
stopwaitsecs=3
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={service.log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=1
"""


def _hypervisor(plan: LabPlan) -> list[Service]:
    if plan.site.hypervisor is None:
        return []
    etcd = [
        str(bin_dir() / "etcd"),
        f"--data-dir={plan.state}/etcd",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={ETCD_PEERS}",
        f"--initial-advertise-peer-urls={ETCD_PEERS}",
        f"--initial-cluster=default={ETCD_PEERS}",
        "--unsafe-no-fsync",  # a power cut of the host may cost the lab its state; every write would wait
        "--log-level=warn",
    ]
    pki, (host, port) = plan.state / "pki", plan.hypervisor_api
    controller = {"KUBECONFIG": str(pki / "hypervisor-inside.kubeconfig")}
    return [
        Service("etcd", etcd, [("127.0.0.1", 2379)], priority=10),
        Service(
            "hypervisor-api",
            _kube_apiserver(plan),
            [plan.hypervisor_api],
            probes.http(f"https://{host}:{port}/readyz", pki / "ca.crt", range(200, 201)),
            reads=sorted(pki.glob("*.crt")),
            priority=11,
        ),
        Service(
            "hypervisor-collector", _garbage_collector(pki), [("127.0.0.1", COLLECTOR_PORT)], priority=12
        ),
        _python(
            "hypervisor",
            ["lab.hypervisor"],
            environment=controller,
            code=["hypervisor"],
            # The last of its kinds: with it the API serves all that `pulumi up` asks of it.
            ready=probes.kubernetes_kind(f"https://{host}:{port}", "virtualmachines.kubevirt.io", pki),
            priority=30,
        ),
    ]


def _kube_apiserver(plan: LabPlan) -> list[str]:
    """An API server without a cluster behind it. Off is what only other controllers would complete:
    service accounts in pods, and the finalizer that protects claims in use."""
    pki, (host, port) = plan.state / "pki", plan.hypervisor_api
    return [
        str(bin_dir() / "kube-apiserver"),
        f"--etcd-servers={ETCD}",
        f"--bind-address={host}",
        f"--advertise-address={host}",
        f"--secure-port={port}",
        f"--tls-cert-file={pki}/hypervisor.crt",
        f"--tls-private-key-file={pki}/hypervisor.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-account-key-file={pki}/service-accounts.key",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",  # no service uses it; the flag is demanded
        "--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection",
        "--endpoint-reconciler-type=none",
        "--profiling=false",
    ]


def _garbage_collector(pki: Path) -> list[str]:
    """Kubernetes' own, and nothing else of its controller-manager: it deletes what belonged to a deleted
    object, and completes the deletions in the foreground that Pulumi asks for."""
    return [
        str(bin_dir() / "kube-controller-manager"),
        f"--kubeconfig={pki}/hypervisor-inside.kubeconfig",
        "--controllers=garbage-collector-controller",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={COLLECTOR_PORT}",
        f"--cert-dir={pki}/collector",
        "--profiling=false",
    ]


def _image_server(plan: LabPlan, config: dict[str, Path]) -> list[Service]:
    if not plan.image_servers:
        return []
    command = ["nginx", "-c", str(config["nginx"]), "-p", str(plan.state / "run/nginx"), "-e", "stderr"]
    host, port = plan.image_servers[0]
    ready = probes.http(f"http://{host}:{port}/healthz")
    return [Service("image-server", command, plan.image_servers, ready, reads=[config["nginx"]])]


def _registry(plan: LabPlan, config: dict[str, Path]) -> Service:
    command = [str(bin_dir() / "registry"), "serve", str(config["registry"])]
    # It would look for a collector of traces on this host otherwise, and complain every few seconds.
    quiet = {"OTEL_TRACES_EXPORTER": "none"}
    ready = probes.http("http://{}:{}/v2/".format(*plan.registry))
    return Service("registry", command, [plan.registry], ready, environment=quiet, reads=[config["registry"]])


def _database(plan: LabPlan) -> list[Service]:
    if not plan.wanted_database:
        return []
    reads = [database.directory() / "tls.crt"]
    command = database.command(database.directory(), *plan.database)
    # Shared memory of its own: that of a PostgreSQL which is killed would stay.
    command = ["unshare", "--ipc", "--", *command]
    return [Service("database", command, [plan.database], reads=reads, stop_signal="INT")]


def _dnsmasq(config: dict[str, Path]) -> Service:
    command = ["dnsmasq", "--keep-in-foreground", f"--conf-file={config['dnsmasq']}"]
    return Service("dhcp", command, reads=[config["dnsmasq"]])


def _haproxy(plan: LabPlan, config: dict[str, Path]) -> Service:
    ports = [("127.0.0.1", published.port) for published in plan.site.lab.publish] if plan.site.lab else []
    command = ["haproxy", "-db", "-f", str(config["haproxy"])]
    return Service("publish", command, ports, on_host=True, reads=[config["haproxy"]])


def _provisioner(plan: LabPlan, config: dict[str, Path]) -> Service:
    urls = plan.site.provisioner
    listens = plan.provisioner_addresses if urls else []
    arguments = ["lab.provisioner", "--environment", plan.environment]
    return _python("provisioner", arguments, listens=listens, code=["provisioner"], reads=[config["site"]])


def _bmcs(plan: LabPlan, config: dict[str, Path]) -> list[Service]:
    ca = plan.state / "pki/ca.crt"
    password = [Path(plan.site.bmc.password_file)] if plan.site.bmc else []
    return [
        _python(
            f"bmc-{xname}",
            ["lab.bmc", xname, "--environment", plan.environment],
            listens=[(address, plan.bmc_port)],
            ready=probes.http(f"https://{address}:{plan.bmc_port}/redfish/v1/", ca),
            code=["bmc"],
            reads=[plan.state / "bmc" / xname / "tls.crt", *password, config["site"]],
            priority=30,
        )
        for xname, address in plan.bmcs.items()
    ]


def _python(
    name: str,
    arguments: list[str],
    *,
    code: list[str],
    listens: list[Address] | None = None,
    ready: Probe | None = None,
    environment: dict[str, str] | None = None,
    reads: list[Path] | None = None,
    priority: int = 20,
) -> Service:
    """A program of this repository. code: packages below lab/ that it consists of."""
    files = [file for package in code for file in sorted((paths.REPOSITORY / "lab" / package).rglob("*.py"))]
    return Service(
        name,
        [sys.executable, "-m", *arguments],
        listens or [],
        ready,
        environment=environment or {},
        reads=[*(reads or []), *files],
        priority=priority,
    )


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\n".encode())
        digest.update(file.read_bytes() if file.is_file() else b"absent")
    return digest.hexdigest()[:16]


def _escaped(text: str) -> str:
    """supervisord expands %(name)s in its configuration."""
    return text.replace("%", "%%")
