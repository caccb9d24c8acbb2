"""The audit log's chain: each row's hash covers the row and the hash before it, so that a changed row shows."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

# What comes back from a JSON column as it went in. No fractions: amounts are integers of their unit, or strings.
Detail = str | int | bool | None | Sequence["Detail"] | Mapping[str, "Detail"]
START = b""  # the hash before the first row


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to what, in real time. `actor` is key:<id>, person:<id>, issuer:<id> or system; `seq` counts from 1
    in each organisation. `address` is where it came from; None: not over the network."""

    organization_id: UUID
    seq: int
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    details: Mapping[str, Detail]
    address: str | None = None


def canonical(entry: Entry) -> bytes:
    """The one JSON text of an entry: keys sorted, no spaces, times in UTC to the microsecond. ValueError for a
    fraction."""
    about = {
        "organization_id": str(entry.organization_id),
        "seq": entry.seq,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "object_type": entry.object_type,
        "object_id": entry.object_id,
        "details": _plain(entry.details),
    }
    if entry.address is not None:  # rows from before there were addresses keep their hash
        about["address"] = entry.address
    return json.dumps(about, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_of(previous_hash: bytes, entry: Entry) -> bytes:
    """SHA-256 over the previous row's hash and the canonical JSON of this row."""
    return hashlib.sha256(previous_hash + canonical(entry)).digest()


def row_hash(row: Mapping[str, Any]) -> bytes:
    """What the hash of a stored row must be, from its columns."""
    columns = ("organization_id", "seq", "at", "actor", "action", "object_type", "object_id", "details", "address")
    return hash_of(row["previous_hash"], Entry(*(row[name] for name in columns)))


def _plain(value: object) -> object:
    match value:
        case str() | bool() | int() | None:
            return value
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case Sequence():
            return [_plain(inner) for inner in value]
    raise ValueError(
        f"an audit row holds no {type(value).__name__}: it may come back from the database as another value"
    )
