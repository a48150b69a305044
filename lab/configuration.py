"""Configuration files of the lab's services, as text. Nothing is written or started here."""

import ipaddress
import json
from pathlib import Path

from lab import network, network_boot, paths
from lab.plan import LabPlan, address_of


def nginx(plan: LabPlan) -> str:
    """The image server: VM images below www/, boot images below image_server.publish_dir.
    `user root`: caches and state directories are root's; what is served is served to the lab only."""
    run = plan.state / "run/nginx"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = "\n".join(f"  {kind}_temp_path {run}/{kind};" for kind in kinds)
    listeners = "\n".join(f"    listen {host}:{port};" for host, port in plan.image_servers)
    return f"""daemon off;
user root;
worker_processes 1;
pid {run}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
{scratch}
  access_log off;
  sendfile on;
  tcp_nopush on;
  default_type application/octet-stream;
  server {{
{listeners}
    root {plan.state}/www;
    location = /healthz {{ return 200 "ok\\n"; }}
{_boot_images(plan)}  }}
}}
"""


def _boot_images(plan: LabPlan) -> str:
    server = plan.site.image_server
    if server is None:
        return ""
    prefix = str(server.url).split(":", 2)[-1].partition("/")[2].strip("/")
    prefix = f"/{prefix}/" if prefix else "/"
    return f"    location {prefix} {{ alias {server.publish_dir}/; }}\n"


def dnsmasq(plan: LabPlan) -> str:
    """DHCP: each node's MAC address gets the address of the plan, nobody else gets one. And, for nodes that are
    emulated, the boot program over TFTP: no other machine of the lab has firmware that would ask."""
    lines = [
        "port=0  # no DNS",
        "bind-dynamic",
        "dhcp-authoritative",
        "dhcp-rapid-commit",
        "no-ping  # the plan gives no address twice; asking costs each node three seconds",
        "leasefile-ro  # leases follow from the plan, there is nothing to remember",
        "log-facility=-",
        f"pid-file={plan.state}/run/dnsmasq.pid",
        "user=root",
    ]
    for net in plan.site.networks:
        if not (nodes := plan.nodes_on(net)):
            continue
        range_ = ipaddress.ip_network(net.cidr)
        lines.append(f"interface={network.bridge(net.name)}")
        lines.append(f"dhcp-range=set:{net.name},{range_.network_address},static,{range_.netmask},infinite")
        lines.append(f"dhcp-option=tag:{net.name},option:router,{net.gateway}")
        lines += [f"dhcp-host={node.mac},{node.address},{node.xname},infinite" for node in nodes]
        if emulated := [node for node in nodes if node in plan.site.emulated_nodes]:
            lines += network_boot.dnsmasq_lines(network.bridge(net.name), [node.mac for node in emulated])
    # dnsmasq reads a comment only at the start of a line.
    return "".join(f"{line.partition('  #')[0]}\n" for line in lines)


def registry(plan: LabPlan) -> str:
    """JSON, which is YAML too. Pushing takes no password, and what was pushed may be deleted."""
    host, port = plan.registry
    config = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(plan.state / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"{host}:{port}"},
    }
    return json.dumps(config, indent=2) + "\n"


def haproxy(plan: LabPlan) -> str:
    """The only way into the lab: ports on 127.0.0.1, connections made inside the lab's namespace."""
    parts = [
        f"""global
  maxconn 2000
  stats socket {plan.state}/run/haproxy.sock mode 600
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h  # watches of the Kubernetes API are silent for long
  timeout server 1h
"""
    ]
    for published in plan.site.lab.publish if plan.site.lab else []:
        # One server needs no health check: refused is refused, and a check would wake it every few seconds.
        check = " check inter 2s fall 2 rise 1" if len(published.to) > 1 else ""
        servers = [
            f"  server {index} {target} namespace {paths.lab_name()}{check}"
            for index, target in enumerate(published.to)
        ]
        parts.append(
            f"listen {published.name}\n  bind 127.0.0.1:{published.port}\n" + "\n".join(servers) + "\n"
        )
    return "\n".join(parts)


def write(plan: LabPlan) -> dict[str, Path]:
    """Write all of them below <state>/etc. Returns where each is."""
    directory = plan.state / "etc"
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "nginx": nginx(plan),
        "dnsmasq": dnsmasq(plan),
        "registry": registry(plan),
        "haproxy": haproxy(plan),
        "site": plan.site.model_dump_json(indent=2) + "\n",  # for services that read the whole site
    }
    for name, text in texts.items():
        (directory / f"{name}.conf").write_text(text)
    if plan.site.emulated_nodes and plan.site.provisioner:
        network_boot.write(plan.site.provisioner.boot_script)
    return {name: directory / f"{name}.conf" for name in texts}


def vm_image_file(plan: LabPlan, url: str) -> Path:
    """The file that nginx serves for the URL of a VM image."""
    _, _, path = url.partition("://")[2].partition("/")
    assert address_of(url) in plan.image_servers
    return plan.state / "www" / path
