"""Secrets shown once and then only recognised: cookies of sessions, links in mail. A digest is what is kept."""

import base64
import hashlib
import hmac

from tollhouse.core.vault import Keyring

RANDOM_BYTES = 32
_LENGTH = 43  # 256 bits in base64 without padding
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def new_token(randomness: bytes) -> str:
    """A token from 32 random bytes, fit for a cookie and an address. ValueError for fewer."""
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"a token is made of {RANDOM_BYTES} random bytes, not {len(randomness)}")
    return base64.urlsafe_b64encode(randomness).decode().rstrip("=")


def looks_like_a_token(text: str) -> bool:
    """False for what cannot be one of ours, which so costs no look-up."""
    return len(text) == _LENGTH and _LETTERS.issuperset(text)


def token_digest(keyring: Keyring, token: str) -> bytes:
    """What is stored of a new token: HMAC-SHA256 under the present secret, so that whoever can write to the database
    still cannot make one."""
    return _digest(keyring.current, token)


def token_digests(keyring: Keyring, token: str) -> list[bytes]:
    """What may be stored of a token, the present secret's first."""
    return [_digest(secret, token) for secret in keyring.secrets]


def form_token(token: str) -> str:
    """What a session's forms carry: it follows from the cookie, and nothing follows from it."""
    return hashlib.sha256(b"tollhouse forms: " + token.encode()).hexdigest()


def _digest(secret: bytes, token: str) -> bytes:
    return hmac.digest(secret, b"tollhouse token: " + token.encode("utf-8", "backslashreplace"), "sha256")
