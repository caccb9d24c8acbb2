"""An ID token is believed when the provider made it for us, just now, in answer to this sign-in."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tollhouse.core import oidc
from tollhouse.core.jwt import TokenRefused
from tollhouse.core.oidc import Identity, SignInRefused
from tollhouse.core.vault import Keyring

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
PROVIDER, ISSUER, CLIENT = UUID(int=5), "https://id.example", "tollhouse"
KEYRING, OTHERS = Keyring(b"a secret of the tests"), Keyring(b"another one")
PENDING = oidc.begin(PROVIDER, "/chat", None, NOON, (b"s" * 32, b"n" * 32, b"v" * 32))
GOOD: dict[str, Any] = {
    "iss": ISSUER, "aud": CLIENT, "sub": "u-1", "iat": NOON.timestamp(), "exp": NOON.timestamp() + 300,
    "nonce": PENDING.nonce, "email": "Ada@Example.com", "email_verified": True, "name": "Ada",
}  # fmt: skip
CALLBACK = {"code": "c", "state": PENDING.state, "iss": ISSUER}


def judged(**changes: Any) -> Identity:
    claims = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return oidc.identity(claims, PROVIDER, ISSUER, CLIENT, PENDING.nonce, NOON)


def test_who_it_is() -> None:
    assert judged() == Identity(PROVIDER, "u-1", "Ada@Example.com", True, "Ada")
    assert judged(aud=[CLIENT, "other"], azp=CLIENT).subject == "u-1"
    assert judged(aud=[CLIENT]).subject == "u-1"


@pytest.mark.parametrize("said", [None, False, "true", 1])
def test_an_address_is_verified_only_when_that_is_said_outright(said: object) -> None:
    assert judged(email_verified=said).email_verified is False


@pytest.mark.parametrize("said", [None, 7, "", "a" * 255, "a\nb", ["a"]])
def test_an_address_that_is_none_is_as_if_it_were_not_said(said: object) -> None:
    assert judged(email=said).email is None
    assert judged(name=said if said != "a" * 255 else "a" * 201).name is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://id.example/"}, "another issuer"), ({"iss": None}, "another issuer"),
        ({"iss": [ISSUER]}, "another issuer"), ({"aud": "other"}, "another application"), ({"aud": None}, "for whom"),
        ({"aud": ["other"]}, "another application"), ({"aud": [CLIENT, "other"]}, "azp"), ({"azp": "other"}, "azp"),
        ({"azp": 7}, "azp"), ({"exp": None}, "expiry"), ({"exp": NOON.timestamp() - 60}, "expired"),
        ({"iat": None}, "iat"), ({"iat": "now"}, "iat"), ({"iat": True}, "no time"),
        ({"iat": NOON.timestamp() + 61}, "future"), ({"iat": NOON.timestamp() - 901}, "long ago"),
        ({"nbf": NOON.timestamp() + 61}, "future"), ({"nonce": None}, "nonce"), ({"nonce": ""}, "nonce"),
        ({"nonce": "another"}, "nonce"), ({"nonce": 7}, "nonce"), ({"nonce": [PENDING.nonce]}, "nonce"),
        ({"sub": None}, "names no user"), ({"sub": ""}, "names no user"), ({"sub": 7}, "names no user"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefused, match=why):
        judged(**changes)


def answered(now: datetime = NOON, says_issuer: bool = True, **changes: str | None) -> str:
    query = {name: value for name, value in (CALLBACK | changes).items() if value is not None}
    return oidc.check_callback(PENDING, PROVIDER, ISSUER, query, now, says_issuer=says_issuer)


def test_the_answer_to_this_sign_in_has_the_code() -> None:
    assert answered() == "c"
    assert answered(NOON + timedelta(minutes=9, seconds=59)) == "c"
    assert answered(iss=None, says_issuer=False) == "c"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": None}, "another sign-in"), ({"state": ""}, "another sign-in"), ({"state": "x"}, "another sign-in"),
        ({"state": "\udcff"}, "another sign-in"), ({"iss": "https://evil.example"}, "another identity provider"),
        ({"iss": None}, "another identity provider"), ({"code": None}, "no code"), ({"code": "c" * 2001}, "no code"),
        ({"error": "access_denied"}, "cancelled"), ({"error": "<script>"}, "something is wrong"),
    ],
)  # fmt: skip
def test_any_other_answer_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SignInRefused, match=why) as refusal:
        answered(**changes)
    assert "script" not in str(refusal.value)


def test_an_answer_of_another_provider_is_refused() -> None:
    with pytest.raises(SignInRefused, match="another sign-in"):
        oidc.check_callback(PENDING, UUID(int=6), ISSUER, CALLBACK, NOON, says_issuer=True)


def test_an_answer_that_comes_late_is_refused() -> None:
    with pytest.raises(SignInRefused, match="ten minutes"):
        answered(NOON + timedelta(minutes=10))


def test_the_cookie_holds_what_was_begun_and_nobody_else_can_make_it() -> None:
    cookie = oidc.seal(PENDING, KEYRING, b"0" * 12)
    assert oidc.opened(cookie, KEYRING) == PENDING
    assert not any(secret in cookie for secret in (PENDING.state, PENDING.nonce, PENDING.verifier))
    swapped = ("A" if cookie[-5] != "A" else "B").join([cookie[:-5], cookie[-4:]])
    other = urlsafe_b64encode(KEYRING.seal("{}", b"another purpose", b"0" * 12)).decode()
    empty = urlsafe_b64encode(KEYRING.seal("{}", b"pending sign-in", b"0" * 12)).decode()
    for wrong in (None, "", "x", "é", swapped, cookie[:-9], other, empty, "A" * 5000):
        with pytest.raises(SignInRefused, match="Begin again"):
            oidc.opened(wrong, KEYRING)
    with pytest.raises(SignInRefused):
        oidc.opened(cookie, OTHERS)


def test_the_challenge_is_that_of_the_standard() -> None:
    """RFC 7636, appendix B."""
    assert (
        oidc.challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_a_secret_opens_for_its_provider_and_issuer_only() -> None:
    first = oidc.secret_association(PROVIDER, ISSUER)
    assert first != oidc.secret_association(UUID(int=6), ISSUER)
    assert first != oidc.secret_association(PROVIDER, ISSUER + "/")
