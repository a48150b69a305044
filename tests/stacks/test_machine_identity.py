"""What makes `pulumi up` set a control plane up again."""

from tests.stacks.engine import plain


def test_another_vm_of_the_same_name_is_another_run(lab, alps):
    """The inventory names a VM by its name and its address, which a VM that came back empty has too."""
    assert plain(lab.playbooks()["bootstrap-svc"]["triggers"]) == {"svc-cp": "uid of svc-cp"}
    for cluster in ("svc", "tds"):
        names = [f"{cluster}-cp{number}" for number in (1, 2, 3)]
        triggers = plain(alps.playbooks()[f"bootstrap-{cluster}"]["triggers"])
        assert triggers == {name: f"uid of {name}" for name in names}


def test_a_vm_of_another_stack_is_not_asked_who_it_is(program, site_file):
    run = program(site_file("lab"), layers='["clusters"]')
    assert plain(run.playbooks()["bootstrap-svc"]["triggers"]) == {}
