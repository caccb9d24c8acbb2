"""Limits as people read them: what is counted, how much is left, when it begins anew."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tollhouse.core.explain import LimitLeft
from tollhouse.web.figure import compact, credits
from tollhouse.web.language import N_, _

_WHAT: Mapping[tuple[str, str], str] = {
    ("messages", "minute"): N_("Messages in a minute"),
    ("messages", "day"): N_("Messages today"),
    ("messages", "week"): N_("Messages this week"),
    ("messages", "month"): N_("Messages this month"),
    ("messages", "lifetime"): N_("Messages in all"),
    ("tokens", "minute"): N_("Tokens in a minute"),
    ("tokens", "day"): N_("Tokens today"),
    ("tokens", "week"): N_("Tokens this week"),
    ("tokens", "month"): N_("Tokens this month"),
    ("tokens", "lifetime"): N_("Tokens in all"),
    ("credits", "minute"): N_("Credits in a minute"),
    ("credits", "day"): N_("Credits today"),
    ("credits", "week"): N_("Credits this week"),
    ("credits", "month"): N_("Credits this month"),
    ("credits", "lifetime"): N_("Credits in all"),
    ("requests", "minute"): N_("Requests in a minute"),
    ("requests", "day"): N_("Requests today"),
    ("trial_messages", "lifetime"): N_("Trial messages"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A limit in words. `taken` counts what running calls hold too; `shared`: by everybody in the organisation."""

    what: str
    taken: int
    limit: int
    left_said: str
    limit_said: str
    resets_at: datetime | None
    lasting: bool
    shared: bool


def shown(limits: Iterable[LimitLeft], names: Mapping[str, str]) -> list[Shown]:
    """Those of every call first, then those of single models, which `names` has the names of."""
    return [_shown(one, names) for one in sorted(limits, key=lambda one: one.model_id is not None)]


def _shown(one: LimitLeft, names: Mapping[str, str]) -> Shown:
    said = credits if one.meter == "credits" else compact
    what = _(_WHAT[one.meter, one.period])
    if one.model_id is not None:
        what = _("%(what)s: %(model)s", what=what, model=names.get(one.model_id, one.model_id))
    return Shown(
        what, one.limit - one.remaining, one.limit, said(one.remaining), said(one.limit), one.resets_at,
        one.period == "lifetime", one.scope == "organization",
    )  # fmt: skip
