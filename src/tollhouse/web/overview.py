"""The organisation at a glance: its plan, its credits, who is in it, and what needs attention."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.responses import Response

from tollhouse.core.catalogue import Plan
from tollhouse.core.membership import Invitation
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
from tollhouse.web.figure import credits, day
from tollhouse.web.language import _, ngettext
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
        yield Note(
            _("Credits run low: %(left)s are left until %(day)s.", left=left, day=day(balance.period_end)),
            "/admin/keys",
            _("See keys"),
        )
    for link in facts.connections:
        if link.enabled and link.health is not None and not link.health.ok:
            name = link.name or link.provider_id
            yield Note(
                _("The connection %(name)s does not answer.", name=name),
                f"/admin/connections/{link.id}",
                _("Look at it"),
            )
    for key in facts.keys:
        if key.expires_at is not None and key.replaced_by is None and key.expires_at <= facts.statement.now + SOON:
            text = _("The key %(name)s expires on %(day)s.", name=key.name, day=day(key.expires_at))
            yield Note(text, f"/admin/keys/{key.id}", _("Replace it"))
    if facts.organization.kind == "team" and sum(one.role == "owner" for one in facts.members) == 1 < len(
        facts.members
    ):
        yield Note(
            _("There is one owner only: with a second one, nobody is ever locked out."), "/admin/members", _("Choose")
        )
    expired = sum(one.expires_at <= facts.now for one in facts.waiting)
    if expired:
        text = ngettext(
            "%(num)s invitation has expired without an answer.",
            "%(num)s invitations have expired without an answer.",
            expired,
        )
        yield Note(text, "/admin/members", _("Send again"))
    if any(task.state == "failed" for task in facts.tasks):
        yield Note(_("An export or erasure has failed. Order it again."), "/admin/privacy", _("Look at it"))


def _shown(micros: int) -> str:
    """Credits to two decimals."""
    return credits(micros, 2)


PAGES = (page("/admin", index, needs="organization.manage"),)
