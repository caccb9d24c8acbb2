"""Tokens are believed for their signature alone, made with a key that is known and the algorithm it is for."""

from __future__ import annotations

import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import Key, RSAKey

from tests.fake_idp import encoded, new_key, sign
from tollhouse.core import jwt
from tollhouse.core.jwt import KeysUnusable, TokenRefused, read, read_keys
from tollhouse.core.key import make_key

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEYS = {"RS": new_key("RSA", "r"), "ES": new_key("EC", "e"), "Ed": new_key("OKP", "o")}
CURVES = {"ES256": KEYS["ES"], "ES384": new_key("P-384", "e3"), "ES512": new_key("P-521", "e5")}


def jwks(*keys: Key, **changes: Any) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) | changes for key in keys]}).encode()


def key_for(algorithm: str) -> Key:
    return CURVES.get(algorithm) or KEYS["RS" if algorithm[:2] in ("RS", "PS") else algorithm[:2]]


def token(algorithm: str = "ES256", key: Key | None = None, **header: Any) -> str:
    key = key or key_for(algorithm)
    head = {"alg": algorithm, "kid": key.kid} | header
    return sign(key, {name: value for name, value in head.items() if value is not None}, {"sub": "u"})


ALL = read_keys(jwks(*KEYS.values(), CURVES["ES384"], CURVES["ES512"]))


@pytest.mark.parametrize("algorithm", list(jwt.ALGORITHMS))
def test_each_algorithm_of_the_list_verifies_and_notices_a_changed_byte(algorithm: str) -> None:
    text = token(algorithm)
    ALL.verify(read(text))
    head, _, signature = text.split(".")
    with pytest.raises(TokenRefused, match="signature is wrong"):
        ALL.verify(read(f"{head}.{encoded({'sub': 'another'})}.{signature}"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "HS256", "HS512", "ES256K", "dir", "", 7, None])
def test_no_other_algorithm_is_even_looked_at(algorithm: object) -> None:
    for signature in ("", encoded(b"x")):
        with pytest.raises(TokenRefused):
            read(f"{encoded({'alg': algorithm, 'kid': 'r'})}.{encoded({'sub': 'u'})}.{signature}")


def test_a_mac_made_with_the_public_key_is_refused() -> None:
    assert isinstance(KEYS["RS"], RSAKey)
    for secret in (KEYS["RS"].as_pem(private=False), jwks(KEYS["RS"])):
        head = f"{encoded({'alg': 'HS256', 'kid': 'r'})}.{encoded({'sub': 'u'})}"
        with pytest.raises(TokenRefused, match="not signed with one of"):
            read(f"{head}.{encoded(hmac.digest(secret, head.encode(), 'sha256'))}")


def test_a_key_verifies_nothing_but_what_it_is_for() -> None:
    rsa = KEYS["RS"]
    for_pss = read_keys(jwks(rsa, alg="PS256"))
    for_pss.verify(read(token("PS256")))
    with pytest.raises(TokenRefused, match="another algorithm"):
        for_pss.verify(read(token("RS256")))
    with pytest.raises(TokenRefused, match="another algorithm"):  # the id of one, the algorithm of another
        ALL.verify(read(token("ES256", kid="r")))
    with pytest.raises(TokenRefused, match="another algorithm"):
        ALL.verify(read(token("ES256", kid="e3")))


def test_an_ed25519_key_may_name_its_algorithm_by_its_curve() -> None:
    read_keys(jwks(KEYS["Ed"], alg="Ed25519")).verify(read(token("EdDSA")))
    read_keys(jwks(KEYS["Ed"], alg="EdDSA")).verify(read(token("EdDSA")))


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"])
def test_a_token_brings_no_key_and_no_extension(name: str) -> None:
    stranger = new_key("EC", "e")
    brought: dict[str, Any] = {
        "jku": "https://evil.example/keys",
        "jwk": stranger.as_dict(private=False),
        "x5u": "https://evil.example/cert",
        "x5c": ["MIIB"],
        "crit": ["b64"],
        "b64": False,
        "enc": "A256GCM",
        "zip": "DEF",
    }
    with pytest.raises(TokenRefused, match=name):
        read(token(key=stranger, **{name: brought[name]}))


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR '1'='1", "r\n", "E", "e ", "%65", "é"])
def test_an_id_of_a_key_is_only_ever_compared(kid: str) -> None:
    with pytest.raises(TokenRefused, match="not among those"):
        ALL.verify(read(token(kid=kid)))


