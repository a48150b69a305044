"""The program that `pulumi up` runs, under Pulumi's mocks: no cluster, no lab, no engine anywhere."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

REPOSITORY = Path(__file__).parents[2]
LAB_STATE = "/var/lib/sitewright/lab"
SHA512 = "ab" * 64
SECRET = "4dabf18193072939515e22adb298388d"  # Pulumi's mark of a special value

RESULTS = {
    "fill-registry.yml": lambda variables: {
        "images": {name: f"registry/{name}@sha256:{'0' * 64}" for name in variables["images"]}
    },
    "bootstrap-cluster.yml": lambda variables: {
        "kubeconfig": f"kubeconfig of {variables['cluster']}",
        "endpoint": f"https://{variables['endpoint_address']}:6443",
        "ca_certificate": "PEM",
    },
    "build-boot-image.yml": lambda variables: {
        "digest": "sha256:1",
        "kernel_url": "http://k",
        "initrd_url": "http://i",
        "kernel_arguments": ["root=live:http://r"],
    },
    "join-nodes.yml": lambda variables: {"nodes": {}},
    "prepare-models.yml": lambda variables: {
        "python": "/shared/environments/e/bin/python",
        "model_path": f"/shared/models/{variables['model']}",
        "model_digest": "sha256:2",
    },
}


def plain(value: Any) -> Any:
    """A value with its secrets taken out of their wrapping."""
    if isinstance(value, dict):
        return plain(value["value"]) if SECRET in value else {key: plain(v) for key, v in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


class Engine(pulumi.runtime.Mocks):
    """Records what the program asks for. unknown: results of procedures are not known, as in a first preview."""

    def __init__(self, unknown: bool) -> None:
        self.resources: list[pulumi.runtime.MockResourceArgs] = []
        self._unknown = unknown

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.resources.append(args)
        outputs: dict[str, Any] = {"status": {"storageClassName": "lh-1"}}
        if args.typ == "sitewright:index:PlaybookRun":
            results = RESULTS.get(Path(args.inputs["playbook"]).name, lambda variables: {})
            known = {} if self._unknown else {"results": results(plain(args.inputs["variables"]))}
            outputs = {**known, "changed": True, "log": ""}
        return f"{args.name}-id", {**args.inputs, **outputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        raise AssertionError(
            f"the program asks the engine to call {args.token}: a preview would need a cluster"
        )

    def of(self, type_: str) -> dict[str, dict[str, Any]]:
        """Inputs by name of the resources of a type."""
        return {found.name: found.inputs for found in self.resources if found.typ == type_}


@pytest.fixture
def site_file(tmp_path: Path) -> Callable[[str], Path]:
    """A site file of the repository, and beside it the files that it names."""

    def copy(name: str) -> Path:
        root = tmp_path / name
        environments = root / "environments"
        shutil.copytree(REPOSITORY / "environments", environments)
        text = (environments / f"{name}.yaml").read_text().replace(LAB_STATE, str(root))
        (environments / f"{name}.yaml").write_text(text)
        secrets = root / ".secrets" / name
        for directory in (secrets, root / "ssh", root / "www/vm"):
            directory.mkdir(parents=True)
        for kubeconfig in (secrets / "harvester.kubeconfig", root / "hypervisor.kubeconfig"):
            kubeconfig.write_text("kubeconfig of the hypervisor")
        for key in (secrets / "id_ed25519.pub", root / "ssh/id_ed25519.pub"):
            key.write_text("ssh-ed25519 AAAAC3Nza operator\n")
        (root / "www/vm/SHA512SUMS").write_text(f"{SHA512}  debian-12.squashfs\n")
        return environments / f"{name}.yaml"

    return copy


@pytest.fixture
def program(monkeypatch) -> Callable[..., tuple[Engine, dict[str, Any]]]:
    """Runs stacks/ with a site file; gives the recorded resources and the stack's outputs."""

    def run(site_file: Path, preview: bool = False, **config: str) -> tuple[Engine, dict[str, Any]]:
        engine, outputs = Engine(unknown=preview), {}
        monkeypatch.setattr(pulumi, "export", outputs.__setitem__)
        pulumi.runtime.set_mocks(engine, project="sitewright", stack=site_file.stem, preview=preview)
        settings = {"environment": str(site_file), **config}
        pulumi.runtime.set_all_config({f"sitewright:{key}": value for key, value in settings.items()})

        @pulumi.runtime.test
        def whole() -> None:
            runpy.run_module("stacks", run_name="__main__")

        whole()
        return engine, outputs

    return run
