"""The organisation at a glance: its plan, its credits, who is in it, and what needs attention."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.responses import Response

from tollhouse.core.catalogue import Plan
from tollhouse.core.membership import Invitation
from tollhouse.core.money import format_credits
from tollhouse.flows.operation import CatchUp
from tollhouse.store import catalogue, connection, credit, invitation, member, privacy
from tollhouse.store import key as keys
from tollhouse.store import organization as organizations
from tollhouse.store.connection import ConnectionRow
from tollhouse.store.credit import Statement
from tollhouse.store.key import ApiKey
from tollhouse.store.member import Member
from tollhouse.store.organization import Organization
from tollhouse.store.privacy import Task
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

COUNTED_MAX = 500
SOON = timedelta(days=14)
LOW_PERMILLE = 200


@dataclass(frozen=True, slots=True)
class Facts:
    """An organisation as it stands at `now`, the real time; `statement.now` is its own."""

    now: datetime
    organization: Organization
    statement: Statement
    members: Sequence[Member]
    waiting: Sequence[Invitation]
    keys: Sequence[ApiKey]
    connections: Sequence[ConnectionRow]
    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class Note:
    """What needs attention, and where it is seen to."""

    text: str
    path: str
    does: str


async def index(visit: Visit) -> Response:
    facts, plans = await _facts(visit)
    return visit.page(
        "overview/index.html", facts=facts, plan=plans[facts.organization.plan_id],
        coming=plans.get(facts.organization.pending_plan_id or ""), notes=list(notes(facts)), credits=_shown,
        owners=sum(one.role == "owner" for one in facts.members), counted_max=COUNTED_MAX,
    )  # fmt: skip


async def _facts(visit: Visit) -> tuple[Facts, Mapping[str, Plan]]:
    here, now, db = visit.who.organization_id, visit.now, visit.state.db
    async with db.tenant(here) as tx:
        due = await credit.is_due(tx, here, now)
    if due:
        await visit.state.teller.do(CatchUp(here))
    async with db.tenant(here) as tx:
        organization, statement = await organizations.find(tx, here), await credit.statement(tx, here, now)
        assert organization is not None and statement is not None
        facts = Facts(
            now, organization, statement, await member.page(tx, here, None, COUNTED_MAX),
            await invitation.waiting(tx, here), await keys.page(tx, here, now, COUNTED_MAX, None, ended=False),
            await connection.of(tx, here), await privacy.of(tx, here, None, None, 10),
        )  # fmt: skip
        return facts, {plan.id: plan for plan in await catalogue.plans(tx)}


def notes(facts: Facts) -> Iterator[Note]:
    """The most pressing first."""
    balance = facts.statement.balance
    if balance.spendable_micros * 1000 < balance.allocated_micros * LOW_PERMILLE:
        left = _shown(balance.spendable_micros)
        yield Note(f"Credits run low: {left} are left until {balance.period_end:%d %b %Y}.", "/admin/keys", "See keys")
    for link in facts.connections:
        if link.enabled and link.health is not None and not link.health.ok:
            name = link.name or link.provider_id
            yield Note(f"The connection {name} does not answer.", f"/admin/connections/{link.id}", "Look at it")
    for key in facts.keys:
        if key.expires_at is not None and key.replaced_by is None and key.expires_at <= facts.statement.now + SOON:
            text = f"The key {key.name} expires on {key.expires_at:%d %b %Y}."
            yield Note(text, f"/admin/keys/{key.id}", "Replace it")
    if facts.organization.kind == "team" and sum(one.role == "owner" for one in facts.members) == 1 < len(
        facts.members
    ):
        yield Note("There is one owner only: with a second one, nobody is ever locked out.", "/admin/members", "Choose")
    expired = sum(one.expires_at <= facts.now for one in facts.waiting)
    if expired:
        said = "1 invitation has" if expired == 1 else f"{expired} invitations have"
        yield Note(f"{said} expired without an answer.", "/admin/members", "Send again")
    if any(task.state == "failed" for task in facts.tasks):
        yield Note("An export or erasure has failed. Order it again.", "/admin/privacy", "Look at it")


def _shown(micros: int) -> str:
    """Credits to two decimals, rounded down: nobody is shown more than there is."""
    return format_credits(micros // 10_000 * 10_000)


PAGES = (page("/admin", index, needs="organization.manage"),)
