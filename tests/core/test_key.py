"""API keys and ids."""

import hmac
import re
import string
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import NOON, ORGANIZATION, moments
from tollhouse.core import key
from tollhouse.core.errors import Forbidden
from tollhouse.core.key import Rights, check_may_give

modes: st.SearchStrategy[key.Mode] = st.sampled_from(["test", "live"])
randomness = st.lists(st.integers(0, 247), min_size=64, max_size=64).map(bytes)
KEY = key.make_key("test", bytes(range(64)))


@given(modes, randomness)
def test_a_key_says_its_mode_and_looks_like_a_key(mode: key.Mode, random: bytes) -> None:
    made = key.make_key(mode, random)
    assert re.fullmatch(rf"th_{mode}_[0-9A-Za-z]{{36}}", made)
    assert key.looks_like_a_key(made)


@given(st.integers(0, len(KEY) - 1), st.sampled_from(string.ascii_letters + string.digits + "_é"))
def test_a_typing_mistake_is_seen_without_a_look_up(place: int, letter: str) -> None:
    typed = KEY[:place] + letter + KEY[place + 1 :]
    assert key.looks_like_a_key(typed) == (typed == KEY)


@given(st.text())
def test_anything_may_be_asked_whether_it_is_a_key(text: str) -> None:
    assert not key.looks_like_a_key(text)


@pytest.mark.parametrize("text", ["", "th_test_", KEY[:-1], KEY + "0", KEY.replace("test", "best"), " " + KEY])
def test_what_is_not_whole_is_not_a_key(text: str) -> None:
    assert not key.looks_like_a_key(text)


def test_every_character_of_a_key_is_equally_likely() -> None:
    every_byte = [key.make_key("live", bytes([byte]) * 30)[8:9] for byte in range(248)]
    assert len(set(every_byte)) == 62
    assert {every_byte.count(letter) for letter in every_byte} == {4}
    with pytest.raises(ValueError, match="not enough"):
        key.make_key("live", bytes([255]) * 64)


def test_the_digest_depends_on_the_key_and_on_the_secret() -> None:
    other = key.make_key("test", bytes(range(1, 65)))
    digests = {key.digest(secret, one) for secret in (b"one", b"two") for one in (KEY, other)}
    assert len(digests) == 4
    assert {len(one) for one in digests} == {32}
    assert key.digest(b"one", KEY) in digests


def test_a_key_may_be_stored_under_any_secret_the_first_one_first() -> None:
    assert key.digests((b"new", b"old"), KEY) == [key.digest(b"new", KEY), key.digest(b"old", KEY)]
    assert key.digests((), KEY) == []


def test_what_is_shown_of_a_key_recognises_it_and_does_not_give_it_away() -> None:
    assert key.shown(KEY) == KEY[:12]
    assert len(KEY) - len(key.shown(KEY)) == 32


