"""What is the same for every tenant: plans, models, prices, capabilities. Read whole, at one version."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from tollhouse.core.experiment import Experiment
from tollhouse.core.key import Mode
from tollhouse.core.own_model import own_model_id, own_price
from tollhouse.core.price import Price, Quote, RateCard
from tollhouse.core.routing import Connections, Model, Route, routes_of


@dataclass(frozen=True, slots=True)
class Plan:
    """`price_cents` a month; None: on request."""

    id: str
    name: str
    rank: int
    monthly_credits_micros: int
    welcome_bonus_micros: int
    monthly_tokens: int | None
    daily_messages: int | None
    max_output_tokens: int
    charged_channels: frozenset[str]
    price_cents: int | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    id: str
    name: str
    display_order: int
    multiplier_permille: int


@dataclass(frozen=True, slots=True)
class Capability:
    """`estimated_micros` is what one use takes at a multiplier of 1. The schemas are JSON schemas of what goes in and
    what comes out; without instructions it can be reserved for, but not run here."""

    id: str
    name: str
    description: str
    estimated_micros: int
    is_active: bool
    instructions: str
    input_schema: dict[str, Any] | None
    answer_schema: dict[str, Any] | None
    max_output_tokens: int

    def estimate_micros(self, quality: Quality) -> int:
        return -(-self.estimated_micros * quality.multiplier_permille // 1000)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a plan offers of one capability; `levels` by quality, each with its models in the order in which they are
    asked. Requests None: unlimited."""

    capability_id: str
    requests_per_minute: int | None
    requests_per_day: int | None
    levels: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Prices and rate cards newest first, qualities lowest first, plans by rank, models in the order in which they are
    shown. `offers` are what each plan says of its own, by plan and capability; `own_connections` are those of
    organisations; `experiments` are those that have not ended, earliest first."""

    version: int
    plans: Mapping[str, Plan]
    models: Mapping[str, Model]
    prices: Mapping[str, tuple[Price, ...]]
    rates: tuple[RateCard, ...]
    connections: Connections  # of the platform
    qualities: Mapping[str, Quality] = field(default_factory=dict)
    capabilities: Mapping[str, Capability] = field(default_factory=dict)
    offers: Mapping[str, Mapping[str, Offer]] = field(default_factory=dict)
    own_connections: Mapping[UUID, Connections] = field(default_factory=dict)
    experiments: tuple[Experiment, ...] = ()
    default: Model | None = field(init=False, default=None, compare=False)  # of the system: asked last of all
    _routes: dict[tuple[str, Mode, Mode, UUID | None], tuple[Route, ...]] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )
    _quotes: dict[tuple[str, int, int, int, bool], Quote] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        found = next((model for model in self.models.values() if model.is_default), None)
        object.__setattr__(self, "default", found)

    def price_at(self, model_id: str, now: datetime) -> Price | None:
        for price in self.prices.get(model_id, ()):
            if price.effective_from <= now:
                return price
        return None if own_model_id(model_id) is None else own_price(model_id)

    def price_of(self, model_id: str, version: int | None) -> Price:
        """The price that a call began with. RuntimeError when it is gone: the books are damaged."""
        for price in self.prices.get(model_id, ()):
            if price.version == version:
                return price
        if own_model_id(model_id) is None:
            raise RuntimeError(f"version {version} of the price of {model_id} is gone, with which a call began")
        return own_price(model_id)

    def rate_at(self, now: datetime) -> RateCard | None:
        for rate in self.rates:
            if rate.effective_from <= now:
                return rate
        return None

    def quote(self, model_id: str, now: datetime, multiplier_permille: int, charged: bool) -> Quote | None:
        """The terms in force at `now`, None without a price or a rate."""
        price, rate = self.price_at(model_id, now), self.rate_at(now)
        if price is None or rate is None:
            return None
        about = model_id, price.version, rate.version, multiplier_permille, charged
        found = self._quotes.get(about)
        if found is None:
            found = self._quotes[about] = Quote(price, rate, multiplier_permille, charged)
        return found

    def routes(self, model: Model, organization_id: UUID, key_mode: Mode, installation: Mode) -> tuple[Route, ...]:
        """Every way to the model, the first to be tried first. They are the same for as long as the catalogue is."""
        own = self.own_connections.get(organization_id)
        about = model.id, key_mode, installation, organization_id if own else None
        found = self._routes.get(about)
        if found is None:
            found = routes_of(model, key_mode, installation, own or {}, self.connections)
            self._routes[about] = found
        return found

    def quality_at(self, quality_id: str, now: datetime) -> Quality:
        """The quality with the multiplier in force: the rate card's, where it names one."""
        quality, rate = self.qualities[quality_id], self.rate_at(now)
        multiplier = rate.multipliers.get(quality_id) if rate is not None else None
        return quality if multiplier is None else replace(quality, multiplier_permille=multiplier)

    def offer(self, plan: Plan, capability_id: str) -> Offer | None:
        """What the plan offers of the capability."""
        plan_id = self.speaks_for(plan)
        return None if plan_id is None else self.offers[plan_id].get(capability_id)

    def speaks_for(self, plan: Plan) -> str | None:
        """The plan whose offers this one has: its own, or if it says nothing about any capability, those of the next
        lower plan that does."""
        speaking = [one for one in self.plans.values() if one.rank <= plan.rank and one.id in self.offers]
        return max(speaking, key=lambda one: one.rank).id if speaking else None

    def lowest_plan_with(self, capability_id: str, quality_id: str | None, above: Plan) -> Plan | None:
        """The lowest plan above this one that offers the capability, at this quality when one is named."""
        for plan in sorted(self.plans.values(), key=lambda one: one.rank):
            if plan.rank <= above.rank:
                continue
            offer = self.offer(plan, capability_id)
            if offer is not None and (quality_id is None or quality_id in offer.levels):
                return plan
        return None
