"""People and organisations as operators see them: found, looked at, suspended. Every call writes a row of the audit
log, looking included."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tollhouse.api.body import Body, Note, StrictRoute
from tollhouse.api.caller import Operator
from tollhouse.api.state import Shared
from tollhouse.core.access import Role
from tollhouse.core.membership import Kind
from tollhouse.flows import people as flow
from tollhouse.flows.people import Search
from tollhouse.store.member import Membership
from tollhouse.store.organization import Organization
from tollhouse.store.person import Person

router = APIRouter(prefix="/api/operator", tags=["operator"], route_class=StrictRoute)


class SearchQuery(BaseModel):
    """`search` is a part of the name (of people, also of the e-mail address); `cursor` is the `next_cursor` of the page
    before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=100)] = None

    def wanted(self) -> Search:
        return Search(self.search.strip(), self.limit, self.cursor)


class ReasonBody(Body):
    """`reason` is kept in the audit log for good: it names nobody."""

    reason: Note


class PersonView(BaseModel):
    """`erased_at`: name and address are gone."""

    id: UUID
    email: str
    name: str
    superadmin: bool
    created_at: datetime
    email_verified_at: datetime | None
    suspended_at: datetime | None
    erased_at: datetime | None

    @classmethod
    def of(cls, row: Person) -> Self:
        return cls.model_validate(row, from_attributes=True)


class PeopleView(BaseModel):
    """Newest first; `next_cursor` null: this was the last page."""

    items: list[PersonView]
    next_cursor: str | None


class MembershipView(BaseModel):
    organization_id: UUID
    name: str
    kind: Kind
    role: Role
    joined_at: datetime

    @classmethod
    def of(cls, row: Membership) -> Self:
        return cls.model_validate(row, from_attributes=True)


class PersonDetailView(PersonView):
    organizations: list[MembershipView]


class OrganizationRowView(BaseModel):
    """`deleted_at`: nobody gets in any more, its books stay."""

    id: UUID
    name: str
    kind: Kind
    business_type: str
    plan: str
    created_at: datetime
    suspended_at: datetime | None
    deleted_at: datetime | None

    @classmethod
    def of(cls, row: Organization) -> Self:
        return cls(
            id=row.id, name=row.name, kind=row.kind, business_type=row.business_type, plan=row.plan_id,
            created_at=row.created_at, suspended_at=row.suspended_at, deleted_at=row.deleted_at,
        )  # fmt: skip


class OrganizationsView(BaseModel):
    """Newest first; `next_cursor` null: this was the last page."""

    items: list[OrganizationRowView]
    next_cursor: str | None


@router.get("/people", summary="Find people, newest first")
async def search_people(state: Shared, order: Operator, query: Annotated[SearchQuery, Query()]) -> PeopleView:
    page = await flow.search(state.db, order, query.wanted())
    return PeopleView(items=[PersonView.of(row) for row in page.items], next_cursor=page.next_cursor)


@router.get("/people/{person_id}", summary="A person, and the organisations that they are in")
async def read_person(state: Shared, order: Operator, person_id: UUID) -> PersonDetailView:
    person, memberships = await flow.read(state.db, order, person_id)
    organizations = [MembershipView.of(row) for row in memberships]
    return PersonDetailView(**PersonView.of(person).model_dump(), organizations=organizations)


@router.post("/people/{person_id}/suspend", summary="Shut a person out, everywhere, from the next call on")
async def suspend_person(state: Shared, order: Operator, person_id: UUID, body: ReasonBody) -> PersonView:
    return PersonView.of(await flow.suspend(state.db, order, person_id, body.reason))


@router.post("/people/{person_id}/unsuspend", summary="Let a suspended person in again")
async def unsuspend_person(state: Shared, order: Operator, person_id: UUID, body: ReasonBody) -> PersonView:
    return PersonView.of(await flow.unsuspend(state.db, order, person_id, body.reason))


@router.post("/people/{person_id}/remove-second-factor", summary="Let somebody in who lost their second factor")
async def remove_second_factor(state: Shared, order: Operator, person_id: UUID, body: ReasonBody) -> PersonView:
    return PersonView.of(await flow.remove_second_factor(state.db, state.site, order, person_id, body.reason))


@router.get("/organizations", summary="Find organisations, newest first")
async def search_organizations(
    state: Shared, order: Operator, query: Annotated[SearchQuery, Query()]
) -> OrganizationsView:
    page = await flow.search_organizations(state.db, order, query.wanted())
    return OrganizationsView(items=[OrganizationRowView.of(row) for row in page.items], next_cursor=page.next_cursor)


@router.post("/organizations/{organization_id}/suspend", summary="Shut an organisation, from the next call on")
async def suspend_organization(
    state: Shared, order: Operator, organization_id: UUID, body: ReasonBody
) -> OrganizationRowView:
    return OrganizationRowView.of(await flow.suspend_organization(state.db, order, organization_id, body.reason))


@router.post("/organizations/{organization_id}/unsuspend", summary="Open a suspended organisation again")
async def unsuspend_organization(
    state: Shared, order: Operator, organization_id: UUID, body: ReasonBody
) -> OrganizationRowView:
    return OrganizationRowView.of(await flow.unsuspend_organization(state.db, order, organization_id, body.reason))
