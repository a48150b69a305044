"""The custom resource definitions fit the kinds the controller works with."""

from lab.hypervisor import api, definitions


def test_every_custom_kind_of_the_controller_has_a_definition() -> None:
    defined = {
        (
            f"{body['spec']['group']}/{version['name']}",
            body["spec"]["names"]["kind"],
            body["spec"]["names"]["plural"],
            body["spec"]["scope"] == "Namespaced",
        )
        for body in definitions.definitions()
        for version in body["spec"]["versions"]
    }
    kinds = [value for value in vars(api).values() if isinstance(value, api.Kind)]
    custom = {
        (kind.api_version, kind.kind, kind.plural, kind.namespaced)
        for kind in kinds
        if "." in kind.api_version and "k8s.io" not in kind.api_version
    }
    assert custom - defined == set()
    assert {kind for kind in defined if "k8s.io" not in kind[0]} == custom


def test_a_path_has_the_namespace_only_where_the_kind_has_one() -> None:
    assert api.SECRET.path("lab", "s") == "/api/v1/namespaces/lab/secrets/s"
    assert api.NAMESPACE.path("", "lab", "finalize") == "/api/v1/namespaces/lab/finalize"
    assert api.VIRTUAL_MACHINE.path() == "/apis/kubevirt.io/v1/virtualmachines"
    assert api.IMAGE.path("lab", "i", "status").endswith("/namespaces/lab/virtualmachineimages/i/status")
