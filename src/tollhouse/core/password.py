"""Passwords: which are good enough, and how they are kept.

What is kept is an argon2id hash with the second recommended parameters of RFC 9106: 64 MiB, three passes. How hard a
password is to guess is zxcvbn's estimate, whose lists are of passwords that became known in break-ins; nothing is asked
of the network."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from argon2 import extract_parameters
from argon2.exceptions import InvalidHash, VerificationError
from argon2.low_level import Type, hash_secret, verify_secret
from argon2.profiles import RFC_9106_LOW_MEMORY
from zxcvbn import zxcvbn  # type: ignore[import-untyped]

from tollhouse.core.errors import BadRequest

LENGTH_MIN, LENGTH_MAX = 10, 200
SALT_BYTES = 16
SCORE_MIN = 3  # of 4: more than 10^8 guesses
# zxcvbn tries every reading of characters that stand for letters. With many different ones that takes seconds, so such
# passwords are looked at in pieces.
_ESTIMATED = 72
_PIECE = 16
_STAND_INS = frozenset("4@8({[<369&#!1|0$5+7%2")
_STAND_INS_MAX = 10  # the digits alone

_WEAK = {
    "passwords": "It is among the passwords that are tried first, because many people use it.",
    "user_inputs": "It is mostly your name or your e-mail address.",
    "dictionary": "It is little more than a common word or name.",
    "spatial": "It is a row of neighbouring keys.",
    "repeat": "It repeats itself.",
    "sequence": "It is a simple sequence.",
    "date": "It is mostly a date.",
}
# What stands for an account without a password, or for none at all, so that all guesses take the same time.
NO_HASH = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def readable(password: str) -> bytes:
    """The same bytes for what looks the same, however it was typed. BadRequest for what is no text or too long."""
    if len(password) > LENGTH_MAX:
        raise BadRequest(f"A password has at most {LENGTH_MAX} characters. Use a shorter one.", "password")
    try:
        return unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:
        raise BadRequest("This password holds what is no character. Type it again.", "password") from None


def check(password: str, about: Iterable[str]) -> None:
    """BadRequest, saying why, unless the password is good enough. `about`: what is known of the person, such as name
    and e-mail address."""
    readable(password)
    if len(password) < LENGTH_MIN:
        raise BadRequest(
            f"A password has at least {LENGTH_MIN} characters: a few words that do not belong together are good.",
            "password",
        )
    known = [reading for text in about for reading in _readings(text)]
    weakness = None
    for piece in _pieces(password):
        estimate = zxcvbn(piece, user_inputs=known)
        if estimate["score"] >= SCORE_MIN:
            return
        weakness = weakness or _weakness(estimate["sequence"])
    raise BadRequest(
        f"This password is too easy to guess. {weakness or ''} Use a longer one: a few words that do not belong "
        "together are good.".replace("  ", " "),
        "password",
    )


def hashed(password: str, salt: bytes) -> str:
    """The hash as it is stored, with its parameters. `salt`: 16 random bytes, new for each."""
    like = RFC_9106_LOW_MEMORY
    return hash_secret(
        readable(password), salt, like.time_cost, like.memory_cost, like.parallelism, like.hash_len, Type.ID
    ).decode()


def fits(password: str, stored: str | None) -> bool:
    """Whether this is the password of the hash. None: there is none, which takes as long to find out."""
    try:
        verify_secret((stored or NO_HASH).encode(), readable(password), Type.ID)
    except (VerificationError, InvalidHash):
        return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than are used now."""
    found, like = extract_parameters(stored), RFC_9106_LOW_MEMORY
    return (found.time_cost, found.memory_cost, found.parallelism) != (
        like.time_cost, like.memory_cost, like.parallelism
    )  # fmt: skip


def _pieces(password: str) -> Iterator[str]:
    """What is estimated: the whole, or overlapping pieces, one of which must be good enough."""
    text = password[:_ESTIMATED]
    if len(text) <= _PIECE or len(_STAND_INS.intersection(text)) <= _STAND_INS_MAX:
        yield text
        return
    for start in range(0, len(text) - _PIECE // 2, _PIECE // 2):
        yield text[start : start + _PIECE]


def _readings(text: str) -> set[str]:
    """A name or an address, its parts, and the parts written together."""
    parts = re.findall(r"\w+", text)
    return {text, *parts, *(between.join(parts) for between in ("", ".", "-", "_"))} - {""}


def _weakness(sequence: list[dict[str, Any]]) -> str | None:
    """What the longest recognised part is."""
    parts = [part for part in sequence if part["pattern"] != "bruteforce"]
    if not parts:
        return None
    longest = max(parts, key=lambda part: len(part["token"]))
    return _WEAK.get(longest.get("dictionary_name") or "") or _WEAK.get(longest["pattern"])
