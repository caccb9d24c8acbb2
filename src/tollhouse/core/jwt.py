"""Tokens of other issuers: read strictly, and verified with the keys that the issuer publishes (RFC 7515, 7517, 7519).

What a token says of itself chooses no key and no algorithm: the header names an algorithm of the list below and the id
of a key that is known already; everything else that could bring a key along is refused.
"""

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from joserfc.jws import JWSRegistry

from tollhouse.core.text import holds_nul

TOKEN_BYTES: Final = 8192
KEYS_MAX: Final = 100
LEEWAY: Final = timedelta(seconds=60)
_HEADER_BYTES: Final = 2048
_KID_LENGTH: Final = 200
_RSA_BITS: Final = range(2048, 8193)
_RSA_EXPONENTS: Final = range(3, 1 << 32)
_LATEST_S: Final = 32_503_680_000  # the year 3000
# The type of key and the curves that each algorithm is for.
ALGORITHMS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    **{name: ("RSA", ()) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    "ES256": ("EC", ("P-256",)),
    "ES384": ("EC", ("P-384",)),
    "ES512": ("EC", ("P-521",)),
    "EdDSA": ("OKP", ("Ed25519", "Ed448")),
}
_CURVES: Final = {"EC": ("P-256", "P-384", "P-521"), "OKP": ("Ed25519", "Ed448")}
_REFUSED_HEADERS: Final = ("jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip")
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")


class TokenRefused(Exception):
    """A token that is not believed. The message says why, begins in lower case and holds nothing of the token."""


class TokenUnknown(TokenRefused):
    """Nobody here trusts who issued it, or it is not signed by them: perhaps a guess."""


class KeysUnusable(Exception):
    """A document that is no set of keys, or has none that a token can be verified with. The message says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it came: nothing of it is verified."""

    algorithm: str
    kid: str | None
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicKey:
    kid: str | None
    algorithm: str | None
    kind: str
    curve: str | None
    key: Key = field(repr=False)

    def fits(self, algorithm: str) -> bool:
        kind, curves = ALGORITHMS[algorithm]
        if kind != self.kind or (curves and self.curve not in curves):
            return False
        return self.algorithm in (None, algorithm) or (algorithm == "EdDSA" and self.algorithm == self.curve)


# -------------------------------------------------------------------------------------------------------------- reading


def looks_like_a_jwt(text: str) -> bool:
    """Whether this is a JWT by its form: three parts in base64url, the first beginning as a JSON object does. No key of
    ours has that form."""
    parts = text.split(".", 3)
    return len(parts) == 3 and text.startswith("ey") and all(map(_PART.fullmatch, parts))


def read(text: str) -> Token:
    """TokenRefused for what is too large or malformed, is not signed with an algorithm of the list, or brings a key or
    an extension along."""
    if len(text) > TOKEN_BYTES:
        raise TokenRefused(f"it is larger than {TOKEN_BYTES} bytes")
    if not looks_like_a_jwt(text):
        raise TokenRefused("it does not have the form of a signed JWT")
    head, body, signature = text.split(".")
    if len(head) > _HEADER_BYTES:
        raise TokenRefused("its header is too large")
    header, claims = _document(head, "header"), _document(body, "payload")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused(f"it is not signed with one of {', '.join(ALGORITHMS)}")
    for name in _REFUSED_HEADERS:
        if name in header:
            raise TokenRefused(f"its header has {name!r}, which is not taken from a token")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= _KID_LENGTH):
        raise TokenRefused("the 'kid' of its header is no id of a key")
    return Token(algorithm, kid, claims, f"{head}.{body}".encode(), _decoded(signature))


