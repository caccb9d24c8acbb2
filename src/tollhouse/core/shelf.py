"""The models that somebody may choose among, each as it stands for them: what would be decided if they asked it now.

The rules are those of core/admission.py, run on the same facts; nothing is taken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar
from uuid import UUID

from tollhouse.core.admission import weigh
from tollhouse.core.ask import AUTO, Ask, Facts
from tollhouse.core.catalogue import Plan
from tollhouse.core.choice import unlocked
from tollhouse.core.complexity import Level, Shape
from tollhouse.core.credit import Account
from tollhouse.core.errors import TollhouseError
from tollhouse.core.explain import LimitLeft, explain
from tollhouse.core.limits import Takes, counters_of, takes_of
from tollhouse.core.own_model import OwnModel
from tollhouse.core.period import start_of
from tollhouse.core.preference import Preferences
from tollhouse.core.quota import Counter, Windows
from tollhouse.core.rate import Rates
from tollhouse.core.refusals import InsufficientCredits, LimitExceeded, ModelLocked, TrialExpired
from tollhouse.core.routing import Model
from tollhouse.core.selection import Selected, is_selectable

State = Literal["free", "unlocked", "trial", "trial_exhausted", "locked", "limit_hit", "unavailable"]
Name = TypeVar("Name", bound=str)
# Questions that are judged as of each level (core/complexity.py).
SHAPES: Mapping[Level, Shape] = {
    "simple": Shape(100),
    "moderate": Shape(2_000),
    "complex": Shape(8_000, reasoning_words=3),
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a model is like, to choose by, as the catalogue has it; None and empty where it says nothing. `provider` is
    its name; `cost_per_1m_tokens` in dollars, and informs only."""

    description: str
    provider: str
    speed: str | None
    quality: str | None
    context_window: int
    cost_per_1m_tokens: float | None
    best_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model as it stands for somebody. `limit_hit`: a limit, or the credits; `unavailable`: nobody could use it here,
    `refusal` says why. `used_today` counts messages that are being answered too; `limit_today` None: no limit of this
    model's alone. `trial_remaining` None: a free model. `most_micros`: what a short question may take at most, with as
    long an answer as the plan allows; None: it cannot be reckoned."""

    model: Model
    metadata: Metadata
    state: State
    unlocked: bool
    price_cents: int | None
    trial_remaining: int | None
    trial_total: int
    used_today: int
    limit_today: int | None
    resets_at: datetime
    refusal: TollhouseError | None
    most_micros: int | None

    @property
    def usable(self) -> bool:
        """Whether it would answer now."""
        return self.refusal is None

    @property
    def lasting(self) -> bool:
        """Whether it may be a default: a trial ends."""
        return self.unlocked


@dataclass(frozen=True, slots=True)
class Auto:
    """`by_level`: which model would answer a question of each level, None where none would; `refusal` why none answers
    a simple one."""

    by_level: Mapping[Level, Model | None]
    refusal: TollhouseError | None


@dataclass(frozen=True, slots=True)
class Shelf:
    """`models` in the order in which they are shown; `own` are those of one's own. `selected`: what answers when
    nothing is chosen in a chat. `limits` bind whatever model is asked. `system_default` None: there is none that may
    be chosen."""

    now: datetime
    plan: Plan
    models: tuple[ModelState, ...]
    own: tuple[OwnModel, ...]
    auto: Auto
    limits: tuple[LimitLeft, ...]
    preferences: Preferences
    selected: Selected
    system_default: str | None

    @property
    def free(self) -> list[ModelState]:
        return [one for one in self.models if one.model.tier == "free"]

    @property
    def premium(self) -> list[ModelState]:
        return [one for one in self.models if one.model.tier == "premium"]

    def find(self, model_id: str | None) -> ModelState | None:
        return next((one for one in self.models if one.model.id == model_id), None)

    def name_of(self, model_id: str) -> str:
        """How a model, `auto` or a model of one's own is called; its id for one that is not on the shelf."""
        names = {one.model_id: one.name for one in self.own} | {AUTO: "Auto"}
        found = self.find(model_id)
        return names.get(model_id, model_id) if found is None else found.model.display_name


@dataclass(frozen=True, slots=True)
class Question:
    """An ask of one model, with what it would take."""

    ask: Ask
    takes: Takes


def models_of(facts: Facts) -> list[Model]:
    """Those that may be chosen to chat, in the order in which they are shown."""
    models = facts.catalogue.models
    return [model for model in models.values() if is_selectable(model.id, models)]


