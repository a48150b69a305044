"""The kinds of values a site file holds: checked, brought into one notation, refused in a sentence."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from sitewright.site.host_values import hostlist, kernel_argument, node_hostlist, vm_hostlist
from sitewright.site.kubernetes_values import as_quantity, dns_label, label_key, label_value, quantity, taint
from sitewright.site.names import cluster_name, cluster_network_name, model_name, vm_image_name
from sitewright.site.network_values import (
    boot_url,
    cidr,
    endpoint_url,
    file_url,
    host_port,
    ip_address,
    mac_address,
    mirror_url,
    url,
)
from sitewright.site.source import Text


class Model(BaseModel):
    """What a site file may say: unknown keys are refused, nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


def sha512(text: str) -> str:
    digits = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{128}", digits):
        kind = " (64 are a sha256)" if len(digits) == 64 else ""
        raise ValueError(f"not a sha512: 128 hexadecimal digits are wanted, it has {len(digits)}{kind}")
    return digits


def relative_directory(text: str) -> str:
    """A directory below another one: no way out of it."""
    if not text or text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r} must be a path below the directory: no leading '/', no '..'")
    return text.rstrip("/")


def absolute_path(text: str) -> str:
    """A path of another machine: as it is written, absolute."""
    if not re.fullmatch(r"/\S*", text):
        raise ValueError(f"{text!r} is not an absolute path; it starts with '/' and has no blanks")
    return text.rstrip("/") or "/"


def user_name(text: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", text):
        raise ValueError(f"{text!r} is not the name of a user: a-z, 0-9, '_' and '-', not a digit first")
    return str(text)


def proxy_command(text: str) -> str:
    """A ProxyCommand of ssh; ssh gives it to a shell, which is why it is kept as it is."""
    missing = [mark for mark in ("%h", "%p") if mark not in text]
    if missing:
        raise ValueError(f"without {' and '.join(missing)}; ssh puts the host at %h and the port at %p")
    if "\n" in text:
        raise ValueError("a command of several lines; one line is wanted")
    return str(text)


def not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty")
    return str(text)


def beside_its_file(value: Any) -> Path:
    """The path a site file means: absolute, `~`, or relative to the file that holds it."""
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"a path is wanted, found {value!r}")
    path = Path(value).expanduser()
    if not path.is_absolute() and isinstance(value, Text):
        path = value.file.parent / path
    return Path(os.path.normpath(path))


def _like(example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": [example]})


DnsLabel = Annotated[str, AfterValidator(dns_label), _like("svc-1")]
VmImageName = Annotated[str, AfterValidator(vm_image_name), _like("debian-12")]
ClusterNetworkName = Annotated[str, AfterValidator(cluster_network_name), _like("mgmt")]
ClusterName = Annotated[str, AfterValidator(cluster_name), _like("svc")]
ModelName = Annotated[str, AfterValidator(model_name), _like("chat")]
LabelKey = Annotated[str, AfterValidator(label_key)]
LabelValue = Annotated[str, AfterValidator(label_value)]
Taint = Annotated[str, AfterValidator(taint), _like("nvidia.com/gpu=present:NoSchedule")]

Mac = Annotated[str, AfterValidator(mac_address), _like("02:00:00:00:00:01")]
Cidr = Annotated[str, AfterValidator(cidr), _like("10.1.0.0/24")]
IpAddress = Annotated[str, AfterValidator(ip_address), _like("10.1.0.1")]
HostPort = Annotated[str, AfterValidator(host_port), _like("10.1.0.1:8080")]
Url = Annotated[str, AfterValidator(url), _like("http://10.1.0.1:8080/path")]
FileUrl = Annotated[str, AfterValidator(file_url), _like("http://10.1.0.1:8080/vm/debian-12.raw")]
BootUrl = Annotated[str, AfterValidator(boot_url), _like("http://10.1.0.1:8080/boot")]
MirrorUrl = Annotated[str, AfterValidator(mirror_url), _like("http://10.1.0.2:8080/boot")]
EndpointUrl = Annotated[str, AfterValidator(endpoint_url), _like("http://10.1.0.1:5000")]

Hostlist = Annotated[str, AfterValidator(hostlist), _like("svc-cp[1-3]")]
VmHostlist = Annotated[str, AfterValidator(vm_hostlist), _like("svc-cp[1-3]")]
NodeHostlist = Annotated[str, AfterValidator(node_hostlist), _like("x1000c[0-7]s[0-7]b[0-1]n0")]
KernelArgument = Annotated[str, AfterValidator(kernel_argument)]
Sha512 = Annotated[str, AfterValidator(sha512)]
AbsolutePath = Annotated[str, AfterValidator(absolute_path)]
UserName = Annotated[str, AfterValidator(user_name)]
ProxyCommand = Annotated[str, AfterValidator(proxy_command)]
NotEmpty = Annotated[str, AfterValidator(not_empty)]
Directory = Annotated[str, AfterValidator(relative_directory)]

Quantity = Annotated[
    int,
    BeforeValidator(quantity),
    PlainSerializer(as_quantity, return_type=str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["6Gi"]}),
]
SitePath = Annotated[
    Path,
    BeforeValidator(beside_its_file),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
