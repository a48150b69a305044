"""Whom the gateway lets in: keys of two mounts, as they are now."""

import logging

import pytest

from modules.gateway.llm_gateway_auth import Keys, Refused, allowed_models, check_request

KEY, NEXT_KEY, OTHER_KEY = "key-of-team-a-0123456", "next-of-team-a-0123456", "key-of-team-b-0123456"


@pytest.fixture
def mount(tmp_path):
    """Writes both mounts as the kubelet does, and gives keys that look at each call."""
    place = iter(range(1000))

    def write(active: dict[str, str], blocked: dict[str, str] | None = None) -> Keys:
        for name, entries in (("active", active), ("blocked", blocked or {})):
            fresh = tmp_path / name / f"..{next(place)}"
            fresh.mkdir(parents=True)
            for entry, key in entries.items():
                (fresh / entry).write_text(key)
            (tmp_path / name / "..new").symlink_to(fresh.name)
            (tmp_path / name / "..new").rename(tmp_path / name / "..data")
        return Keys(tmp_path, look_seconds=0)

    return write


def refusal(keys: Keys, key: str) -> Refused:
    with pytest.raises(Refused) as caught:
        keys.entry(key)
    return caught.value


def test_two_keys_of_a_team_are_valid_at_once(mount):
    keys = mount({"a": KEY + "\n", "a.next": NEXT_KEY, "b": OTHER_KEY})
    assert [keys.entry(key).team for key in (KEY, NEXT_KEY, OTHER_KEY)] == ["a", "a", "b"]
    assert [keys.entry(key).name for key in (KEY, NEXT_KEY)] == ["a", "a.next"], (
        "which of its two keys it uses"
    )


@pytest.mark.parametrize(
    "key", ["", " ", KEY[:-1], KEY + "x", KEY.upper(), "naïve-key-of-team-a-0", "\ud83d"]
)
def test_what_is_no_key_is_refused(mount, key):
    assert refusal(mount({"a": KEY, "empty": ""}), key).status == 401


def test_an_entry_too_short_to_be_a_key_opens_nothing_and_is_named(mount, caplog):
    with caplog.at_level(logging.WARNING):
        keys = mount({"a": KEY, "weak": "1234", "empty": ""})
        assert refusal(keys, "1234").status == refusal(keys, "").status == 401
        assert keys.entry(KEY).team == "a"
    assert "weak: a key needs 16 characters" in caplog.text
    assert "1234" not in caplog.text


@pytest.mark.parametrize(
    ("active", "blocked", "refused"),
    [
        ({}, {"a": KEY}, [KEY]),  # moved, as Waldur's agent does
        ({"a": KEY}, {"a": "anything"}, [KEY]),
        ({"a": KEY, "a.next": NEXT_KEY}, {"a": KEY}, [KEY, NEXT_KEY]),
        ({"a": KEY, "a.next": NEXT_KEY}, {"a.next": ""}, [NEXT_KEY]),
        ({"a": KEY}, {"was-a": KEY}, [KEY]),
        ({"a": KEY}, {"a": ""}, [KEY]),
    ],
)
def test_what_is_blocked_is_refused_whatever_is_active(mount, active, blocked, refused):
    keys = mount({**active, "b": OTHER_KEY}, blocked)
    for key in refused:
        assert (refusal(keys, key).status, "blocked" in str(refusal(keys, key))) == (403, True)
    for key in {KEY, NEXT_KEY} & set(active.values()) - set(refused):
        assert keys.entry(key).team == "a"
    assert keys.entry(OTHER_KEY).team == "b"


def test_a_key_that_two_teams_have_is_nobodys(mount, caplog):
    assert refusal(mount({"a": KEY, "b": KEY}), KEY).status == 403
    assert "teams a, b have the same key" in caplog.text
    assert mount({"a": KEY, "a.next": KEY}).entry(KEY).team == "a"


def test_keys_change_while_the_gateway_runs(mount):
    keys = mount({"a": KEY})
    assert keys.entry(KEY).team == "a"
    mount({"a": KEY, "a.next": NEXT_KEY})
    assert keys.entry(KEY).team == keys.entry(NEXT_KEY).team == "a"
    mount({"a": NEXT_KEY})
    assert refusal(keys, KEY).status == 401
    mount({"a": NEXT_KEY}, {"a": NEXT_KEY})
    assert refusal(keys, NEXT_KEY).status == 403


def test_the_mount_is_not_looked_at_for_every_request(mount, tmp_path):
    mount({"a": KEY})
    keys = Keys(tmp_path, look_seconds=60)
    assert keys.entry(KEY).team == "a"
    mount({})
    assert keys.entry(KEY).team == "a"


@pytest.mark.parametrize("gone", ["active", "blocked"])
def test_nobody_gets_in_where_a_mount_cannot_be_read(mount, tmp_path, gone):
    keys = mount({"a": KEY})
    assert keys.entry(KEY).team == "a"
    (tmp_path / gone).rename(tmp_path / "away")
    assert refusal(keys, KEY).status == 503
    (tmp_path / "away").rename(tmp_path / gone)
    assert keys.entry(KEY).team == "a"


def test_a_directory_without_the_kubelets_link_is_read_too(tmp_path):
    for name in ("active", "blocked"):
        (tmp_path / name).mkdir()
    (tmp_path / "active" / "a").write_text(KEY)
    assert Keys(tmp_path).entry(KEY).team == "a"


def test_a_team_gets_its_models_and_others_the_default():
    policy = {"default": ["tiny"], "teams": {"a": ["big"], "none": []}}
    assert [allowed_models(policy, team) for team in ("a", "none", "b")] == [["big"], [], ["tiny"]]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "gone"}, 404, "no model 'gone' for this key; there is tiny"),
        ({"model": ["tiny"]}, 404, "no model"),
        ({"model": {"a": 1}}, 404, "no model"),
        ({}, 404, "no model None"),
        ({"model": "tiny", "fallbacks": ["big"]}, 400, "unknown parameter fallbacks"),
        (
            {"model": "tiny", "mock_response": "x", "api_base": "y"},
            400,
            "unknown parameter api_base, mock_response",
        ),
    ],
)
def test_a_request_that_says_too_much_is_refused(body, status, message):
    with pytest.raises(Refused, match=message) as caught:
        check_request(body, ["tiny"])
    assert caught.value.status == status
