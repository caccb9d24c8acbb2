"""Both clients when the way to the server, or the server, fails. Whatever is sent twice happens once."""

from __future__ import annotations

import asyncio
import socket
from decimal import Decimal

import pytest

from tests.client.conftest import Connect, Face
from tests.client.counter import CLOSED, FULL, LOST, Counter, Fault, plain, problem
from tollhouse.client import Conflict, TollhouseError, Unauthenticated, Unavailable, UnknownAnswer, Unsettled, Usage

HANGS = Fault(gate=asyncio.Event())  # never set
CUT = Fault(does=True, raw=b'HTTP/1.1 201 x\r\ncontent-length: 500\r\n\r\n{"id":"r0","sta')
GARBAGE = Fault(raw=plain(200, b"<html>Welcome to the airport</html>"))
BROKEN = Fault(raw=b"HELO mail.example\r\n\r\n")


@pytest.mark.parametrize(
    "faults",
    [[FULL], [CLOSED], [LOST], [CUT], [BROKEN], [LOST, CUT, CLOSED]],
    ids=["full", "closed", "reply lost", "cut", "broken", "all three"],
)
async def test_a_reservation_is_made_once_however_often_it_is_sent(
    face: Face, counter: Counter, faults: list[Fault]
) -> None:
    counter.fail("reservations", *faults)
    made = await face.do("reserve", credits="2.5")
    assert (made.id, made.amount, made.status, made.model) == ("r0", Decimal("2.5"), "pending", None)
    sent = counter.sent("reservations")
    assert len(sent) == len(faults) + 1
    assert len({request.headers["idempotency-key"] for request in sent}) == 1
    assert list(counter.held) == ["r0"]


@pytest.mark.parametrize("fault", [FULL, CLOSED, LOST, CUT, Fault(raw=problem(500, "internal_error"))])
async def test_a_settlement_is_delivered_through_what_passes_and_counts_once(
    face: Face, counter: Counter, fault: Fault
) -> None:
    made = await face.do("reserve", credits="2.5")
    counter.fail("settle", fault, fault)
    settled = await face.do("settle", made.id, credits=Decimal("1.20"))
    assert (settled.charged, settled.variance, settled.replayed) == (Decimal("1.2"), Decimal("-1.3"), fault.does)
    assert [request.body for request in counter.sent("settle")] == [{"credits": "1.2"}] * 3


async def test_releases_and_renewals_are_repeated_too(face: Face, counter: Counter) -> None:
    made = await face.do("reserve", "polish")
    counter.fail("renew", LOST)
    counter.fail("release", LOST)
    assert (await face.do("renew", made.id, 60)).id == made.id
    assert (await face.do("release", made.id, "no use")).status == "released"
    assert [len(counter.sent(what)) for what in ("renew", "release")] == [2, 2]
    assert counter.only.reason == "no use"


async def test_a_server_that_does_not_answer_in_time_is_asked_again(connect: Connect, counter: Counter) -> None:
    face = connect(counter.url, timeout=0.2)
    counter.fail("reservations", HANGS)
    assert (await face.do("reserve", "polish")).id == "r0"


async def test_an_answer_that_drips_without_end_ends_with_the_attempt(connect: Connect, counter: Counter) -> None:
    """Each single piece comes in time."""
    counter.always["balance"] = Fault(raw=b"HTTP/1.1 200 x\r\ncontent-length: 1000000\r\n\r\n", drips=True)
    with pytest.raises(Unavailable, match="No answer after 1 attempt in "):
        await connect(counter.url, timeout=0.3, retry_for=0.1).do("balance")


async def test_nobody_there_is_told_after_a_bounded_time(connect: Connect) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"No answer after \d+ attempts in \d+\.\d s: ConnectError") as raised:
            await connect(nobody, retry_for=0.3).do("reserve", "polish")
    assert (raised.value.code, raised.value.status) == ("no_answer", None)


async def test_a_server_that_stays_full_is_told_as_it_said(connect: Connect, counter: Counter) -> None:
    counter.always["reservations"] = FULL
    with pytest.raises(Unavailable, match="It is overloaded") as raised:
        await connect(counter.url, retry_for=0.3).do("reserve", "polish")
    assert (raised.value.code, raised.value.status, raised.value.request_id) == ("overloaded", 503, "r-1")
    assert 2 <= len(counter.log) <= 5


async def test_a_refusal_is_told_at_once(face: Face, counter: Counter) -> None:
    counter.fail("reservations", Fault(raw=problem(401, "invalid_api_key")))
    with pytest.raises(Unauthenticated):
        await face.do("reserve", "polish")
    assert len(counter.log) == 1


