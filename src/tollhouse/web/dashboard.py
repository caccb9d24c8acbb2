"""What somebody used themselves: by day, model and assistant; what limits leave; how models answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from uuid import UUID

from starlette.responses import Response

from tollhouse.core import figures
from tollhouse.core.cursor import cursor_of, place_in
from tollhouse.core.errors import BadRequest
from tollhouse.core.figures import Part, Sum
from tollhouse.core.money import MICROS_PER_CREDIT, NANOS_PER_USD
from tollhouse.core.own_model import PREFIX
from tollhouse.flows import figures as flow
from tollhouse.store import figures as store
from tollhouse.store.figures import OfAssistant
from tollhouse.web.figure import short_day
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _
from tollhouse.web.limit import shown
from tollhouse.web.listing import CURSOR, Ways, address, asked
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

HERE = "/dashboard"
RANGES = (7, 30, 90)
USUAL = 30
# Of so many models a chart tells the days apart; all others are one.
SERIES_MAX = 4
CALLS = 10
# What the chart may show, and what it is called.
SHOWN = {"messages": N_("Messages"), "credits": N_("Credits"), "tokens": N_("Tokens"), "cost": N_("Cost")}
# As Intl.NumberFormat takes it.
_FORMATS: Mapping[str, Mapping[str, object]] = {
    "messages": {},
    "credits": {"maximumFractionDigits": 2},
    "tokens": {"notation": "compact"},
    "cost": {"style": "currency", "currency": "USD", "maximumFractionDigits": 4},
}
_FIELDS = (Field("days", required=False, most=3), Field("show", required=False, most=10), CURSOR)


@dataclass(frozen=True, slots=True)
class Used:
    """What one person used of so many days; `days` are these, the last is today. `names` of models by their ids."""

    days: Sequence[date]
    parts: Sequence[Part]
    names: Mapping[str, str]

    @property
    def by_day(self) -> dict[date, Sum]:
        return figures.by_day(self.parts, self.days)

    @property
    def total(self) -> Sum:
        return figures.total(self.parts)

    @property
    def today(self) -> Sum:
        return self.by_day[self.days[-1]]

    @property
    def yesterday(self) -> Sum:
        return self.by_day[self.days[-2]]

    def named(self, model_id: str | None) -> str:
        """None: all those that have no name of their own in a chart."""
        if model_id is None:
            return _("Others")
        if model_id.startswith(PREFIX) and model_id not in self.names:
            return _("A model of your own that is no more")
        return self.names.get(model_id, model_id) or _("Without a model")


async def index(visit: Visit) -> Response:
    """The sums of a time, and the last calls; which, says the address."""
    form = asked(visit.request, *_FIELDS)
    span, show, before = _span(form), _show(form), _place(form[CURSOR.name])
    used = await _used(visit, span)
    limits = await flow.limits(visit.state.teller, visit.who, figures.by_model(used.parts))
    here, who, since = visit.who.organization_id, visit.who.person_id, used.days[0]
    async with visit.state.db.tenant(here) as tx:
        assistants = await store.of_assistants(tx, here, who, since)
        answers, rated = await store.answers(tx, here, who, since), await store.ratings(tx, here, who, since)
        found = await store.calls(tx, here, who, CALLS + 1, before)
    last = found[CALLS - 1] if len(found) > CALLS else None
    following = cursor_of("call", f"{last.recorded_at.isoformat()}/{last.id}") if last is not None else None
    return visit.page(
        "dashboard/index.html", used=used, limits=shown(limits, used.names), span=span, show=show,
        models=[(used.named(id_), sum_) for id_, sum_ in figures.by_model(used.parts).items()],
        assistants=[(_assistant(one), one.sum) for one in assistants], answers=answers, rated=rated,
        days=[(_midnight(day), sum_) for day, sum_ in reversed(used.by_day.items())],
        sample=store.SAMPLE, chart=chart(used, show), calls=found[:CALLS], ways=Ways.of(HERE, form, following),
        ranges=[(one, address(HERE, days=str(one), show=form["show"])) for one in RANGES],
        shows=[(one, _(label), address(HERE, days=form["days"], show=one)) for one, label in SHOWN.items()],
    )  # fmt: skip


async def today(visit: Visit) -> Response:
    """What changes while somebody works, for a page that is open."""
    used = await _used(visit, _span(asked(visit.request, *_FIELDS)))
    limits = await flow.limits(visit.state.teller, visit.who, figures.by_model(used.parts))
    return visit.part(
        "dashboard/_today.html", "today", used=used, limits=shown(limits, used.names), span=len(used.days)
    )


def _span(form: Form) -> int:
    """Of how many days. BadRequest for an address that no page of ours gave."""
    if not form["days"]:
        return USUAL
    if form["days"] not in map(str, RANGES):
        raise BadRequest(_("The address of this page names a time that there is not. Choose one of the page."), "days")
    return int(form["days"])


def _show(form: Form) -> str:
    """Which figure the chart shows; the same."""
    show = form["show"] or "messages"
    if show not in SHOWN:
        raise BadRequest(_("The address of this page names a figure that there is not. Choose one of it."), "show")
    return show


async def _used(visit: Visit, count: int) -> Used:
    here = visit.who.organization_id
    days = figures.days_until(visit.now.astimezone(UTC).date(), count)
    async with visit.state.db.tenant(here) as tx:
        parts = await store.parts(tx, here, visit.who.person_id, days[0], days[-1])
        return Used(days, parts, await store.model_names(tx, here))


def _assistant(one: OfAssistant) -> str:
    if one.assistant_id is not None:
        return one.name or _("An assistant that is no more")
    return _("Chats without an assistant") if one.in_chat else _("Outside of chats")


def _place(cursor: str) -> tuple[datetime, UUID] | None:
    """Where the page before ended. BadRequest for a cursor that no page gave."""
    if not cursor:
        return None
    at, _slash, id_ = place_in("call", cursor).partition("/")
    try:
        moment, last = datetime.fromisoformat(at), UUID(id_)
    except ValueError:
        moment, last = datetime.min, UUID(int=0)
    if moment.tzinfo is None:
        raise BadRequest(_("This cursor is none that a page gave. Begin again without one."), "cursor")
    return moment, last


# ------------------------------------------------------------------------------------------------------------ the chart


def chart(used: Used, show: str) -> dict[str, object]:
    """What figures.js draws: the labels of the days, and for each model its value of each day."""
    series = figures.stacked(used.parts, used.days, SERIES_MAX)
    return {
        "labels": [short_day(_midnight(one)) for one in used.days],
        "series": [{"label": used.named(id_), "values": [value_of(one, show) for one in sums]} for id_, sums in series],
        "format": _FORMATS[show],
    }


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def value_of(sum_: Sum, show: str) -> float:
    match show:
        case "messages":
            return sum_.messages
        case "credits":
            return sum_.charged_micros / MICROS_PER_CREDIT
        case "tokens":
            return sum_.tokens
        case _:
            return sum_.cost_nanos / NANOS_PER_USD


PAGES = (
    page(HERE, index, needs=SIGNED_IN),
    page(f"{HERE}/today", today, needs=SIGNED_IN),
)
