"""The cast of the core's tests: a noon, an organisation, and things of hers with nothing remarkable about them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tollhouse.core.ask import Ask, CallWant, CapabilityWant, Credential, CreditsWant, Facts, KeyFacts, Size
from tollhouse.core.catalogue import Capability, Catalogue, Offer, Plan, Quality
from tollhouse.core.credit import PRIORITY, Account, Balance, Grant, Source
from tollhouse.core.period import month_containing
from tollhouse.core.price import Price, Quote, RateCard, Usage
from tollhouse.core.routing import PLATFORM_ID, Connection, Model

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CREDIT = 1_000_000
ORGANIZATION, SOMEBODY, KEY = UUID(int=1), UUID(int=2), UUID(int=3)


def grant(number: int, micros: int, source: Source = "topup", **changes: Any) -> Grant:
    """An open grant of so many micro-credits."""
    plain = Grant(
        id=UUID(int=number),
        source=source,
        priority=PRIORITY[source],
        paid=source == "topup",
        amount_micros=micros,
        remaining_micros=micros,
        reserved_micros=0,
        active=True,
        effective_at=NOON - DAY,
        expires_at=None,
        period_start=None,
        plan_id=None,
        created_at=NOON - DAY,
    )
    return replace(plain, **changes)


def account(*grants: Grant, overdraft_limit_micros: int = 0) -> Account:
    """The account that got these grants, nothing spent yet."""
    period = month_containing(NOON, ANCHOR)
    balance = Balance(
        ORGANIZATION, 0, 0, 0, overdraft_limit_micros, 0, 0, 0, period.start, period.end, next_due_at=period.end
    )
    made = Account(balance, {})
    for one in grants:
        made.add(one, NOON, "somebody")
    return made


def price(**changes: Any) -> Price:
    """0.50 dollars for a million tokens of input, 1.50 for output."""
    return replace(Price("small", 1, ANCHOR, False, 500_000_000, 250_000_000, 1_500_000_000, 0), **changes)


RATE = RateCard(1, ANCHOR, 100 * CREDIT)


def quote(**changes: Any) -> Quote:
    return replace(Quote(price(), RATE), **changes)


def plan(**changes: Any) -> Plan:
    usual = Plan("pro", "Pro", 40, 500 * CREDIT, 0, None, None, 8_192, frozenset({"api", "capability"}))
    return replace(usual, **changes)


def model(**changes: Any) -> Model:
    usual = Model("small", "sandbox", "small-1", "Small", True, True, "free", None, None, 0, 16_384, ANCHOR)
    return replace(usual, **changes)


def premium(**changes: Any) -> Model:
    return model(**{"id": "large", "tier": "premium", "price_cents": 299, "trial_messages": 2} | changes)


def connection(**changes: Any) -> Connection:
    return replace(Connection(PLATFORM_ID, UUID(int=50), "openai", "openai", "http://127.0.0.1:1/v1", None), **changes)


def catalogue(**changes: Any) -> Catalogue:
    """Knows the model `small`, free to use, and the premium model `large`."""
    models = {one.id: one for one in (model(), premium())}
    prices = {"small": (price(),), "large": (price(model_id="large"),)}
    return replace(Catalogue(1, {"pro": plan()}, models, prices, (RATE,), {}), **changes)


def key(**changes: Any) -> KeyFacts:
    return replace(KeyFacts(frozenset({"gateway"}), "test", None, None), **changes)


def facts(**changes: Any) -> Facts:
    return replace(Facts(NOON, plan(), False, key(), frozenset(), catalogue(), "test"), **changes)


def call(
    model_id: str = "small",
    input_tokens: int = 1_000,
    output_tokens: int | None = 100,
    sandbox_tokens: int | None = None,
    answers: int = 1,
) -> CallWant:
    return CallWant(model_id, Size(input_tokens, output_tokens, sandbox_tokens), answers)


def ask(want: CallWant | CapabilityWant | CreditsWant | None = None, **changes: Any) -> Ask:
    """For a call of `small`, 1,000 tokens in and 100 out, if nothing else is said; with `subject_id`, `credential`,
    `channel` or `needs` of another, the rest is about the call."""
    about = {name: changes.pop(name) for name in ("subject_id", "credential", "channel", "needs") if name in changes}
    usual = Ask(
        ORGANIZATION, Credential("key", KEY), SOMEBODY, "api", want or call(**changes), needs=frozenset({"gateway"})
    )
    return replace(usual, **about)


QUALITIES = {
    one.id: one
    for one in (
        Quality("fast", "Fast", 1, 1_000),
        Quality("enhanced", "Enhanced", 2, 2_000),
        Quality("premium", "Premium", 3, 4_000),
    )
}


def capability(**changes: Any) -> Capability:
    """A use takes one and a half credits at the lowest quality."""
    return replace(Capability("drawing", "Drawing", "Draws.", 1_500_000, True, "", None, None, 500), **changes)


def offer(*levels: str, a_minute: int | None = None, a_day: int | None = None) -> Offer:
    """Drawing at these levels, each with the model `small` before `large`."""
    return Offer("drawing", a_minute, a_day, dict.fromkeys(levels, ("small", "large")))


def studio(**changes: Any) -> Catalogue:
    """Six plans. Free offers drawing when it is fast, 2 a minute and 5 a day; pro also enhanced, 30 a minute and 500 a
    day; team without any limit."""
    ranks = {"free": 10, "starter": 20, "basic": 30, "pro": 40, "team": 50, "enterprise": 60}
    plans = {id_: plan(id=id_, name=id_, rank=rank, price_cents=100 * rank) for id_, rank in ranks.items()}
    offers = {
        "free": {"drawing": offer("fast", a_minute=2, a_day=5)},
        "pro": {"drawing": offer("fast", "enhanced", a_minute=30, a_day=500)},
        "team": {"drawing": offer("fast", "enhanced", "premium")},
    }
    capabilities = {"drawing": capability()}
    return catalogue(
        **{"plans": plans, "qualities": QUALITIES, "capabilities": capabilities, "offers": offers} | changes
    )


moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
_rates = st.integers(0, 10**12)
prices = st.builds(
    Price,
    st.just("small"), st.just(1), st.just(ANCHOR), st.just(False), _rates, _rates, _rates, st.integers(0, 10**9),
)  # fmt: skip
quotes = st.builds(Quote, prices, st.builds(RateCard, st.just(1), st.just(ANCHOR), st.integers(1, 10**12)),
                   st.integers(1, 10_000))  # fmt: skip


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    given = draw(st.integers(0, 2_000_000))
    return Usage(given, draw(st.integers(0, 2_000_000)), draw(st.integers(0, given)))