@given(moments, st.integers(1, 10**9), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_an_id_made_later_sorts_later(moment: datetime, milliseconds: int, one: bytes, two: bytes) -> None:
    early = key.ordered_id(moment, one)
    late = key.ordered_id(moment + timedelta(milliseconds=milliseconds + 1), two)
    assert early < late
    assert (early.version, early.variant) == (7, RFC_4122)


def test_an_id_keeps_all_the_randomness_that_its_form_leaves() -> None:
    assert (
        key.ordered_id(NOON, bytes(10)).int & key.ordered_id(NOON, b"\xff" * 10).int
        == key.ordered_id(NOON, bytes(10)).int
    )
    different = key.ordered_id(NOON, bytes(10)).int ^ key.ordered_id(NOON, b"\xff" * 10).int
    assert different.bit_count() == 74


def test_an_end_user_has_one_id_in_an_organisation_and_another_elsewhere() -> None:
    here = key.end_user_id(ORGANIZATION, "u_1")
    assert here == key.end_user_id(ORGANIZATION, "u_1")
    assert len({here, key.end_user_id(ORGANIZATION, "u_2"), key.end_user_id(UUID(int=99), "u_1")}) == 3


@pytest.mark.parametrize("byte", range(248, 256))
def test_a_byte_that_would_make_some_characters_likelier_is_skipped(byte: int) -> None:
    wanted = bytes(range(64))
    assert key.make_key("test", bytes([byte]) + wanted) == key.make_key("test", wanted)


@given(moments)
def test_an_id_tells_the_millisecond_in_which_it_was_made(moment: datetime) -> None:
    since_1970 = (moment - datetime(1970, 1, 1, tzinfo=NOON.tzinfo)) // timedelta(milliseconds=1)
    assert abs((key.ordered_id(moment, bytes(10)).int >> 80) - since_1970) <= 1  # a float's last bit


def test_a_key_and_a_user_of_an_earlier_version_are_known_again() -> None:
    issued = "th_test_0123456789ABCDEFGHIJKLMNOPQRST1Lgbdt"
    assert key.looks_like_a_key(issued)
    assert key.digest(b"a secret", issued) == hmac.digest(b"a secret", issued.encode(), "sha256")
    assert key.end_user_id(UUID(int=1), "u_1") == UUID("878b5a89-430e-8741-6645-1dc08cb87e90")


# ------------------------------------------------------------------------------------------------- what a key may give

MANAGES: frozenset[key.Scope] = frozenset({"manage"})
USES: frozenset[key.Scope] = frozenset({"gateway", "credits", "act_as"})
LATER = NOON + timedelta(days=1)
BOUND = Rights(MANAGES, "test", NOON, frozenset({"small", "large"}), 5_000_000, 10)


@pytest.mark.parametrize("scope", ["manage", "operator"])
def test_no_key_gives_away_what_governs(scope: key.Scope) -> None:
    with pytest.raises(Forbidden, match=repr(scope)):
        check_may_give(Rights(MANAGES, "live"), Rights(frozenset({scope, "gateway"}), "test"))


def test_a_key_that_manages_gives_scopes_of_use_that_it_has_not_itself() -> None:
    check_may_give(Rights(MANAGES, "live"), Rights(USES, "live"))
    check_may_give(Rights(MANAGES, "live"), Rights(USES, "test", NOON, frozenset({"small"}), 0, 0))


@pytest.mark.parametrize(
    ("wider", "name"),
    [
        ({"mode": "live"}, "mode"),
        ({"expires_at": LATER}, "expires_at"),
        ({"expires_at": None}, "expires_at"),
        ({"models": None}, "models"),
        ({"models": frozenset({"small", "other"})}, "models"),
        ({"credits_micros_per_month": None}, "credits_per_month"),
        ({"credits_micros_per_month": 5_000_001}, "credits_per_month"),
        ({"requests_per_minute": None}, "requests_per_minute"),
        ({"requests_per_minute": 11}, "requests_per_minute"),
    ],
)
def test_nothing_that_a_key_gives_reaches_further_than_its_own(wider: dict[str, Any], name: str) -> None:
    as_much = replace(BOUND, scopes=USES)
    check_may_give(BOUND, as_much)
    check_may_give(BOUND, replace(as_much, models=frozenset({"small"}), requests_per_minute=0))
    with pytest.raises(Forbidden, match=name):
        check_may_give(BOUND, replace(as_much, **wider))


@pytest.mark.parametrize(
    ("given", "within"),
    [
        (None, False), (("10.0.0.0/8",), True), (("10.1.0.0/16", "2001:db8::5/128"), True), (("10.0.0.0/7",), False),
        (("10.1.2.3/32", "192.0.2.1/32"), False), (("2001:db8::/47",), False), (("::ffff:10.0.0.1/128",), False),
    ],
)  # fmt: skip
def test_a_key_gives_no_network_that_it_may_not_come_from_itself(given: tuple[str, ...] | None, within: bool) -> None:
    giver = Rights(MANAGES, "live", networks=("10.0.0.0/8", "2001:db8::/48"))
    wanted = Rights(USES, "live", networks=given)
    if within:
        check_may_give(giver, wanted)
    else:
        with pytest.raises(Forbidden, match="'networks' goes further"):
            check_may_give(giver, wanted)
    check_may_give(replace(giver, networks=None), wanted)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("10.255.0.1", True), ("11.0.0.1", False), ("2001:db8::ffff", True), ("2001:db9::1", False), ("", False),
        ("::ffff:10.0.0.1", True), ("fe80::1%eth0", True), ("localhost", False), ("10.0.0.1, 11.0.0.1", False),
    ],
)  # fmt: skip
def test_an_address_is_in_the_networks_or_the_key_is_refused(address: str, found: bool) -> None:
    assert key.comes_from(address, ("10.0.0.0/8", "2001:db8::/48", "fe80::/10")) is found
