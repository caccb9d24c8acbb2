"""Members of an organisation, for its members to see and its admins to change."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from tollhouse.api.body import Body, StrictRoute
from tollhouse.api.caller import Acting, Allowed
from tollhouse.api.state import Shared
from tollhouse.core.access import Role
from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.core.errors import NotFound
from tollhouse.flows import member as flow
from tollhouse.flows.organization import Insider
from tollhouse.store import member as store
from tollhouse.store.member import Member

router = APIRouter(prefix="/api/members", tags=["organizations"], route_class=StrictRoute)
Reader = Annotated[Acting, Depends(Allowed("organization.read"))]
MemberManager = Annotated[Acting, Depends(Allowed("members.manage"))]


class MembersQuery(BaseModel):
    """`cursor` is the `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=100)] = None


class RoleBody(Body):
    role: Role


class MemberView(BaseModel):
    """`suspended_at`: the person is suspended on the whole installation."""

    person_id: UUID
    email: str
    name: str
    role: Role
    joined_at: datetime
    suspended_at: datetime | None

    @classmethod
    def of(cls, row: Member) -> Self:
        return cls.model_validate(row, from_attributes=True)


class MembersView(BaseModel):
    """`next_cursor` null: this was the last page."""

    items: list[MemberView]
    next_cursor: str | None


@router.get("", summary="The members, in the order in which their accounts were made")
async def read_members(state: Shared, acting: Reader, query: Annotated[MembersQuery, Query()]) -> MembersView:
    after = id_in("members", query.cursor)
    async with state.db.tenant(acting.organization_id) as tx:
        found = await store.page(tx, acting.organization_id, after, query.limit + 1)
    items = [MemberView.of(row) for row in found[: query.limit]]
    more = len(found) > query.limit
    return MembersView(items=items, next_cursor=cursor_of("members", str(items[-1].person_id)) if more else None)


@router.get("/{person_id}", summary="A member")
async def read_member(state: Shared, acting: Reader, person_id: UUID) -> MemberView:
    async with state.db.tenant(acting.organization_id) as tx:
        found = await store.one(tx, acting.organization_id, person_id)
    if found is None:
        raise NotFound("This organisation has no such member.")
    return MemberView.of(found)


@router.patch("/{person_id}", summary="Change a member's role")
async def change_role(state: Shared, acting: MemberManager, person_id: UUID, body: RoleBody) -> MemberView:
    insider = Insider(acting.organization_id, acting.order, acting.caller.signed)
    return MemberView.of(await flow.change_role(state.db, insider, person_id, body.role))


@router.delete("/{person_id}", status_code=204, summary="Remove a member, from the next call on")
async def remove_member(state: Shared, acting: MemberManager, person_id: UUID) -> None:
    await flow.remove(state.db, Insider(acting.organization_id, acting.order, acting.caller.signed), person_id)