def questions(ask_for: Mapping[Name, Ask], facts: Facts) -> dict[Name, Question]:
    return {id_: Question(ask, takes_of(ask, facts)) for id_, ask in ask_for.items()}


def windows_of(asked: Iterable[Question], facts: Facts) -> set[UUID]:
    """The windows that must be known to say how these stand, used up trials among them."""
    found: set[UUID] = set()
    for one in asked:
        found |= {take.counter.window_id for takes in one.takes.each for take in takes.windows}
        found |= {about.window_id for about in counters_of(one.ask, facts.catalogue, facts.now)}
    return found


def rates_of(asked: Iterable[Question]) -> set[UUID]:
    return {take.rate_id for one in asked for takes in one.takes.each for take in takes.rates}


def model_states(
    asked: Mapping[str, Question],
    facts: Facts,
    metadata: Mapping[str, Metadata],
    account: Account,
    windows: Windows,
    rates: Rates,
) -> tuple[ModelState, ...]:
    """How each model stands, in the order of `asked`; those that have come to the catalogue meanwhile are left out."""
    return tuple(
        _state(one, facts.catalogue.models[id_], facts, metadata[id_], account, windows, rates)
        for id_, one in asked.items()
        if id_ in metadata
    )


def auto_of(
    asked: Mapping[Level, Question], facts: Facts, account: Account, windows: Windows, rates: Rates
) -> tuple[Auto, tuple[LimitLeft, ...]]:
    """What `auto` would do, and the limits that bind whatever model is asked."""
    found = {
        level: explain(one.ask, facts, one.takes, account, windows, rates) for level, one in asked.items()
    }  # fmt: skip
    models = facts.catalogue.models
    by_level = {level: models.get(one.model_id or "") for level, one in found.items()}
    simple = found["simple"]
    return Auto(by_level, simple.refusal), tuple(one for one in simple.limits if one.model_id is None)


def _state(
    one: Question, model: Model, facts: Facts, metadata: Metadata, account: Account, windows: Windows, rates: Rates
) -> ModelState:
    refusal, most = None, None
    try:
        most = weigh(one.ask, facts, one.takes, account, windows, rates).amount_micros
    except TollhouseError as found:
        refusal = found
    is_unlocked = unlocked(model, facts)
    used, limit = _today(one, model, facts, windows)
    return ModelState(
        model=model,
        metadata=metadata,
        state=_state_of(refusal, model, is_unlocked),
        unlocked=is_unlocked,
        price_cents=model.price_cents,
        trial_remaining=_trial_left(one.ask, model, facts, windows),
        trial_total=model.trial_messages,
        used_today=used,
        limit_today=limit,
        resets_at=start_of("day", facts.now) + timedelta(days=1),
        refusal=refusal,
        most_micros=most,
    )


def _state_of(refusal: TollhouseError | None, model: Model, is_unlocked: bool) -> State:
    match refusal:
        case None if model.tier == "free":
            return "free"
        case None:
            return "unlocked" if is_unlocked else "trial"
        case ModelLocked():
            return "locked"
        case TrialExpired():
            return "trial_exhausted"
        case LimitExceeded() | InsufficientCredits():
            return "limit_hit"
        case _:
            return "unavailable"


def _today(one: Question, model: Model, facts: Facts, windows: Windows) -> tuple[int, int | None]:
    """Messages of this model today, and the limit that has least left of those that are of this model alone."""
    tightest: tuple[int, int] | None = None
    for take in one.takes.windows:
        about = take.counter
        if (about.meter, about.period, about.model_id) != ("messages", "day", model.id) or take.maximum is None:
            continue
        used = _taken(windows, about)
        if tightest is None or take.maximum - used < tightest[1] - tightest[0]:
            tightest = used, take.maximum
    if tightest is not None:
        return tightest
    return sum(_taken(windows, about) for about in _counters(one.ask, facts, "messages") if about.model_id), None


def _trial_left(ask: Ask, model: Model, facts: Facts, windows: Windows) -> int | None:
    for about in _counters(ask, facts, "trial_messages"):
        return max(0, model.trial_messages - _taken(windows, about))
    return None


def _counters(ask: Ask, facts: Facts, meter: str) -> list[Counter]:
    return [about for about in counters_of(ask, facts.catalogue, facts.now) if about.meter == meter]


def _taken(windows: Windows, about: Counter) -> int:
    window = windows.by_id.get(about.window_id)
    return window.used + window.reserved if window is not None else 0
