"""The meta-data a node gets from the cloud-init server, as the YAML the real service writes.

Source: cloud-init server 1.4.5; tests/data/contracts.
"""

import secrets
from typing import Any

import yaml

from lab.provisioner.store import Document, Store

GROUP = "cloud-init-group"
INSTANCE = "cloud-init-instance"
DEFAULTS = "cloud-init-defaults"


def instance_of(store: Store, xname: str) -> Document:
    """What is known of a node here; its instance-id is made once and kept."""
    known = store.get(INSTANCE, xname)
    if known is None:
        known = {"instance-id": f"i-{secrets.token_hex(4)}"}
        store.put(INSTANCE, xname, known)
    return known


def meta_data(store: Store, component: Document, address: str, groups: list[str]) -> dict[str, Any]:
    """The meta-data of one node, keys in the order the real service writes them."""
    instance = instance_of(store, component["ID"])
    defaults = store.get(DEFAULTS, "") or {}
    prefix = defaults.get("short-name") or defaults.get("cluster-name", "")[:2]
    hostname = f"{prefix}{component.get('NID', 0):0{defaults.get('nid-length') or 4}d}"
    vendor = {
        "version": "1.0",
        "cloud_init_base_url": instance.get("cloud-init-base-url") or defaults.get("base-url"),
        "cluster_name": defaults.get("cluster-name"),
    }
    v1 = {
        "availability_zone": defaults.get("availability-zone"),
        "instance_id": instance["instance-id"],
        "instance_type": instance.get("instance-type"),
        "region": defaults.get("region"),
    }
    v1 = {key: value for key, value in v1.items() if value} | {"local_ipv4": address}
    later = {
        "cloud_provider": defaults.get("cloud_provider"),
        "public_keys": [*defaults.get("public-keys", []), *(instance.get("public-keys") or [])],
    }
    v1 |= {key: value for key, value in later.items() if value}
    vendor = {key: value for key, value in vendor.items() if value}
    described = {group: _group_meta_data(store, group) for group in sorted(groups)}
    return {
        "instance-id": instance["instance-id"],
        "local-hostname": instance.get("local-hostname") or hostname,
        "hostname": instance.get("hostname") or hostname,
        "cluster-name": defaults.get("cluster-name", ""),
        "instance_data": {"v1": v1 | {"vendor_data": vendor | {"groups": described}}},
    }


def _group_meta_data(store: Store, name: str) -> Document:
    group = store.get(GROUP, name) or {}
    data = {"Description": group.get("description") or "No description Found"} | group.get("meta-data", {})
    return dict(sorted(data.items()))


class _Dumper(yaml.SafeDumper):
    """Quotes with `"` what would not read back as text, as the real service's YAML writer does."""


def _text_node(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = dumper.resolve(yaml.ScalarNode, value, (True, False)) == "tag:yaml.org,2002:str"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain and value else '"')


_Dumper.add_representer(str, _text_node)


def to_yaml(data: dict[str, Any]) -> str:
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=4096
    )