@pytest.mark.parametrize("kid", ["", "k" * 201, 7, ["e"], {"e": 1}, True])
def test_what_is_no_id_of_a_key_is_refused(kid: object) -> None:
    with pytest.raises(TokenRefused, match="no id of a key"):
        read(token(kid=kid))


def test_a_token_without_an_id_is_for_an_issuer_with_one_key() -> None:
    read_keys(jwks(KEYS["ES"])).verify(read(token(kid=None)))
    with pytest.raises(TokenRefused, match="has several"):
        ALL.verify(read(token(kid=None)))


def test_a_key_of_another_issuer_with_the_same_id_is_another_key() -> None:
    with pytest.raises(TokenRefused, match="signature is wrong"):
        ALL.verify(read(token(key=new_key("EC", "e"))))


def test_two_keys_of_one_id_are_told_apart_by_what_they_are_for() -> None:
    both = read_keys(jwks(new_key("RSA", "e"), KEYS["ES"]))
    both.verify(read(token("ES256")))


@pytest.mark.parametrize(
    "text",
    [
        "", "e", "ey..", "ey.a.b.c", "th_test_" + "a" * 36, "ey\n.a.b", "eyJ.a.é", "ey.a.b" + "c" * 9000,
        f"{encoded([])}.{encoded({})}.aa", f"{encoded({'alg': 'ES256'})}.{encoded(b'[' * 3000)}.aa",
        f"{encoded({'alg': 'ES256'})}.{encoded(b'{')}.aa", f"{encoded({'alg': 'ES256'})}.{encoded({'iss': chr(0)})}.aa",
        f"{encoded({'alg': 'ES256'})}.{encoded({'a': 1})}.a", f"{encoded({'alg': 'ES256', 'x': 'y' * 2000})}.e30.aa",
        f"{encoded(b'{' + b'[' * 1400)}.e30.aa",
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused):
        read(text)


@given(st.text(max_size=300) | st.from_regex(r"ey[\w-]{0,60}\.[\w-]{0,60}\.[\w-]{0,20}", fullmatch=True))
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    try:
        ALL.verify(read(text))
    except TokenRefused as reason:
        assert str(reason)
    else:
        raise AssertionError("nothing that is made up is signed")


@given(st.binary(min_size=64, max_size=64), st.sampled_from(["test", "live"]))
def test_no_key_of_ours_looks_like_a_jwt(randomness: bytes, mode: Any) -> None:
    with suppress(ValueError):  # too few of these bytes count
        assert not jwt.looks_like_a_jwt(make_key(mode, randomness))


# ----------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "not JSON"), (b"[" * 100_000, "not JSON"), (b"[]", "no JWKS"), (b'{"keys": {}}', "no JWKS"),
        (b'{"keys": []}', "no key"), (b'{"keys": [7]}', "no JSON object"),
        (json.dumps({"keys": [{}] * 101}).encode(), "more than 100"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "not of RSA"),
        (b'{"keys": [{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}]}', "not of RSA"),
        (b'{"keys": [{"kty": "OKP", "crv": "X25519", "x": "AA"}]}', "not of RSA"),
        (b'{"keys": [{"kty": ["RSA"], "n": "AA", "e": "AQAB"}]}', "not of RSA"),
        (b'{"keys": [{"kty": "EC", "crv": ["P-256"]}]}', "not of RSA"),
        (b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}', "malformed"),
        (b'{"keys": [{"kty": "EC", "crv": "P-256", "x": 7, "y": null}]}', "malformed"),
        (b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}', "malformed"),
        (b'{"keys": [{"kty": "RSA", "n": "AA", "e": "AQAB"}]}', "2048"),
        (b'{"keys": [{"kty": "RSA", "e": "AQAB"}]}', "malformed"),
        (json.dumps({"keys": [{"kty": "RSA", "n": encoded(b"\xff" * 256), "e": encoded(b"\x01")}]}).encode(), "2048"),
        (json.dumps({"keys": [{"kty": "RSA", "n": encoded(b"\xff" * 256), "e": encoded(b"\xff" * 9)}]}).encode(),
         "2048"),
        (json.dumps({"keys": [{"kty": "RSA", "n": encoded(b"\xff" * 2000), "e": "AQAB"}]}).encode(), "2048"),
        (jwks(KEYS["ES"], use="enc"), "not for signatures"), (jwks(KEYS["ES"], use=7), "not for signatures"),
        (jwks(KEYS["ES"], key_ops=["encrypt"]), "not for signatures"), (jwks(KEYS["ES"], kid=7), "no text"),
        (json.dumps({"keys": [KEYS["ES"].as_dict(private=True)]}).encode(), "private part"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used_are_said_so(document: bytes, why: str) -> None:
    with pytest.raises(KeysUnusable, match=why):
        read_keys(document)


def test_what_cannot_be_used_is_passed_over_beside_what_can() -> None:
    good, bad = KEYS["ES"].as_dict(private=False), {"kty": "oct", "k": "c2VjcmV0", "kid": "e"}
    keys = read_keys(json.dumps({"keys": [bad, good]}).encode())
    assert len(keys) == 1
    keys.verify(read(token()))


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "alg", "use"]),
        st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "é", ""]) | st.integers(),
    )
)
def test_whatever_an_issuer_publishes_is_read_or_refused(item: dict[str, Any]) -> None:
    with pytest.raises(KeysUnusable):
        read_keys(json.dumps({"keys": [item]}).encode())


