"""The teller on a real database: no limit is passed, however many ask at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.flows.cast import (
    CREDIT,
    FAILED,
    GPT_PRICE,
    SANDBOX_PRICE,
    TOKENS,
    Clock,
    add_key,
    answer,
    ask,
    balance,
    change,
    counters,
    found,
    give,
    ledger,
    rows,
    settle,
)
from tollhouse.core.errors import Forbidden, NotFound, Unauthenticated
from tollhouse.core.price import Usage
from tollhouse.core.refusals import InsufficientCredits, LimitExceeded, QuotaExceeded, TrialExpired
from tollhouse.flows.operation import Admitted, CatchUp, Release
from tollhouse.flows.seed import DEMO_ID
from tollhouse.flows.spend import Teller

PLENTY = 10**6


@pytest.fixture
async def other_teller(books: str, clock: Clock) -> AsyncIterator[Teller]:
    """A second process on the same database."""
    made = Teller(books, "test", clock)
    await made.open()
    yield made
    await made.close()


async def kinds(tellers: list[Teller], asks: list[Any]) -> Counter[type]:
    """How often each kind of answer came, when all ask at once."""
    answers = await asyncio.gather(*(answer(tellers[n % len(tellers)], one) for n, one in enumerate(asks)))
    return Counter(type(one) for one in answers)


# ---------------------------------------------------------------------------------------------------- many at once


async def test_credits_for_twenty_calls_admit_twenty_of_two_hundred(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 20 * SANDBOX_PRICE)
    answers = await kinds([teller], [ask(hers) for _ in range(200)])
    assert answers == {Admitted: 20, InsufficientCredits: 180}
    assert await balance(books, hers) == (20 * SANDBOX_PRICE, 20 * SANDBOX_PRICE, 0)


async def test_two_processes_together_admit_no_more_than_one(
    books: str, teller: Teller, other_teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 20 * SANDBOX_PRICE)
    answers = await kinds([teller, other_teller], [ask(hers) for _ in range(200)])
    assert answers == {Admitted: 20, InsufficientCredits: 180}


async def test_credits_that_calls_gave_back_are_there_for_others(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 20 * SANDBOX_PRICE)

    async def call() -> type:
        admitted = await answer(teller, ask(hers))
        if isinstance(admitted, Admitted):
            await teller.do(settle(hers, admitted.id, Usage(100, 10)))
        return type(admitted)

    answers = Counter([kind for _ in range(10) for kind in await asyncio.gather(*(call() for _ in range(20)))])
    assert answers == {Admitted: 200 - answers[InsufficientCredits], InsufficientCredits: answers[InsufficientCredits]}
    assert await balance(books, hers) == (20 * SANDBOX_PRICE - answers[Admitted] * SANDBOX_PRICE // 10, 0, 0)


async def test_a_trial_of_two_messages_lets_two_of_fifty_through(
    books: str, teller: Teller, other_teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    answers = await kinds([teller, other_teller], [ask(hers, "gpt-4o") for _ in range(50)])
    assert answers == {Admitted: 2, TrialExpired: 48}
    assert (await counters(books, hers))["trial_messages", "gpt-4o"] == (0, 2)


async def test_a_trial_counts_for_each_person_alone(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    asks = [ask(hers, "gpt-4o", subject_id=UUID(int=n % 3)) for n in range(30)]
    assert await kinds([teller], asks) == {Admitted: 6, TrialExpired: 24}


async def test_the_daily_messages_of_a_plan_are_exact(
    books: str, teller: Teller, other_teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 500 * CREDIT, "free")
    answers = await kinds([teller, other_teller], [ask(hers) for _ in range(130)])
    assert answers == {Admitted: 100, LimitExceeded: 30}
    clock.move(days=1)
    assert await kinds([teller], [ask(hers)]) == {Admitted: 1}


@pytest.mark.parametrize(
    ("tight", "refusal"),
    [
        ("credits", InsufficientCredits),
        ("tokens", QuotaExceeded),
        ("messages", LimitExceeded),
        ("model_messages", LimitExceeded),
        ("trial", TrialExpired),
    ],
)
async def test_of_many_limits_at_once_all_are_taken_or_none(
    books: str, teller: Teller, clock: Clock, tight: str, refusal: type
) -> None:
    room = dict.fromkeys(("credits", "tokens", "messages", "model_messages", "trial"), 40) | {tight: 7}
    await change(
        books,
        "UPDATE plan SET monthly_tokens = %s, daily_messages = %s WHERE id = 'free'",
        room["tokens"] * TOKENS,
        room["messages"],
    )
    await change(
        books,
        "UPDATE model SET daily_messages = %s, trial_messages = %s WHERE id = 'gpt-4o'",
        room["model_messages"],
        room["trial"],
    )
    hers = await found(books, clock(), room["credits"] * GPT_PRICE, "free")
    assert await kinds([teller], [ask(hers, "gpt-4o") for _ in range(50)]) == {Admitted: 7, refusal: 43}
    assert await balance(books, hers) == (room["credits"] * GPT_PRICE, 7 * GPT_PRICE, 0)
    assert await counters(books, hers) == {
        ("messages", ""): (0, 7),
        ("messages", "gpt-4o"): (0, 7),
        ("tokens", ""): (0, 7 * TOKENS),
        ("trial_messages", "gpt-4o"): (0, 7),
    }


async def test_a_refused_call_leaves_no_trace(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), SANDBOX_PRICE - 1)
    assert await kinds([teller], [ask(hers)]) == {InsufficientCredits: 1}
    assert await counters(books, hers) == {}
    assert (
        await rows(books, "SELECT id FROM reservation UNION SELECT id FROM request UNION SELECT id FROM usage_event")
        == []
    )


async def test_organisations_of_one_batch_do_not_touch_each_other(books: str, teller: Teller, clock: Clock) -> None:
    several = [await found(books, clock(), n * SANDBOX_PRICE) for n in range(6)]
    answers = await asyncio.gather(*(answer(teller, ask(id_)) for _ in range(6) for id_ in several))
    admitted = Counter(one.organization_id for one in answers if isinstance(one, Admitted))
    assert [admitted[id_] for id_ in several] == list(range(6))


# ------------------------------------------------------------------------------------------------- what an ask finds


async def test_the_demo_organisation_can_call_the_sandbox(teller: Teller) -> None:
    admitted = await teller.admit(ask(DEMO_ID))
    assert (admitted.amount_micros, admitted.admission.terms.output_tokens) == (SANDBOX_PRICE, 100)
    settled = await teller.do(settle(DEMO_ID, admitted.id))
    assert settled.charged_micros == SANDBOX_PRICE
    assert settled.available_micros == 525 * CREDIT - SANDBOX_PRICE


async def test_a_key_is_refused_from_the_moment_of_its_revocation(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    key_id = await add_key(books, hers)
    running = await teller.admit(ask(hers, key_id=key_id, needs=frozenset({"gateway"})))
    await change(books, "UPDATE api_key SET revoked_at = now() WHERE id = %s", key_id)
    with pytest.raises(Unauthenticated, match="revoked"):
        await teller.admit(ask(hers, key_id=key_id, needs=frozenset({"gateway"})))
    assert (await teller.do(settle(hers, running.id))).charged_micros == SANDBOX_PRICE


async def test_a_key_of_another_organisation_opens_nothing(books: str, teller: Teller, clock: Clock) -> None:
    hers, theirs = await found(books, clock(), CREDIT), await found(books, clock(), CREDIT)
    key_id = await add_key(books, theirs)
    with pytest.raises(Unauthenticated):
        await teller.admit(ask(hers, key_id=key_id))


async def test_a_key_expires_by_the_time_of_its_organisation(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    key_id = await add_key(books, hers)
    await change(books, "UPDATE api_key SET expires_at = %s WHERE id = %s", clock() + timedelta(hours=1), key_id)
    admitted = await teller.admit(ask(hers, key_id=key_id))
    await teller.do(settle(hers, admitted.id))
    await change(books, "UPDATE organization SET clock_offset_micros = 3600000000 WHERE id = %s", hers)
    with pytest.raises(Unauthenticated, match="expired"):
        await teller.admit(ask(hers, key_id=key_id))


async def test_a_suspended_organisation_is_refused_at_the_next_call(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    await teller.admit(ask(hers))
    await change(books, "UPDATE organization SET suspended_at = now() WHERE id = %s", hers)
    with pytest.raises(Forbidden, match="suspended"):
        await teller.admit(ask(hers))


async def test_an_organisation_that_does_not_exist_is_not_found(teller: Teller) -> None:
    with pytest.raises(NotFound):
        await teller.admit(ask(UUID(int=404)))


async def test_a_changed_price_counts_from_the_next_call_and_not_for_the_running_one(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), 10 * CREDIT)
    running = await teller.admit(ask(hers))
    await change(
        books,
        """INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million,
               cached_input_nanos_per_million, output_nanos_per_million)
           VALUES ('sandbox', 2, %s, 5000000000, 0, 15000000000)""",
        clock(),
    )
    assert (await teller.admit(ask(hers))).amount_micros == 10 * SANDBOX_PRICE
    assert (await teller.do(settle(hers, running.id))).charged_micros == SANDBOX_PRICE


async def test_an_entitlement_opens_a_premium_model_until_it_ends(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    await change(books, "UPDATE model SET trial_messages = 0 WHERE id = 'gpt-4o'")
    await change(
        books,
        """INSERT INTO entitlement (organization_id, id, model_id, source, starts_at, expires_at)
           VALUES (%s, %s, 'gpt-4o', 'admin_grant', %s, %s)""",
        hers,
        UUID(int=1),
        clock(),
        clock() + timedelta(days=1),
    )
    admitted = await teller.admit(ask(hers, "gpt-4o"))
    assert not admitted.admission.weighed.trial
    clock.move(days=1)
    assert (await answer(teller, ask(hers, "gpt-4o"))).code == "model_locked"


async def test_a_credit_that_was_given_counts_from_the_next_call(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock())
    assert await kinds([teller], [ask(hers)]) == {InsufficientCredits: 1}
    await give(books, hers, SANDBOX_PRICE, clock())
    assert await kinds([teller], [ask(hers), ask(hers)]) == {Admitted: 1, InsufficientCredits: 1}


async def test_an_end_user_of_a_host_application_is_made_on_first_sight_once(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    asks = [ask(hers) for _ in range(8)]
    for one in asks:
        one.external_user = "u_1"
    assert await kinds([teller], asks) == {Admitted: 8}
    assert await rows(books, "SELECT external_id FROM end_user WHERE organization_id = %s", hers) == [("u_1",)]


# ------------------------------------------------------------------------------------------------------ many grants


async def test_more_grants_than_are_read_at_once_burn_in_the_same_order(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock())
    given = [await give(books, hers, 10_000, clock(), expires_at=clock() + timedelta(days=100 - n)) for n in range(40)]
    admitted = await teller.admit(ask(hers, output_tokens=1_000, input_tokens=4_000))
    assert admitted.amount_micros == 350_000
    assert [grant_id for grant_id, _ in admitted.admission.hold.grants] == given[:4:-1]


async def test_grants_that_a_call_gives_back_wait_for_their_turn(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock())
    for _ in range(36):
        await give(books, hers, 10_000, clock(), "topup")
    first = await teller.admit(ask(hers, output_tokens=1_000, input_tokens=4_200))
    assert first.amount_micros == 36 * 10_000
    promotional = [await give(books, hers, 10_000, clock(), "promo") for _ in range(36)]
    _, second = await asyncio.gather(
        teller.do(Release(hers, first.id, FAILED)), teller.admit(ask(hers, output_tokens=1_000, input_tokens=4_200))
    )
    assert {grant_id for grant_id, _ in second.admission.hold.grants} == set(promotional)


async def test_catching_up_any_number_of_times_changes_nothing(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    await asyncio.gather(*(teller.do(CatchUp(hers)) for _ in range(20)))
    assert await ledger(books, hers) == [("topup_purchase", CREDIT)]
