"""What operators say that models cost, and what a dollar of cost is worth in credits. Versions are added and never
changed; every call writes a row of the audit log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from tollhouse.api.body import Body, Moment, Note, OptionalIdempotencyKey, PositiveCredits, StrictRoute, Word, body_hash
from tollhouse.api.caller import Operator
from tollhouse.api.state import Shared
from tollhouse.core.errors import BadRequest
from tollhouse.core.money import MICROS_PER_CREDIT, format_credits, format_usd, parse_usd
from tollhouse.core.pricebook import format_factor, parse_factor
from tollhouse.flows import price as flow
from tollhouse.flows.once import Done, Once, Result
from tollhouse.store.price import PriceVersion, RateVersion

router = APIRouter(prefix="/api/operator", tags=["operator"], route_class=StrictRoute)

CREDITS_PER_USD_MAX = 100_000
MARKUP_MAX, MULTIPLIER_MAX = 10, 100


def _usd(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError('must be a decimal string such as "0.15": JSON numbers lose digits')
    return parse_usd(value)


def _factor(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError('must be a decimal string such as "1.25": JSON numbers lose digits')
    return parse_factor(value)


def _worth(micros: int) -> int:
    if micros > CREDITS_PER_USD_MAX * MICROS_PER_CREDIT:
        raise ValueError(f"must be at most {CREDITS_PER_USD_MAX}")
    return micros


def _markup(permille: int) -> int:
    if not 0 < permille <= MARKUP_MAX * 1_000:
        raise ValueError(f'must be more than 0 and at most {MARKUP_MAX}; "1" charges what a call cost')
    return permille


def _share(permille: int) -> int:
    if permille > 1_000:
        raise ValueError('must be at most "1", which is all of the charge')
    return permille


def _multiplier(permille: int) -> int:
    if not 0 < permille <= MULTIPLIER_MAX * 1_000:
        raise ValueError(f"must be more than 0 and at most {MULTIPLIER_MAX}")
    return permille


_AsUsd = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,5}(\.[0-9]{1,9})?$", "examples": ["0.15"]})
_AsFactor = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3})?$", "examples": ["1.25"]})
Usd = Annotated[int, BeforeValidator(_usd), _AsUsd]
Worth = Annotated[PositiveCredits, AfterValidator(_worth)]
Markup = Annotated[int, BeforeValidator(_factor), AfterValidator(_markup), _AsFactor]
Share = Annotated[int, BeforeValidator(_factor), AfterValidator(_share), _AsFactor]
Multiplier = Annotated[int, BeforeValidator(_factor), AfterValidator(_multiplier), _AsFactor]


class NewPriceBody(Body):
    """US dollars per million tokens, and per request. Without `effective_from` it holds from the next call on; it can't
    lie in the past. Cached input and what is written to the provider's cache cost what other input costs, and reasoning
    what other output costs, unless this says otherwise. A model that costs nothing is `free`, without prices."""

    effective_from: Moment | None = None
    free: bool = False
    input_per_million: Usd | None = None
    cached_input_per_million: Usd | None = None
    output_per_million: Usd | None = None
    reasoning_per_million: Usd | None = None
    cache_write_per_million: Usd | None = None
    per_request: Usd | None = None
    note: Note | None = None

    def wanted(self) -> flow.NewPrice:
        """BadRequest when a price is missing that every model has, and this one is not free."""
        for name in ("input_per_million", "output_per_million"):
            if not self.free and getattr(self, name) is None:
                raise BadRequest(f'Say {name}; a model that costs nothing needs "free": true instead.', name)
        return flow.NewPrice(
            effective_from=self.effective_from,
            free=self.free,
            input_nanos_per_million=self.input_per_million or 0,
            cached_input_nanos_per_million=self.cached_input_per_million,
            output_nanos_per_million=self.output_per_million or 0,
            request_nanos=self.per_request or 0,
            reasoning_nanos_per_million=self.reasoning_per_million,
            cache_write_nanos_per_million=self.cache_write_per_million,
            note=self.note or "",
        )


class NewRateCardBody(Body):
    """Without `effective_from` it holds from the next call on; it can't lie in the past. `markup`: what is charged for
    a dollar of cost, in dollars. Shares are of the charge: what is taken of it when a call went over the organisation's
    own connection, or was answered from its cache. `multipliers`: of quality levels; one that is not named keeps its
    own."""

    effective_from: Moment | None = None
    credits_per_usd: Worth
    markup: Markup = Field(default="1", validate_default=True)
    own_key_share: Share = Field(default="0", validate_default=True)
    cache_hit_share: Share = Field(default="0.1", validate_default=True)
    multipliers: Annotated[dict[Word, Multiplier], Field(max_length=50)] = Field(default_factory=dict)
    note: Note | None = None

    def wanted(self) -> flow.NewRateCard:
        return flow.NewRateCard(
            effective_from=self.effective_from,
            micros_per_usd=self.credits_per_usd,
            markup_permille=self.markup,
            own_key_permille=self.own_key_share,
            cache_hit_permille=self.cache_hit_share,
            multipliers=dict(self.multipliers),
            note=self.note or "",
        )


class PriceView(BaseModel):
    """US dollars per million tokens, and per request. Null: as other output, or as other input. `source` is seed,
    operator or import."""

    model: str
    version: int
    effective_from: datetime
    free: bool
    input_per_million: str
    cached_input_per_million: str
    output_per_million: str
    reasoning_per_million: str | None
    cache_write_per_million: str | None
    per_request: str
    source: str
    note: str

    @classmethod
    def of(cls, row: PriceVersion) -> Self:
        price = row.price
        reasoning, written = price.reasoning_nanos_per_million, price.cache_write_nanos_per_million
        return cls(
            model=price.model_id,
            version=price.version,
            effective_from=price.effective_from,
            free=price.free,
            input_per_million=format_usd(price.input_nanos_per_million),
            cached_input_per_million=format_usd(price.cached_input_nanos_per_million),
            output_per_million=format_usd(price.output_nanos_per_million),
            reasoning_per_million=None if reasoning is None else format_usd(reasoning),
            cache_write_per_million=None if written is None else format_usd(written),
            per_request=format_usd(price.request_nanos),
            source=row.source,
            note=row.note,
        )


class PricesView(BaseModel):
    """`in_force`: the version that a call would be charged by now; null: none yet, so that calls are refused."""

    in_force: int | None
    items: list[PriceView]


class RateCardView(BaseModel):
    version: int
    effective_from: datetime
    credits_per_usd: str
    markup: str
    own_key_share: str
    cache_hit_share: str
    multipliers: dict[str, str]
    note: str

    @classmethod
    def of(cls, row: RateVersion) -> Self:
        card = row.card
        return cls(
            version=card.version,
            effective_from=card.effective_from,
            credits_per_usd=format_credits(card.micros_per_usd),
            markup=format_factor(card.markup_permille),
            own_key_share=format_factor(card.own_key_permille),
            cache_hit_share=format_factor(card.cache_hit_permille),
            multipliers={name: format_factor(permille) for name, permille in card.multipliers.items()},
            note=row.note,
        )


class RateCardsView(BaseModel):
    """`in_force`: the version that a call would be charged by now."""

    in_force: int | None
    items: list[RateCardView]


@router.get("/models/{model_id}/prices", summary="All versions of a model's price, the latest first")
async def read_prices(state: Shared, order: Operator, model_id: str) -> PricesView:
    found = await flow.read_prices(state.db, order, model_id)
    begun = _in_force(order.now, [(one.price.effective_from, one.price.version) for one in found])
    return PricesView(in_force=begun, items=[PriceView.of(one) for one in found])


@router.post(
    "/models/{model_id}/prices", status_code=201, summary="Say what a model costs from now on, or from later on"
)
async def add_price(
    state: Shared,
    order: Operator,
    model_id: str,
    body: NewPriceBody,
    response: Response,
    key: OptionalIdempotencyKey = None,
) -> PriceView:
    once = _once(f"POST /api/operator/models/{model_id}/prices", key, body)
    return PriceView.of(_told(response, await flow.add_price(state.db, order, model_id, body.wanted(), once)))


@router.get("/rate-cards", summary="All rate cards, the latest first")
async def read_rate_cards(state: Shared, order: Operator) -> RateCardsView:
    found = await flow.read_rate_cards(state.db, order)
    begun = _in_force(order.now, [(one.card.effective_from, one.card.version) for one in found])
    return RateCardsView(in_force=begun, items=[RateCardView.of(one) for one in found])


@router.post("/rate-cards", status_code=201, summary="Say what a dollar of cost is worth from now on, or from later on")
async def add_rate_card(
    state: Shared, order: Operator, body: NewRateCardBody, response: Response, key: OptionalIdempotencyKey = None
) -> RateCardView:
    once = _once("POST /api/operator/rate-cards", key, body)
    return RateCardView.of(_told(response, await flow.add_rate_card(state.db, order, body.wanted(), once)))


def _once(endpoint: str, key: str | None, body: Body) -> Once | None:
    return None if key is None else Once(endpoint, key, body_hash(body))


def _told(response: Response, done: Done[Result]) -> Result:
    """The result, or its refusal raised; a header tells when it is that of an earlier request."""
    if done.replayed:
        response.headers["idempotent-replayed"] = "true"
    return done.result()


def _in_force(now: datetime, latest_first: Sequence[tuple[datetime, int]]) -> int | None:
    return next((version for begins, version in latest_first if begins <= now), None)
