"""The end users for whom a host application acts."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from tollhouse.api.body import StrictRoute
from tollhouse.api.caller import Acting, Allowed
from tollhouse.api.state import Shared
from tollhouse.core.cursor import cursor_of, place_in
from tollhouse.core.money import format_credits
from tollhouse.core.period import start_of
from tollhouse.store import end_user
from tollhouse.store.end_user import EndUser, Sum

router = APIRouter(prefix="/api/users", tags=["users"], route_class=StrictRoute)


class UsersQuery(BaseModel):
    """`cursor` is the `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=1200)] = None


class UsedView(BaseModel):
    """`requests` are those that were settled; tokens are those of calls."""

    requests: int
    input_tokens: int
    output_tokens: int
    credits: str

    @classmethod
    def of(cls, used: Sum) -> Self:
        return cls(
            requests=used.requests, input_tokens=used.input_tokens, output_tokens=used.output_tokens,
            credits=format_credits(used.charged_micros),
        )  # fmt: skip


class UserView(BaseModel):
    """`user` is your own id of the end user. `today` and `this_month` are of the calendar, in UTC."""

    user: str
    first_seen_at: datetime
    today: UsedView
    this_month: UsedView

    @classmethod
    def of(cls, row: EndUser) -> Self:
        return cls(
            user=row.external_id, first_seen_at=row.created_at, today=UsedView.of(row.day),
            this_month=UsedView.of(row.month),
        )  # fmt: skip


class UsersView(BaseModel):
    """`next_cursor` null: there are no more."""

    items: list[UserView]
    next_cursor: str | None


@router.get("", summary="The end users, in the order of their ids, with what they used")
async def read_users(
    state: Shared,
    acting: Annotated[Acting, Depends(Allowed("act_as", "organization.manage"))],
    query: Annotated[UsersQuery, Query()],
) -> UsersView:
    after = None if query.cursor is None else place_in("user", query.cursor)
    now = state.clock()
    async with state.db.tenant(acting.organization_id) as tx:
        found = await end_user.page(
            tx, acting.organization_id, start_of("day", now), start_of("month", now), query.limit + 1, after
        )
    items = found[: query.limit]
    more = cursor_of("user", items[-1].external_id) if len(found) > query.limit else None
    return UsersView(items=[UserView.of(row) for row in items], next_cursor=more)
