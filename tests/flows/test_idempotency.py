"""Idempotency keys through the teller: what is sent again is answered again, and done once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.flows.cast import (
    CREDIT,
    FAILED,
    SANDBOX_PRICE,
    Clock,
    add_key,
    answer,
    ask,
    balance,
    change,
    found,
    give,
    ledger,
    rows,
    settle,
)
from tollhouse.core.ask import CapabilityWant, CreditsWant
from tollhouse.core.errors import (
    Conflict,
    Forbidden,
    Hint,
    Mismatch,
    Remembered,
    StillRunning,
    TollhouseError,
    Unauthenticated,
)
from tollhouse.core.refusals import InsufficientCredits, LimitExceeded, ModelNotFound
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admit, Admitted, Answer, Outcome, Reap, Release, Replayed, Settle, Settled
from tollhouse.flows.spend import Teller

ENDPOINT = "POST /v1/somewhere"


def once(key: str = "a key", body: bytes = b"a body") -> Once:
    return Once(ENDPOINT, key, body.ljust(32))


def call(organization_id: UUID, kept: Once | None = None, **about: Any) -> Admit:
    """A call that is made here: its answer comes with its settlement."""
    made = ask(organization_id, **about)
    made.once = kept or once()
    return made


def reservation(organization_id: UUID, micros: int = CREDIT, kept: Once | None = None) -> Admit:
    """What the host application asks for: its answer is the reservation."""
    made = call(organization_id, kept, want=CreditsWant(micros))
    made.endpoint = None
    return made


def answered(organization_id: UUID, id_: UUID, said: str, kept: Once | None = None) -> Settle:
    made = settle(organization_id, id_)
    made.answer = Answer(kept or once(), 200, {"said": said})
    return made


def released(organization_id: UUID, id_: UUID, kept: Once | None = None) -> Release:
    return Release(organization_id, id_, FAILED, once=kept or once())


async def refusal(teller: Teller, operation: Any) -> TollhouseError:
    found_answer = await answer(teller, operation)
    assert isinstance(found_answer, TollhouseError), found_answer
    return found_answer


async def records(url: str, organization_id: UUID) -> list[tuple[int | None, UUID | None]]:
    """Status and reservation of what is kept."""
    found_rows = await rows(
        url, "SELECT status, reservation_id FROM idempotency WHERE organization_id = %s", organization_id
    )
    return [(row[0], row[1]) for row in found_rows]


@pytest.fixture
async def hers(books: str, clock: Clock) -> UUID:
    return await found(books, clock(), 20 * CREDIT)


# ------------------------------------------------------------------------------------- a call that is made here


async def test_while_a_call_runs_its_key_is_told_to_wait_and_nothing_more_is_taken(
    books: str, teller: Teller, hers: UUID
) -> None:
    first: Any = await teller.do(call(hers))
    assert await records(books, hers) == [(None, first.id)]
    told = await refusal(teller, call(hers))
    assert isinstance(told, StillRunning)
    assert (told.status, told.retry_after_s, told.should_retry) == (409, 1, True)
    assert await balance(books, hers) == (20 * CREDIT, SANDBOX_PRICE, 0)


async def test_the_answer_is_kept_with_the_settlement_in_one_commit_and_told_with_its_charge(
    books: str, teller: Teller, hers: UUID
) -> None:
    first: Any = await teller.do(call(hers))
    settled: Any = await teller.do(answered(hers, first.id, "hello"))
    for _ in range(2):
        again: Any = await teller.do(call(hers))
        assert again == Replayed(
            200,
            {"said": "hello", "cost_nanos": settled.cost_nanos, "charged_micros": SANDBOX_PRICE,
             "available_micros": settled.available_micros},
        )  # fmt: skip
    assert await records(books, hers) == [(200, first.id)]
    assert await ledger(books, hers) == [("topup_purchase", 20 * CREDIT), ("ai_consumption", -SANDBOX_PRICE)]


async def test_of_two_answers_to_one_call_the_first_is_kept(teller: Teller, hers: UUID) -> None:
    first: Any = await teller.do(call(hers))
    settlements = [answered(hers, first.id, said) for said in ("one", "two")]
    found_answers: list[Settled] = await asyncio.gather(*map(teller.do, settlements))
    assert [one.replayed for one in found_answers] == [False, True]
    again: Any = await teller.do(call(hers))
    assert again.response["said"] == "one"


async def test_a_call_that_was_given_back_frees_its_key(books: str, teller: Teller, hers: UUID) -> None:
    first: Any = await teller.do(call(hers))
    await teller.do(released(hers, first.id))
    assert await records(books, hers) == []
    second: Any = await teller.do(call(hers))
    assert isinstance(second, Admitted) and second.id != first.id
    await teller.do(answered(hers, second.id, "hello"))
    again: Any = await teller.do(call(hers))
    assert again.response["said"] == "hello"


async def test_a_release_that_comes_twice_does_not_forget_the_call_that_has_the_key_now(
    books: str, teller: Teller, hers: UUID
) -> None:
    first: Any = await teller.do(call(hers))
    await teller.do(released(hers, first.id))
    second: Any = await teller.do(call(hers))
    await teller.do(released(hers, first.id))
    assert await records(books, hers) == [(None, second.id)]
    assert isinstance(await refusal(teller, call(hers)), StillRunning)


async def test_a_call_that_ran_after_its_release_leaves_the_key_to_the_call_that_has_it_now(
    books: str, teller: Teller, hers: UUID
) -> None:
    first: Any = await teller.do(call(hers))
    await teller.do(released(hers, first.id))
    second: Any = await teller.do(call(hers))
    late: Any = await teller.do(answered(hers, first.id, "too late"))
    assert late.late
    assert await records(books, hers) == [(None, second.id)]
    await teller.do(answered(hers, second.id, "in time"))
    again: Any = await teller.do(call(hers))
    assert again.response["said"] == "in time"


async def test_a_call_whose_process_was_lost_is_told_so_and_is_not_made_again(
    books: str, teller: Teller, clock: Clock, hers: UUID
) -> None:
    first: Any = await teller.do(call(hers))
    clock.move(seconds=61)
    assert await teller.do(Reap(hers, first.id))
    told = await refusal(teller, call(hers))
    assert isinstance(told, Conflict) and not isinstance(told, StillRunning)
    assert told.retry_after_s is None
    assert "broke off or was lost. Use another key." in str(told)
    assert isinstance(await answer(teller, call(hers, once("another key"))), Admitted)


async def test_a_call_that_was_thought_lost_is_not_charged_again_when_it_settles_after_all(
    books: str, teller: Teller, clock: Clock, hers: UUID
) -> None:
    first: Any = await teller.do(call(hers))
    clock.move(seconds=61)
    await teller.do(Reap(hers, first.id))
    reaped = await ledger(books, hers)
    settled: Any = await teller.do(answered(hers, first.id, "here I am"))
    assert settled.replayed
    assert await ledger(books, hers) == reaped
    told = await refusal(teller, call(hers))
    assert isinstance(told, Conflict) and not isinstance(told, StillRunning)


async def test_an_answer_without_a_key_is_kept_nowhere(books: str, teller: Teller, hers: UUID) -> None:
    first: Any = await teller.do(ask(hers))
    await teller.do(answered(hers, first.id, "hello"))
    assert await records(books, hers) == []


# ------------------------------------------------------------------------------------------- what is asked for only


async def test_a_reservation_is_its_own_answer(books: str, teller: Teller, hers: UUID) -> None:
    first: Any = await teller.do(reservation(hers))
    again: Any = await teller.do(reservation(hers))
    assert (again.status, again.response["id"], again.response["amount_micros"]) == (201, str(first.id), CREDIT)
    await teller.do(Release(hers, first.id, None, "nobody came"))
    later: Any = await teller.do(reservation(hers))
    assert later == again  # as it was answered, not as it is
    assert await records(books, hers) == [(201, first.id)]


async def test_of_a_hundred_at_once_in_one_batch_one_is_done(books: str, teller: Teller, hers: UUID) -> None:
    answers = await asyncio.gather(*(teller.do(reservation(hers)) for _ in range(100)))
    firsts = [one for one in answers if isinstance(one, Admitted)]
    assert len(firsts) == 1
    assert {one.response["id"] for one in answers if isinstance(one, Replayed)} == {str(firsts[0].id)}
    assert await balance(books, hers) == (20 * CREDIT, CREDIT, 0)


async def test_two_tellers_do_it_once_together(books: str, teller: Teller, clock: Clock, hers: UUID) -> None:
    other = Teller(books, "test", clock)
    await other.open()
    answers = await asyncio.gather(*((teller, other)[n % 2].do(reservation(hers)) for n in range(40)))
    await other.close()
    assert sum(isinstance(one, Admitted) for one in answers) == 1
    assert await balance(books, hers) == (20 * CREDIT, CREDIT, 0)


async def test_another_body_is_a_mistake_whatever_became_of_the_first(
    books: str, teller: Teller, clock: Clock, hers: UUID
) -> None:
    other = once(body=b"another body")
    answers = await asyncio.gather(*(answer(teller, one) for one in (call(hers), call(hers, other))))
    assert [type(one) for one in answers] == [Admitted, Mismatch]  # in one batch, while it runs
    await teller.do(answered(hers, answers[0].id, "hello"))
    told = await refusal(teller, call(hers, other))
    assert isinstance(told, Mismatch)
    assert (told.status, "Send the same body, or another key" in str(told)) == (422, True)
    assert isinstance(await answer(teller, call(hers)), Replayed)


async def test_keys_are_of_one_organisation_and_one_endpoint(
    books: str, teller: Teller, clock: Clock, hers: UUID
) -> None:
    his = await found(books, clock(), 20 * CREDIT)
    elsewhere = replace(once(), endpoint="POST /v1/elsewhere")
    asks = [reservation(hers), reservation(his), reservation(hers, kept=elsewhere), reservation(hers, kept=once("b"))]
    assert [type(await answer(teller, one)) for one in asks] == [Admitted] * 4


# ------------------------------------------------------------------------------------------------------------ refusals


async def test_a_refusal_is_kept_for_whoever_asks_again(books: str, teller: Teller, clock: Clock, hers: UUID) -> None:
    first = await refusal(teller, reservation(hers, 21 * CREDIT))
    assert isinstance(first, InsufficientCredits)
    assert await records(books, hers) == [(402, None)]
    await give(books, hers, 5 * CREDIT, clock())
    again = await refusal(teller, reservation(hers, 21 * CREDIT))
    assert isinstance(again, Remembered)
    assert (again.code, again.status, str(again)) == (first.code, first.status, str(first))
    assert again.details()["required"] == first.details()["required"] == "21"
    assert [(hint.kind, hint.at) for hint in again.hints()] == [(hint.kind, hint.at) for hint in first.hints()]
    assert again.should_retry is False
    other = await refusal(teller, reservation(hers, 21 * CREDIT, once(body=b"another body")))
    assert isinstance(other, Mismatch)
    assert isinstance(await answer(teller, reservation(hers, 21 * CREDIT, once("another key"))), Admitted)


async def test_a_decision_of_the_plan_is_kept_with_its_hints(books: str, teller: Teller, clock: Clock) -> None:
    his = await found(books, clock(), CREDIT, "free")
    use = call(his, channel="capability", want=CapabilityWant("question_generation", "enhanced"))
    first = await refusal(teller, use)
    await change(books, "UPDATE organization SET plan_id = 'pro' WHERE id = %s", his)
    again = await refusal(teller, replace(use))
    assert (first.code, again.code, type(again)) == ("capability_denied", "capability_denied", Remembered)
    assert again.hints() == first.hints() == (Hint("upgrade", price_cents=4_900, plan="pro"),)


async def test_what_is_wrong_with_the_request_is_told_anew(books: str, teller: Teller, hers: UUID) -> None:
    """What there is not may be there tomorrow."""
    for _ in range(2):
        assert isinstance(await refusal(teller, call(hers, model_id="none")), ModelNotFound)
    assert await records(books, hers) == []


async def test_a_refusal_that_invites_a_retry_is_not_what_the_retry_is_answered(
    books: str, teller: Teller, clock: Clock, hers: UUID
) -> None:
    """A client waits as long as it was told and sends the same request with the same key."""
    await change(
        books,
        """INSERT INTO usage_limit (organization_id, id, scope, meter, period, maximum, created_at)
           VALUES (%s, %s, 'organization', 'messages', 'minute', 1, %s)""",
        hers, uuid4(), clock(),
    )  # fmt: skip
    await teller.do(ask(hers))
    first = await refusal(teller, call(hers))
    assert isinstance(first, LimitExceeded) and first.retry_after_s is not None
    clock.move(seconds=first.retry_after_s + 1)
    assert isinstance(await answer(teller, call(hers)), Admitted)


async def test_what_is_wrong_with_the_key_of_the_caller_is_no_answer_to_the_request(
    books: str, teller: Teller, hers: UUID
) -> None:
    key_id = await add_key(books, hers)
    lacking = await refusal(teller, call(hers, key_id=key_id, needs=frozenset({"credits"})))
    assert isinstance(lacking, Forbidden)
    assert await records(books, hers) == []
    first: Any = await teller.do(call(hers, key_id=key_id))
    await teller.do(answered(hers, first.id, "hello"))
    assert isinstance(await answer(teller, call(hers, key_id=key_id)), Replayed)
    await change(books, "UPDATE api_key SET revoked_at = now() WHERE id = %s", key_id)
    assert isinstance(await refusal(teller, call(hers, key_id=key_id)), Unauthenticated)
    another = await add_key(books, hers)
    assert isinstance(await answer(teller, call(hers, key_id=another)), Replayed)


async def test_a_suspension_is_not_remembered_when_it_is_over(books: str, teller: Teller, hers: UUID) -> None:
    await change(books, "UPDATE organization SET suspended_at = now() WHERE id = %s", hers)
    assert isinstance(await refusal(teller, reservation(hers)), Forbidden)
    await change(books, "UPDATE organization SET suspended_at = NULL WHERE id = %s", hers)
    assert isinstance(await answer(teller, reservation(hers)), Admitted)


async def test_a_call_that_was_cut_short_keeps_what_it_answered(books: str, teller: Teller, hers: UUID) -> None:
    first: Any = await teller.do(call(hers))
    cut = answered(hers, first.id, "hel")
    cut.outcome = Outcome("incomplete", error="the provider broke")
    await teller.do(cut)
    again: Any = await teller.do(call(hers))
    assert (again.status, again.response["said"]) == (200, "hel")
