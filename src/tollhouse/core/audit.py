"""The audit log's chain: each row's hash covers the row and the hash before it, so that a changed row shows."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tollhouse.core import sheet

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


# ---------------------------------------------------------------------------------------------------- checking a chain


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands: the number and the hash of its last row. Kept elsewhere, it tells later that rows were cut
    off the end, or that the whole chain was written anew."""

    seq: int
    hash: bytes

    @classmethod
    def read(cls, text: str) -> "Head":
        """From "17:9f86d0..."; ValueError for another form."""
        seq, _, digest = text.partition(":")
        if not (seq.isascii() and seq.isdigit() and len(seq) < 19 and len(digest) == 64):
            raise ValueError("a head is SEQ:HASH, a number and 64 hexadecimal digits")
        return cls(int(seq), bytes.fromhex(digest))

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first row of a chain that is not as it was written, and what is wrong with it."""

    seq: int
    what: str


def fault_in(row: Mapping[str, Any], before: Head) -> str | None:
    """What is wrong with a stored row that comes after `before`; Head(0, START) before the first."""
    if row["seq"] != before.seq + 1:
        return f"row {before.seq + 1} is missing"
    if row["previous_hash"] != before.hash:
        return "it does not hold the hash of the row before"
    try:
        expected = row_hash(row)
    except ValueError:  # a fraction, which nobody wrote
        expected = b""
    return None if row["hash"] == expected else "its hash is not that of what it says"


class Chain:
    """One organisation's chain, checked row by row in the order of `seq`. `expected`: a head that it had."""

    def __init__(self, organization_id: UUID, expected: Head | None = None) -> None:
        self.organization_id = organization_id
        self.head = Head(0, START)
        self.fault: Fault | None = None
        self._expected = expected

    def add(self, row: Mapping[str, Any]) -> None:
        what = fault_in(row, self.head)
        self.head = Head(row["seq"], row["hash"])
        if what is None and self._expected is not None and self._expected.seq == self.head.seq != 0:
            what = None if self._expected == self.head else "another head was noted for it earlier"
        if what is not None and self.fault is None:
            self.fault = Fault(self.head.seq, what)

    def end(self) -> None:
        """After the last row."""
        if self.fault is None and self._expected is not None and self.head.seq < self._expected.seq:
            self.fault = Fault(self.head.seq + 1, f"rows are missing at the end, which was at {self._expected.seq}")


# ------------------------------------------------------------------------------------------------------------ exporting

COLUMNS = (
    "seq", "at", "actor", "action", "object_type", "object_id", "details", "address", "previous_hash", "hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row(Entry):
    """An entry as it is stored."""

    previous_hash: bytes = START
    hash: bytes = START


def as_json_line(row: Row) -> str:
    """One row of the log, with all that its hash is made of."""
    return json.dumps({"organization_id": str(row.organization_id)} | _exported(row), ensure_ascii=False) + "\n"


def csv_head() -> str:
    return ",".join(COLUMNS) + "\r\n"


def as_csv_line(row: Row) -> str:
    """As core/sheet.py writes them."""
    exported = _exported(row)
    exported["details"] = json.dumps(exported["details"], ensure_ascii=False)
    return sheet.line(exported[name] for name in COLUMNS)


def _exported(row: Row) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "at": row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": row.actor,
        "action": row.action,
        "object_type": row.object_type,
        "object_id": row.object_id,
        "details": _plain(row.details),
        "address": row.address,
        "previous_hash": row.previous_hash.hex(),
        "hash": row.hash.hex(),
    }
