"""Installs the admission policies of `policies/`, each bound to the whole API."""

from pathlib import Path

import yaml

from lab.hypervisor.api import POLICY, POLICY_BINDING, Api, Key, Object

DIRECTORY = Path(__file__).parent / "policies"


def policies() -> list[Object]:
    """The ValidatingAdmissionPolicies, in the order of their files."""
    documents = (yaml.safe_load_all(file.read_text()) for file in sorted(DIRECTORY.glob("*.yaml")))
    return [document for file in documents for document in file]


def install(api: Api) -> None:
    """Install all of them. The kinds they look at must be served."""
    for policy in policies():
        key = Key("", policy["metadata"]["name"])
        api.apply(POLICY, key, policy)
        api.apply(POLICY_BINDING, key, _binding(key.name))


def _binding(name: str) -> Object:
    return {
        "apiVersion": POLICY_BINDING.api_version,
        "kind": POLICY_BINDING.kind,
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            # Every object of the policy's paramKind; none is no reason to refuse.
            "paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"},
        },
    }
