"""Organisations and who belongs to them: what is allowed, on facts that were read under the organisation's lock."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tollhouse.core.access import Permission, Role, of_role, roles_with
from tollhouse.core.errors import BadRequest, Conflict, Forbidden

Kind = Literal["platform", "personal", "team"]
# Organisations of a team that one person may own: each begins with credits that nobody paid for.
OWNED_MAX = 20
# Each is a mail to somebody who did not ask for it.
INVITATIONS_OPEN_MAX = 100
INVITATION_LASTS = timedelta(days=7)
# What an organisation may say it is; operators may name others.
BUSINESS_TYPES: dict[str, str] = {
    "general": "General",
    "agency": "Agency and marketing",
    "construction": "Construction and trades",
    "consulting": "Consulting",
    "education": "Education",
    "finance": "Finance and insurance",
    "government": "Government",
    "healthcare": "Healthcare",
    "hospitality": "Hospitality and tourism",
    "legal": "Legal",
    "logistics": "Logistics and transport",
    "manufacturing": "Manufacturing",
    "media": "Media and entertainment",
    "nonprofit": "Non-profit",
    "professional_services": "Professional services",
    "real_estate": "Real estate",
    "retail": "Retail and e-commerce",
    "software": "Software and technology",
}


@dataclass(frozen=True, slots=True)
class Invitation:
    """`invited_by` is who it was, as in the audit log. Open until it is accepted, revoked or replaced, or expires."""

    organization_id: UUID
    id: UUID
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


# -------------------------------------------------------------------------------------------------------- organisations


def check_name(name: str) -> None:
    """BadRequest for a name that does not stand well in lists, and in mail to people who did not ask for it."""
    if not name.isprintable():
        raise BadRequest("A name is one line of visible characters. Leave the others out.", "name")
    if "://" in name or "www." in name.lower():
        raise BadRequest("A name holds no web address: it stands in mail to others. Leave the address out.", "name")


def check_business_type(wanted: str, before: str | None = None) -> None:
    """BadRequest for one that is not on the list; what an operator has named may stay."""
    if wanted not in BUSINESS_TYPES and wanted != before:
        raise BadRequest(
            f"There is no business type {wanted[:40]!r}. There are: {', '.join(BUSINESS_TYPES)}.", "business_type"
        )


def check_may_own_more(owned: int) -> None:
    """Conflict when a person owns as many organisations as one may; their personal one does not count."""
    if owned >= OWNED_MAX:
        raise Conflict(
            f"A person may own {OWNED_MAX} organisations, and this one owns as many. Hand one on, or delete one."
        )


def check_has_members(kind: Kind) -> None:
    """Conflict for an organisation whose members are what they are."""
    if kind == "personal":
        raise Conflict("A personal organisation has exactly one member. Make an organisation for a team instead.")
    if kind == "platform":
        raise Conflict("The platform has no members: its operators are superadmins. Make an organisation for a team.")


def check_may_delete(kind: Kind, name: str, typed: str, running: int) -> None:
    """Conflict for what cannot be deleted (now), BadRequest unless its name was typed as it is."""
    if kind == "personal":
        raise Conflict("A personal organisation lasts as long as its person's account. Delete the account instead.")
    if kind == "platform":
        raise Conflict("The platform is the installation itself and cannot be deleted. Suspend what is in it instead.")
    if typed != name:
        raise BadRequest("This is not the organisation's name. Type it exactly as it is written.", "name")
    if running:
        raise Conflict(f"Calls are still running here ({running}). Wait until they have ended, then try again.")


# -------------------------------------------------------------------------------------------------------------- members


def check_role_may(role: Role | None, permission: Permission) -> None:
    """Forbidden unless a member of this role may; None is no member any more."""
    if role is None:
        raise Forbidden("You are not a member of this organisation any more. Choose another one.")
    if permission not in of_role(role, superadmin=False):
        wanted = " or ".join(roles_with(permission))
        raise Forbidden(f"Your role here is {role}: this takes {wanted}. Ask an owner of the organisation.")


def check_owner_remains(owners: Collection[UUID], without: UUID) -> None:
    """Conflict when nobody of the owners (those who can sign in) would be left without this one."""
    if not set(owners) - {without}:
        raise Conflict(
            "This is the only owner of the organisation. Make somebody else an owner first, or delete the organisation."
        )


def check_superadmin_remains(superadmins: Collection[UUID], without: UUID) -> None:
    """Conflict when no superadmin who can sign in would be left without this one."""
    if without in superadmins and not set(superadmins) - {without}:
        raise Conflict("This is the last superadmin of the installation. Make somebody else one first.")


# ---------------------------------------------------------------------------------------------------------- invitations


def check_open(invitation: Invitation, now: datetime) -> None:
    """Conflict for an invitation that leads nowhere any more."""
    if invitation.accepted_at is not None:
        raise Conflict("This invitation was accepted already: sign in and choose the organisation.")
    if invitation.revoked_at is not None:
        raise Conflict("This invitation was withdrawn or replaced. Look for a later mail, or ask for another one.")
    if invitation.expires_at <= now:
        raise Conflict(f"This invitation expired at {invitation.expires_at:%Y-%m-%d %H:%M} UTC. Ask for another one.")


def check_invited(invitation: Invitation, email: str, *, verified: bool) -> None:
    """Forbidden for a person with another address than it was sent to, or who has not proved to have it. Whoever was
    handed the link learns no address from it."""
    if email != invitation.email:
        raise Forbidden(
            "This invitation was sent to another address than the one that you are signed in with. Sign in with that "
            "one, or ask for an invitation to yours."
        )
    if not verified:
        raise Forbidden("Confirm your e-mail address first: open the link in the mail that was sent to you.")


def check_room_for_invitation(open_: int) -> None:
    """Conflict when too many wait for an answer."""
    if open_ >= INVITATIONS_OPEN_MAX:
        raise Conflict(f"There are {INVITATIONS_OPEN_MAX} open invitations here. Revoke one that is not needed.")
