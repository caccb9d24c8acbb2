"""Assistants as the person who uses them sees them: what there is, what is left of it, all about one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from starlette.responses import Response

from tollhouse.core.assistant import Allowance, TokenPeriod
from tollhouse.flows import assistant as flow
from tollhouse.flows.assistant import Card
from tollhouse.web.figure import number
from tollhouse.web.language import N_, _, ngettext
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

HERE = "/account/ai"
PERIODS: dict[TokenPeriod, str] = {"day": N_("a day"), "week": N_("a week"), "month": N_("a month")}
_REACHED: dict[TokenPeriod, str] = {
    "day": N_("Daily limit reached. Resets in %(time)s."),
    "week": N_("Weekly limit reached. Resets in %(time)s."),
    "month": N_("Monthly limit reached. Resets in %(time)s."),
}
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a limit, in words. `level` is the colour of the bar; `badge` and `warning` are there from 80 per
    cent on, `variant` is the badge's."""

    used: int
    limit: int
    percent: int
    level: Literal["good", "near", "full"]
    resets: str
    variant: str | None
    badge: str | None
    warning: str | None

    @property
    def reached(self) -> bool:
        return self.variant == "destructive"


@dataclass(frozen=True, slots=True)
class Shown:
    card: Card
    left: Left | None


async def templates(visit: Visit) -> Response:
    """What can be used comes first."""
    cards = await flow.cards(visit.state.db, visit.who, visit.now)
    found = [shown(visit, card) for card in sorted(cards, key=lambda one: one.offer.state != "open")]
    return visit.page(
        "assistant/templates.html",
        usable=any(one.card.offer.state == "open" for one in found),
        personas=[one for one in found if one.card.offer.assistant.kind == "persona"],
        templates=[one for one in found if one.card.offer.assistant.kind == "template"],
    )


async def preview(visit: Visit) -> Response:
    slug = str(visit.request.path_params["slug"])
    found = await flow.preview(visit.state.db, visit.who, slug, visit.now)
    return visit.page(
        "assistant/preview.html",
        shown=shown(visit, found.card),
        documents=found.documents,
        days=found.days,
        tokens=sum(one.tokens for one in found.days),
        requests=sum(one.requests for one in found.days),
        periods={code: _(said) for code, said in PERIODS.items()},
    )


def shown(visit: Visit, card: Card) -> Shown:
    own_time = visit.now + timedelta(microseconds=visit.who.clock_offset_micros)
    return Shown(card, None if card.allowance is None else left_of(card.allowance, own_time))


# ---------------------------------------------------------------------------------------------------------- in words


def left_of(allowance: Allowance, now: datetime) -> Left:
    """`now` is the organisation's time."""
    percent, time = allowance.percent, wait(allowance.resets_at - now)
    level: Literal["good", "near", "full"] = "good" if percent <= 50 else "near" if percent <= 80 else "full"
    used, limit = thousands(allowance.used), thousands(allowance.limit)
    variant, badge, warning = None, None, None
    match allowance.warned:
        case "approaching":
            warning = _("Approaching token limit (%(used)s/%(limit)s used)", used=used, limit=limit)
            variant, badge = "brass", f"{percent} %"
        case "almost":
            warning = _("Almost at limit! (%(used)s/%(limit)s used)", used=used, limit=limit)
            variant, badge = "warn", f"{percent} %"
        case "reached":
            warning = _(_REACHED[allowance.period], time=time)
            variant, badge = "destructive", _("Limit reached")
    resets = _("Resets in %(time)s", time=time)
    return Left(allowance.used, allowance.limit, percent, level, resets, variant, badge, warning)


def wait(span: timedelta) -> str:
    """A time to wait, in the largest unit that fits: 15 days, 3 hours, 20 minutes."""
    if span >= _DAY:
        return ngettext("%(num)s day", "%(num)s days", round(span / _DAY))
    minutes = max(1, -(-int(span.total_seconds()) // 60))
    if minutes >= 60:
        return ngettext("%(num)s hour", "%(num)s hours", round(minutes / 60))
    return ngettext("%(num)s minute", "%(num)s minutes", minutes)


def thousands(tokens: int) -> str:
    """8000 -> 8K, 9250 -> 9.3K, 1_200_000 -> 1.2M; below a thousand as it is."""
    if tokens < 1_000:
        return number(tokens)
    if tokens < 1_000_000:
        return number(tokens / 1_000, 1) + "K"
    return number(tokens / 1_000_000, 1) + "M"


PAGES = (
    page("/account/ai/templates", templates, needs=SIGNED_IN),
    page("/account/ai/{slug}", preview, needs=SIGNED_IN),
)