def _document(part: str, what: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(_decoded(part))
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise TokenRefused(f"its {what} is not JSON") from None
    if not isinstance(document, dict) or holds_nul(document):
        raise TokenRefused(f"its {what} is no JSON object without NUL")
    return document


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise TokenRefused("it is not in base64url") from None


# ----------------------------------------------------------------------------------------------------------------- keys


class KeySet:
    """The keys of an issuer with which tokens can be verified."""

    def __init__(self, keys: list[PublicKey]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def knows(self, kid: str | None) -> bool:
        """Whether a key has this id. A token without an id is for an issuer with one key."""
        return len(self._keys) == 1 if kid is None else any(key.kid == kid for key in self._keys)

    def verify(self, token: Token) -> None:
        """TokenRefused unless the token is signed with the key that it names, of these."""
        if not self.knows(token.kid):
            raise TokenRefused(
                "its header names no key ('kid'), and the issuer has several"
                if token.kid is None
                else "its key ('kid') is not among those that the issuer publishes"
            )
        named = [key for key in self._keys if token.kid in (None, key.kid)]
        fitting = [key for key in named if key.fits(token.algorithm)]
        if not fitting:
            raise TokenRefused("its key is for another algorithm than it is signed with")
        model = JWSRegistry.algorithms[token.algorithm]
        if not any(model.verify(token.signed, token.signature, key.key) for key in fitting):
            raise TokenUnknown("its signature is wrong")


def read_keys(document: bytes) -> KeySet:
    """The keys of a JWKS that can verify; encryption keys and kinds unknown here are passed over. KeysUnusable when
    none is left, or there are more than 100."""
    try:
        parsed = msgspec.json.decode(document)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise KeysUnusable("it is not JSON") from None
    found = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(found, list):
        raise KeysUnusable("it is no JWKS: there is no list 'keys'")
    if len(found) > KEYS_MAX:
        raise KeysUnusable(f"it has more than {KEYS_MAX} keys")
    keys, objections = [], []
    for item in found:
        try:
            keys.append(_key(item))
        except KeysUnusable as objection:
            objections.append(str(objection))
    if not keys:
        raise KeysUnusable("it has no key to verify signatures with" + _because(objections))
    return KeySet(keys)


def _because(objections: list[str]) -> str:
    return f": {objections[0]}" if objections else ""


def _key(item: object) -> PublicKey:
    if not isinstance(item, dict):
        raise KeysUnusable("a key is no JSON object")
    kind, curve, kid, algorithm = (item.get(name) for name in ("kty", "crv", "kid", "alg"))
    if kind not in ("RSA", "EC", "OKP") or (kind != "RSA" and curve not in _CURVES[kind]):
        raise KeysUnusable("a key is not of RSA, P-256, P-384, P-521, Ed25519 or Ed448")
    if "d" in item:
        raise KeysUnusable("a key is published with its private part, so anybody could sign with it: replace it")
    if item.get("use", "sig") != "sig" or "verify" not in _operations(item):
        raise KeysUnusable("a key is not for signatures")
    if not all(one is None or isinstance(one, str) for one in (kid, algorithm)):
        raise KeysUnusable("the 'kid' or 'alg' of a key is no text")
    if kind == "RSA":
        _check_rsa(item)
    needed = {"kty": kind} | {name: item.get(name) for name in ("n", "e", "crv", "x", "y") if name in item}
    try:
        key = import_key(needed)
        key.public_key  # noqa: B018  # computed here, so that a broken one is found here
    except (JoseError, ValueError, TypeError, KeyError, binascii.Error):
        raise KeysUnusable("a key is malformed") from None
    return PublicKey(kid, algorithm, kind, curve, key)


def _operations(item: Mapping[str, Any]) -> list[Any]:
    operations = item.get("key_ops", ["verify"])
    return operations if isinstance(operations, list) else []


def _check_rsa(item: Mapping[str, Any]) -> None:
    """Too small can be broken, too large costs who verifies."""
    try:
        modulus, exponent = (
            int.from_bytes(urlsafe_b64decode(item[name] + "=" * (-len(item[name]) % 4))) for name in ("n", "e")
        )
    except (KeyError, TypeError, ValueError):
        raise KeysUnusable("a key is malformed") from None
    if modulus.bit_length() not in _RSA_BITS or exponent not in _RSA_EXPONENTS:
        raise KeysUnusable("an RSA key has not 2048 to 8192 bits and a common exponent")


# --------------------------------------------------------------------------------------------------------------- claims


def check_times(claims: Mapping[str, Any], now: datetime, lifetime: timedelta) -> datetime:
    """When the token ends. TokenRefused unless it is valid at `now`, give or take a minute, and lives no longer than
    `lifetime`, from when it was issued."""
    ends, begins, issued = (_moment(claims, name) for name in ("exp", "nbf", "iat"))
    if ends is None:
        raise TokenRefused("it has no time of expiry ('exp')")
    if ends + LEEWAY <= now:
        raise TokenRefused("it has expired")
    if any(one is not None and one - LEEWAY > now for one in (begins, issued)):
        raise TokenRefused("it is from the future; the clocks differ, or it is not valid yet")
    if ends - (issued or now) > lifetime:
        raise TokenRefused(f"it lives longer than {lifetime.total_seconds() / 3600:g} hours")
    return ends


def audiences(claims: Mapping[str, Any]) -> list[str]:
    """For whom it is. TokenRefused when it does not say so, or names too many."""
    named = claims.get("aud")
    found = [named] if isinstance(named, str) else named
    if not isinstance(found, list) or not 0 < len(found) <= 10 or not all(_is_name(one) for one in found):
        raise TokenRefused("it does not say for whom it is ('aud')")
    return found


def issuer(claims: Mapping[str, Any]) -> str:
    found = claims.get("iss")
    if not _is_name(found):
        raise TokenRefused("it does not say who issued it ('iss')")
    assert isinstance(found, str)
    return found


def user(claims: Mapping[str, Any], claim: str) -> str:
    """Who it is about: 1 to 200 printable characters, as wherever a host application names its users."""
    found = claims.get(claim)
    if not isinstance(found, str) or not 0 < len(found) <= 200 or not found.isprintable():
        raise TokenRefused(f"its claim {claim!r} is no text of 1 to 200 printable characters, so it names no user")
    return found


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 500


def _moment(claims: Mapping[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < _LATEST_S:
        raise TokenRefused(f"its {name!r} is no time")
    return datetime.fromtimestamp(value, UTC)
