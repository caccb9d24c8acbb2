"""What a new installation begins with, on a real database."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

import tollhouse
from tollhouse.core import vault
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.key import Mode, digest, looks_like_a_key
from tollhouse.core.vault import Keyring
from tollhouse.flows.connection import Policy
from tollhouse.flows.seed import DEMO_ID, Seeded, SeedInput, VendorConnectionInput, seed
from tollhouse.store import catalogue
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.proof import prove
from tollhouse.trouble import Trouble

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET = b"a secret that only these tests know"
TEST = SeedInput(Policy(Keyring(SECRET), "test"), operator_key=None, vendor_connections=())
LIVE = replace(TEST, policy=replace(TEST.policy, mode="live"))
OPENAI = VendorConnectionInput("openai", None, "sk-first")
CATALOGUE_TABLES = (
    "plan", "provider", "model", "model_price", "rate_card", "quality_level", "capability", "plan_capability",
    "plan_capability_quality", "plan_capability_model", "topup_package", "catalogue_version",
)  # fmt: skip
TABLES = (
    *CATALOGUE_TABLES, "organization", "api_key", "connection", "credit_balance", "credit_grant", "credit_transaction",
)  # fmt: skip


@pytest.fixture
def url(empty_database_url: str) -> Iterator[str]:
    """A database with our schema and nothing in it."""
    with psycopg.connect(empty_database_url) as connection:
        connection.execute((Path(tollhouse.__file__).parent / "schema.sql").read_bytes())
    yield empty_database_url


def rows(url: str, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query, parameters).fetchall()


def change(url: str, statement: LiteralString, *parameters: Any) -> None:
    with psycopg.connect(url) as connection:
        assert connection.execute(statement, parameters).rowcount > 0


def contents(url: str, tables: tuple[str, ...] = TABLES) -> dict[str, list[Any]]:
    """Everything in these tables, system columns included: an update that changes nothing shows, too."""
    with psycopg.connect(url) as connection:
        return {
            table: connection.execute(
                sql.SQL("SELECT t.xmin::text, t.*::text FROM {} t ORDER BY 2").format(sql.Identifier(table))
            ).fetchall()
            for table in tables
        }


async def loaded(url: str) -> Catalogue:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await catalogue.load(connection)


def with_vendors(*vendors: VendorConnectionInput) -> SeedInput:
    return replace(TEST, vendor_connections=vendors)


# ------------------------------------------------------------------------------------------------------------ catalogue


async def test_the_plans_have_the_required_figures(url: str) -> None:
    await seed(url, TEST, NOON)
    found = {
        row[0]: row[1:]
        for row in rows(
            url, "SELECT id, monthly_credits_micros / 1000000, welcome_bonus_micros / 1000000, daily_messages FROM plan"
        )
    }
    assert found["free"] == (10, 10, 100)
    assert found["basic"][2] == 1_000
    assert found["pro"] == (500, 25, 10_000)
    assert found["team"][:2] == (2_000, 50)
    assert found["enterprise"][2] is None


async def test_a_higher_plan_is_never_smaller_in_anything(url: str) -> None:
    await seed(url, TEST, NOON)
    plans = rows(
        url,
        """SELECT id, monthly_credits_micros, welcome_bonus_micros, coalesce(monthly_tokens, 9e18),
                  coalesce(daily_messages, 9e18), max_output_tokens, coalesce(price_cents, 9e18), charged_channels
           FROM plan ORDER BY rank""",
    )
    assert [plan[0] for plan in plans] == ["free", "starter", "basic", "pro", "team", "enterprise"]
    for lower, higher in itertools.pairwise(plans):
        assert all(less < more for less, more in zip(lower[1:7], higher[1:7], strict=True)), (lower, higher)
    assert all(sorted(plan[7]) == ["api", "capability"] for plan in plans)


@dataclass(frozen=True, slots=True)
class Expected:
    """A model as S1 lists it."""

    provider: str
    provider_model_id: str
    name: str
    tier: str
    price_cents: int | None
    daily: int | None
    trials: int
    sort: int
    metadata: dict[str, Any]


def shown(speed: str, quality: str, context: int, cost: float, *best_for: str) -> dict[str, Any]:
    return {
        "speed": speed, "quality": quality, "context_window": context, "cost_per_1m_tokens": cost,
        "best_for": list(best_for),
    }  # fmt: skip


SELECTABLE = {
    "gpt-4o-mini": Expected(
        "openai", "gpt-4o-mini", "GPT-4o Mini", "free", None, None, 0, 1,
        shown("fast", "good", 128000, 0.15, "Quick responses", "Daily coaching", "General advice"),
    ),
    "claude-3-5-haiku": Expected(
        "anthropic", "claude-3-5-haiku-20241022", "Claude 3.5 Haiku", "free", None, None, 0, 2,
        shown("fastest", "good", 200000, 0.25, "Speed", "Analysis", "Quick insights"),
    ),
    "llama-3.1-8b": Expected(
        "together", "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", "Llama 3.1 8B", "free", None, None, 0, 3,
        shown("fast", "good", 131072, 0.18, "Open source", "Privacy-conscious", "Experimentation"),
    ),
    "gpt-4o": Expected(
        "openai", "gpt-4o", "GPT-4o", "premium", 299, 50, 2, 10,
        shown("standard", "excellent", 128000, 2.5, "Deep analysis", "Complex questions", "Nuanced reasoning"),
    ),
    "claude-3-5-sonnet": Expected(
        "anthropic", "claude-3-5-sonnet-20241022", "Claude 3.5 Sonnet", "premium", 299, 50, 2, 11,
        shown(
            "standard", "excellent", 200000, 3.0, "Philosophical depth", "Ethical reasoning", "Long-form responses"
        ),
    ),
    "claude-3-opus": Expected(
        "anthropic", "claude-3-opus-20240229", "Claude 3 Opus", "premium", 499, 30, 2, 12,
        shown("slower", "exceptional", 200000, 15.0, "Maximum depth", "Complex philosophy", "Extended dialogues"),
    ),
    "gemini-pro-1.5": Expected(
        "google", "gemini-1.5-pro-latest", "Gemini 1.5 Pro", "premium", 299, 50, 2, 13,
        shown(
            "standard", "excellent", 2000000, 1.25,
            "Long context", "Multi-turn dialogue", "Reference-heavy discussions",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model_id", SELECTABLE)
async def test_a_model_that_people_choose_has_the_required_figures(url: str, model_id: str) -> None:
    await seed(url, TEST, NOON)
    [row] = rows(
        url,
        """SELECT provider_id, provider_model_id, display_name, tier, price_cents, daily_messages, trial_messages,
                  sort_order, metadata, enabled AND selectable, context_window
           FROM model WHERE id = %s""",
        model_id,
    )
    assert Expected(*row[:9]) == SELECTABLE[model_id]
    assert row[9:] == (True, SELECTABLE[model_id].metadata["context_window"])


async def test_people_choose_among_those_models_and_the_sandbox_last(url: str) -> None:
    await seed(url, TEST, NOON)
    found = rows(url, "SELECT id FROM model WHERE selectable AND enabled AND kind = 'chat' ORDER BY sort_order, id")
    assert [row[0] for row in found] == [*SELECTABLE, "sandbox"]


async def test_two_models_embed_and_are_no_persons_choice(url: str) -> None:
    await seed(url, TEST, NOON)
    found = rows(
        url, "SELECT id, provider_id, quality_tier FROM model WHERE kind = 'embedding' AND selectable ORDER BY 1"
    )
    assert found == [("text-embedding-3-large", "openai", None), ("text-embedding-3-small", "openai", None)]
    served = rows(url, "SELECT count(*) FROM plan_capability_model WHERE starts_with(model_id, 'text-embedding')")
    assert served == [(0,)]


async def test_seven_models_serve_the_quality_tiers(url: str) -> None:
    await seed(url, TEST, NOON)
    found = rows(url, "SELECT quality_tier, id, selectable FROM model WHERE quality_tier IS NOT NULL")
    assert set(found) == {
        ("fast", "gpt-4o-mini", True),
        ("fast", "gemini-2.0-flash", False),
        ("fast", "claude-3-5-haiku-latest", False),
        ("balanced", "gpt-4o", True),
        ("balanced", "gemini-2.5-flash", False),
        ("balanced", "claude-sonnet-4-20250514", False),
        ("powerful", "gemini-2.5-pro", False),
    }


async def test_the_quick_free_model_is_the_system_default_until_an_operator_chooses_another(url: str) -> None:
    await seed(url, TEST, NOON)
    default = (await loaded(url)).default
    assert default is not None and default.id == "gpt-4o-mini"
    change(url, "UPDATE model SET is_default = false WHERE id = 'gpt-4o-mini'")
    change(url, "UPDATE model SET is_default = true WHERE id = 'sandbox'")
    change(url, "DELETE FROM model_price WHERE model_id = 'claude-3-opus'")
    change(url, "DELETE FROM model WHERE id = 'claude-3-opus'")
    await seed(url, TEST, NOON)
    known = await loaded(url)
    assert known.default is not None and known.default.id == "sandbox"
    assert "claude-3-opus" in known.models


async def test_every_model_has_a_price_and_credits_a_rate_from_2020_on(url: str) -> None:
    await seed(url, TEST, NOON)
    found = await loaded(url)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    assert len(found.models) == 15
    for model_id in found.models:
        price = found.price_at(model_id, start)
        assert price is not None
        assert not price.free
        assert 0 < price.cached_input_nanos_per_million <= price.input_nanos_per_million
        if found.models[model_id].kind == "chat":
            assert price.input_nanos_per_million <= price.output_nanos_per_million
        else:
            assert price.output_nanos_per_million == 0
    rate = found.rate_at(start)
    assert rate is not None
    assert rate.micros_per_usd == 100_000_000
    assert found.rate_at(start - timedelta(microseconds=1)) is None


@pytest.mark.parametrize(
    ("model_id", "dollars"),
    [
        ("gpt-4o-mini", ("0.15", "0.075", "0.60")),
        ("gpt-4o", ("2.50", "1.25", "10")),
        ("gemini-pro-1.5", ("1.25", "0.3125", "5")),
        ("gemini-2.0-flash", ("0.10", "0.025", "0.40")),
        ("claude-3-opus", ("15", "1.50", "75")),
        ("sandbox", ("0.50", "0.25", "1.50")),
        ("text-embedding-3-small", ("0.02", "0.02", "0")),
        ("text-embedding-3-large", ("0.13", "0.13", "0")),
    ],
)
async def test_a_price_is_the_list_price_to_the_nano_dollar(url: str, model_id: str, dollars: tuple[str, ...]) -> None:
    await seed(url, TEST, NOON)
    price = (await loaded(url)).prices[model_id][0]
    nanos = (price.input_nanos_per_million, price.cached_input_nanos_per_million, price.output_nanos_per_million)
    assert nanos == tuple(int(Decimal(amount) * 10**9) for amount in dollars)


async def test_the_plans_have_7_capabilities_16_levels_and_48_models(url: str) -> None:
    await seed(url, TEST, NOON)
    for count, table in ((7, "plan_capability"), (16, "plan_capability_quality"), (48, "plan_capability_model")):
        assert len(contents(url, (table,))[table]) == count
    limits = rows(
        url,
        """SELECT plan_id, count(*), min(requests_per_minute), max(requests_per_minute), min(requests_per_day),
                  max(requests_per_day), bool_and(is_enabled) FROM plan_capability GROUP BY 1""",
    )
    assert set(limits) == {
        ("free", 1, 5, 5, 20, 20, True),
        ("pro", 3, 30, 30, 500, 500, True),
        ("team", 3, None, None, None, None, True),
    }
    levels = rows(
        url,
        """SELECT plan_id, array_agg(DISTINCT capability_id ORDER BY capability_id),
                  array_agg(DISTINCT quality_id ORDER BY quality_id)
           FROM plan_capability_quality GROUP BY 1 ORDER BY 1""",
    )
    every = ["question_generation", "testimonial_assembly", "testimonial_polish"]
    assert levels == [
        ("free", ["question_generation"], ["fast"]),
        ("pro", every, ["enhanced", "fast"]),
        ("team", every, ["enhanced", "fast", "premium"]),
    ]


async def test_a_level_is_served_by_its_three_models_in_order_wherever_it_is_offered(url: str) -> None:
    await seed(url, TEST, NOON)
    found = rows(
        url,
        """SELECT DISTINCT quality_id, models FROM (
               SELECT quality_id,
                      array_agg(model_id || CASE WHEN is_default THEN '*' ELSE '' END ORDER BY priority) AS models
               FROM plan_capability_model GROUP BY plan_id, capability_id, quality_id) AS of_offer""",
    )
    assert {level: models for level, models in found} == {
        "fast": ["gpt-4o-mini*", "gemini-2.0-flash", "claude-3-5-haiku-latest"],
        "enhanced": ["gpt-4o*", "gemini-2.5-flash", "claude-sonnet-4-20250514"],
        "premium": ["gpt-4o*", "gemini-2.5-pro", "claude-sonnet-4-20250514"],
    }
    assert len(found) == 3


async def test_capabilities_levels_and_packages_have_the_required_figures(url: str) -> None:
    await seed(url, TEST, NOON)
    assert set(rows(url, "SELECT id, estimated_micros FROM capability")) == {
        ("question_generation", 1_000_000),
        ("testimonial_assembly", 1_500_000),
        ("testimonial_polish", 500_000),
    }
    assert rows(url, "SELECT id, multiplier_permille FROM quality_level ORDER BY display_order") == [
        ("fast", 1_000),
        ("enhanced", 2_000),
        ("premium", 4_000),
    ]
    assert rows(url, "SELECT id, credits_micros, price_cents FROM topup_package ORDER BY display_order") == [
        ("starter", 100_000_000, 999),
        ("popular", 500_000_000, 3_999),
        ("power", 2_000_000_000, 12_999),
    ]


# ---------------------------------------------------------------------------------------------------------------- again


async def test_a_second_run_writes_nothing_at_all(url: str) -> None:
    given = with_vendors(OPENAI, VendorConnectionInput("ollama", "http://127.0.0.1:11434/v1", None))
    await seed(url, given, NOON)
    before = contents(url)
    again = await seed(url, given, NOON + timedelta(days=400))
    assert contents(url) == before
    assert again == Seeded(None, None, DEMO_ID)


async def test_two_processes_that_seed_at_once_make_everything_once(url: str) -> None:
    first, second = await asyncio.gather(seed(url, with_vendors(OPENAI), NOON), seed(url, with_vendors(OPENAI), NOON))
    assert (first.operator_key is None) != (second.operator_key is None)
    assert (first.demo_key is None) != (second.demo_key is None)
    assert rows(url, "SELECT count(*) FROM api_key") == [(2,)]
    assert rows(url, "SELECT count(*) FROM connection") == [(1,)]
    assert rows(url, "SELECT count(*) FROM credit_transaction") == [(2,)]


async def test_of_many_that_find_no_working_key_at_once_one_makes_it(url: str) -> None:
    await seed(url, TEST, NOON)
    change(url, "UPDATE api_key SET revoked_at = %s", NOON)
    seeded = await asyncio.gather(*(seed(url, with_vendors(OPENAI), NOON) for _ in range(6)))
    assert len([one.operator_key for one in seeded if one.operator_key]) == 1
    assert len([one.demo_key for one in seeded if one.demo_key]) == 1


async def test_what_an_operator_changed_or_took_away_stays_so(url: str) -> None:
    await seed(url, TEST, NOON)
    change(url, "UPDATE plan SET monthly_credits_micros = 7, name = 'Mine' WHERE id = 'pro'")
    change(url, "UPDATE model SET enabled = false WHERE id = 'gpt-4o'")
    change(url, "DELETE FROM plan_capability_model WHERE model_id = 'gemini-2.5-pro'")
    change(url, "DELETE FROM plan_capability WHERE plan_id = 'free'")
    before = contents(url)
    await seed(url, TEST, NOON)
    assert contents(url) == before


async def test_a_model_that_a_later_version_brings_comes_with_its_price_and_its_place_in_the_plans(url: str) -> None:
    await seed(url, TEST, NOON)
    before = {table: [row[1] for row in found] for table, found in contents(url).items()}
    for statement in (
        "DELETE FROM plan_capability_model WHERE model_id = 'gemini-2.5-pro'",
        "DELETE FROM model_price WHERE model_id = 'gemini-2.5-pro'",
        "DELETE FROM model WHERE id = 'gemini-2.5-pro'",
    ):
        change(url, statement)
    await seed(url, TEST, NOON)
    tables = "plan_capability_model", "model_price"
    count = {table: len(contents(url, (table,))[table]) for table in tables}
    assert count == {table: len(before[table]) for table in tables}


# ----------------------------------------------------------------------------------------------- organisations and keys


async def test_the_keys_that_were_made_open_their_organisations(url: str) -> None:
    seeded = await seed(url, TEST, NOON)
    assert seeded.operator_key is not None
    assert seeded.demo_key is not None
    for key, organization_id, scopes in (
        (seeded.operator_key, PLATFORM_ID, ["operator"]),
        (seeded.demo_key, DEMO_ID, ["gateway", "credits", "act_as"]),
    ):
        assert looks_like_a_key(key)
        [found] = rows(url, "SELECT * FROM find_api_key(%s)", digest(SECRET, key))
        assert (found[0], found[2], found[3], found[5]) == (organization_id, scopes, "test", None)
        assert rows(url, "SELECT 1 FROM api_key k WHERE position(%s IN k::text) > 0", key) == []


async def test_in_live_mode_there_is_an_operator_key_and_no_demo(url: str) -> None:
    seeded = await seed(url, LIVE, NOON)
    assert seeded.operator_key is not None
    assert seeded.operator_key.startswith("th_live_")
    assert (seeded.demo_key, seeded.demo_organization_id) == (None, None)
    assert rows(url, "SELECT id, kind, plan_id FROM organization") == [(PLATFORM_ID, "platform", "enterprise")]


async def test_a_given_operator_key_is_taken_as_given_and_once(url: str) -> None:
    given = replace(TEST, operator_key="th_test_given_by_the_environment")
    assert (await seed(url, given, NOON)).operator_key == given.operator_key
    assert (await seed(url, given, NOON)).operator_key is None
    [found] = rows(url, "SELECT * FROM find_api_key(%s)", digest(SECRET, "th_test_given_by_the_environment"))
    assert (found[0], found[2]) == (PLATFORM_ID, ["operator"])
    assert rows(url, "SELECT start FROM api_key WHERE 'operator' = ANY (scopes)") == [("th_test_",)]


async def test_a_given_operator_key_is_known_through_a_change_of_the_secret_and_new_once_the_former_is_forgotten(
    url: str,
) -> None:
    given = replace(TEST, operator_key="th_test_given_by_the_environment")
    other = b"another secret, also long enough"
    await seed(url, given, NOON)
    assert (
        await seed(url, replace(given, policy=Policy(Keyring(other, (SECRET,)), "test")), NOON)
    ).operator_key is None
    forgotten = await seed(url, replace(given, policy=Policy(Keyring(other), "test")), NOON)
    assert forgotten.operator_key == given.operator_key
    [found] = rows(url, "SELECT scopes FROM find_api_key(%s)", digest(other, "th_test_given_by_the_environment"))
    assert found == (["operator"],)


async def test_a_given_operator_key_that_was_revoked_stays_revoked(url: str) -> None:
    given = replace(TEST, operator_key="th_test_given_by_the_environment")
    await seed(url, given, NOON)
    change(url, "UPDATE api_key SET revoked_at = %s WHERE 'operator' = ANY (scopes)", NOON)
    assert (await seed(url, given, NOON)).operator_key is None
    [found] = rows(url, "SELECT revoked_at FROM find_api_key(%s)", digest(SECRET, "th_test_given_by_the_environment"))
    assert found == (NOON,)


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
async def test_when_no_operator_key_works_any_more_another_is_made(url: str, column: str) -> None:
    first = await seed(url, TEST, NOON)
    with psycopg.connect(url) as connection:
        connection.execute(
            sql.SQL("UPDATE api_key SET {} = %s WHERE organization_id = %s").format(sql.Identifier(column)),
            (NOON, PLATFORM_ID),
        )
    again = await seed(url, TEST, NOON)
    assert again.operator_key is not None
    assert again.operator_key != first.operator_key


@pytest.mark.parametrize("organization_id", [PLATFORM_ID, DEMO_ID])
async def test_an_organisation_begins_with_a_period_of_one_month(url: str, organization_id: UUID) -> None:
    await seed(url, TEST, NOON)
    found = rows(
        url,
        """SELECT o.period_anchor, b.period_start, b.period_end, b.next_due_at
           FROM organization o JOIN credit_balance b ON b.organization_id = o.id WHERE o.id = %s""",
        organization_id,
    )
    assert found == [(NOON, NOON, datetime(2026, 2, 28, 12, tzinfo=UTC), datetime(2026, 2, 28, 12, tzinfo=UTC))]


async def test_the_ledger_of_the_demo_organisation_is_right(url: str) -> None:
    await seed(url, TEST, NOON)
    grants = rows(
        url,
        """SELECT g.source, g.plan_id, g.amount_micros, g.remaining_micros, g.expires_at, sum(t.amount_micros)
           FROM credit_grant g JOIN credit_transaction t ON t.organization_id = g.organization_id AND t.grant_id = g.id
           WHERE g.organization_id = %s GROUP BY g.organization_id, g.id ORDER BY 1""",
        DEMO_ID,
    )
    monthly, bonus, period_end = 500_000_000, 25_000_000, datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert grants == [
        ("plan", "pro", monthly, monthly, period_end, monthly),
        ("welcome", "pro", bonus, bonus, None, bonus),
    ]
    ledger = rows(
        url,
        """SELECT seq, type, amount_micros, balance_after_micros FROM credit_transaction WHERE organization_id = %s
           ORDER BY seq""",
        DEMO_ID,
    )
    assert ledger == [(1, "plan_allocation", monthly, monthly), (2, "welcome_bonus", bonus, monthly + bonus)]
    balance = rows(
        url,
        """SELECT remaining_micros, reserved_micros, debt_micros, allocated_micros, seq FROM credit_balance
           WHERE organization_id = %s""",
        DEMO_ID,
    )
    assert balance == [(monthly + bonus, 0, 0, monthly, 2)]


async def test_the_ledger_proof_finds_nothing_after_seeding(url: str) -> None:
    await seed(url, TEST, datetime.now(UTC))
    async with await psycopg.AsyncConnection.connect(url) as connection:
        assert await prove(connection) == []


# ---------------------------------------------------------------------------------------------------------- connections


async def test_a_vendors_key_is_stored_sealed_and_opens_with_the_secret(url: str) -> None:
    await seed(url, with_vendors(OPENAI), NOON)
    [(base_url, ciphertext, hint, origin, owner)] = rows(
        url, "SELECT base_url, key_ciphertext, key_hint, origin, organization_id FROM connection"
    )
    assert (base_url, hint, origin, owner) == ("https://api.openai.com/v1", "st", "environment", PLATFORM_ID)
    assert b"sk-first" not in ciphertext
    assert vault.open_sealed(SECRET, ciphertext, vault.association(PLATFORM_ID, "openai")) == "sk-first"


async def test_the_hint_follows_the_key_and_is_added_where_an_earlier_version_had_none(url: str) -> None:
    await seed(url, with_vendors(OPENAI), NOON)
    change(url, "UPDATE connection SET key_hint = NULL")
    await seed(url, with_vendors(OPENAI), NOON)
    assert rows(url, "SELECT key_hint FROM connection") == [("st",)]
    await seed(url, with_vendors(replace(OPENAI, key="sk-0123456789abcdef")), NOON)
    assert rows(url, "SELECT key_hint FROM connection") == [("cdef",)]
    await seed(url, with_vendors(replace(OPENAI, base_url="http://proxy/v1", key=None)), NOON)
    assert rows(url, "SELECT key_hint FROM connection") == [(None,)]


async def test_a_connection_counts_in_the_catalogue_at_the_address_that_was_given(url: str) -> None:
    await seed(url, with_vendors(VendorConnectionInput("vllm", "http://gpu:8000/v1", None)), NOON)
    (connection,) = (await loaded(url)).connections["vllm"]
    assert (connection.base_url, connection.key_ciphertext, connection.protocol) == (
        "http://gpu:8000/v1",
        None,
        "openai",
    )


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (VendorConnectionInput("openai", None, "sk-second"), ("https://api.openai.com/v1", "sk-second")),
        (VendorConnectionInput("openai", "http://proxy/v1", "sk-first"), ("http://proxy/v1", "sk-first")),
        (VendorConnectionInput("openai", "http://proxy/v1", None), ("http://proxy/v1", None)),
    ],
)
async def test_a_changed_environment_changes_the_connection_in_place(
    url: str, later: VendorConnectionInput, expected: tuple[str, str | None]
) -> None:
    await seed(url, with_vendors(OPENAI), NOON)
    [before] = rows(url, "SELECT id FROM connection")
    version = (await loaded(url)).version
    await seed(url, with_vendors(later), NOON)
    [(id_, base_url, sealed)] = rows(url, "SELECT id, base_url, key_ciphertext FROM connection")
    key = sealed and vault.open_sealed(SECRET, sealed, vault.association(PLATFORM_ID, "openai"))
    assert ((id_,), base_url, key) == (before, *expected)
    assert (await loaded(url)).version > version


async def test_a_vendor_that_left_the_environment_is_disabled_and_enabled_when_it_returns(url: str) -> None:
    await seed(url, with_vendors(OPENAI), NOON)
    await seed(url, TEST, NOON)
    assert (await loaded(url)).connections == {}
    assert rows(url, "SELECT provider_id, enabled FROM connection") == [("openai", False)]
    await seed(url, with_vendors(OPENAI), NOON)
    assert set((await loaded(url)).connections) == {"openai"}


async def test_after_a_change_of_the_secret_the_key_is_sealed_anew(url: str) -> None:
    await seed(url, with_vendors(OPENAI), NOON)
    other = b"another secret, also long enough"
    await seed(url, replace(with_vendors(OPENAI), policy=Policy(Keyring(other), "test")), NOON)
    [(sealed,)] = rows(url, "SELECT key_ciphertext FROM connection")
    assert vault.open_sealed(other, sealed, vault.association(PLATFORM_ID, "openai")) == "sk-first"


async def test_a_connection_that_an_operator_made_is_not_touched(url: str) -> None:
    await seed(url, TEST, NOON)
    change(
        url,
        """INSERT INTO connection (organization_id, id, provider_id, base_url, origin, created_at)
           VALUES (%s, gen_random_uuid(), 'openai', 'http://operator/v1', 'operator', %s)""",
        PLATFORM_ID,
        NOON,
    )
    before = rows(url, "SELECT * FROM connection")
    await seed(url, with_vendors(OPENAI), NOON)
    await seed(url, TEST, NOON)
    assert rows(url, "SELECT * FROM connection WHERE origin = 'operator'") == before


@pytest.mark.parametrize(
    ("vendor", "remedy"),
    [
        (VendorConnectionInput("vllm", None, "key"), "set VLLM_BASE_URL"),
        (VendorConnectionInput("nobody", None, "key"), "These can be: anthropic, google, ollama, openai"),
        (VendorConnectionInput("openai", None, "sk-\n1"), "copy it again into OPENAI_API_KEY"),
        (VendorConnectionInput("openai", None, "sk-\udcff"), "copy it again into OPENAI_API_KEY"),
    ],
)
async def test_a_connection_that_cannot_work_is_refused_with_its_remedy_and_nothing_is_seeded(
    url: str, vendor: VendorConnectionInput, remedy: str
) -> None:
    with pytest.raises(Trouble, match=remedy):
        await seed(url, with_vendors(vendor), NOON)
    assert rows(url, "SELECT count(*) FROM plan") == [(0,)]


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:11434/v1", "http://gpu:8000/v1", "https://10.1.2.3/v1", "https://localhost/v1"]
)
async def test_in_live_mode_a_private_address_needs_the_setting_that_allows_it(url: str, base_url: str) -> None:
    live = replace(LIVE, vendor_connections=(VendorConnectionInput("ollama", base_url, None),))
    with pytest.raises(Trouble, match=r"OLLAMA_BASE_URL .* set TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS=true"):
        await seed(url, live, NOON)
    assert rows(url, "SELECT count(*) FROM plan") == [(0,)]
    await seed(url, replace(live, policy=replace(live.policy, allow_private=True)), NOON)
    assert rows(url, "SELECT base_url FROM connection") == [(base_url,)]


@pytest.mark.parametrize("mode", ["test", "live"])
async def test_an_address_that_nothing_allows_is_refused_by_the_name_of_its_setting(url: str, mode: Mode) -> None:
    given = VendorConnectionInput("vllm", "http://169.254.169.254/latest", None)
    policy = Policy(Keyring(SECRET), mode, allow_private=True)
    with pytest.raises(Trouble, match=r"VLLM_BASE_URL is of no use: .* metadata service; use another one\.$"):
        await seed(url, replace(with_vendors(given), policy=policy), NOON)


async def test_in_live_mode_a_public_address_needs_no_setting(url: str) -> None:
    vendors = (OPENAI, VendorConnectionInput("vllm", "https://models.example/v1", None))
    await seed(url, replace(LIVE, vendor_connections=vendors), NOON)
    assert rows(url, "SELECT base_url FROM connection ORDER BY provider_id") == [
        ("https://api.openai.com/v1",), ("https://models.example/v1",)
    ]  # fmt: skip


async def test_no_secret_shows_in_the_text_of_what_was_given_or_made(url: str) -> None:
    given = replace(with_vendors(OPENAI), operator_key="th_test_given")
    seeded = await seed(url, given, NOON)
    assert seeded.demo_key is not None
    text = f"{given!r} {seeded!r}"
    assert not any(part in text for part in (SECRET.decode(), "sk-first", "th_test_given", seeded.demo_key))


# ------------------------------------------------------------------------------------------------------------------ end


async def test_usage_has_its_partitions_of_this_month_and_the_next_three(url: str) -> None:
    await seed(url, TEST, NOON)
    found = rows(url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_event'::regclass")
    months = {f"usage_event_2026_{month:02}" for month in (1, 2, 3, 4)}
    assert {row[0] for row in found} == {"usage_event_default", *months}


async def test_the_planner_knows_the_seeded_tables_at_once(url: str) -> None:
    await seed(url, TEST, NOON)
    found = rows(
        url,
        """SELECT relname, reltuples FROM pg_class
           WHERE relname IN ('plan', 'model', 'model_price', 'plan_capability_model', 'api_key', 'credit_grant')""",
    )
    assert dict(found) == {
        "plan": 6, "model": 15, "model_price": 15, "plan_capability_model": 48, "api_key": 2, "credit_grant": 2
    }  # fmt: skip
