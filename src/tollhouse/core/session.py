"""Who is signed in, for how long, and what they may do."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tollhouse.core.access import Permission, Role, of_role
from tollhouse.core.errors import Forbidden, ProofRequired
from tollhouse.core.key import Mode
from tollhouse.core.link import form_token

LIFETIME = timedelta(days=30)
IDLE = timedelta(days=14)
IDLE_SUPERADMIN = timedelta(hours=8)
# How long signing in may take from the first factor to the second.
SECOND_FACTOR_WITHIN = timedelta(minutes=15)
IMPERSONATION = timedelta(hours=1)
# Seen is written down to the minute.
TOUCH_AFTER = timedelta(minutes=1)
# How long a proof of who one is counts for what moves money or changes how one signs in.
PROOF_COUNTS = timedelta(minutes=10)
REASON_MIN, REASON_MAX = 10, 500
# What is nobody's but the person's own, also for a superadmin who acts as them.
_NOT_IMPERSONATED: frozenset[Permission] = frozenset({"organization.own", "privacy.manage"})


@dataclass(frozen=True, slots=True)
class Impersonator:
    """The superadmin behind an impersonation, in real: why, and from which session of theirs."""

    id: UUID
    email: str
    reason: str
    session_id: UUID


@dataclass(frozen=True, slots=True)
class Signed:
    """Somebody who is signed in, and the organisation that is chosen. `token` is the cookie; `language` the code of
    the one that they chose for pages, None: as their browser asks."""

    id: UUID
    token: str = field(repr=False)
    person_id: UUID
    email: str
    name: str
    superadmin: bool
    verified: bool
    organization_id: UUID
    organization_name: str
    organization_kind: str
    organization_suspended: bool
    role: Role
    permissions: frozenset[Permission]
    clock_offset_micros: int
    method: str
    created_at: datetime
    expires_at: datetime
    proved_at: datetime
    has_second_factor: bool
    second_factor: bool
    must_add_second_factor: bool
    impersonator: Impersonator | None
    language: str | None = None

    @property
    def actor(self) -> str:
        """As it stands in the ledger and in the audit log: who really acts."""
        return f"person:{self.impersonator.id if self.impersonator else self.person_id}"

    @property
    def csrf(self) -> str:
        """What the forms of this session carry."""
        return form_token(self.token)


@dataclass(frozen=True, slots=True)
class Held:
    """A session that may do nothing at the moment: its second factor is awaited, or its person is suspended."""

    id: UUID
    token: str = field(repr=False)
    person_id: UUID
    reason: Literal["second_factor", "suspended"]

    @property
    def csrf(self) -> str:
        return form_token(self.token)


def is_over(
    expires_at: datetime, seen_at: datetime, revoked_at: datetime | None, superadmin: bool, now: datetime
) -> bool:
    """Whether a session has ended: revoked, too old, or not seen for too long."""
    idle = IDLE_SUPERADMIN if superadmin else IDLE
    return revoked_at is not None or expires_at <= now or seen_at + idle <= now


def must_add_second_factor(superadmin: bool, has_second_factor: bool, mode: Mode) -> bool:
    """Whether a superadmin has yet to add a second factor: in live mode the platform is closed to them until then."""
    return superadmin and mode == "live" and not has_second_factor


def permissions_of(
    role: Role, *, superadmin: bool, must_add: bool, impersonated: bool, organization_suspended: bool
) -> frozenset[Permission]:
    """What may be done in the chosen organisation. In one that is suspended, nothing but what a superadmin does to the
    platform."""
    if impersonated:
        held = of_role(role, superadmin=False) - _NOT_IMPERSONATED
    else:
        held = of_role(role, superadmin=superadmin and not must_add)
    return held & {"platform"} if organization_suspended else held


def check_proved(signed: Signed, now: datetime) -> None:
    """ProofRequired unless the person has proved within ten minutes who they are; for what moves money or changes how
    one signs in. Forbidden for whoever acts as somebody else."""
    check_own(signed)
    if not signed.proved_at <= now < signed.proved_at + PROOF_COUNTS:
        raise ProofRequired("Enter your password or a code once more: this is asked for before money and security.")


def check_own(signed: Signed) -> None:
    """Forbidden for whoever acts as somebody else: how people sign in, what is known of them and whom their
    organisations belong to is theirs alone."""
    if signed.impersonator is not None:
        raise Forbidden(f"You act as {signed.email}, who alone may do this. End it first, and ask them to.")
