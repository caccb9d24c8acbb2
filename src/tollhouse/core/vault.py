"""Secrets of others at rest, such as providers' keys: AES-256-GCM, each under a data key of its own, bound to a row.

A sealed text is one byte of version, 12 random bytes, then the ciphertext with its tag of 16 bytes. The random bytes
are the nonce, and with the installation's secret they give the data key, stored nowhere: it opens this text alone.
Version 1 had one key for all; what was sealed so still opens. A sealed text does not say under which secret it was
sealed: whoever opens it tries those that the installation has, and only the right one fits.
"""

from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"\x02"
NONCE_BYTES = 12
_TAG_BYTES = 16
_LABELS = {b"\x01": b"tollhouse: provider keys, version 1", b"\x02": b"tollhouse: data key of a secret, version 2"}


class SealBroken(Exception):
    """A sealed text cannot be opened; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The installation's secrets. What is new is sealed and digested under `current`; what was sealed under a
    `previous` one still opens, and API keys that were digested under it are still known."""

    current: bytes = field(repr=False)
    previous: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """All of them, the current one first."""
        return (self.current, *self.previous)

    def seal(self, text: str, associated: bytes, nonce: bytes) -> bytes:
        return seal(self.current, text, associated, nonce)

    def open(self, sealed: bytes, associated: bytes) -> str:
        """The text again. SealBroken when none of the secrets fits."""
        for secret in self.secrets:
            if (text := _opened(secret, sealed, associated)) is not None:
                return text
        raise _none_fits()

    def renewed(self, sealed: bytes, associated: bytes, nonce: bytes) -> bytes | None:
        """The same text sealed under the current secret, as this version does; None when it is already. SealBroken when
        no secret fits."""
        if sealed[:1] == VERSION and _opened(self.current, sealed, associated) is not None:
            return None
        return self.seal(self.open(sealed, associated), associated, nonce)


def association(organization_id: UUID, provider_id: str) -> bytes:
    """What a provider's key is bound to: a ciphertext copied to another organisation or provider does not open."""
    return organization_id.bytes + provider_id.encode()


def seal(secret: bytes, text: str, associated: bytes, nonce: bytes) -> bytes:
    """Encrypts the text. The nonce is 12 random bytes, new for every call; ValueError on another length."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    return VERSION + nonce + _cipher(secret, VERSION, nonce).encrypt(nonce, text.encode(), VERSION + associated)


def open_sealed(secret: bytes, sealed: bytes, associated: bytes) -> str:
    """The text again. SealBroken when the secret or the association is another one, or a single bit has changed."""
    text = _opened(secret, sealed, associated)
    if text is None:
        raise _none_fits()
    return text


def _none_fits() -> SealBroken:
    return SealBroken(
        "This stored provider key cannot be opened: it was sealed under another TOLLHOUSE_SECRET_KEY, or was "
        "changed since. Name the secret it was sealed under in TOLLHOUSE_PREVIOUS_SECRET_KEYS, or enter the "
        "provider's key again."
    )


def _opened(secret: bytes, sealed: bytes, associated: bytes) -> str | None:
    """None when it does not fit. SealBroken for a form that nobody here reads, whatever the secret."""
    version, nonce, rest = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    if version not in _LABELS or len(rest) < _TAG_BYTES:
        raise SealBroken(
            "This stored provider key is not in a form that this version of Tollhouse reads: enter the key again, "
            "or run the version that stored it."
        )
    try:
        return _cipher(secret, version, nonce).decrypt(nonce, rest, version + associated).decode()
    except InvalidTag:
        return None


def _cipher(secret: bytes, version: bytes, nonce: bytes) -> AESGCM:
    salt = nonce if version == VERSION else None
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=_LABELS[version]).derive(secret))
