"""A reservation as the host application is told it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from tollhouse.flows.operation import Admit, Admitted


@dataclass(frozen=True, slots=True)
class Reserved:
    """As it was made: what is kept under its idempotency key. `parts` are (grant, micro-credits)."""

    id: UUID
    amount_micros: int
    model_id: str | None
    capability: str | None
    quality: str | None
    max_output_tokens: int | None
    user: str | None
    metadata: dict[str, Any] | None
    parts: tuple[tuple[UUID, int], ...]
    overdraft_micros: int
    created_at: datetime
    expires_at: datetime
    available_micros: int

    @classmethod
    def of(cls, admitted: Admitted, asked: Admit) -> Self:
        hold, terms = admitted.admission.hold, admitted.admission.weighed.terms
        return cls(
            id=admitted.id,
            amount_micros=admitted.amount_micros,
            model_id=terms.model.id if terms else None,
            capability=terms.capability.id if terms and terms.capability else None,
            quality=terms.quality.id if terms and terms.quality else None,
            max_output_tokens=terms.output_tokens if terms else None,
            user=asked.external_user,
            metadata=asked.metadata,
            parts=hold.grants,
            overdraft_micros=hold.overdraft_micros,
            created_at=admitted.created_at,
            expires_at=admitted.expires_at,
            available_micros=admitted.available_micros,
        )
