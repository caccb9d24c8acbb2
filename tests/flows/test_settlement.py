"""How a call ends on a real database: settled, released or expired, once, in whatever order the news come."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.flows.cast import (
    CREDIT,
    DONE,
    FAILED,
    GPT_PRICE,
    INPUT_PRICE,
    SANDBOX_PRICE,
    TOKENS,
    Clock,
    answer,
    answered,
    ask,
    balance,
    change,
    counters,
    found,
    ledger,
    rows,
    settle,
)
from tollhouse.core.errors import NotFound
from tollhouse.core.price import Usage
from tollhouse.core.refusals import TrialExpired
from tollhouse.flows.operation import LEASE, Admitted, AnyOperation, Reap, Release, Renew, Renewed, Settled
from tollhouse.flows.spend import Teller

HALF = Usage(500, 50)


async def state(url: str, reservation_id: UUID) -> tuple[str, int | None, str, str | None]:
    """State and charge of the reservation, state of the request, outcome of the attempt."""
    (row,) = await rows(
        url,
        """SELECT r.state, r.charged_micros, q.state, a.outcome FROM reservation r
           JOIN request q USING (organization_id, id)
           JOIN attempt a ON a.organization_id = r.organization_id AND a.request_id = r.id
           WHERE r.id = %s""",
        reservation_id,
    )
    return row[0], row[1], row[2], row[3]


# ------------------------------------------------------------------------------------------------- settle and release


async def test_a_call_is_charged_what_it_used_and_the_rest_is_free_again(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    settled = await teller.do(settle(hers, admitted.id, HALF))
    assert settled == Settled(
        SANDBOX_PRICE // 2, 325_000, -SANDBOX_PRICE // 2, CREDIT - SANDBOX_PRICE // 2, late=False, replayed=False
    )
    assert await balance(books, hers) == (CREDIT - SANDBOX_PRICE // 2, 0, 0)
    assert await counters(books, hers) == {
        ("messages", ""): (1, 0),
        ("messages", "sandbox"): (1, 0),
        ("tokens", ""): (550, 0),
    }
    assert await state(books, admitted.id) == ("settled", SANDBOX_PRICE // 2, "done", "answered")


async def test_a_settlement_that_is_repeated_charges_once(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    first = await teller.do(settle(hers, admitted.id))
    again = await teller.do(settle(hers, admitted.id, HALF))
    assert (again.charged_micros, again.replayed) == (first.charged_micros, True)
    assert await ledger(books, hers) == [("topup_purchase", CREDIT), ("ai_consumption", -SANDBOX_PRICE)]


async def test_two_processes_that_settle_the_same_call_charge_it_once(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    other = Teller(books, "test", clock)
    await other.open()
    settled = await asyncio.gather(*(one.do(settle(hers, admitted.id)) for _ in range(10) for one in (teller, other)))
    await other.close()
    assert [one.replayed for one in settled].count(False) == 1
    assert {one.charged_micros for one in settled} == {SANDBOX_PRICE}
    assert await balance(books, hers) == (CREDIT - SANDBOX_PRICE, 0, 0)


async def test_a_settlement_above_the_reservation_is_booked_in_full_and_the_next_call_refused(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), SANDBOX_PRICE)
    admitted = await teller.admit(ask(hers))
    settled = await teller.do(settle(hers, admitted.id, Usage(1_000, 200)))
    assert settled.charged_micros == 80_000
    assert settled.available_micros == SANDBOX_PRICE - 80_000
    assert await balance(books, hers) == (0, 0, 80_000 - SANDBOX_PRICE)
    assert (await answer(teller, ask(hers))).code == "insufficient_credits"
    assert await rows(
        books, "SELECT estimation_variance_micros FROM credit_transaction WHERE reservation_id = %s ORDER BY seq",
        admitted.id,
    ) == [(15_000,), (None,)]  # fmt: skip


async def test_a_release_gives_everything_back_and_its_repetition_nothing(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    for _ in range(2):
        assert (await teller.do(Release(hers, admitted.id, FAILED))).available_micros == CREDIT
    assert await counters(books, hers) == dict.fromkeys(
        [("messages", ""), ("messages", "sandbox"), ("tokens", "")], (0, 0)
    )
    assert await state(books, admitted.id) == ("released", None, "failed", "failed")
    assert await ledger(books, hers) == [("topup_purchase", CREDIT)]


async def test_a_settlement_after_the_release_is_booked_late_and_once(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    await teller.do(Release(hers, admitted.id, FAILED))
    assert not (await teller.do(settle(hers, admitted.id))).replayed
    assert (await teller.do(settle(hers, admitted.id))).replayed
    assert await ledger(books, hers) == [("topup_purchase", CREDIT), ("late_settle", -SANDBOX_PRICE)]
    assert await state(books, admitted.id) == ("released", SANDBOX_PRICE, "done", "answered")
    assert (await counters(books, hers))["tokens", ""] == (TOKENS, 0)
    (reason,) = await rows(books, "SELECT reason FROM reservation WHERE id = %s", admitted.id)
    assert reason == (FAILED.error,)


async def test_a_settled_call_cannot_be_released(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    await teller.do(settle(hers, admitted.id))
    assert (await teller.do(Release(hers, admitted.id, FAILED))).available_micros == CREDIT - SANDBOX_PRICE
    assert await state(books, admitted.id) == ("settled", SANDBOX_PRICE, "done", "answered")


async def test_a_release_gives_the_trial_message_back(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), 500 * CREDIT)
    first, second = [await teller.admit(ask(hers, "gpt-4o")) for _ in range(2)]
    assert (first.admission.trial_remaining, second.admission.trial_remaining) == (1, 0)
    await teller.do(Release(hers, first.id, FAILED))
    third = await teller.admit(ask(hers, "gpt-4o"))
    await teller.do(settle(hers, third.id, by=answered("gpt-4o")))
    assert isinstance(await answer(teller, ask(hers, "gpt-4o")), TrialExpired)
    assert (await counters(books, hers))["trial_messages", "gpt-4o"] == (1, 1)
    assert (await balance(books, hers))[1] == GPT_PRICE


async def test_a_reservation_of_another_organisation_is_not_found(books: str, teller: Teller, clock: Clock) -> None:
    hers, theirs = await found(books, clock(), CREDIT), await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    strangers: list[AnyOperation] = [
        settle(theirs, admitted.id),
        Release(theirs, admitted.id, FAILED),
        Renew(theirs, admitted.id, 1, 1),
        Reap(theirs, admitted.id),
    ]
    for operation in strangers:
        assert isinstance(await answer(teller, operation), NotFound)
    assert await balance(books, hers) == (CREDIT, SANDBOX_PRICE, 0)


async def test_the_day_in_which_a_call_began_pays_for_it(books: str, teller: Teller, clock: Clock) -> None:
    clock.now = clock.now.replace(hour=23, minute=59, second=30)
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    clock.move(seconds=45)
    await teller.do(settle(hers, admitted.id))
    days = await rows(
        books, "SELECT starts_at, used FROM quota_window WHERE organization_id = %s AND period = 'day'", hers
    )
    assert days == [(clock.now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1), 1)] * 2


async def test_on_a_channel_that_takes_no_credits_only_limits_count(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock())
    admitted = await teller.admit(ask(hers, channel="chat"))
    settled = await teller.do(settle(hers, admitted.id))
    assert (admitted.amount_micros, settled.charged_micros, settled.cost_nanos) == (0, 0, 650_000)
    assert await ledger(books, hers) == []
    assert (await counters(books, hers))["tokens", ""] == (TOKENS, 0)


# --------------------------------------------------------------------------------------------------- lease and reaper


async def test_a_renewal_moves_the_end_of_the_lease(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    clock.move(seconds=50)
    assert await teller.do(Renew(hers, admitted.id, 1_000, 0)) == Renewed("pending", clock() + LEASE)
    clock.move(seconds=59)
    assert await teller.do(Reap(hers, admitted.id)) is False
    clock.move(seconds=1)
    assert await teller.do(Reap(hers, admitted.id)) is True


async def test_a_lost_call_is_charged_what_its_last_checkpoint_says(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    await teller.do(Renew(hers, admitted.id, 500, 20))
    await teller.do(Renew(hers, admitted.id, 500, 50))
    clock.now += LEASE
    assert await teller.do(Reap(hers, admitted.id)) is True
    assert await teller.do(Reap(hers, admitted.id)) is False
    assert await state(books, admitted.id) == ("settled", SANDBOX_PRICE // 2, "incomplete", "incomplete")
    events = await rows(books, "SELECT input_tokens, output_tokens, estimated, provider_id FROM usage_event")
    assert events == [(500, 50, True, "sandbox")]
    assert (await teller.do(settle(hers, admitted.id))).replayed


async def test_a_lost_call_of_which_nothing_was_heard_is_charged_its_input_since_its_provider_was_called(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    clock.now += LEASE
    assert await teller.do(Reap(hers, admitted.id)) is True
    assert await state(books, admitted.id) == ("settled", INPUT_PRICE, "incomplete", "incomplete")
    assert await rows(books, "SELECT input_tokens, output_tokens, estimated FROM usage_event") == [(250, 0, True)]
    assert await balance(books, hers) == (CREDIT - INPUT_PRICE, 0, 0)
    assert await teller.do(Renew(hers, admitted.id, 1_000, 10)) == Renewed("settled", admitted.created_at + LEASE)
    assert (await teller.do(settle(hers, admitted.id))).replayed
    assert await ledger(books, hers) == [("topup_purchase", CREDIT), ("ai_consumption", -INPUT_PRICE)]


async def test_a_lost_call_of_the_host_application_is_given_back_and_charged_late_when_it_reports_after_all(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(replace(ask(hers), endpoint=None))
    clock.now += LEASE
    assert await teller.do(Reap(hers, admitted.id)) is True
    assert await balance(books, hers) == (CREDIT, 0, 0)
    assert await teller.do(Renew(hers, admitted.id)) == Renewed("expired", admitted.created_at + LEASE)
    await teller.do(settle(hers, admitted.id))
    assert await ledger(books, hers) == [("topup_purchase", CREDIT), ("late_settle", -SANDBOX_PRICE)]


async def test_the_lease_runs_by_the_time_of_the_organisation(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    assert await teller.do(Reap(hers, admitted.id)) is False
    await change(books, "UPDATE organization SET clock_offset_micros = 60000000 WHERE id = %s", hers)
    assert await teller.do(Reap(hers, admitted.id)) is True


# ---------------------------------------------------------------------------------------- news that arrive together


def released(admitted: Admitted) -> AnyOperation:
    return Release(admitted.organization_id, admitted.id, FAILED)


def settled_by(usage: Usage) -> Callable[[Admitted], AnyOperation]:
    def make(admitted: Admitted) -> AnyOperation:
        return settle(admitted.organization_id, admitted.id, usage)

    return make


def reaped(admitted: Admitted) -> AnyOperation:
    return Reap(admitted.organization_id, admitted.id)


def renewed(input_tokens: int, output_tokens: int) -> Callable[[Admitted], AnyOperation]:
    def make(admitted: Admitted) -> AnyOperation:
        return Renew(admitted.organization_id, admitted.id, input_tokens, output_tokens)

    return make


@pytest.mark.parametrize(
    ("news", "expected", "charge"),
    [
        ([released, settled_by(HALF)], ("released", 32_500, "done", "answered"), 32_500),
        ([settled_by(HALF), released], ("settled", 32_500, "done", "answered"), 32_500),
        ([settled_by(HALF), settled_by(Usage(9, 9))], ("settled", 32_500, "done", "answered"), 32_500),
        ([released, settled_by(HALF), settled_by(HALF)], ("released", 32_500, "done", "answered"), 32_500),
        ([reaped, settled_by(HALF)], ("settled", INPUT_PRICE, "incomplete", "incomplete"), INPUT_PRICE),
        ([renewed(400, 4), settled_by(HALF)], ("settled", 32_500, "done", "answered"), 32_500),
        ([renewed(400, 4), reaped], ("pending", None, "running", None), 0),
        ([reaped, renewed(400, 4)], ("settled", INPUT_PRICE, "incomplete", "incomplete"), INPUT_PRICE),
    ],
    ids=["release-settle", "settle-release", "settle-settle", "release-settle-settle", "reap-settle", "renew-settle",
         "renew-reap", "reap-renew"],
)  # fmt: skip
async def test_news_of_one_call_that_arrive_together_count_as_one_after_another(
    books: str,
    teller: Teller,
    clock: Clock,
    news: list[Callable[[Admitted], AnyOperation]],
    expected: tuple[Any, ...],
    charge: int,
) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    clock.now += LEASE
    await asyncio.gather(*(teller.do(make(admitted)) for make in news))
    assert await state(books, admitted.id) == expected
    assert (await balance(books, hers))[0] == CREDIT - charge


async def test_of_two_checkpoints_that_arrive_together_the_last_counts(
    books: str, teller: Teller, clock: Clock
) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    await asyncio.gather(*(teller.do(renewed(400, tokens)(admitted)) for tokens in range(1, 41)))
    assert await rows(books, "SELECT input_tokens, output_tokens FROM attempt") == [(400, 40)]


async def test_what_is_known_of_an_answer_is_written_with_its_charge(books: str, teller: Teller, clock: Clock) -> None:
    hers = await found(books, clock(), CREDIT)
    admitted = await teller.admit(ask(hers))
    operation = settle(hers, admitted.id, Usage(1_000, 60, cached_input_tokens=400, reasoning_tokens=20))
    operation.outcome = replace(DONE, state="incomplete", client_left=True, status=200)
    await teller.do(operation)
    assert await rows(
        books,
        """SELECT input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, messages, trial, estimated,
                  cost_nanos, charged_micros, duration_ms, first_token_ms FROM usage_event""",
    ) == [(1_000, 400, 60, 20, 1, False, False, 490_000, 49_000, 20, 5)]
    assert await rows(books, "SELECT state, client_left FROM request") == [("incomplete", True)]
    assert await rows(
        books,
        "SELECT outcome, status, input_tokens, output_tokens, cost_nanos, first_byte_at - started_at FROM attempt",
    ) == [("incomplete", 200, 1_000, 60, 490_000, timedelta(milliseconds=5))]
