"""An operation from its reservation to its settlement, in both clients."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.client.conftest import KEY, Connect, Face
from tests.client.counter import CLOSED, FULL, LOST, Counter, Fault, problem
from tollhouse.client import AsyncClient, Client, InsufficientCredits, Release, Settlement, Unsettled
from tollhouse.client.answers import Usage

SETTLE_FOR = 0.2


class Broke(Exception):
    """What the block of a test raises."""


async def test_what_was_used_is_settled_and_the_operation_knows_it(face: Face, counter: Counter) -> None:
    async with face.operation("question_generation", quality="enhanced", user="u_1", metadata={"job": 7}) as op:
        assert (op.model, op.amount, op.max_output_tokens) == ("gpt-4o-mini", Decimal(4), 500)
        assert (op.reservation.id, op.expires_at, op.result) == ("r0", op.reservation.expires_at, None)
        op.sent()
        op.used(usage=Usage(100, 5))
        op.used(usage=Usage(100, 20))
    assert counter.sent("reservations")[0].body == {
        "capability": "question_generation",
        "quality": "enhanced",
        "user": "u_1",
        "metadata": {"job": 7},
    }
    assert counter.only.charged == {"usage": {"input_tokens": 100, "output_tokens": 20}}
    assert isinstance(op.result, Settlement) and op.result.balance == 95


async def test_without_a_report_the_amount_reserved_is_the_price(face: Face, counter: Counter) -> None:
    async with face.operation(credits="2.5") as op:
        assert (op.model, op.amount) == (None, Decimal("2.5"))
    async with face.operation(model="gpt-4o-mini", input_tokens=10) as op:
        op.sent()
    assert [held.charged for held in counter.held.values()] == [{"credits": "2.5"}, {"credits": "4"}]


async def test_an_explicit_zero_is_settled_as_nothing(face: Face, counter: Counter) -> None:
    async with face.operation("polish") as op:
        op.used(credits=0)
    assert counter.only.charged == {"credits": "0"}


ENDINGS: list[Any] = [Broke("secret"), KeyboardInterrupt(), asyncio.CancelledError(), SystemExit(3), GeneratorExit()]


@pytest.mark.parametrize("problem", ENDINGS, ids=lambda problem: type(problem).__name__)
async def test_however_a_block_breaks_its_charge_is_right_and_its_exception_goes_on(
    face: Face, counter: Counter, problem: BaseException
) -> None:
    """Not sent: released. Sent: the amount reserved. Reported: what was reported."""
    made: Any
    for reports in (lambda op: None, lambda op: op.sent(), lambda op: op.used(credits="0.5")):
        made = face.client.operation("polish")
        if isinstance(face.client, AsyncClient):
            with pytest.raises(type(problem)) as raised:
                async with made:
                    reports(made)
                    raise problem
        else:

            def block(made: Any = made, reports: Any = reports) -> BaseException:
                with pytest.raises(type(problem)) as raised, made:
                    reports(made)
                    raise problem
                return raised.value

            assert await asyncio.to_thread(block) is problem
            continue
        assert raised.value is problem
    released, sent, reported = counter.held.values()
    assert (released.status, released.reason, released.charged) == ("released", type(problem).__name__, None)
    assert (sent.status, sent.charged) == ("settled", {"credits": "4"})
    assert (reported.status, reported.charged) == ("settled", {"credits": "0.5"})


async def test_a_released_operation_says_so(face: Face, counter: Counter) -> None:
    with pytest.raises(Broke):
        async with face.operation("polish") as op:
            raise Broke
    assert isinstance(op.result, Release) and op.result.status == "released"


async def test_a_refused_reservation_never_enters_the_block(face: Face, counter: Counter) -> None:
    counter.fail("reservations", Fault(raw=problem(402, "insufficient_credits")))
    entered = False
    with pytest.raises(InsufficientCredits):
        async with face.operation("polish"):
            entered = True
    assert not entered
    assert [request.what for request in counter.log] == ["reservations"]


async def test_a_block_that_cannot_be_kept_alive_does_not_begin_and_gives_everything_back(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_threads(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def work() -> None:
        monkeypatch.setattr(threading.Thread, "start", no_more_threads)
        with Client(KEY, counter.url) as client, client.operation("polish"):
            pytest.fail("the block was entered")

    with pytest.raises(RuntimeError, match="can't start new thread"):
        await asyncio.to_thread(work)
    assert (counter.only.status, counter.only.reason) == ("released", "RuntimeError")


async def test_settlements_outlive_faults(face: Face, counter: Counter) -> None:
    counter.fail("settle", FULL, CLOSED, LOST)
    async with face.operation("polish") as op:
        op.used(credits=1)
    assert isinstance(op.result, Settlement) and op.result.replayed
    assert len(counter.sent("settle")) == 4


@pytest.mark.parametrize("refusal", [FULL, Fault(raw=problem(403, "forbidden"))], ids=["full", "refused"])
async def test_an_open_charge_is_raised_and_logged(
    connect: Connect, counter: Counter, refusal: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    face = connect(counter.url, settle_for=SETTLE_FOR)
    counter.always["settle"] = refusal
    with pytest.raises(Unsettled, match=r"client\.settle\('r0', credits='0\.5'\)") as raised:
        async with face.operation("polish") as op:
            op.used(credits="0.5")
    unsettled = raised.value
    assert (unsettled.reservation_id, unsettled.credits, unsettled.usage) == ("r0", Decimal("0.5"), None)
    assert unsettled.during is None and unsettled.__cause__ is unsettled.failure
    assert op.result is None
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (record.name, record.getMessage()) == ("tollhouse.client", unsettled.detail)


@pytest.mark.parametrize("problem", [Broke("x"), KeyboardInterrupt()], ids=["error", "interrupt"])
async def test_an_open_charge_is_raised_also_when_the_block_broke_and_tells_why_it_did(
    counter: Counter, problem: BaseException
) -> None:
    counter.always["settle"] = FULL

    def threads() -> None:
        with Client(KEY, counter.url, settle_for=SETTLE_FOR) as client, client.operation("polish") as op:
            op.sent()
            raise problem

    with pytest.raises(Unsettled) as raised:
        await asyncio.to_thread(threads)
    assert raised.value.during is raised.value.__context__ is problem
    with pytest.raises(Unsettled) as raised:
        async with AsyncClient(KEY, counter.url, settle_for=SETTLE_FOR) as client, client.operation("polish") as op:
            op.sent()
            raise problem
    assert raised.value.during is raised.value.__context__ is problem
    assert raised.value.credits == 4


async def test_a_release_that_is_not_delivered_does_not_hide_the_exception(connect: Connect, counter: Counter) -> None:
    face = connect(counter.url, retry_for=SETTLE_FOR)
    counter.always["release"] = FULL
    with pytest.raises(Broke) as raised:
        async with face.operation("polish"):
            raise Broke
    [note] = raised.value.__notes__
    assert "Reservation r0 was not released, it ends by itself" in note


async def test_a_wrong_report_is_refused_and_the_operation_charged_all_the_same(face: Face, counter: Counter) -> None:
    """Somebody who reports has called the provider."""
    with pytest.raises(TypeError, match="credits are exact"):
        async with face.operation("polish") as op:
            op.used(credits=0.5)  # type: ignore[arg-type]
    assert counter.only.charged == {"credits": "4"}


async def test_usage_of_plain_credits_is_refused_where_it_is_reported(face: Face, counter: Counter) -> None:
    async with face.operation(credits=3) as op:
        with pytest.raises(ValueError, match="prices no usage"):
            op.used(usage=Usage(1, 1))
        op.used(credits=1)
    assert counter.only.charged == {"credits": "1"}


async def test_a_report_that_comes_too_early_or_too_late_is_refused_and_not_lost_silently(face: Face) -> None:
    made = face.client.operation("polish")
    for early in (made.sent, lambda: made.used(credits=1)):
        with pytest.raises(RuntimeError, match="outside of the block"):
            early()
    with pytest.raises(RuntimeError, match="no reservation yet"):
        _ = made.model
    async with face.operation("polish") as op:
        pass
    with pytest.raises(RuntimeError, match="outside of the block"):
        op.used(credits=1)


async def test_an_operation_is_entered_once(counter: Counter) -> None:
    async with AsyncClient(KEY, counter.url) as client:
        made = client.operation("polish")
        async with made:
            pass
        with pytest.raises(RuntimeError, match="entered once"):
            await made.__aenter__()
    assert len(counter.sent("reservations")) == 1


async def test_a_block_that_runs_twice_with_one_key_is_charged_once(face: Face, counter: Counter) -> None:
    results = []
    for credits in (1, 2):
        async with face.operation("polish", idempotency_key="job-7") as op:
            op.used(credits=credits)
        results.append(op.result)
    assert [isinstance(result, Settlement) and (result.charged, result.replayed) for result in results] == [
        (Decimal(1), False),
        (Decimal(1), True),
    ]
    assert counter.only.charged == {"credits": "1"}


# ------------------------------------------------------------------------------------------------------------ renewals


async def test_a_reservation_is_renewed_as_long_as_the_block_runs(face: Face, counter: Counter) -> None:
    counter.lasts = timedelta(seconds=0.3)
    async with face.operation("polish") as op:
        before = op.expires_at
        await counter.received("renew", 3)
        assert op.expires_at > before
    assert all(request.body == {"ttl_seconds": 5} for request in counter.sent("renew"))
    assert counter.only.status == "settled"


async def test_a_reservation_is_not_renewed_after_its_block(face: Face, counter: Counter) -> None:
    """A second block lives through many renewals of its own, and sees none of the first."""
    counter.lasts = timedelta(seconds=0.15)
    async with face.operation("polish"):
        await counter.received("renew", 1)
    before = counter.held["r0"].renewals
    async with face.operation("polish"):
        await counter.received("renew", len(counter.sent("renew")) + 8)
    assert counter.held["r0"].renewals <= before + 1  # one may have been on its way


async def test_the_reservations_own_time_is_what_is_renewed(face: Face, counter: Counter) -> None:
    counter.lasts = timedelta(seconds=120)
    counter.fail("reservations", LOST)  # the second answer is a replay: nobody knows what is left of the time
    async with face.operation("polish", ttl_seconds=120):
        await counter.received("renew", 1)
    assert counter.sent("reservations")[0].body["ttl_seconds"] == 120
    assert counter.sent("renew")[0].body == {"ttl_seconds": 120}


async def test_a_renewal_that_fails_is_tried_again_and_disturbs_nobody(
    face: Face, counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    counter.lasts = timedelta(seconds=0.3)
    counter.fail("renew", FULL, CLOSED)
    async with face.operation("polish"):
        await counter.received("renew", 4)
    assert counter.only.renewals >= 1
    assert sum("trying again" in record.getMessage() for record in caplog.records) == 2


async def test_a_reservation_that_has_ended_is_not_renewed_any_more_but_settled(face: Face, counter: Counter) -> None:
    counter.lasts = timedelta(seconds=0.06)
    counter.always["renew"] = Fault(raw=problem(409, "conflict"))
    async with face.operation("polish") as op:
        await counter.received("renew", 1)
        await asyncio.sleep(0.1)  # five renewals' time
    assert len(counter.sent("renew")) == 1
    assert isinstance(op.result, Settlement)


async def test_nothing_is_left_of_an_operation(face: Face, counter: Counter) -> None:
    async with face.operation("polish"):
        pass
    assert [one for one in asyncio.all_tasks() if one.get_name().startswith("tollhouse")] == []
    for thread in threading.enumerate():
        if thread.name.startswith("tollhouse"):
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()


async def test_a_client_closed_inside_the_block_leaves_the_charge_open_and_says_so(
    face: Face, counter: Counter
) -> None:
    with pytest.raises(Unsettled, match="has been closed"):
        async with face.operation("polish"):
            await face.do("close")
    assert counter.only.charged is None
