"""Organisations as those who are in them see and change them."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from tollhouse.api.body import Body, Id, Name, StrictRoute, Word, without_default
from tollhouse.api.caller import Acting, Allowed, InPerson
from tollhouse.api.member import MemberView
from tollhouse.api.state import Shared, State
from tollhouse.core.access import Role
from tollhouse.core.errors import NotFound
from tollhouse.core.membership import Kind
from tollhouse.flows import member as members
from tollhouse.flows import organization as flow
from tollhouse.flows.auth import Caller, require_person
from tollhouse.flows.organization import Insider
from tollhouse.store import member as member_rows
from tollhouse.store import organization as store
from tollhouse.store.organization import Organization, OwnOrganization

router = APIRouter(prefix="/api", tags=["organizations"], route_class=StrictRoute)


class AllowedOrInPerson(Allowed):
    """The policy of a route for everybody who is signed in, and for keys with one of these permissions."""

    def check(self, caller: Caller) -> None:
        if caller.signed is None:
            super().check(caller)


def insider(acting: Acting) -> Insider:
    return Insider(acting.organization_id, acting.order, acting.caller.signed)


class NewOrganizationBody(Body):
    name: Name
    business_type: Word = "general"


class OrganizationChangeBody(Body):
    """What is left out stays as it is."""

    name: Name = Field(default="", json_schema_extra=without_default)
    business_type: Word = Field(default="", json_schema_extra=without_default)

    def wanted(self) -> flow.Change:
        return flow.Change(**self.model_dump(exclude_unset=True))


class DeletionBody(Body):
    """`name` is the organisation's, typed as it is written."""

    name: Annotated[str, Field(min_length=1, max_length=200)]


class TransferBody(Body):
    person_id: Id


class OwnOrganizationView(BaseModel):
    """`role` is the caller's own; null for a key. A suspended organisation can be used by nobody; why, its operator
    knows."""

    id: UUID
    name: str
    kind: Kind
    role: Role | None
    plan: str
    suspended_at: datetime | None

    @classmethod
    def of(cls, row: OwnOrganization) -> Self:
        return cls(
            id=row.id, name=row.name, kind=row.kind, role=row.role, plan=row.plan_id, suspended_at=row.suspended_at
        )


class OwnOrganizationsView(BaseModel):
    """The personal one first, then by name."""

    items: list[OwnOrganizationView]


class ChosenOrganizationView(OwnOrganizationView):
    business_type: str
    created_at: datetime

    @classmethod
    def chosen(cls, row: Organization, role: Role | None) -> Self:
        return cls(
            id=row.id, name=row.name, kind=row.kind, role=role, plan=row.plan_id, suspended_at=row.suspended_at,
            business_type=row.business_type, created_at=row.created_at,
        )  # fmt: skip


@router.get("/organizations", summary="The organisations that one is in; for a key, its own")
async def read_organizations(
    state: Shared, acting: Annotated[Acting, Depends(AllowedOrInPerson("organization.read"))]
) -> OwnOrganizationsView:
    signed = acting.caller.signed
    if signed is None:
        return OwnOrganizationsView(items=[await _chosen(state, acting)])
    async with state.db.person(signed.person_id) as tx:
        return OwnOrganizationsView(items=[OwnOrganizationView.of(row) for row in await store.own(tx)])


@router.post("/organizations", status_code=201, summary="Make an organisation for a team, as its owner")
async def create_organization(
    state: Shared, acting: Annotated[Acting, Depends(InPerson())], body: NewOrganizationBody
) -> ChosenOrganizationView:
    signed = require_person(acting.caller)
    made = await flow.create(state.db, state.site.keyring, acting.order, signed, body.name, body.business_type)
    return ChosenOrganizationView.chosen(made, "owner")


@router.get("/organization", summary="The organisation that is chosen")
async def read_organization(
    state: Shared, acting: Annotated[Acting, Depends(Allowed("organization.read"))]
) -> ChosenOrganizationView:
    return await _chosen(state, acting)


@router.patch("/organization", summary="Change what it is called, and what it does")
async def change_organization(
    state: Shared,
    acting: Annotated[Acting, Depends(Allowed("organization.manage"))],
    body: OrganizationChangeBody,
) -> ChosenOrganizationView:
    await flow.change(state.db, insider(acting), body.wanted())
    return await _chosen(state, acting)


@router.delete("/organization", status_code=204, summary="Delete it: nobody gets in any more, its books stay")
async def delete_organization(
    state: Shared, acting: Annotated[Acting, Depends(InPerson("organization.own"))], body: DeletionBody
) -> None:
    await flow.delete(state.db, insider(acting), body.name)


@router.post("/organization/transfer", summary="Make another member the owner in one's place")
async def transfer_organization(
    state: Shared, acting: Annotated[Acting, Depends(InPerson("organization.own"))], body: TransferBody
) -> MemberView:
    return MemberView.of(await members.transfer(state.db, insider(acting), body.person_id))


@router.post("/organization/leave", status_code=204, summary="Be a member no more")
async def leave_organization(
    state: Shared, acting: Annotated[Acting, Depends(InPerson("organization.read"))]
) -> None:  # fmt: skip
    await members.leave(state.db, insider(acting))


async def _chosen(state: State, acting: Acting) -> ChosenOrganizationView:
    signed = acting.caller.signed
    async with state.db.tenant(acting.organization_id) as tx:
        row = await store.find(tx, acting.organization_id)
        role = await member_rows.role_of(tx, acting.organization_id, signed.person_id) if signed else None
    if row is None:
        raise NotFound("There is no such organisation.")
    return ChosenOrganizationView.chosen(row, role)