# --------------------------------------------------------------------------------------------------------------- claims


def times(exp: object = 1800, nbf: object = None, iat: object = 0) -> dict[str, object]:
    """In seconds from noon; what is no number stays as it is."""
    start = int(NOON.timestamp())
    said = {"exp": exp, "nbf": nbf, "iat": iat}
    return {
        name: start + value if type(value) in (int, float) else value  # type: ignore[operator]
        for name, value in said.items()
        if value is not None
    }


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        (times(exp=None), "no time of expiry"), (times(exp=-60), "expired"), (times(nbf=61), "future"),
        (times(iat=61), "future"), (times(exp=86_401), "24 hours"), (times(exp=86_401, iat=None), "24 hours"),
        (times(exp="1800"), "no time"), (times(exp=True), "no time"), ({"exp": 10**30}, "no time"),
        ({"exp": -1}, "no time"), ({"exp": [1]}, "no time"), (times(nbf="x"), "no time"),
    ],
)  # fmt: skip
def test_a_token_counts_in_its_time_only(claims: dict[str, object], why: str) -> None:
    with pytest.raises(TokenRefused, match=why):
        jwt.check_times(claims, NOON, timedelta(hours=24))


@pytest.mark.parametrize("claims", [times(), times(exp=-59), times(nbf=60), times(iat=60), times(exp=86_400),
                                    times(exp=1.5, iat=None)])  # fmt: skip
def test_clocks_may_differ_by_a_minute(claims: dict[str, Any]) -> None:
    ends = jwt.check_times(claims, NOON, timedelta(hours=24))
    assert ends == datetime.fromtimestamp(claims["exp"], UTC)


@pytest.mark.parametrize("value", [None, 7, "", "u" * 201, "a\nb", "a\x00", ["u"], {"u": 1}, True])
def test_a_user_is_named_as_a_host_application_names_it(value: object) -> None:
    with pytest.raises(TokenRefused, match="names no user"):
        jwt.user({"sub": value}, "sub")
    assert jwt.user({"email": "Ada Lovelace"}, "email") == "Ada Lovelace"


@pytest.mark.parametrize("value", [None, "", [], 7, ["a", 7], ["a"] * 11, "a" * 501, {"a": 1}, [""]])
def test_a_token_says_for_whom_it_is(value: object) -> None:
    with pytest.raises(TokenRefused, match="for whom"):
        jwt.audiences({"aud": value})
    assert jwt.audiences({"aud": "a"}) == ["a"]
    assert jwt.audiences({"aud": ["a", "b"]}) == ["a", "b"]
    with pytest.raises(TokenRefused, match="who issued"):
        jwt.issuer({"iss": value})
