"""What is known of somebody: when it may be erased, what stands in its place, and what an export holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tollhouse.core.errors import Conflict

Kind = Literal["export", "erasure"]
SubjectKind = Literal["person", "end_user"]
State = Literal["waiting", "running", "done", "failed"]

RESULT_KEPT = timedelta(days=7)
# A task that could not be finished by then has failed: it can be ordered again.
GIVES_UP_AFTER = timedelta(hours=24)
# What was said in a call is stored after the call was settled: so long after the last one it has been.
QUIET = timedelta(minutes=1)
# The steps of an erasure: who it was, then what was said.
ERASURE_STEPS = ("identity", "content")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose data. `account` True: all of a person's account, in every organisation; then `own` are the organisations
    that are theirs alone. False: what one organisation has of a member or of an end user."""

    kind: SubjectKind
    id: UUID
    organization_id: UUID
    account: bool = False
    own: tuple[UUID, ...] = ()

    @property
    def within(self) -> UUID | None:
        """The organisation that it is limited to."""
        return None if self.account else self.organization_id


@dataclass(frozen=True, slots=True)
class Standing:
    """What may stand against an erasure. `role` of a member in the organisation at hand; `alone_in`: names of
    organisations of a team that would be left without an owner."""

    running: int = 0
    role: str | None = None
    alone_in: Sequence[str] = ()
    last_superadmin: bool = False


def check_may_erase(subject: Subject, standing: Standing) -> None:
    """Conflict, with the remedy, for an erasure that would leave others without what they need, or a call without its
    caller."""
    if subject.account and standing.alone_in:
        names = ", ".join(repr(name) for name in standing.alone_in)
        raise Conflict(
            f"This person is the last owner of {names}. Make somebody else an owner there first, or delete it."
        )
    if subject.account and standing.last_superadmin:
        raise Conflict("This is the last superadmin of the installation. Make somebody else one first.")
    if not subject.account and standing.role == "owner":
        raise Conflict(
            "This member is an owner of the organisation. Give them another role first, then erase what it has of them."
        )
    if standing.running:
        raise Conflict(f"Calls are still running for them ({standing.running}). Wait until they have ended.")


def erased_email(person_id: UUID) -> str:
    """What stands in place of the address: .invalid leads nowhere, by RFC 2606."""
    return f"{person_id}@erased.invalid"


def pseudonym(end_user_id: UUID) -> str:
    """What stands in place of a host application's own id."""
    return f"erased-{end_user_id}"


def masked(email: str) -> str:
    """Enough of an address to recognise one's own, and no more: "ada@example.com" -> "a***@e***.com"."""
    name, _, host = email.partition("@")
    return f"{name[:1]}***@{host[:1]}***.{host.rpartition('.')[2]}"


def explained(subject: Subject, made_at: datetime, files: Sequence[tuple[str, str, int]]) -> Mapping[str, object]:
    """The index of an export: whose it is, and of each file its name, what it holds and how many rows."""
    about = "a person's account" if subject.account else "what one organisation has of "
    if not subject.account:
        about += "a member" if subject.kind == "person" else "an end user"
    return {
        "about": about,
        "subject_id": subject.id,
        "organization_id": subject.within,
        "made_at": made_at,
        "units": "*_micros are millionths of a credit, times are UTC",
        "files": [{"name": name, "holds": holds, "rows": rows} for name, holds, rows in files],
    }
