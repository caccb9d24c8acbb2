"""Tokens that nobody may be let in with, each for another trick."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from tests.carriers import Issuer
from tests.fake_idp import encoded, sign


def tokens(issuer: Issuer, other: Issuer) -> Iterator[tuple[str, bytes]]:
    """What is tried, and the token. `issuer` is trusted by an organisation, and so is `other` by another one; all that
    is forged pretends to be of the first."""
    now = int(time.time())
    said = {"iss": issuer.issuer, "aud": issuer.audience, "sub": "ada", "iat": now, "exp": now + 600}
    head = {"alg": "ES256", "kid": "one"}
    yield from unsigned(issuer, said)
    yield from with_the_public_key(issuer, said)
    yield from with_a_key_of_its_own(head, said)
    yield from claims(issuer, other, head, said)
    yield from forms(issuer)


def unsigned(issuer: Issuer, said: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    body = encoded(said)
    algorithms: list[Any] = ["none", "None", "NONE", "nOnE", "", None, 0, [], {}, "HS256", "none\x00", "ES256 "]
    for algorithm in algorithms:
        for signature in ("", "AA", encoded(b"\0" * 64)):
            yield f"alg {algorithm!r}", f"{encoded({'alg': algorithm, 'kid': 'one'})}.{body}.{signature}".encode()
    right = encoded({"alg": "ES256", "kid": "one"})
    order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
    for what, raw in {
        "zeros": b"\0" * 64, "the order": bytes.fromhex(order) * 2, "short": b"\1" * 63, "long": b"\1" * 65,
        "DER": bytes.fromhex("3006020101020101"), "nothing": b"", "r = 0": b"\0" * 32 + b"\1" * 32,
    }.items():  # fmt: skip
        yield f"signature: {what}", f"{right}.{body}.{encoded(raw)}".encode()
    stripped = issuer.token("ada").rpartition(".")[0]
    yield "signature stripped", stripped.encode() + b"."
    yield "signature and point stripped", stripped.encode()


def with_the_public_key(issuer: Issuer, said: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """What everybody may know, taken for a secret that two share."""
    public = issuer.key.as_dict(private=False)
    secrets = {
        "pem": issuer.key.as_pem(private=False),
        "pem without its end": issuer.key.as_pem(private=False).rstrip(),
        "der": issuer.key.as_der(private=False),
        "jwk": json.dumps(public).encode(),
        "x": str(public["x"]).encode(),
        "nothing": b"",
        "kid": b"one",
    }
    for what, secret in secrets.items():
        for name, algorithm in {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}.items():
            text = f"{encoded({'alg': name, 'kid': 'one', 'typ': 'JWT'})}.{encoded(said)}"
            signature = hmac.digest(secret, text.encode(), algorithm)
            yield f"{name} with the public key as {what}", f"{text}.{encoded(signature)}".encode()


def with_a_key_of_its_own(head: dict[str, Any], said: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    mine = ECKey.generate_key("P-256")
    public = mine.as_dict(private=False)
    kids: list[Any] = [
        "one", "One", "one ", "one\x00", "", None, 1, ["one"], {"$ne": 1}, "../../../../dev/null", "/dev/null",
        "' OR '1'='1", "one' UNION SELECT 'x", "http://evil.example/keys", "file:///etc/passwd", "x" * 1500, "*", "%",
        "..\\one", "\ud800",
    ]  # fmt: skip
    for kid in kids:
        yield f"kid {kid!r}", sign(mine, head | {"kid": kid}, said).encode()
    own = {
        "jwk": public, "jku": "http://evil.example/keys", "x5u": "http://evil.example/cert", "x5c": ["AAAA"],
        "x5t": "AAAA", "crit": ["exp"], "b64": False, "enc": "A128GCM", "zip": "DEF", "iss": said["iss"],
        "aud": said["aud"],
    }  # fmt: skip
    for name, value in own.items():
        yield f"header {name}", sign(mine, head | {name: value}, said).encode()
    yield "a secret of its own", jwt.encode({"alg": "HS256"}, said, OctKey.generate_key(256)).encode()


def claims(issuer: Issuer, other: Issuer, head: dict[str, Any], said: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Rightly signed, and not for here, not now or not about anybody."""
    wrong: list[dict[str, Any]] = [
        {"aud": other.audience}, {"aud": [other.audience]}, {"aud": [issuer.audience, other.audience] * 6},
        {"aud": ""}, {"aud": None}, {"aud": 1}, {"aud": {}}, {"aud": issuer.audience.upper()},
        {"aud": issuer.audience + " "}, {"aud": "*"}, {"aud": "%"}, {"iss": other.issuer},
        {"iss": issuer.issuer + "/"}, {"iss": issuer.issuer.upper()}, {"iss": None}, {"iss": [issuer.issuer]},
        {"iss": "%"}, {"iss": "a\x00"}, {"exp": None}, {"exp": 1}, {"exp": "9999999999"}, {"exp": -1}, {"exp": 1e300},
        {"exp": True}, {"exp": {}}, {"exp": 99999999999999999999}, {"exp": said["exp"] + 86_400 * 30},
        {"nbf": said["exp"]}, {"iat": said["exp"]}, {"nbf": "now"}, {"sub": None}, {"sub": ""}, {"sub": 7},
        {"sub": ["ada"]}, {"sub": "a\x00b"}, {"sub": "x" * 201}, {"sub": "a\nb"},
    ]  # fmt: skip
    for one in wrong:
        changed = {name: value for name, value in (said | one).items() if value is not None}
        yield f"claims {one}", sign(issuer.key, head, changed).encode()
    for what, text in {"list": b"[]", "text": b'"a"', "null": b"null", "no JSON": b"{", "NaN": b'{"exp":NaN}'}.items():
        yield f"payload: {what}", sign(issuer.key, head, text).encode()
    double = json.dumps(said)[:-1].encode() + b',"aud":"%s"}' % other.audience.encode()
    yield "an audience that is said twice", sign(issuer.key, head, double).encode()
    yield "nested as deep as it goes", sign(issuer.key, head, b"[" * 3000 + b"]" * 3000).encode()


def forms(issuer: Issuer) -> Iterator[tuple[str, bytes]]:
    right = issuer.token("ada")
    head, body, signature = right.split(".")
    for what, token in {
        "four parts": f"{right}.{signature}", "five parts": f"{head}..{body}.{signature}.{signature}",
        "no head": f".{body}.{signature}", "no body": f"{head}..{signature}", "padding": f"{head}=.{body}.{signature}",
        "a letter more": right + "A", "a letter less": right[:-2], "a blank within": f"{head}. {body}.{signature}",
        "two tokens": f"{right},{right}", "standard letters": f"{head}.{body}.+/{signature[2:]}", "points": "...",
        "many points": "." * 5000, "eyJ": "eyJ.eyJ.eyJ", "too long": head + "A" * 9000 + "." + body + "." + signature,
        "body changed": f"{head}.{body[:-4]}AAAA.{signature}",
    }.items():  # fmt: skip
        yield what, token.encode()
