"""User data is checked before a machine is made.

Machines came up bare elsewhere, for a header that was not the first line, a tab, or one control character:
canonical/cloud-init#3929, #2180, #6114.
"""

from ipaddress import IPv4Address

import pytest
import yaml

from modules.machines import cloud_init

KEY = "ssh-ed25519 AAAA operator"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("---\n#cloud-config\nusers: []\n", "line 1: the first line must be `#cloud-config`"),
        ("users: []\n", "line 1: the first line must be `#cloud-config`"),
        ("", "line 1: the first line must be `#cloud-config`"),
        (" #cloud-config\n", "line 1: the first line must be `#cloud-config`"),
        ("\ufeff#cloud-config\n", "line 1: byte order mark (U+FEFF)"),
        ("#cloud-config\nusers: []\n\t", "line 3: begins with a tab"),
        (
            "#cloud-config\nusers:\n  - name: ops\n  \t- x\n",
            "line 4: not valid YAML at column 3; the line holds a tab",
        ),
        ("#cloud-config\n# a\x80b\nusers: []\n", "line 2: control character U+0080"),
        ("#cloud-config\nusers: []\n# \x00\n", "line 3: control character U+0000"),
        ("#cloud-config\n# \x0c\n", "line 2: control character U+000C"),
        ("#cloud-config\n# \x85\n", "line 2: control character U+0085"),
        ("#cloud-config\r\nusers: []\r\n", "line 1: carriage return (U+000D)"),
        ("#cloud-config\nusers: [\n", "line 3: not valid YAML"),
        ("#cloud-config\n- users\n", "user data must be a mapping"),
    ],
)
def test_what_cloud_init_would_drop_is_named_with_its_line(text: str, problem: str) -> None:
    found = cloud_init.user_data_problems(text)
    assert any(entry.startswith(problem) or problem in entry for entry in found), found


@pytest.mark.parametrize(
    "text",
    [
        "#cloud-config\n# Zürich\nusers: []\n",
        "#cloud-config",
        "#cloud-config\n# only a comment\n",
        "#cloud-config\nwrite_files:\n  - path: /Makefile\n    content: |\n      all:\n      \ttrue\n",
        "#cloud-config\nmotd: '😀'\n",
    ],
)
def test_good_user_data_passes_unchanged(text: str) -> None:
    assert cloud_init.checked_user_data(text) == text


def test_all_problems_are_found_in_one_run_and_none_shows_the_text() -> None:
    problems = cloud_init.user_data_problems("users:\n\tpassword: hunter2\n# \x01\n")
    assert [problem.partition(":")[0] for problem in problems] == ["line 1", "line 2", "line 3"]
    assert "hunter2" not in " ".join(problems)


def test_a_parse_error_does_not_show_the_text() -> None:
    [problem] = cloud_init.user_data_problems("#cloud-config\npassword: *hunter2\n")
    assert problem.startswith("line 2: not valid YAML") and "hunter2" not in problem


def test_the_default_lets_root_in_by_key_only() -> None:
    text = cloud_init.user_data("svc-cp", "root", [KEY])
    assert cloud_init.user_data_problems(text) == []
    assert yaml.safe_load(text) == {
        "hostname": "svc-cp",
        "ssh_pwauth": False,
        "disable_root": False,
        "ssh_authorized_keys": [KEY],
    }


def test_another_user_than_root_is_the_images_default_user() -> None:
    config = yaml.safe_load(cloud_init.user_data("svc-cp", "sles", [KEY]))
    assert config["user"] == "sles" and "disable_root" not in config


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_key_is_appended_where_user_data_lists_none(end: str) -> None:
    text = f"#cloud-config\n# Zürich\npackages: [chrony]{end}"
    result = cloud_init.with_ssh_keys(text, [KEY])
    assert result.startswith(text)
    assert yaml.safe_load(result) == {"packages": ["chrony"], "ssh_authorized_keys": [KEY]}


def test_a_list_that_has_the_key_stays_as_it_is() -> None:
    text = f"#cloud-config\nssh_authorized_keys:\n  - {KEY}\n  - ssh-ed25519 BBBB other\n"
    assert cloud_init.with_ssh_keys(text, [KEY]) == text


@pytest.mark.parametrize("listed", ["[]", "just text", "[{a: b}]"])
def test_a_list_without_the_key_is_refused(listed: str) -> None:
    with pytest.raises(ValueError, match="lacks the site's own key"):
        cloud_init.with_ssh_keys(f"#cloud-config\nssh_authorized_keys: {listed}\n", [KEY])


def test_the_interface_is_found_by_its_mac_which_stays_text() -> None:
    text = cloud_init.network_data(
        "52:54:00:00:00:11", IPv4Address("10.1.0.10"), 24, IPv4Address("10.1.0.1"), [IPv4Address("10.1.0.2")]
    )
    assert yaml.safe_load(text) == {
        "version": 2,
        "ethernets": {
            "nic-0": {
                "match": {"macaddress": "52:54:00:00:00:11"},
                "addresses": ["10.1.0.10/24"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.1.0.1"}],
                "nameservers": {"addresses": ["10.1.0.2"]},
            }
        },
    }


def test_without_gateway_and_name_servers_there_is_no_route() -> None:
    text = cloud_init.network_data("52:54:00:00:00:11", IPv4Address("10.1.0.10"), 24, None, [])
    assert list(yaml.safe_load(text)["ethernets"]["nic-0"]) == ["match", "addresses"]
