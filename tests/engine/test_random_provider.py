"""The real `pulumi` with the official SDK `pulumi_random` and our provider."""

from __future__ import annotations

import base64
import json
import re

import bcrypt
import pytest

pytestmark = pytest.mark.engine

ALL = """
    import pulumi, pulumi_random as random

    keepers = {"image": pulumi.Config().get("image") or "one"}
    password = random.RandomPassword("password", length=24, min_special=3, override_special="_-", keepers=keepers)
    key = random.RandomBytes("bytes", length=32)
    text = random.RandomString("string", length=8, upper=False, special=False)
    identity = random.RandomId("id", byte_length=6, prefix="node-")
    pet = random.RandomPet("pet", length=3, prefix="lab")
    number = random.RandomInteger("integer", min=10, max=12)
    uuid = random.RandomUuid("uuid")
    order = random.RandomShuffle("shuffle", inputs=["a", "b", "c"], result_count=4)
    pulumi.export("password", password.result)
    pulumi.export("hash", password.bcrypt_hash)
    pulumi.export("bytes", {"base64": key.base64, "hex": key.hex})
    pulumi.export("string", text.result)
    pulumi.export("id", [identity.id, identity.b64_url, identity.b64_std, identity.hex, identity.dec])
    pulumi.export("pet", pet.id)
    pulumi.export("integer", number.result)
    pulumi.export("uuid", uuid.result)
    pulumi.export("shuffle", order.results)
"""


INSIDE = """
    import pulumi, pulumi_random as random

    class Cluster(pulumi.ComponentResource):
        def __init__(self, name):
            super().__init__("test:index:Cluster", name)
            self.token = random.RandomPassword("token", length=24, opts=pulumi.ResourceOptions(parent=self))

    pulumi.export("token", Cluster("c").token.result)
"""


def test_a_resource_inside_a_component_is_made_and_kept(project):
    project.program(INSIDE)
    project.up()
    first = project.outputs()["token"]
    assert len(first) == 24
    project.up()
    assert project.outputs()["token"] == first


def test_every_resource_is_made_as_asked_kept_and_its_secrets_are_encrypted(project):
    project.program(ALL)
    printed = project.up()
    outputs = project.outputs()

    password = outputs["password"]
    assert len(password) == 24
    assert len(re.findall("[_-]", password)) >= 3
    assert re.fullmatch("[A-Za-z0-9_-]+", password)
    assert bcrypt.checkpw(password.encode(), outputs["hash"].encode())
    octets = base64.b64decode(outputs["bytes"]["base64"])
    assert len(octets) == 32
    assert octets.hex() == outputs["bytes"]["hex"]
    assert re.fullmatch("[a-z0-9]{8}", outputs["string"])
    _, url, standard, hexadecimal, decimal = (part.removeprefix("node-") for part in outputs["id"])
    assert url == outputs["id"][0]
    assert base64.b64decode(standard).hex() == hexadecimal
    assert int(hexadecimal, 16) == int(decimal)
    assert re.fullmatch("lab-[a-z]+-[a-z]+-[a-z]+", outputs["pet"])
    assert outputs["integer"] in (10, 11, 12)
    assert sorted(outputs["shuffle"][:3]) == ["a", "b", "c"]
    assert len(outputs["shuffle"]) == 4

    secrets = [password, outputs["hash"], outputs["bytes"]["base64"], outputs["bytes"]["hex"]]
    state = project.checkpoint.read_text() + printed
    assert not [secret for secret in secrets if secret in state]
    stored = project.resources()
    assert stored["password"]["outputs"]["result"].keys() >= {"ciphertext"}
    assert stored["bytes"]["id"] == "none"

    assert "9 unchanged" in project.up()
    assert project.outputs() == outputs

    project.pulumi("config", "set", "image", "two")
    assert "+-1 to replace" in project.pulumi("preview")
    project.up()
    renewed = project.outputs()
    assert renewed.pop("password") != outputs.pop("password")
    assert renewed.pop("hash") != outputs.pop("hash")
    assert renewed == outputs


