"""What an organisation has, and what happened to it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from tollhouse.api.body import Moment, StrictRoute
from tollhouse.api.caller import Acting, Allowed
from tollhouse.api.state import Shared, State
from tollhouse.api.view import BalanceView, NoticesView, TransactionsView
from tollhouse.core.errors import BadRequest
from tollhouse.flows.operation import CatchUp
from tollhouse.store import credit, notice

NOTICES_SHOWN = 100

router = APIRouter(prefix="/api/credits", tags=["credits"], route_class=StrictRoute)

Type = Literal[
    "plan_allocation",
    "welcome_bonus",
    "promo_bonus",
    "topup_purchase",
    "ai_consumption",
    "late_settle",
    "correction",
    "plan_change_adjustment",
    "expiry",
    "refund_clawback",
    "dispute_clawback",
    "dispute_reinstated",
    "admin_adjustment",
    "debt_repayment",
]


class TransactionsQuery(BaseModel):
    """`from` is inclusive, `to` exclusive; `cursor` is the `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Type | None = None
    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=100)] = None


@router.get("/balance", summary="What there is, and what it is made of")
async def balance(
    state: Shared, caller: Annotated[Acting, Depends(Allowed("credits.use", "models.use"))]
) -> BalanceView:
    now = state.clock()
    await catch_up(state, caller.organization_id, now)
    async with state.db.tenant(caller.organization_id) as tx:
        found = await credit.statement(tx, caller.organization_id, now)
    assert found is not None
    who = caller.caller
    told = who.sees is None and "credits.use" in who.permissions
    return BalanceView.of_statement(found, notes=told)


@router.get("/transactions", summary="The ledger, newest first")
async def transactions(
    state: Shared,
    caller: Annotated[Acting, Depends(Allowed("credits.use"))],
    query: Annotated[TransactionsQuery, Query()],
) -> TransactionsView:
    if query.since and query.until and query.since >= query.until:
        raise BadRequest("'from' must lie before 'to'.", "from")
    await catch_up(state, caller.organization_id, state.clock())
    wanted = credit.Filter(query.type, query.since, query.until)
    async with state.db.tenant(caller.organization_id) as tx:
        page = await credit.transactions(
            tx, caller.organization_id, wanted, query.limit, query.cursor, caller.caller.sees
        )
    return TransactionsView.of(page)


@router.get("/notices", summary="What was told of low credits, newest first")
async def notices(state: Shared, caller: Annotated[Acting, Depends(Allowed("credits.use"))]) -> NoticesView:
    async with state.db.tenant(caller.organization_id) as tx:
        return NoticesView.of(await notice.of(tx, caller.organization_id, NOTICES_SHOWN))


async def catch_up(state: State, organization_id: UUID, now: datetime) -> None:
    """Has the teller book what is due: whoever looks sees this moment, whether or not a job has run."""
    async with state.db.tenant(organization_id) as tx:
        due = await credit.is_due(tx, organization_id, now)
    if due:
        await state.teller.do(CatchUp(organization_id))
