"""Second factors: codes of an app (RFC 6238: six digits, 30 s, SHA-1), and recovery codes for when it is lost."""

import base64
import hmac
from datetime import datetime
from uuid import UUID

from pyotp import TOTP

from tollhouse.core.vault import Keyring

SECRET_BYTES = 20
STEP_S = 30
RECOVERY_CODES = 10
RECOVERY_BYTES = 8  # of randomness for each code
# Without letters and digits that are taken for each other.
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_RECOVERY_LETTERS = 10


def new_secret(randomness: bytes) -> str:
    """A secret from 20 random bytes, in the form that apps take by hand."""
    if len(randomness) != SECRET_BYTES:
        raise ValueError(f"a secret is made of {SECRET_BYTES} random bytes, not {len(randomness)}")
    return base64.b32encode(randomness).decode()


def association(person_id: UUID) -> bytes:
    """What a sealed secret is bound to: copied to another person it does not open."""
    return b"totp:" + person_id.bytes


def address_of(secret: str, email: str, site_name: str) -> str:
    """The otpauth:// address that an app reads as a QR code."""
    return TOTP(secret, name=email, issuer=site_name).provisioning_uri()


def step_of(secret: str, code: str, last_step: int, now: datetime) -> int | None:
    """The step of 30 s whose code this is: the present one, the one before or the one after, and only one that is
    later than the last that was taken. None: it is no such code."""
    digits = "".join(code.split())
    if len(digits) != 6 or not digits.isascii() or not digits.isdigit():
        return None
    present, found = int(now.timestamp()) // STEP_S, None
    generator = TOTP(secret)
    for step in (present - 1, present, present + 1):
        if hmac.compare_digest(generator.generate_otp(step), digits) and step > last_step:
            found = step
    return found


def recovery_code(randomness: bytes) -> str:
    """A code of about 50 bits from eight random bytes, such as 7kq2m-x4wpz."""
    if len(randomness) != RECOVERY_BYTES:
        raise ValueError(f"a recovery code is made of {RECOVERY_BYTES} random bytes, not {len(randomness)}")
    number, letters = int.from_bytes(randomness, "big"), ""
    for _ in range(_RECOVERY_LETTERS):
        number, index = divmod(number, len(_LETTERS))
        letters += _LETTERS[index]
    return f"{letters[:5]}-{letters[5:]}"


def recovery_digests(keyring: Keyring, person_id: UUID, code: str) -> list[bytes]:
    """What may be stored of a recovery code, the present secret's first; however it is typed. Empty: it is none."""
    letters = "".join(code.lower().replace("-", " ").split())
    if len(letters) != _RECOVERY_LETTERS or not set(_LETTERS).issuperset(letters):
        return []
    text = b"recovery code:" + person_id.bytes + letters.encode()
    return [hmac.digest(secret, text, "sha256") for secret in keyring.secrets]
