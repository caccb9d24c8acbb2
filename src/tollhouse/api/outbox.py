"""What mail was written, for whoever tries an installation out without a mail server."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tollhouse.api.body import StrictRoute
from tollhouse.api.caller import Operator
from tollhouse.api.state import Shared
from tollhouse.flows import mail
from tollhouse.store.mail import Posted

router = APIRouter(prefix="/api/operator/outbox", tags=["operator"], route_class=StrictRoute)


class OutboxQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class MailView(BaseModel):
    """`body` is empty a day after it was sent; `given_up`: it will not be sent, and `error` says why."""

    id: UUID
    recipient: str
    kind: str
    subject: str
    body: str
    created_at: datetime
    attempts: int
    sent_at: datetime | None
    given_up: bool
    error: str | None

    @classmethod
    def of(cls, posted: Posted) -> Self:
        return cls(
            id=posted.id, recipient=posted.recipient, kind=posted.kind, subject=posted.subject, body=posted.body,
            created_at=posted.created_at, attempts=posted.attempts, sent_at=posted.sent_at, given_up=posted.given_up,
            error=posted.error,
        )  # fmt: skip


class OutboxView(BaseModel):
    """Newest first."""

    items: list[MailView]


@router.get("", summary="The mail that was written, in test mode")
async def outbox(state: Shared, order: Operator, query: Annotated[OutboxQuery, Query()]) -> OutboxView:
    found = await mail.outbox(state.db, order, state.policy.mode, query.limit)
    return OutboxView(items=[MailView.of(one) for one in found])
