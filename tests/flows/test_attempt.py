"""The next candidate of a call: durable before it is asked, charged at its own price, counted against its limits."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.flows.cast import (
    CREDIT,
    DONE,
    FAILED,
    GPT_PRICE,
    SANDBOX_PRICE,
    TOKENS,
    Clock,
    answered,
    ask,
    balance,
    change,
    counters,
    found,
    rows,
    settle,
)
from tollhouse.core.ask import AUTO, CallWant, CapabilityWant, Size
from tollhouse.core.complexity import Shape
from tollhouse.core.errors import Conflict
from tollhouse.core.price import Usage
from tollhouse.core.refusals import LimitExceeded, ModelNotFound
from tollhouse.flows.operation import LEASE, Admitted, Answered, Attempt, Keeps, Outcome, Reap, Release, Renew, Settle
from tollhouse.flows.spend import Teller

# What the usual ask costs at most with the model that takes over, and what its input alone is reckoned at.
MINI, MINI_PRICE, MINI_INPUT_PRICE = "gpt-4o-mini", 21_000, 3_750
BUSY = Outcome("failed", error="the provider is busy", status=503)


def attempt(admitted: Admitted, model_id: str = MINI, number: int = 2, **about: Any) -> Attempt:
    """Over the sandbox, if nothing else is said."""
    usual: dict[str, Any] = {"provider_id": "sandbox", "connection_id": None, "own_key": False, "before": BUSY}
    return Attempt(admitted.organization_id, admitted.id, number, model_id, **usual | about)


async def connect(url: str, organization_id: UUID, provider_id: str = "openai", **about: Any) -> UUID:
    """A connection that is asked; nobody listens there."""
    usual: dict[str, Any] = {"origin": "operator", "priority": 0, "enabled": True}
    columns = usual | about
    ((id_,),) = await rows(
        url,
        """INSERT INTO connection (organization_id, id, provider_id, base_url, origin, priority, enabled, created_at)
           VALUES (%s, gen_random_uuid(), %s, 'http://127.0.0.1:1/v1', %s, %s, %s, now()) RETURNING id""",
        organization_id, provider_id, columns["origin"], columns["priority"], columns["enabled"],
    )  # fmt: skip
    return UUID(str(id_))


async def rule(url: str, organization_id: UUID, model_id: str, meter: str, maximum: int, period: str = "day") -> None:
    await change(
        url,
        """INSERT INTO usage_limit (organization_id, id, scope, model_id, meter, period, maximum, created_at)
           VALUES (%s, gen_random_uuid(), 'organization', %s, %s, %s, %s, now() - interval '1 second')""",
        organization_id, model_id, meter, period, maximum,
    )  # fmt: skip


async def attempts(url: str, id_: UUID) -> list[tuple[Any, ...]]:
    return await rows(
        url,
        "SELECT number, model_id, outcome, status, error, input_tokens FROM attempt WHERE request_id = %s ORDER BY 1",
        id_,
    )


# ------------------------------------------------------------------------------------------------------ the next one


async def test_the_next_attempt_is_written_and_the_one_before_it_has_failed(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    assert [one.model.id for one in admitted.admission.terms.candidates] == ["sandbox", MINI]
    await teller.do(attempt(admitted))
    assert await attempts(books, admitted.id) == [
        (1, "sandbox", "failed", 503, "the provider is busy", 250),
        (2, MINI, None, None, None, 250),
    ]
    (request,) = await rows(books, "SELECT model_id, asked_model, reason, state FROM request")
    assert request == (MINI, "sandbox", "fallback: sandbox did not answer", "running")
    await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))


async def test_a_call_that_another_model_answered_is_charged_at_that_models_price(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    await teller.do(attempt(admitted))
    settled = await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))
    assert (settled.charged_micros, settled.variance_micros) == (MINI_PRICE, MINI_PRICE - SANDBOX_PRICE)
    (event,) = await rows(books, "SELECT model_id, price_version, provider_id, origin, charged_micros FROM usage_event")
    assert event == (MINI, 1, "sandbox", "provider", MINI_PRICE)
    assert [one[:3] for one in await attempts(books, admitted.id)] == [(1, "sandbox", "failed"), (2, MINI, "answered")]
    assert await balance(books, hers) == (500 * CREDIT - MINI_PRICE, 0, 0)


async def test_the_price_is_the_one_in_force_as_the_call_began(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    await change(
        books,
        """INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million,
               cached_input_nanos_per_million, output_nanos_per_million)
           VALUES ('gpt-4o-mini', 2, %s, 1000000000000, 0, 0)""",
        clock(),
    )
    clock.move(seconds=5)
    await change(books, "UPDATE model_price SET effective_from = %s WHERE version = 2", clock())
    await teller.do(attempt(admitted))
    assert (await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))).charged_micros == MINI_PRICE


async def test_what_was_taken_of_the_first_models_own_limits_goes_back(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers, "gpt-4o"))
    assert admitted.admission.trial_remaining == 1
    await teller.do(attempt(admitted))
    assert await counters(books, hers) == {
        ("messages", ""): (0, 1), ("messages", "gpt-4o"): (0, 0), ("trial_messages", "gpt-4o"): (0, 0),
        ("messages", MINI): (0, 1), ("tokens", ""): (0, TOKENS),
    }  # fmt: skip
    await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))
    assert await counters(books, hers) == {
        ("messages", ""): (1, 0), ("messages", "gpt-4o"): (0, 0), ("trial_messages", "gpt-4o"): (0, 0),
        ("messages", MINI): (1, 0), ("tokens", ""): (TOKENS, 0),
    }  # fmt: skip
    assert await rows(books, "SELECT trial FROM usage_event") == [(False,)]
    assert (await teller.admit(ask(hers, "gpt-4o"))).admission.trial_remaining == 1


async def test_another_connection_of_the_same_model_moves_nothing(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers, "gpt-4o"))
    before = await counters(books, hers)
    await teller.do(attempt(admitted, "gpt-4o"))
    assert await counters(books, hers) == before
    assert await rows(books, "SELECT model_id, reason FROM request") == [("gpt-4o", None)]
    settled = await teller.do(settle(hers, admitted.id, by=answered("gpt-4o", attempt=2)))
    assert settled.charged_micros == GPT_PRICE
    assert await rows(books, "SELECT trial FROM usage_event") == [(True,)]


async def test_an_attempt_that_is_sent_again_is_one_attempt(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    for _ in range(3):
        await teller.do(attempt(admitted))
    assert [one[:3] for one in await attempts(books, admitted.id)] == [(1, "sandbox", "failed"), (2, MINI, None)]
    assert (await counters(books, hers))["messages", MINI] == (0, 1)
    assert await rows(books, "SELECT reason FROM request") == [("fallback: sandbox did not answer",)]
    await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))


async def test_when_the_last_candidate_fails_too_everything_goes_back(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers, "gpt-4o"))
    await teller.do(attempt(admitted))
    await teller.do(Release(hers, admitted.id, FAILED))
    assert [one[:3] for one in await attempts(books, admitted.id)] == [(1, "gpt-4o", "failed"), (2, MINI, "failed")]
    assert set((await counters(books, hers)).values()) == {(0, 0)}
    assert await balance(books, hers) == (500 * CREDIT, 0, 0)


@pytest.mark.parametrize("how", ["settled", "released", "reaped"])
async def test_for_what_has_ended_nobody_is_asked_any_more(books: str, teller: Teller, clock: Clock, how: str) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    if how == "settled":
        await teller.do(settle(hers, admitted.id))
    elif how == "released":
        await teller.do(Release(hers, admitted.id, FAILED))
    else:
        clock.move(seconds=LEASE.total_seconds() + 1)
        await teller.do(Reap(hers, admitted.id))
    before = await counters(books, hers)
    with pytest.raises(Conflict):
        await teller.do(attempt(admitted))
    assert len(await attempts(books, admitted.id)) == 1
    assert await counters(books, hers) == before


@pytest.mark.parametrize(
    ("meter", "maximum", "period"), [("messages", 0, "day"), ("messages", 0, "minute"), ("tokens", TOKENS - 1, "day")]
)
async def test_a_candidate_whose_own_limit_is_reached_is_refused_and_nothing_has_changed(
    books: str, teller: Teller, clock: Clock, meter: str, maximum: int, period: str
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    await rule(books, hers, MINI, meter, maximum, period)
    admitted = await teller.admit(ask(hers, "gpt-4o"))
    before = await counters(books, hers)
    with pytest.raises(LimitExceeded):
        await teller.do(attempt(admitted))
    assert await counters(books, hers) == before
    assert [one[:3] for one in await attempts(books, admitted.id)] == [(1, "gpt-4o", None)]
    await teller.do(settle(hers, admitted.id, by=answered("gpt-4o")))


async def test_an_organisations_rule_about_the_model_that_answers_counts_it(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    for model_id in ("gpt-4o", MINI):
        await rule(books, hers, model_id, "messages", 5)
        await rule(books, hers, model_id, "tokens", 50_000)
        await rule(books, hers, model_id, "messages", 5, "minute")
    admitted = await teller.admit(ask(hers, "gpt-4o"))
    await teller.do(attempt(admitted))
    await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))
    counted = await rows(
        books, "SELECT model_id, meter, used::int, reserved::int FROM quota_window WHERE limit_id IS NOT NULL"
    )
    minutes = await rows(
        books, "SELECT sum((one ->> 1)::int)::int FROM request_rate, jsonb_array_elements(seconds) one"
    )
    assert minutes == [(2,)]  # each model's rule: what passed in a minute is not taken back
    assert sorted(counted) == [
        ("gpt-4o", "messages", 0, 0), ("gpt-4o", "tokens", 0, 0), (MINI, "messages", 1, 0), (MINI, "tokens", TOKENS, 0),
    ]  # fmt: skip


async def test_a_lost_process_counts_in_a_limit_of_credits_what_it_is_charged(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    await rule(books, hers, MINI, "credits", MINI_PRICE + 1)
    admitted = await teller.admit(ask(hers, MINI))
    with pytest.raises(LimitExceeded):
        await teller.admit(ask(hers, MINI))
    clock.move(seconds=LEASE.total_seconds() + 1)
    assert await teller.do(Reap(hers, admitted.id))
    query = "SELECT used::int, reserved::int FROM quota_window WHERE meter = 'credits'"
    assert await rows(books, query) == [(MINI_INPUT_PRICE, 0)]


async def test_a_lost_process_is_settled_for_the_model_that_was_asked_last(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers, "gpt-4o"))
    await teller.do(attempt(admitted))
    clock.move(seconds=LEASE.total_seconds() + 1)
    assert await teller.do(Reap(hers, admitted.id))
    events = await rows(books, "SELECT model_id, estimated, charged_micros, trial FROM usage_event")
    assert events == [(MINI, True, MINI_INPUT_PRICE, False)]


async def test_a_checkpoint_is_of_the_attempt_that_runs(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    await teller.do(attempt(admitted))
    await teller.do(Renew(hers, admitted.id, 300, 40))
    assert await rows(books, "SELECT number, input_tokens, output_tokens FROM attempt ORDER BY 1") == [
        (1, 250, None), (2, 300, 40),
    ]  # fmt: skip
    await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))


async def test_nobody_settles_for_a_model_that_was_never_attempted(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    with pytest.raises(Conflict):
        await teller.do(settle(hers, admitted.id, by=answered(MINI, attempt=2)))
    with pytest.raises(ModelNotFound):
        await teller.do(attempt(admitted, "no-such-model"))
    await teller.do(settle(hers, admitted.id))


async def test_the_next_model_of_a_capability_is_charged_with_the_same_multiplier(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    want = CapabilityWant("question_generation", "fast", Size(1_000, 100))
    admitted = await teller.admit(ask(hers, want=want, channel="capability"))
    first, second, *_ = admitted.admission.terms.candidates
    await teller.do(attempt(admitted, second.model.id))
    settled = await teller.do(settle(hers, admitted.id, by=answered(second.model.id, attempt=2)))
    assert settled.charged_micros == second.quote.charge_micros(Usage(1_000, 100))
    assert first.model.id != second.model.id
    assert (await counters(books, hers))["requests", ""] == (1, 0)


# ------------------------------------------------------------------------------------------------ own keys, cache


async def test_over_an_own_connection_a_call_costs_us_nothing_and_its_share_is_charged(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    await change(books, "UPDATE rate_card SET own_key_permille = 50")
    connection_id = await connect(books, hers, origin="organization")
    admitted = await teller.admit(ask(hers, MINI))
    route = admitted.admission.terms.route
    assert route.connection is not None and (route.connection.id, route.own_key) == (connection_id, True)
    by = Answered(MINI, "openai", 1, "own_key")
    settled = await teller.do(Settle(hers, admitted.id, Usage(1_000, 100), DONE, by))
    assert (settled.charged_micros, settled.cost_nanos) == (MINI_PRICE * 50 // 1_000, 0)
    assert await rows(books, "SELECT origin, cost_nanos FROM usage_event") == [("own_key", 0)]
    assert await rows(books, "SELECT own_key, connection_id FROM attempt") == [(True, connection_id)]


async def test_when_the_own_connection_fails_the_platforms_answers_at_the_full_price(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    await connect(books, hers, origin="organization")
    platform_id = await connect(books, UUID(int=0))
    admitted = await teller.admit(ask(hers, MINI))
    assert admitted.amount_micros == MINI_PRICE
    await teller.do(attempt(admitted, provider_id="openai", connection_id=platform_id))
    settled = await teller.do(
        Settle(hers, admitted.id, Usage(1_000, 100), DONE, Answered(MINI, "openai", 2, "provider"))
    )
    assert (settled.charged_micros, settled.variance_micros) == (MINI_PRICE, 0)
    assert await rows(books, "SELECT number, own_key FROM attempt ORDER BY 1") == [(1, True), (2, False)]


async def test_a_lost_process_with_an_own_connection_is_settled_with_its_share(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    await connect(books, hers, origin="organization")
    admitted = await teller.admit(ask(hers, MINI))
    clock.move(seconds=LEASE.total_seconds() + 1)
    assert await teller.do(Reap(hers, admitted.id))
    assert await rows(books, "SELECT origin, charged_micros, cost_nanos FROM usage_event") == [("own_key", 0, 0)]


async def test_a_kept_answer_costs_us_nothing_and_its_share_is_charged(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    settled = await teller.do(settle(hers, admitted.id, by=answered(origin="cache")))
    assert (settled.charged_micros, settled.cost_nanos) == (SANDBOX_PRICE // 10, 0)
    assert await rows(books, "SELECT origin FROM usage_event") == [("cache",)]


async def test_tokens_written_to_the_providers_cache_are_told_apart(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    admitted = await teller.admit(ask(hers))
    used = Usage(1_000, 100, cached_input_tokens=200, cache_write_tokens=300)
    await teller.do(settle(hers, admitted.id, used))
    assert await rows(books, "SELECT input_tokens, cached_input_tokens, cache_write_tokens FROM usage_event") == [
        (1_000, 200, 300)
    ]


async def test_what_an_organisation_wants_kept_is_told_with_the_admission(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    first = await teller.admit(ask(hers))
    await change(books, "UPDATE organization SET cache_ttl_s = 90, stores_content = true WHERE id = %s", hers)
    second = await teller.admit(ask(hers))
    assert (first.keeps, second.keeps) == (Keeps(None, False), Keeps(90, True))
    for one in (first, second):
        await teller.do(Release(hers, one.id, FAILED))


async def test_connections_are_asked_by_priority_and_only_those_that_are_switched_on(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers, others = [await found(books, clock(), 500 * CREDIT) for _ in range(2)]
    platform = UUID(int=0)
    last = await connect(books, platform, priority=9)
    first = await connect(books, platform, priority=-1)
    await connect(books, platform, priority=-5, enabled=False)
    await connect(books, others, origin="organization")
    mine = await connect(books, hers, origin="organization", priority=50)
    admitted = await teller.admit(ask(hers, MINI))
    asked = [one.route.connection.id for one in admitted.admission.terms.candidates if one.route.connection]
    assert asked == [mine, first, last]
    await teller.do(Release(hers, admitted.id, FAILED))


# ----------------------------------------------------------------------------------------------- auto, experiments


async def test_auto_is_written_down_with_what_it_chose_and_why(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    want = CallWant(AUTO, Size(1_000, 100), shape=Shape(10))
    admitted = await teller.admit(ask(hers, want=want))
    assert await rows(books, "SELECT asked_model, model_id, reason FROM request") == [
        (AUTO, MINI, "auto: simple (short question)")
    ]
    await teller.do(settle(hers, admitted.id, by=answered(MINI)))


async def test_auto_reaches_a_premium_model_for_those_who_have_unlocked_it(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    want = CallWant(AUTO, Size(1_000, 100), shape=Shape(10, has_code=True))
    locked = await teller.admit(ask(hers, want=want))
    await change(
        books,
        """INSERT INTO entitlement (organization_id, id, model_id, source, starts_at)
           VALUES (%s, gen_random_uuid(), 'gpt-4o', 'purchase', %s)""",
        hers, clock(),
    )  # fmt: skip
    unlocked = await teller.admit(ask(hers, want=want))
    assert [one.admission.terms.model.id for one in (locked, unlocked)] == [MINI, "gpt-4o"]
    assert ("trial_messages", "gpt-4o") not in await counters(books, hers)
    for one in (locked, unlocked):
        await teller.do(Release(hers, one.id, FAILED))


async def test_an_experiment_is_taken_part_in_from_the_next_call_on(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    warm = await teller.admit(ask(hers))  # this process has the catalogue in memory
    await change(
        books,
        """WITH made AS (INSERT INTO experiment (id, name, model_id, starts_at, created_at)
                         VALUES (gen_random_uuid(), 'trial', 'sandbox', %s, now()) RETURNING id)
           INSERT INTO experiment_arm SELECT id, 'gpt-4o', 1 FROM made""",
        clock(),
    )
    await change(
        books,
        """INSERT INTO entitlement (organization_id, id, model_id, source, starts_at)
           VALUES (%s, gen_random_uuid(), 'gpt-4o', 'purchase', %s)""",
        hers, clock(),
    )  # fmt: skip
    admitted = await teller.admit(ask(hers))
    assert admitted.admission.terms.model.id == "gpt-4o"
    (request,) = await rows(
        books,
        "SELECT asked_model, model_id, reason, experiment_id = (SELECT id FROM experiment) FROM request WHERE id = %s",
        admitted.id,
    )
    assert request == ("sandbox", "gpt-4o", "experiment: trial", True)
    for one in (warm, admitted):
        await teller.do(Release(hers, one.id, FAILED))


async def test_a_deprecated_model_is_answered_for_by_its_replacement(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    await change(
        books,
        "UPDATE model SET deprecated_at = %s, replacement_model_id = 'gpt-4o-mini' WHERE id = 'llama-3.1-8b'",
        clock(),
    )
    admitted = await teller.admit(ask(hers, "llama-3.1-8b"))
    settled = await teller.do(settle(hers, admitted.id, by=answered(MINI)))
    assert settled.charged_micros == MINI_PRICE
    assert ("messages", "llama-3.1-8b") not in await counters(books, hers)