def test_the_state_has_the_official_names_types_and_identifiers(project):
    project.program(ALL)
    project.up()
    stored = project.resources()
    outputs = stored["password"]["outputs"]
    assert stored["password"]["type"] == "random:index/randomPassword:RandomPassword"
    assert stored["password"]["id"] == "none"
    del outputs["result"], outputs["bcryptHash"]
    assert outputs == {
        "keepers": {"image": "one"},
        "length": 24,
        "lower": True,
        "minLower": 0,
        "minNumeric": 0,
        "minSpecial": 3,
        "minUpper": 0,
        "number": True,
        "numeric": True,
        "overrideSpecial": "_-",
        "special": True,
        "upper": True,
    }
    assert stored["string"]["id"] == stored["string"]["outputs"]["result"]
    assert stored["integer"]["id"] == str(stored["integer"]["outputs"]["result"])
    assert stored["uuid"]["id"] == stored["uuid"]["outputs"]["result"]
    assert stored["shuffle"]["id"] == "-"
    assert set(stored["id"]["outputs"]) == {"byteLength", "prefix", "b64Url", "b64Std", "hex", "dec"}


def test_a_default_spelled_out_changes_nothing_and_a_changed_input_replaces(project):
    program = "import pulumi_random; pulumi_random.RandomString('string', length=8{})"
    project.program(program.format(""))
    project.up()
    project.program(program.format(", special=True, min_upper=0, numeric=True, keepers={}"))
    assert "2 unchanged" in project.pulumi("preview")
    project.program(program.format(", special=False"))
    assert "+-1 to replace" in project.pulumi("preview")


def test_existing_values_are_imported_by_command_and_by_option(project):
    project.program("")
    password = "An old passw0rd!"
    arguments = ["random:index/randomPassword:RandomPassword", "old", password]
    printed = project.pulumi("import", "--yes", "--protect=false", *arguments)
    assert "length = 16" in printed
    project.program(
        """
        import pulumi, pulumi_random as random
        old = random.RandomPassword("old", length=16)
        number = random.RandomInteger(
            "number", min=1, max=9, opts=pulumi.ResourceOptions(import_="7,1,9"))
        name = random.RandomId(
            "name", byte_length=6, prefix="lab,", opts=pulumi.ResourceOptions(import_="lab,,p-9hUg12"))
        pulumi.export("old", old.result)
        pulumi.export("number", number.result)
        pulumi.export("name", name.b64_url)
        """
    )
    project.up()
    assert project.outputs() == {"old": password, "number": 7, "name": "lab,p-9hUg12"}
    assert password not in project.checkpoint.read_text()
    assert "4 unchanged" in project.up()


def test_a_value_that_cannot_be_imported_is_refused_in_one_sentence(project):
    project.program("")
    pet = project.pulumi("import", "--yes", "random:index/randomPet:RandomPet", "pet", "x", fails=True)
    assert "RandomPet cannot be imported" in pet
    integer = ["random:index/randomInteger:RandomInteger", "number", "seven"]
    printed = project.pulumi("import", "--yes", *integer, fails=True)
    assert "seven: RandomInteger is imported as result,min,max" in printed
    assert "Traceback" not in printed
    assert ".py" not in printed


def test_a_preview_knows_nothing_of_a_value_that_does_not_exist_yet(project):
    project.program(
        """
        import pulumi, pulumi_random as random
        first = random.RandomInteger("first", min=8, max=8)
        random.RandomString("second", length=first.result, keepers={"first": first.id})
        """
    )
    assert "+ 3 to create" in project.pulumi("preview")
    project.up()
    assert len(project.resources()["second"]["outputs"]["result"]) == 8
    assert json.dumps(project.resources()["second"]["inputs"]["keepers"]) == '{"first": "8"}'
