"""Reservations as they are told: credits as decimal strings, times as RFC 3339 in UTC."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel

from tollhouse.core.money import format_credits
from tollhouse.flows.operation import Released, Settled
from tollhouse.flows.reserved import Reserved
from tollhouse.store.reservation import ReservationRow

State = Literal["pending", "settled", "released", "expired"]


class PartView(BaseModel):
    grant_id: UUID
    amount: str


class ReservationView(BaseModel):
    """`parts` are the grants it was taken from, in the order of their use, `overdraft` what none of them held.
    `max_output_tokens` is the most that the call may ask for, told when it is reserved. `variance` is what was charged
    less the amount. `balance` is what is available now."""

    id: UUID
    status: State
    amount: str
    model: str | None
    capability: str | None
    quality: str | None
    max_output_tokens: int | None
    user: str | None
    metadata: dict[str, Any] | None
    parts: list[PartView]
    overdraft: str
    created_at: datetime
    expires_at: datetime
    charged: str | None
    variance: str | None
    closed_at: datetime | None
    reason: str | None
    balance: str

    @classmethod
    def of_reserved(cls, found: Reserved) -> Self:
        return cls(
            id=found.id,
            status="pending",
            amount=format_credits(found.amount_micros),
            model=found.model_id,
            capability=found.capability,
            quality=found.quality,
            max_output_tokens=found.max_output_tokens,
            user=found.user,
            metadata=found.metadata,
            parts=[PartView(grant_id=id_, amount=format_credits(micros)) for id_, micros in found.parts],
            overdraft=format_credits(found.overdraft_micros),
            created_at=found.created_at,
            expires_at=found.expires_at,
            charged=None,
            variance=None,
            closed_at=None,
            reason=None,
            balance=format_credits(found.available_micros),
        )

    @classmethod
    def of_row(cls, row: ReservationRow) -> Self:
        charged = row.charged_micros
        return cls.model_validate(
            {
                "id": row.id,
                "status": row.state,
                "amount": format_credits(row.amount_micros),
                "model": row.model_id,
                "capability": row.capability,
                "quality": row.quality,
                "max_output_tokens": None,
                "user": row.user,
                "metadata": row.metadata,
                "parts": [{"grant_id": id_, "amount": format_credits(micros)} for id_, micros in row.parts],
                "overdraft": format_credits(row.overdraft_micros),
                "created_at": row.created_at,
                "expires_at": row.expires_at,
                "charged": None if charged is None else format_credits(charged),
                "variance": None if charged is None else format_credits(charged - row.amount_micros),
                "closed_at": row.closed_at,
                "reason": row.reason,
                "balance": format_credits(row.available_micros),
            }
        )


class SettledView(BaseModel):
    """`late`: it had been released or had expired before. `variance`: what was charged less what was reserved."""

    id: UUID
    status: Literal["settled"]
    charged: str
    variance: str
    late: bool
    balance: str

    @classmethod
    def of(cls, id_: UUID, settled: Settled) -> Self:
        return cls(
            id=id_,
            status="settled",
            charged=format_credits(settled.charged_micros),
            variance=format_credits(settled.variance_micros),
            late=settled.late,
            balance=format_credits(settled.available_micros),
        )


class ReleasedView(BaseModel):
    id: UUID
    status: Literal["released", "expired"]
    balance: str

    @classmethod
    def of(cls, id_: UUID, released: Released) -> Self:
        status: Literal["released", "expired"] = "expired" if released.state == "expired" else "released"
        return cls(id=id_, status=status, balance=format_credits(released.available_micros))


class RenewedView(BaseModel):
    id: UUID
    expires_at: datetime
