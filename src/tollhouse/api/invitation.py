"""Invitations to an organisation: sent by its admins, accepted by whom they were sent to."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from tollhouse.api.body import Body, Email, StrictRoute
from tollhouse.api.caller import Acting, Allowed, InPerson
from tollhouse.api.organization import ChosenOrganizationView, insider
from tollhouse.api.state import Shared
from tollhouse.core.access import Role
from tollhouse.core.membership import Invitation
from tollhouse.flows import invitation as flow
from tollhouse.flows.auth import require_person
from tollhouse.store import invitation as store

router = APIRouter(prefix="/api/invitations", tags=["organizations"], route_class=StrictRoute)
Inviter = Annotated[Acting, Depends(Allowed("members.manage"))]


class InvitationBody(Body):
    """Nobody is invited as an owner: make a member one."""

    email: Email
    role: Literal["admin", "member"] = "member"


class AcceptanceBody(Body):
    """`token` is the end of the link in the mail."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class InvitationView(BaseModel):
    """`invited_by` is `person:` or `key:` with an id. The link is in the mail and nowhere else."""

    id: UUID
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    expires_at: datetime
    expired: bool

    @classmethod
    def of(cls, row: Invitation, now: datetime) -> Self:
        return cls(
            id=row.id, email=row.email, role=row.role, invited_by=row.invited_by, created_at=row.created_at,
            expires_at=row.expires_at, expired=row.expires_at <= now,
        )  # fmt: skip


class InvitationsView(BaseModel):
    """Those that nobody has answered, newest first."""

    items: list[InvitationView]


@router.get("", summary="The invitations that nobody has answered")
async def read_invitations(state: Shared, acting: Inviter) -> InvitationsView:
    async with state.db.tenant(acting.organization_id) as tx:
        found = await store.waiting(tx, acting.organization_id)
    return InvitationsView(items=[InvitationView.of(row, acting.order.now) for row in found])


@router.post("", status_code=201, summary="Invite somebody by mail; an earlier invitation of the address is replaced")
async def send_invitation(state: Shared, acting: Inviter, body: InvitationBody) -> InvitationView:
    wanted = flow.Wanted(body.email, body.role)
    return InvitationView.of(await flow.invite(state.db, state.site, insider(acting), wanted), acting.order.now)


@router.delete("/{invitation_id}", status_code=204, summary="Withdraw an invitation: its link works no more")
async def revoke_invitation(state: Shared, acting: Inviter, invitation_id: UUID) -> None:
    await flow.revoke(state.db, insider(acting), invitation_id)


@router.post("/accept", summary="Accept the invitation that was sent to one's own address")
async def accept_invitation(
    state: Shared, acting: Annotated[Acting, Depends(InPerson())], body: AcceptanceBody
) -> ChosenOrganizationView:
    signed = require_person(acting.caller)
    joined, role = await flow.accept(state.db, state.site.keyring, acting.order, signed, body.token)
    return ChosenOrganizationView.chosen(joined, role)