async def test_garbage_is_told_and_not_taken_for_an_answer(face: Face, counter: Counter) -> None:
    counter.fail("reservations", GARBAGE)
    with pytest.raises(UnknownAnswer, match="Welcome to the airport"):
        await face.do("reserve", "polish")
    assert len(counter.log) == 1


@pytest.mark.parametrize("fault", [FULL, CLOSED, LOST, GARBAGE], ids=["full", "closed", "reply lost", "garbage"])
async def test_a_settlement_that_is_never_delivered_is_told_with_all_that_a_later_one_needs(
    connect: Connect, counter: Counter, fault: Fault
) -> None:
    face = connect(counter.url, settle_for=0.2)
    made = await face.do("reserve", "polish")
    counter.always["settle"] = fault
    with pytest.raises(Unsettled, match=r"client\.settle\('r0', usage=Usage\(input_tokens=7, ") as raised:
        await face.do("settle", made.id, usage=Usage(7, 0))
    unsettled = raised.value
    assert (unsettled.reservation_id, unsettled.credits, unsettled.usage) == ("r0", None, Usage(7, 0))
    assert isinstance(unsettled.failure, TollhouseError) and unsettled.__cause__ is unsettled.failure
    counter.always.clear()
    later = await face.do("settle", unsettled.reservation_id, credits=unsettled.credits, usage=unsettled.usage)
    assert later.charged == Decimal("0.5")


async def test_a_refused_settlement_is_the_callers_to_correct(face: Face, counter: Counter) -> None:
    made = await face.do("reserve", "polish")
    counter.fail("settle", Fault(raw=problem(409, "conflict")))
    with pytest.raises(Conflict):
        await face.do("settle", made.id, credits=1)
    assert len(counter.sent("settle")) == 1


async def test_a_settlement_is_tried_longer_than_the_rest(connect: Connect, counter: Counter) -> None:
    face = connect(counter.url, retry_for=0.05, settle_for=5)
    made = await face.do("reserve", "polish")
    counter.fail("settle", *[FULL] * 3)
    assert (await face.do("settle", made.id, credits=1)).charged == 1
    counter.fail("renew", *[FULL] * 3)
    with pytest.raises(Unavailable):
        await face.do("renew", made.id, 60)


async def test_a_run_that_still_runs_is_waited_for_and_its_answer_taken(face: Face, counter: Counter) -> None:
    answer = plain(
        200,
        b'{"id":"r7","capability":"polish","quality":"fast","model":"m","answer":{"text":"Hi"},'
        b'"usage":{"input_tokens":3,"output_tokens":2},"credits_used":"0.5","balance_remaining":"9.5"}',
        "idempotent-replayed: true\r\n",
    )
    running = Fault(raw=problem(409, "conflict", "retry-after: 0\r\n"))
    counter.fail("run", CLOSED, running, running, Fault(raw=answer))
    found = await face.do("run", "polish", {"text": "hi"}, user="u_1", timeout=10)
    assert (found.answer, found.usage, found.credits_used) == ({"text": "Hi"}, Usage(3, 2), Decimal("0.5"))
    assert found.replayed
    assert counter.log[0].path == "/api/capabilities/polish/run"
    assert counter.log[0].body == {"input": {"text": "hi"}, "user": "u_1"}
    assert len({request.headers["idempotency-key"] for request in counter.log}) == 1


async def test_a_run_is_not_waited_for_longer_than_it_was_given(face: Face, counter: Counter) -> None:
    counter.always["run"] = Fault(raw=problem(409, "conflict", "retry-after: 0\r\n"))
    with pytest.raises(Conflict):
        await face.do("run", "polish", {}, timeout=0.3)
    assert len(counter.log) >= 2


async def test_a_run_may_take_longer_than_an_attempt_of_another_call(connect: Connect, counter: Counter) -> None:
    gate = asyncio.Event()
    counter.fail("run", Fault(raw=problem(402, "insufficient_credits"), gate=gate))
    face = connect(counter.url, timeout=0.1)
    running = asyncio.create_task(face.do("run", "polish", {}, timeout=10))
    assert not (await asyncio.wait([running], timeout=0.3))[0]
    gate.set()
    with pytest.raises(TollhouseError, match="insufficient_credits"):
        await running
    assert len(counter.log) == 1


async def test_the_key_goes_along_with_every_call(face: Face, counter: Counter) -> None:
    await face.do("reserve", "polish")
    [request] = counter.log
    assert request.headers["authorization"] == "Bearer th_test_of_the_tests"
    assert request.headers["user-agent"].startswith("tollhouse-python/")
