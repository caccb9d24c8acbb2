"""Provider keys at rest: AES-256-GCM under a key derived from the installation's secret, bound to their connection.

A sealed text is one byte of version, 12 bytes of nonce, then the ciphertext with its tag of 16 bytes."""

from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"\x01"
NONCE_BYTES = 12
_TAG_BYTES = 16
_LABEL = b"tollhouse: provider keys, version 1"


class SealBroken(Exception):
    """A sealed text cannot be opened; the message says what to do."""


def association(organization_id: UUID, provider_id: str) -> bytes:
    """What a provider's key is bound to: a ciphertext copied to another organisation or provider does not open."""
    return organization_id.bytes + provider_id.encode()


def seal(secret: bytes, text: str, associated: bytes, nonce: bytes) -> bytes:
    """Encrypts the text. The nonce is 12 random bytes, new for every call; ValueError on another length."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    return VERSION + nonce + _cipher(secret).encrypt(nonce, text.encode(), VERSION + associated)


def open_sealed(secret: bytes, sealed: bytes, associated: bytes) -> str:
    """The text again. SealBroken when the secret or the association is another one, or a single bit has changed."""
    version, nonce, rest = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    if version != VERSION or len(rest) < _TAG_BYTES:
        raise SealBroken(
            "This stored provider key is not in a form that this version of Tollhouse reads: enter the key again, "
            "or run the version that stored it."
        )
    try:
        return _cipher(secret).decrypt(nonce, rest, VERSION + associated).decode()
    except InvalidTag:
        raise SealBroken(
            "This stored provider key cannot be opened: it was sealed under another TOLLHOUSE_SECRET_KEY, or was "
            "changed since. Set the secret it was sealed under, or enter the provider's key again."
        ) from None


def _cipher(secret: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=_LABEL).derive(secret))
