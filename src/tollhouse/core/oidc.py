"""Signing in with an identity provider (OpenID Connect, code with PKCE): what is asked, and what is believed."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from tollhouse.core.errors import TollhouseError
from tollhouse.core.jwt import TokenRefused, audiences, check_times, user
from tollhouse.core.vault import Keyring, SealBroken

PENDING_FOR: Final = timedelta(minutes=10)
LIFETIME: Final = timedelta(hours=24)  # of an ID token
SECRET_BYTES: Final = 32
_PURPOSE: Final = b"pending sign-in"
_COOKIE_LENGTH: Final = 4000
_AGE_MAX: Final = timedelta(minutes=15)  # an ID token is made for the code that was just redeemed
_KNOWN_ERRORS: Final = {
    "access_denied": "the sign-in was cancelled there, or you may not use this application",
    "login_required": "you are not signed in there",
    "interaction_required": "it wants something of you first",
    "consent_required": "it wants your consent first",
    "temporarily_unavailable": "it is not available at the moment",
    "server_error": "it has trouble at the moment",
}


class SignInRefused(TollhouseError):
    """Signing in with an identity provider did not work; the message says what to do."""

    code, status = "sign_in_refused", 400


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign-in that was begun in one browser. `person_id`: who wants to link the identity to an account of theirs;
    None: somebody signs in."""

    provider_id: UUID
    state: str
    nonce: str
    verifier: str = field(repr=False)
    next_path: str
    person_id: UUID | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is. Only `provider_id` and `subject` identify; the address may be anybody's, also when
    the provider says that it is verified."""

    provider_id: UUID
    subject: str
    email: str | None
    email_verified: bool
    name: str | None


def secret_association(provider_id: UUID, issuer: str) -> bytes:
    """What a client secret is bound to: it opens for no other provider and issuer."""
    return b"identity provider:" + provider_id.bytes + issuer.encode()


# -------------------------------------------------------------------------------------------------------------- pending


def begin(
    provider_id: UUID, next_path: str, person_id: UUID | None, now: datetime, randomness: tuple[bytes, bytes, bytes]
) -> Pending:
    """`randomness`: 32 bytes each for state, nonce and verifier."""
    state, nonce, verifier = map(_text, randomness)
    return Pending(provider_id, state, nonce, verifier, next_path, person_id, now + PENDING_FOR)


def seal(pending: Pending, keyring: Keyring, nonce: bytes) -> str:
    """For the cookie: nobody else can read, change or make it."""
    return _text(keyring.seal(msgspec.json.encode(asdict(pending)).decode(), _PURPOSE, nonce))


def opened(cookie: str | None, keyring: Keyring) -> Pending:
    """SignInRefused for what was not sealed here."""
    try:
        if cookie is None or len(cookie) > _COOKIE_LENGTH:
            raise ValueError
        text = keyring.open(urlsafe_b64decode(cookie.encode() + b"=" * (-len(cookie) % 4)), _PURPOSE)
        return msgspec.json.decode(text, type=Pending)
    except (ValueError, msgspec.DecodeError, SealBroken):
        raise SignInRefused(
            "This browser has begun no sign-in, or cookies are switched off. Begin again at the sign-in page."
        ) from None


def check_callback(
    pending: Pending, provider_id: UUID, issuer: str, query: Mapping[str, str], now: datetime, *, says_issuer: bool
) -> str:
    """The code in the answer to a sign-in. SignInRefused unless it is the answer to this one, from this provider.
    `says_issuer`: the provider always names itself in its answers."""
    state = query.get("state", "")
    if pending.provider_id != provider_id or not hmac.compare_digest(
        state.encode("utf-8", "replace"), pending.state.encode()
    ):
        raise SignInRefused("This answer belongs to another sign-in. Begin again at the sign-in page.")
    if now >= pending.expires_at:
        raise SignInRefused("The sign-in took longer than ten minutes. Begin again at the sign-in page.")
    named = query.get("iss")
    if (named is None and says_issuer) or named not in (None, issuer):
        raise SignInRefused("This answer is from another identity provider. Begin again at the sign-in page.")
    if "error" in query:
        reason = _KNOWN_ERRORS.get(query["error"], "it says that something is wrong with the request")
        raise SignInRefused(f"The identity provider did not sign you in: {reason}. Try again, or sign in another way.")
    code = query.get("code", "")
    if not 0 < len(code) <= 2000:
        raise SignInRefused("The identity provider gave no code. Begin again at the sign-in page.")
    return code


def authorization_url(endpoint: str, client_id: str, redirect_uri: str, pending: Pending) -> str:
    """Where the browser is sent to sign in."""
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": "openid email profile",
        "state": pending.state,
        "nonce": pending.nonce,
        "code_challenge": challenge(pending.verifier),
        "code_challenge_method": "S256",
    }
    return endpoint + ("&" if "?" in endpoint else "?") + urlencode(asked)


def challenge(verifier: str) -> str:
    """What of the verifier the provider is told first (RFC 7636, S256)."""
    return _text(hashlib.sha256(verifier.encode()).digest())


# ------------------------------------------------------------------------------------------------------------- identity


def identity(
    claims: Mapping[str, Any], provider_id: UUID, issuer: str, client_id: str, nonce: str, now: datetime
) -> Identity:
    """Who an ID token is about, whose signature is verified. TokenRefused unless the provider made it for us, just now,
    in answer to this sign-in."""
    if claims.get("iss") != issuer:
        raise TokenRefused("it is from another issuer")
    named = audiences(claims)
    if client_id not in named:
        raise TokenRefused("it is for another application")
    party = claims.get("azp")
    if party != client_id and (party is not None or len(named) > 1):
        raise TokenRefused("it was given to another application ('azp')")
    issued = claims.get("iat")
    if not isinstance(issued, (int, float)):
        raise TokenRefused("it does not say when it was issued ('iat')")
    check_times(claims, now, LIFETIME)
    if datetime.fromtimestamp(issued, UTC) < now - _AGE_MAX:
        raise TokenRefused("it was issued long ago")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise TokenRefused("it answers another sign-in ('nonce')")
    return Identity(
        provider_id, user(claims, "sub"), _short(claims.get("email"), 254), claims.get("email_verified") is True,
        _short(claims.get("name"), 200),
    )  # fmt: skip


def _short(value: object, length: int) -> str | None:
    """Text that may be shown; what is too long or not printable is as if it had not been said."""
    fits = isinstance(value, str) and 0 < len(value) <= length and value.isprintable()
    return str(value) if fits else None


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
