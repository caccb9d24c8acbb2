"""How long a session lasts, what is permitted in it, and what is read of a device, a name and a mailbox."""

from datetime import timedelta

import pytest

from tests.core.cast import NOON
from tollhouse.core.device import device_of
from tollhouse.core.errors import BadRequest
from tollhouse.core.link import form_token, looks_like_a_token, new_token, token_digest, token_digests
from tollhouse.core.mailbox import normalised
from tollhouse.core.person import name_of
from tollhouse.core.session import is_over, must_add_second_factor, permissions_of
from tollhouse.core.vault import Keyring

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("expires", "seen", "revoked", "superadmin", "over"),
    [
        (DAY, timedelta(0), False, False, False),
        (timedelta(0), timedelta(0), False, False, True),
        (DAY, timedelta(0), True, False, True),
        (DAY, -14 * DAY, False, False, True),
        (DAY, -14 * DAY + timedelta(seconds=1), False, False, False),
        (DAY, timedelta(hours=-8), False, True, True),
        (DAY, timedelta(hours=-7), False, True, False),
    ],
)
def test_a_session_ends(expires: timedelta, seen: timedelta, revoked: bool, superadmin: bool, over: bool) -> None:
    assert is_over(NOON + expires, NOON + seen, NOON if revoked else None, superadmin, NOON) is over


def test_nobody_has_rights_over_the_platform_but_a_superadmin_with_what_live_mode_asks_for() -> None:
    common = {"must_add": False, "impersonated": False, "organization_suspended": False}
    assert "platform" not in permissions_of("owner", superadmin=False, **common)
    assert "platform" in permissions_of("member", superadmin=True, **common)
    for change in ("must_add", "impersonated"):
        assert "platform" not in permissions_of("owner", superadmin=True, **common | {change: True})
    assert permissions_of("owner", superadmin=False, **common | {"organization_suspended": True}) == frozenset()
    assert [must_add_second_factor(True, has, mode) for has in (True, False) for mode in ("test", "live")] == [
        False, False, False, True
    ]  # fmt: skip
    assert not must_add_second_factor(False, False, "live")


def test_a_token_is_known_by_its_digest_under_any_secret_that_the_installation_has() -> None:
    token = new_token(bytes(range(32)))
    assert looks_like_a_token(token)
    old, new = Keyring(b"old"), Keyring(b"new", (b"old",))
    assert token_digest(old, token) in token_digests(new, token)
    assert token_digest(new, token) != token_digest(old, token)
    assert form_token(token) != form_token(new_token(bytes(32)))
    with pytest.raises(ValueError):
        new_token(bytes(31))


@pytest.mark.parametrize(
    ("header", "device"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/141.0 Safari/537.36 Edg/141.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 Safari/605.1.15", "Safari on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) CriOS/141.0 Mobile Safari/604.1", "Chrome on iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/141.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5.0", "curl"),
        ("<script>", "an unknown device"),
        ("", "an unknown device"),
    ],
)
def test_a_device_in_plain_words(header: str, device: str) -> None:
    assert device_of(header) == device


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Ada@Example.COM ", "ada@example.com"),
        ("ada+news@example.com", "ada+news@example.com"),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
    ],
)
def test_an_address_has_one_form(typed: str, kept: str) -> None:
    assert normalised(typed) == kept
    assert normalised(kept) == kept


@pytest.mark.parametrize(
    "typed",
    ["", "ada", "ada@localhost", "ada@erased.invalid", "Ada <ada@example.com>", "a@b@c.com", '"a b"@example.com',
     "ada@[127.0.0.1]", "adä@example.com", "ada@exa\nmple.com", "\ud800@example.com", "a" * 65 + "@example.com",
     "a@" + "b." * 130 + "com"],
)  # fmt: skip
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        normalised(typed)
    assert refusal.value.field == "email"


def test_a_name_is_one_line_of_what_can_be_seen() -> None:
    assert name_of("  Ada\t\r\n King\u202e ") == "Ada King"
    assert name_of("") == ""
    with pytest.raises(BadRequest):
        name_of("x" * 201)
