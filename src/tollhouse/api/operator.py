"""What operators do. Every call writes a row of the audit log, looking included."""

import asyncio
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from tollhouse.api.body import (
    Body,
    Credits,
    Email,
    Id,
    IdempotencyKey,
    Moment,
    Name,
    Note,
    OptionalIdempotencyKey,
    PositiveCredits,
    StrictRoute,
    Word,
    body_hash,
)
from tollhouse.api.caller import Operator
from tollhouse.api.key import KeyBody, KeysView, KeyView, MadeKeyView, shown_once
from tollhouse.api.state import Shared, State
from tollhouse.api.view import (
    ClockView,
    EntitlementView,
    GivenView,
    OrganizationView,
    ProofView,
    TotalsView,
)
from tollhouse.core.credit import Source
from tollhouse.flows import govern
from tollhouse.flows import key as key_flow
from tollhouse.flows.key import Manager
from tollhouse.flows.once import Done, Once
from tollhouse.flows.operation import Reap
from tollhouse.flows.order import NewEntitlement, NewGrant, NewOrganization
from tollhouse.flows.spend import BATCH_MAX
from tollhouse.store import credit

router = APIRouter(prefix="/api/operator", tags=["operator"], route_class=StrictRoute)
Result = TypeVar("Result")


class OrganizationBody(Body):
    name: Name
    plan: Word
    business_type: Name = "general"
    period_anchor: Moment | None = None
    owner_email: Email | None = None


class GrantBody(Body):
    """`priority` 0 is used first; `paid` is taken to be true of a topup, else false."""

    source: Source
    credits: PositiveCredits
    note: Note
    priority: Annotated[int, Field(ge=0, le=100)] | None = None
    paid: bool | None = None
    effective_at: Moment | None = None
    expires_at: Moment | None = None


class PlanBody(Body):
    plan: Word


class OverdraftBody(Body):
    credits: Credits


class EntitlementBody(Body):
    """`organization_id` alone: everybody in it. With `user`: that member, or the end user whom the host application
    calls so. `user` alone: a person, by id or e-mail address, in the organisation of their own."""

    organization_id: Id | None = None
    user: Name | None = None
    model_id: Word
    source: Literal["admin_grant", "trial"]
    note: Note
    expires_at: Moment | None = None


class ClockBody(Body):
    now: Moment


@router.post("/organizations", status_code=201, summary="Make an organisation with its first credits")
async def create_organization(
    state: Shared, order: Operator, body: OrganizationBody, response: Response, key: OptionalIdempotencyKey = None
) -> OrganizationView:
    wanted = NewOrganization(body.name, body.plan, body.business_type, body.period_anchor, body.owner_email)
    once = _once("POST /api/operator/organizations", key, body)
    return OrganizationView.of(_told(response, await govern.create_organization(state.db, order, wanted, once)))


@router.get("/organizations/{organization_id}", summary="An organisation and its balance")
async def read_organization(state: Shared, order: Operator, organization_id: UUID) -> OrganizationView:
    return OrganizationView.of(await govern.read_organization(state.db, order, organization_id))


@router.post("/organizations/{organization_id}/keys", status_code=201, summary="Make an API key; it is shown this once")
async def create_key(
    state: Shared, order: Operator, organization_id: UUID, body: KeyBody, response: Response
) -> MadeKeyView:
    manager = Manager(organization_id, order, None)
    return shown_once(response, await key_flow.create(state.db, state.policy, manager, body.wanted()))


@router.get("/organizations/{organization_id}/keys", summary="The keys that work now, newest first")
async def read_keys(state: Shared, order: Operator, organization_id: UUID) -> KeysView:
    found = await key_flow.read(state.db, Manager(organization_id, order, None))
    return KeysView(items=[KeyView.of(row) for row in found])


@router.delete("/organizations/{organization_id}/keys/{key_id}", summary="Revoke a key, from the next call on")
async def revoke_key(state: Shared, order: Operator, organization_id: UUID, key_id: UUID) -> KeyView:
    return KeyView.of(await key_flow.revoke(state.db, Manager(organization_id, order, None), key_id))


@router.post("/organizations/{organization_id}/grants", status_code=201, summary="Give credits")
async def give_grant(
    state: Shared, order: Operator, organization_id: UUID, body: GrantBody, response: Response, key: IdempotencyKey
) -> GivenView:
    wanted = NewGrant(
        body.source,
        body.credits,
        body.note,
        priority=body.priority,
        paid=body.source == "topup" if body.paid is None else body.paid,
        effective_at=body.effective_at,
        expires_at=body.expires_at,
    )
    once = _once("POST /api/operator/organizations/{id}/grants", key, body)
    return GivenView.of_given(_told(response, await govern.give_grant(state.db, order, organization_id, wanted, once)))


@router.post("/organizations/{organization_id}/plan", summary="Change the plan: up at once, down at the period's end")
async def change_plan(state: Shared, order: Operator, organization_id: UUID, body: PlanBody) -> OrganizationView:
    return OrganizationView.of(await govern.change_plan(state.db, order, organization_id, body.plan))


@router.put("/organizations/{organization_id}/overdraft", summary="Set how far below zero the organisation may spend")
async def set_overdraft(state: Shared, order: Operator, organization_id: UUID, body: OverdraftBody) -> OrganizationView:
    return OrganizationView.of(await govern.set_overdraft(state.db, order, organization_id, body.credits))


@router.post("/organizations/{organization_id}/clock", summary="Move an organisation's test clock forward")
async def move_clock(state: Shared, order: Operator, organization_id: UUID, body: ClockBody) -> ClockView:
    moved = await govern.move_clock(state.db, order, state.policy.mode, organization_id, body.now)
    reaped = await _reap(state, organization_id, moved.outlived)
    async with state.db.tenant(organization_id) as tx:
        found = await credit.statement(tx, organization_id, order.now)
    assert found is not None
    return ClockView(id=organization_id, now=found.now, reaped=reaped, balance=TotalsView.of(found.balance))


@router.post("/entitlements", status_code=201, summary="Give the right to a premium model")
async def grant_entitlement(
    state: Shared, order: Operator, body: EntitlementBody, response: Response, key: OptionalIdempotencyKey = None
) -> EntitlementView:
    wanted = NewEntitlement(
        body.organization_id, body.user, body.model_id, body.source, body.note, expires_at=body.expires_at
    )
    once = _once("POST /api/operator/entitlements", key, body)
    return EntitlementView.of(_told(response, await govern.grant_entitlement(state.db, order, wanted, once)))


@router.get("/ledger/proof", summary="Check every invariant of the ledger")
async def prove_ledger(state: Shared, order: Operator) -> ProofView:
    return ProofView.of(await govern.prove_ledger(state.db, order))


def _once(endpoint: str, key: str | None, body: Body) -> Once | None:
    return None if key is None else Once(endpoint, key, body_hash(body))


def _told(response: Response, done: Done[Result]) -> Result:
    """The result, or its refusal raised; a header tells when it is that of an earlier request."""
    if done.replayed:
        response.headers["idempotent-replayed"] = "true"
    return done.result()


async def _reap(state: State, organization_id: UUID, outlived: tuple[UUID, ...]) -> int:
    """Has the teller close them, as many at once as it serves in one batch. How many were still open."""
    reaped = 0
    for start in range(0, len(outlived), BATCH_MAX):
        batch = [Reap(organization_id, reservation_id) for reservation_id in outlived[start : start + BATCH_MAX]]
        reaped += sum(found is True for found in await asyncio.gather(*map(state.teller.do, batch)))
    return reaped
