"""Links that were sent by mail, as digests; each works once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.store.db import OperatorTx, PersonTx, TenantTx

Purpose = Literal["verify_email", "sign_in", "reset_password", "change_email"]


@dataclass(frozen=True, slots=True)
class Sent:
    """To whom a link was sent."""

    person_id: UUID
    email: str


async def insert(
    tx: PersonTx | OperatorTx, digest: bytes, purpose: Purpose, sent: Sent, now: datetime, expires_at: datetime
) -> None:
    await tx.execute(
        """INSERT INTO one_time_token (digest, purpose, person_id, email, created_at, expires_at)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        (digest, purpose, sent.person_id, sent.email, now, expires_at),
    )


async def find(tx: TenantTx, digests: Sequence[bytes], purpose: Purpose, now: datetime) -> Sent | None:
    """None when there is none that still works."""
    for digest in digests:
        cursor = await tx.execute("SELECT * FROM find_one_time_token(%s, %s, %s)", (digest, purpose, now))
        row = await cursor.fetchone()
        if row is not None:
            return Sent(*row)
    return None


async def use(tx: PersonTx, digests: Sequence[bytes], purpose: Purpose, now: datetime) -> Sent | None:
    """Takes it: who comes second gets None."""
    for digest in digests:
        cursor = await tx.execute("SELECT * FROM use_one_time_token(%s, %s, %s)", (digest, purpose, now))
        row = await cursor.fetchone()
        if row is not None:
            return Sent(*row)
    return None


async def void_all(tx: PersonTx, now: datetime) -> None:
    """No link that the person of the transaction was sent works any more."""
    await tx.execute("UPDATE one_time_token SET used_at = %s WHERE used_at IS NULL", (now,))
