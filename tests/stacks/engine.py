"""An engine that records: runs `stacks/` under Pulumi's mocks, with no cluster, no lab and no program anywhere."""

import runpy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockMonitor

SECRET = "4dabf18193072939515e22adb298388d"  # Pulumi's mark of a special value
PLAYBOOK_RUN = "sitewright:index:PlaybookRun"

# What each playbook returns, from its variables.
RESULTS = {
    "fill-registry": lambda given: {
        "images": {name: f"registry/{name}@sha256:{'0' * 64}" for name in given["images"]}
    },
    "bootstrap-cluster": lambda given: {
        "kubeconfig": f"kubeconfig of {given['cluster']}",
        "endpoint": f"https://{given['endpoint_address']}:6443",
        "ca_certificate": f"CA of {given['cluster']}",
    },
    "build-boot-image": lambda given: {
        "digest": "sha256:1",
        "kernel_url": f"{given['url']}/1/kernel",
        "initrd_url": f"{given['url']}/1/initramfs",
        "kernel_arguments": [f"root=live:{given['url']}/1/root"],
    },
    "join-nodes": lambda given: {
        "nodes": {"x1000c0s0b0n0": {"kubelet": "v1.37.2"}}
        if given["labels"]["sitewright.dev/pool"] == "gpu"
        else {}
    },
    "prepare-models": lambda given: {
        "python": f"{given['path']}/environments/e/bin/python",
        "model_path": f"{given['path']}/models/{given['model']}",
        "model_digest": "sha256:2",
    },
    "prepare-software": lambda given: {"python": f"{given['path']}/environments/l/bin/python"},
}


@dataclass(frozen=True)
class Resource:
    """One registration. needs: URNs of its dependencies, its parent and its provider."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    provider: str
    needs: frozenset[str]

    @property
    def is_component(self) -> bool:
        return self.type.startswith("sitewright:modules:")


@dataclass
class Run:
    """What the program asked for, and what the stack's outputs were; unknown ones are missing."""

    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: set[str] = field(default_factory=set)

    def of(self, type_: str) -> dict[str, dict[str, Any]]:
        """Inputs by name of the resources of a type; `Kind` alone stands for a Kubernetes kind."""
        return {
            found.name: found.inputs
            for found in self.resources.values()
            if found.type == type_
            or (found.type.startswith("kubernetes:") and found.type.endswith(f":{type_}"))
        }

    def declared(self, kind: str) -> dict[str, dict[str, Any]]:
        """Resources of OpenCHAMI of a kind."""
        return self.of(f"sitewright:openchami:{kind}")

    def playbooks(self) -> dict[str, dict[str, Any]]:
        return self.of(PLAYBOOK_RUN)

    def named(self, name: str) -> Resource:
        """The one of that name, of those that are more than a bracket around others."""
        [found] = [one for one in self.resources.values() if one.name == name and not one.is_component]
        return found

    def waits_for(self, name: str) -> set[str]:
        """Names of all that must be there before the resource is made, and outlives it."""
        return {self.resources[urn].name for urn in self._closure(self.named(name))}

    def _closure(self, resource: Resource) -> set[str]:
        seen: set[str] = set()
        waiting = [resource.urn]
        while waiting:
            new = (self.resources[waiting.pop()].needs & self.resources.keys()) - seen
            seen |= new
            waiting += new
        return seen


def plain(value: Any) -> Any:
    """A value with its secrets taken out of their wrapping."""
    if isinstance(value, dict):
        return plain(value["value"]) if SECRET in value else {key: plain(v) for key, v in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def texts_in_clear(value: Any) -> Iterator[str]:
    """Every text below a value that is no secret."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and SECRET not in value:
        for entry in value.values():
            yield from texts_in_clear(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from texts_in_clear(entry)


class Providers(pulumi.runtime.Mocks):
    """Answers for every provider. known: procedures have run; otherwise it is a first preview.
    others: outputs of another stack."""

    def __init__(self, known: bool, others: dict[str, Any]) -> None:
        self._known, self._others = known, others

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        outputs: dict[str, Any] = {}
        if args.typ == PLAYBOOK_RUN and self._known:
            results = RESULTS.get(Path(args.inputs["playbook"]).stem, lambda given: {})
            outputs = {"results": results(plain(args.inputs["variables"])), "changed": True, "log": ""}
        elif args.typ == "pulumi:pulumi:StackReference":
            outputs = {"outputs": self._others, "secretOutputNames": ["kubeconfigs"]}
        elif args.typ.endswith(":VirtualMachineImage") and self._known:
            outputs = {"status": {"storageClassName": "lh-1"}}
        elif args.typ == "kubernetes:kubevirt.io/v1:VirtualMachine" and self._known:
            outputs = {"metadata": {**args.inputs["metadata"], "uid": f"uid of {args.name}"}}
        elif args.typ.startswith("random:"):
            outputs = {"result": f"canary of {args.name}"}
        return f"{args.name}-id", {**args.inputs, **outputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], None]:
        raise AssertionError(f"the program calls {args.token}: a preview would need a cluster")


class Monitor(MockMonitor):
    """Pulumi's mock monitor, which also remembers who depends on whom."""

    def __init__(self, mocks: Providers, run: Run) -> None:
        super().__init__(mocks)
        self._run = run

    def RegisterResource(self, request):
        answer = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            urn = answer.urn
            assert urn not in self._run.resources, f"{urn} twice; Pulumi would refuse the program"
            self._run.resources[urn] = Resource(
                urn,
                request.type,
                request.name,
                pulumi.runtime.rpc.deserialize_properties(request.object),
                request.provider,
                frozenset([*request.dependencies, request.parent, request.provider.rpartition("::")[0]]),
            )
        return answer


def run(site_file: Path, preview: bool = False, others: dict[str, Any] | None = None, **config: str) -> Run:
    """The program for a site.

    preview: nothing is there yet and results of procedures are unknown.
    others:  outputs of the stack that `infrastructure` names; further words are configuration.
    """
    done, exported = Run(), {}
    providers = Providers(not preview, others or {})
    pulumi.runtime.set_mocks(
        providers, "sitewright", site_file.stem, preview, monitor=Monitor(providers, done)
    )
    settings = {"environment": str(site_file), **config}
    pulumi.runtime.set_all_config({f"sitewright:{key}": value for key, value in settings.items()})

    async def settle() -> None:
        for name, value in exported.items():
            output = pulumi.Output.from_input(value)
            if await output.is_known():
                done.outputs[name] = await output.future()
            if await output.is_secret():
                done.secret_outputs.add(name)

    @pulumi.runtime.test
    def whole():
        runpy.run_module("stacks", run_name="__main__")
        return settle()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulumi, "export", exported.__setitem__)
        whole()
    return done
