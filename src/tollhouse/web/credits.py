"""Credits of the organisation: what is left, what plan and packages bring, what a use would take, what was booked."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.responses import Response, StreamingResponse

from tollhouse.core import figures, sheet
from tollhouse.core.catalogue import Plan
from tollhouse.core.credit import by_source
from tollhouse.core.errors import BadRequest
from tollhouse.core.figures import Sum
from tollhouse.core.money import MICROS_PER_CREDIT
from tollhouse.flows import figures as flow
from tollhouse.flows.figures import Usable
from tollhouse.flows.operation import CatchUp
from tollhouse.store import actor, catalogue, credit, package
from tollhouse.store import figures as own_figures
from tollhouse.store import organization as organizations
from tollhouse.store.credit import Filter, Statement, TransactionRow
from tollhouse.store.organization import Organization
from tollhouse.store.package import Package
from tollhouse.web import typed
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _
from tollhouse.web.limit import Shown, shown
from tollhouse.web.listing import CURSOR, Ways, asked
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

HERE = "/settings/credits"
MONTHLY = frozenset({"plan", "plan_change"})
BONUS = frozenset({"welcome", "promo", "topup", "adjustment"})
LENGTH = 20  # rows of the statement at once
EXPORTED_AT_ONCE = 1_000
# What the rows of the ledger are called.
TYPES = {
    "ai_consumption": N_("Use"),
    "late_settle": N_("Use, booked late"),
    "plan_allocation": N_("Monthly credits"),
    "plan_change_adjustment": N_("Change of plan"),
    "welcome_bonus": N_("Welcome bonus"),
    "promo_bonus": N_("Bonus"),
    "topup_purchase": N_("Top-up"),
    "expiry": N_("Expired"),
    "correction": N_("Correction"),
    "admin_adjustment": N_("Adjustment"),
    "debt_repayment": N_("Debt paid"),
    "refund_clawback": N_("Taken back: refund"),
    "dispute_clawback": N_("Taken back: disputed payment"),
    "dispute_reinstated": N_("Given back: dispute won"),
}
COLUMNS = (
    "seq", "time", "type", "credits", "balance_after", "model", "capability", "quality", "user", "note", "request_id",
)  # fmt: skip
_FILTERS = (
    Field("type", required=False, most=40),
    Field("since", required=False, most=10),
    Field("until", required=False, most=10),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """An organisation's money as it stands. `plans` by rank, that which it has among them; `own` is what the person
    used since the period began."""

    organization: Organization
    statement: Statement
    plans: Sequence[Plan]
    packages: Sequence[Package]
    usable: Sequence[Usable]
    limits: Sequence[Shown]
    own: Sum

    @property
    def plan(self) -> Plan:
        return next(one for one in self.plans if one.id == self.organization.plan_id)

    @property
    def coming(self) -> Plan | None:
        """The plan from the next period on, where it changes."""
        return next((one for one in self.plans if one.id == self.organization.pending_plan_id), None)

    @property
    def monthly_micros(self) -> int:
        return by_source(self.statement.grants, MONTHLY)

    @property
    def bonus_micros(self) -> int:
        return by_source(self.statement.grants, BONUS)

    @property
    def days_left(self) -> int:
        return max(0, (self.statement.balance.period_end - self.statement.now).days)


async def index(visit: Visit) -> Response:
    """Those who manage the organisation see its ledger, others what they used themselves."""
    manages = visit.may("organization.manage")
    await _catch_up(visit)
    booked = await _booked(visit) if manages else {}
    if visit.is_htmx and manages:
        return visit.part("credits/_statement.html", "statement", **booked)
    return visit.page("credits/index.html", facts=await _facts(visit), manages=manages, **booked)


async def left(visit: Visit) -> Response:
    """What stands beside every page."""
    async with visit.state.db.tenant(visit.who.organization_id) as tx:
        found = await credit.left(tx, visit.who.organization_id)
    return visit.part("layout/_credits.html", "left", left=found)


async def _catch_up(visit: Visit) -> None:
    """Has the teller book what is due: whoever looks sees this moment, whether or not a job has run."""
    here = visit.who.organization_id
    async with visit.state.db.tenant(here) as tx:
        due = await credit.is_due(tx, here, visit.now)
    if due:
        await visit.state.teller.do(CatchUp(here))


async def _facts(visit: Visit) -> Facts:
    here, now, db = visit.who.organization_id, visit.now, visit.state.db
    limits = await flow.limits(visit.state.teller, visit.who, ())
    usable = await flow.usable(visit.state.teller, visit.who)
    async with db.tenant(here) as tx:
        organization, statement = await organizations.find(tx, here), await credit.statement(tx, here, now)
        assert organization is not None and statement is not None
        since = statement.balance.period_start.date()
        own = await own_figures.parts(tx, here, visit.who.person_id, min(since, now.date()), now.date())
        return Facts(
            organization, statement, await catalogue.plans(tx), await package.on_sale(tx), usable,
            shown(limits, {}), figures.total(own),
        )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- the statement


async def _booked(visit: Visit) -> dict[str, Any]:
    """A part of the ledger, newest first, narrowed by what the address says."""
    here, form = visit.who.organization_id, asked(visit.request, *_FILTERS, CURSOR)
    wanted = _filter(form)
    async with visit.state.db.tenant(here) as tx:
        found = await credit.transactions(tx, here, wanted, LENGTH, form["cursor"] or None)
        names = await actor.names(tx, here, [f"person:{one.person_id}" for one in found.items if one.person_id])
    types = [("", _("Everything")), *((name, _(label)) for name, label in TYPES.items())]
    return {
        "rows": found.items, "form": form, "types": types, "type_said": type_said, "names": names,
        "ways": Ways.of(HERE, form, found.next_cursor), "narrowed": any(form[one.name] for one in _FILTERS),
    }  # fmt: skip


def type_said(type_: str) -> str:
    return _(TYPES[type_])


def _filter(form: Form) -> Filter:
    """BadRequest for an address that no page of ours gave."""
    if form["type"] and form["type"] not in TYPES:
        raise BadRequest(_("The address of this page names a type that there is not. Choose one of the list."), "type")
    since, until = typed.day_of(form, "since"), typed.end_of_day(form, "until")
    if since and until and since >= until:
        raise BadRequest(_("The first day lies behind the last one. Turn them round."), "since")
    return Filter(form["type"] or None, since, until)


async def export(visit: Visit) -> Response:
    """All of the filter as CSV."""
    wanted = _filter(asked(visit.request, *_FILTERS))
    await _catch_up(visit)
    headers = {"content-disposition": f'attachment; filename="credits-{visit.now:%Y%m%d}.csv"'}
    return StreamingResponse(_lines(visit, wanted), media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(visit: Visit, wanted: Filter) -> AsyncIterator[str]:
    """Some rows at a time; no transaction is open between two parts."""
    here, cursor = visit.who.organization_id, None
    yield sheet.line(COLUMNS)
    while True:
        async with visit.state.db.tenant(here) as tx:
            found = await credit.transactions(tx, here, wanted, EXPORTED_AT_ONCE, cursor)
        yield "".join(map(_line, found.items))
        cursor = found.next_cursor
        if cursor is None:
            return


def _line(row: TransactionRow) -> str:
    amounts = Decimal(row.amount_micros) / MICROS_PER_CREDIT, Decimal(row.balance_after_micros) / MICROS_PER_CREDIT
    return sheet.line((
        row.seq, row.created_at.isoformat(timespec="microseconds"), row.type, *amounts,
        row.model, row.capability, row.quality, row.user, row.note, row.reservation_id,
    ))  # fmt: skip


PAGES = (
    page(HERE, index, needs="credits.use"),
    page(f"{HERE}/left", left, needs="credits.use"),
    page(f"{HERE}/export", export, needs="organization.manage"),
)
