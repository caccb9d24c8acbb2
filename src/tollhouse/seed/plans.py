"""Plans, what a credit is worth, and the packages of credits on sale."""

from dataclasses import dataclass
from datetime import datetime

from tollhouse.core.money import MICROS_PER_CREDIT
from tollhouse.seed import SINCE

# A conversation in the chat is limited by its messages; everything else is paid for in credits.
CHARGED_CHANNELS = ("api", "capability")
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class PlanRow:
    """`monthly_tokens`, `daily_messages`, `own_models_max` None: no limit; `price_cents` a month, None: on request."""

    id: str
    name: str
    rank: int
    monthly_credits_micros: int
    welcome_bonus_micros: int
    monthly_tokens: int | None
    daily_messages: int | None
    max_output_tokens: int
    price_cents: int | None
    own_models_max: int | None
    charged_channels: tuple[str, ...] = CHARGED_CHANNELS


@dataclass(frozen=True, slots=True)
class RateCardRow:
    version: int
    effective_from: datetime
    micros_per_usd: int


@dataclass(frozen=True, slots=True)
class TopupPackageRow:
    id: str
    name: str
    description: str
    credits_micros: int
    price_cents: int
    display_order: int


def _plan(
    id_: str,
    name: str,
    rank: int,
    monthly_credits: int,
    welcome_credits: int,
    monthly_tokens: int | None,
    daily_messages: int | None,
    max_output_tokens: int,
    price_cents: int | None,
    own_models_max: int | None,
) -> PlanRow:
    monthly, welcome = monthly_credits * MICROS_PER_CREDIT, welcome_credits * MICROS_PER_CREDIT
    return PlanRow(
        id_, name, rank, monthly, welcome, monthly_tokens, daily_messages, max_output_tokens, price_cents,
        own_models_max,
    )  # fmt: skip


# Ranks leave room for an operator's own plans between ours.
PLANS = (
    #      id            name         rank  credits  welcome        tokens  messages  output   cents  models
    #                                       a month  once          a month     a day  a call  a month  of one's own
    _plan("free",       "Free",         10,     10,      10,     2 * MILLION,     100,   1_024,       0,    1),
    _plan("starter",    "Starter",      20,     50,      15,    10 * MILLION,     500,   2_048,     900,    3),
    _plan("basic",      "Basic",        30,    150,      20,    30 * MILLION,   1_000,   4_096,   1_900,    3),
    _plan("pro",        "Pro",          40,    500,      25,   200 * MILLION,  10_000,   8_192,   4_900,   10),
    _plan("team",       "Team",         50,  2_000,      50, 1_000 * MILLION,  25_000,  16_384,  14_900,   25),
    _plan("enterprise", "Enterprise",   60, 10_000,     100,            None,    None,  32_768,    None, None),
)  # fmt: skip

RATE_CARDS = (RateCardRow(1, SINCE, 100 * MICROS_PER_CREDIT),)  # 100 credits a dollar: a credit is a cent of cost

TOPUP_PACKAGES = (
    TopupPackageRow("starter", "Starter pack", "For a first project.", 100 * MICROS_PER_CREDIT, 999, 1),
    TopupPackageRow("popular", "Popular pack", "For regular use.", 500 * MICROS_PER_CREDIT, 3_999, 2),
    TopupPackageRow("power", "Power pack", "For heavy use.", 2_000 * MICROS_PER_CREDIT, 12_999, 3),
)  # fmt: skip
