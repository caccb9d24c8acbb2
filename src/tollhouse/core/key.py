"""API keys and ids. A key is `th_live_` or `th_test_`, 30 random base62 characters and 6 of checksum."""

import hashlib
import hmac
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal
from uuid import UUID

from tollhouse.core.errors import BadRequest, Forbidden

Mode = Literal["test", "live"]
Scope = Literal["gateway", "credits", "manage", "act_as", "operator"]
SCOPES: tuple[Scope, ...] = ("gateway", "credits", "manage", "act_as", "operator")
# The scopes that a key with `manage` may give to others: those of use.
GIVEN_BY_KEYS: frozenset[Scope] = frozenset({"gateway", "credits", "act_as"})
RANDOM_LENGTH = 30
NETWORKS_MAX = 50
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a key may do, from where, and for how long. `models` None: all; `networks` None: from anywhere; the limits
    are its own, None: none."""

    scopes: frozenset[Scope]
    mode: Mode
    expires_at: datetime | None = None
    models: frozenset[str] | None = None
    credits_micros_per_month: int | None = None
    requests_per_minute: int | None = None
    networks: tuple[str, ...] | None = None


def check_may_give(giver: Rights, given: Rights) -> None:
    """Forbidden unless who holds a key with the rights `giver` may hand out one with the others: scopes of use only,
    and nothing else that reaches further than its own."""
    refused = sorted(given.scopes - GIVEN_BY_KEYS)
    if refused:
        raise Forbidden(
            f"A key cannot give the scope {refused[0]!r} away, nor touch keys that have it. Have a person do it."
        )
    kept = (
        ("mode", giver.mode in (given.mode, "live")),
        ("expires_at", _at_most(given.expires_at, giver.expires_at)),
        ("models", giver.models is None or (given.models is not None and given.models <= giver.models)),
        ("credits_per_month", _at_most(given.credits_micros_per_month, giver.credits_micros_per_month)),
        ("requests_per_minute", _at_most(given.requests_per_minute, giver.requests_per_minute)),
        ("networks", _within(given.networks, giver.networks)),
    )
    for name, within in kept:
        if not within:
            raise Forbidden(
                f"A key cannot give more than it has itself, and {name!r} goes further. Ask for less, or have a person "
                "do it."
            )


def networks_of(texts: Iterable[str]) -> list[str]:
    """Networks and single addresses as they are kept: 192.0.2.0/24, 2001:db8::1/128; each once, in their order.
    BadRequest for what is none."""
    found: dict[str, None] = {}
    for text in texts:
        try:
            found[str(_network(text.strip()))] = None
        except ValueError:
            raise BadRequest(
                f"{text.strip()[:50]!r} is no network address. Write one like 192.0.2.7, 192.0.2.0/24 or "
                "2001:db8::/48.",
                "networks",
            ) from None
    if len(found) > NETWORKS_MAX:
        raise BadRequest(f"A key has at most {NETWORKS_MAX} networks. Join some of them.", "networks")
    return list(found)


@lru_cache(maxsize=4096)
def comes_from(address: str, networks: tuple[str, ...]) -> bool:
    """Whether the address is in one of the networks; one that is not known is in none."""
    try:
        at = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    at = (isinstance(at, IPv6Address) and at.ipv4_mapped) or at
    return any(at in _network(one) for one in networks)


def make_key(mode: Mode, randomness: bytes) -> str:
    """A new key from at least 30 random bytes. 248 is the largest multiple of 62 in a byte: what is above is skipped,
    so that every character is equally likely; the caller passes enough bytes (64 do, with a chance of 1e-20 that they
    do not)."""
    body = "".join(_BASE62[byte % 62] for byte in randomness if byte < 248)[:RANDOM_LENGTH]
    if len(body) < RANDOM_LENGTH:
        raise ValueError("not enough random bytes for a key")
    start = f"th_{mode}_{body}"
    return start + _checksum(start)


def looks_like_a_key(text: str) -> bool:
    """False for what cannot be one of our keys, a typing mistake included; so it costs no look-up."""
    start, check = text[:-6], text[-6:]
    known = start.startswith(("th_live_", "th_test_")) and len(start) == 8 + RANDOM_LENGTH and text.isascii()
    return known and hmac.compare_digest(_checksum(start), check)


def digest(secret: bytes, key: str) -> bytes:
    """What is stored of a key: HMAC-SHA256 under the secret that the installation has when it is made."""
    return hmac.digest(secret, key.encode(), "sha256")


def digests(secrets: Iterable[bytes], key: str) -> list[bytes]:
    """What may be stored of a key that was made under one of these secrets, in their order."""
    return [digest(secret, key) for secret in secrets]


def shown(key: str) -> str:
    """The beginning of a key, by which its owner recognises it."""
    return key[:12]


def ordered_id(now: datetime, randomness: bytes) -> UUID:
    """A UUID of version 7 from ten random bytes: later ids sort later, so rows land side by side in their index."""
    head = int(now.timestamp() * 1000) << 80
    tail = int.from_bytes(randomness[:10], "big") & 0x0FFF3FFFFFFFFFFFFFFF
    return UUID(int=head | 0x70008000000000000000 | tail)


def end_user_id(organization_id: UUID, external_id: str) -> UUID:
    """The id of a host application's user, derived so that the first sight of somebody needs no look-up."""
    seed = organization_id.bytes + external_id.encode()
    return UUID(bytes=hashlib.sha256(b"end user:" + seed).digest()[:16])


def _at_most(wanted: int | datetime | None, most: int | datetime | None) -> bool:
    """None is without an end."""
    return most is None or (wanted is not None and wanted <= most)  # type: ignore[operator]  # both are of one kind


def _within(given: tuple[str, ...] | None, giver: tuple[str, ...] | None) -> bool:
    if given is None or giver is None:
        return giver is None
    theirs = [_network(one) for one in giver]
    return all(any(_inside(_network(one), other) for other in theirs) for one in given)


def _inside(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]  # both are of one version


def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


def _checksum(start: str) -> str:
    number, text = zlib.crc32(start.encode()), ""
    for _ in range(6):
        number, index = divmod(number, 62)
        text = _BASE62[index] + text
    return text
