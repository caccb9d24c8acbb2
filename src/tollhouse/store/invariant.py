"""What an invariant is, and what several of them need."""

from dataclasses import dataclass
from typing import LiteralString


@dataclass(frozen=True, slots=True)
class Invariant:
    """A statement about the books, and the query for what breaks it. Numbers as in docs/invariants.md."""

    number: int
    statement: str
    sql: LiteralString


# Where `o` is the organisation.
OFFSET: LiteralString = "o.clock_offset_micros * interval '1 microsecond'"
ORGANISATION_NOW: LiteralString = f"now() + {OFFSET}"
