"""What only we can have written: the token that a form brings back, the visitor's cookie, a word for the next page."""

import base64
import binascii
import hmac
from hashlib import sha256

from tollhouse.core.vault import Keyring

_LABEL = b"tollhouse: pages, version 1"


def sign(keyring: Keyring, purpose: str, text: str) -> str:
    """A proof that we said `text` for this purpose: 43 characters that are safe in cookies and addresses."""
    return _proof(keyring.current, purpose, text)


def holds(keyring: Keyring, purpose: str, text: str, proof: str) -> bool:
    """Whether the proof is one of ours, under the current secret or an earlier one."""
    given = proof.encode()
    return any([hmac.compare_digest(_proof(secret, purpose, text).encode(), given) for secret in keyring.secrets])


def seal(keyring: Keyring, purpose: str, text: str) -> str:
    """The text together with its proof, as a cookie's value. Everybody can read it; nobody else can write it."""
    packed = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return f"{packed}.{sign(keyring, purpose, packed)}"


def unseal(keyring: Keyring, purpose: str, sealed: str | None) -> str | None:
    """The text again; None when it is not ours."""
    packed, dot, proof = (sealed or "").partition(".")
    if not dot or not holds(keyring, purpose, packed, proof):
        return None
    try:
        return base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _proof(secret: bytes, purpose: str, text: str) -> str:
    key = hmac.digest(secret, _LABEL, sha256)
    digest = hmac.digest(key, f"{purpose}\0{text}".encode(), sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
