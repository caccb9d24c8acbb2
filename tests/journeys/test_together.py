"""Four processes on one database, and everybody at once: exactly as much is let through as fits, and never a part."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.house import House, Reply, Tenant, ask, charge, credits, fresh_house, micros

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

RESERVATIONS = "/api/credits/reservations"
TOKENS = 60  # of each answer; shorter ones are not cut to what is left, they are refused
MODEL, LIMITED = "gpt-4o-mini", "llama-3.1-8b"  # answered by the sandbox: nobody is connected
Result = TypeVar("Result")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    """Its client lets go of an idle connection sooner than the server does: none is used that is being closed."""
    async with fresh_house(cluster, seeded_template, processes=4) as made:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield replace(made, session=session)


@pytest_asyncio.fixture(loop_scope="module")
async def proved(house: House) -> AsyncIterator[None]:
    """The ledger holds when the test is over."""
    yield
    await house.assert_ledger_holds()


async def at_once(work: Iterable[Awaitable[Result]]) -> list[Result]:
    return list(await asyncio.gather(*work))


async def post(house: House, tenant: Tenant, path: str, body: object, number: int, once: str | None = None) -> Reply:
    """Sent to one of the processes, in turn by `number`."""
    headers = tenant.headers | ({"idempotency-key": once} if once else {})
    server = house.servers[number % len(house.servers)]
    return await house.call("POST", RESERVATIONS + path, server, json=body, headers=headers)


async def reserve(house: House, tenant: Tenant, amount: str, number: int = 0, **more: Any) -> Reply:
    """Sent again while the process says that it is overloaded, as a client would."""
    once = str(uuid4())
    while True:
        reply = await post(house, tenant, "", {"credits": amount, **more}, number, once)
        if reply.status != 503:
            return reply
        await asyncio.sleep(int(reply.headers["retry-after"]) / 10)


def body(number: int, model: str = MODEL) -> dict[str, Any]:
    """A call that costs the same each time; each second one is a stream."""
    stream: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if number % 2 else {}
    return ask(f"sandbox:tokens={TOKENS} sandbox:delay=1", model, max_tokens=TOKENS, **stream)


async def windows(house: House, tenant: Tenant) -> Counter[tuple[str, str, int, int]]:
    """How many counters there are of each meter and model, with so much used and reserved."""
    found = await house.rows(
        "SELECT meter, model_id, used, reserved FROM quota_window WHERE organization_id = %s", tenant.id
    )
    return Counter((row[0], row[1], row[2], row[3]) for row in found)


async def test_of_a_thousand_who_want_the_last_credits_exactly_as_many_get_some_as_fit(house: House) -> None:
    """Credits for 97 reservations and a bit, in grants of different sizes, so that many are taken from two of them."""
    tenant = await house.organization(credits="0.3")
    for size in ("0.55", "1.5", "2.57"):
        grant = {"source": "promo", "credits": size, "note": "for the fair"}
        path = f"/organizations/{tenant.id}/grants"
        await house.order("POST", path, grant, **{"idempotency-key": str(uuid4())})
    replies = await at_once(reserve(house, tenant, "0.05", number) for number in range(1000))
    outcomes = Counter((reply.status, reply.body.get("code")) for reply in replies)
    assert outcomes == {(201, None): 98, (402, "insufficient_credits"): 902}
    made = [reply.body["id"] for reply in replies if reply.status == 201]
    assert len(set(made)) == 98
    parts = Counter(len(reply.body["parts"]) for reply in replies if reply.status == 201)
    assert set(parts) == {1, 2}
    assert await house.balance(tenant) == 20_000
    await house.assert_ledger_holds()

    async def end(number: int, id_: str) -> Reply:
        if number % 2:
            return await post(house, tenant, f"/{id_}/release", {"reason": "not needed"}, number)
        return await post(house, tenant, f"/{id_}/settle", {"credits": "0.05"}, number)

    ended = await at_once(end(number, id_) for number, id_ in enumerate(made))
    assert [reply.status for reply in ended] == [200] * 98
    assert await house.balance(tenant) == 20_000 + 49 * 50_000


async def test_a_key_that_eight_hundred_requests_at_once_bring_for_the_first_time_is_known_to_all(house: House) -> None:
    tenant = await house.organization()
    replies = await at_once(house.chat(tenant, ask("hi", "no such model")) for _ in range(800))
    assert Counter(map(said, replies)) == {(404, "model_not_found"): 800}


async def test_twenty_equal_requests_with_one_key_make_one_reservation_and_get_one_answer(house: House) -> None:
    tenant = await house.organization(credits="10")
    wanted = {"credits": "1.25", "metadata": {"order": 7}}
    replies = await at_once(post(house, tenant, "", wanted, number, "the same") for number in range(20))
    assert [reply.status for reply in replies] == [201] * 20
    assert len({reply.raw for reply in replies}) == 1
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 19
    rows = await house.rows("SELECT id::text FROM reservation WHERE organization_id = %s", tenant.id)
    assert rows == [(replies[0].body["id"],)]
    assert await house.balance(tenant) == 8_750_000
    other = await at_once(post(house, tenant, "", {"credits": "1.26"}, number, "the same") for number in range(4))
    assert {(reply.status, reply.body["code"]) for reply in other} == {(422, "idempotency_mismatch")}
    assert await house.balance(tenant) == 8_750_000


async def test_twenty_settlements_and_releases_of_one_reservation_at_once_end_it_once(house: House) -> None:
    for _ in range(5):
        tenant = await house.organization(credits="10")
        path = "/" + (await reserve(house, tenant, "4")).body["id"]
        bodies: list[tuple[str, object]] = [("/settle", {"credits": "1.5"}), ("/release", {"reason": "no"})]
        replies = await at_once(
            post(house, tenant, path + bodies[number % 2][0], bodies[number % 2][1], number // 2)
            for number in range(20)
        )
        settled, released = replies[::2], replies[1::2]
        ((state, charged),) = await house.rows(
            "SELECT state, charged_micros FROM reservation WHERE organization_id = %s", tenant.id
        )
        assert {reply.status for reply in settled} == {200}
        assert {reply.body["charged"] for reply in settled} == {"1.5"}
        assert {reply.body["late"] for reply in settled} == {state == "released"}
        answers = {reply.status for reply in released}
        assert answers == {409} if state == "settled" else 200 in answers <= {200, 409}
        assert charged == 1_500_000
        assert await house.balance(tenant) == 8_500_000
        await house.assert_ledger_holds()


async def test_somebody_unseen_who_asks_eight_times_at_once_is_one_person_with_eight_messages(house: House) -> None:
    tenant = await house.organization()
    replies = await at_once(
        house.chat(tenant, body(number // 4), house.servers[number % 4], x_tollhouse_user="never seen")
        for number in range(8)
    )
    assert [reply.status for reply in replies] == [200] * 8
    ((id_, external_id),) = await house.rows(
        "SELECT id, external_id FROM end_user WHERE organization_id = %s", tenant.id
    )
    assert external_id == "never seen"
    counted = await house.rows(
        """SELECT model_id, used, reserved FROM quota_window
           WHERE organization_id = %s AND subject_id = %s AND meter = 'messages' ORDER BY 1""",
        tenant.id,
        id_,
    )
    assert counted == [("", 8, 0), (MODEL, 8, 0)]
    assert await house.rows("SELECT DISTINCT subject_id FROM usage_event WHERE organization_id = %s", tenant.id) == [
        (id_,)
    ]


async def test_of_four_limits_at_once_a_call_takes_all_or_none(house: House) -> None:
    """Seven calls fit each limit. Four organisations where one of them is the tightest, and one where all are."""
    await house.change("UPDATE model SET daily_messages = 7 WHERE id = %s", LIMITED)
    await house.change("UPDATE catalogue_version SET version = version + 1")
    cost, tokens = await price(house, MODEL)
    limited_cost, limited_tokens = await price(house, LIMITED)
    await house.change(
        """INSERT INTO plan (id, name, rank, monthly_credits_micros, daily_messages, monthly_tokens,
               max_output_tokens, charged_channels)
           VALUES ('loose', 'Loose', 2, 0, 1000, 1000000, 1024, '{api}'),
                  ('few', 'Few', 3, 0, 7, 1000000, 1024, '{api}'),
                  ('short', 'Short', 4, 0, 1000, %s, 1024, '{api}'),
                  ('tight', 'Tight', 5, 0, 7, %s, 1024, '{api}')""",
        tokens * 8 - 1,
        limited_tokens * 8 - 1,
    )
    await house.change("UPDATE catalogue_version SET version = version + 1")
    cases = [
        (MODEL, await house.organization(credits(cost * 8 - 1), "loose"), (402, "insufficient_credits")),
        (MODEL, await house.organization("100", "few"), (429, "rate_limit_exceeded")),
        (MODEL, await house.organization("100", "short"), (429, "quota_exceeded")),
        (LIMITED, await house.organization("100", "loose"), (429, "rate_limit_exceeded")),
        (LIMITED, await house.organization(credits(limited_cost * 8 - 1), "tight"), (429, "rate_limit_exceeded")),
    ]
    replies = await at_once(
        house.chat(tenant, body(number // 4, model), house.servers[number % 4])
        for number in range(40)
        for model, tenant, _ in cases
    )
    for place, (_, _, refusal) in enumerate(cases):
        assert Counter(map(said, replies[place :: len(cases)])) == {(200, None): 7, refusal: 33}
    await house.assert_ledger_holds()
    books = await house.books()
    for model, tenant, refusal in cases:
        refused = await at_once(
            house.chat(tenant, body(number, model), server) for number, server in enumerate(house.servers)
        )
        assert set(map(said, refused)) == {refusal}
        used = tokens if model == MODEL else limited_tokens
        assert await windows(house, tenant) == {
            ("messages", "", 7, 0): 1,
            ("messages", model, 7, 0): 1,
            ("tokens", "", 7 * used, 0): 1,
        }
        assert [row[3] for row in await house.usage(tenant)] == [cost if model == MODEL else limited_cost] * 7
    assert await house.books() == books


async def price(house: House, model: str) -> tuple[int, int]:
    """What one of these calls costs, in micro-credits and in tokens, as told by one that was made."""
    reply = await house.chat(await house.organization(), body(0, model))
    usage = reply.body["usage"]
    assert micros(usage["credits"]) == charge(model, usage["prompt_tokens"], TOKENS)
    return micros(usage["credits"]), usage["total_tokens"]


def said(reply: Reply) -> tuple[int, str | None]:
    return reply.status, None if reply.status == 200 else reply.error["code"]


PLANS = (("free", 10, 10), ("starter", 50, 15), ("basic", 150, 20), ("pro", 500, 25), ("team", 2000, 50))


@pytest.mark.parametrize("outlived", [False, True], ids=["held-across", "outlived"])
async def test_a_reset_settlements_and_an_upgrade_at_once_leave_the_right_balance(house: House, outlived: bool) -> None:
    """A round in each of four months. Whatever order they come in, the new period has the new plan's credits, bonuses
    stay, and each reservation is charged once: from its own month, or from the new one if it had been closed before."""
    tenant = await house.organization("0", "free")
    place, bonus = f"/organizations/{tenant.id}", Decimal(PLANS[0][2])
    for plan, monthly, welcome in PLANS[1:]:
        bonus += welcome
        overview = await house.call("GET", "/api/credits/balance", headers=tenant.headers)
        ends = datetime.fromisoformat(overview.body["period_end"])
        await house.order("POST", place + "/clock", {"now": (ends - timedelta(hours=1)).isoformat()})
        ttl = 600 if outlived else 86_400
        made = await at_once(reserve(house, tenant, "1", number, ttl_seconds=ttl) for number in range(8))
        ids = [reply.body["id"] for reply in made]
        moved = {"now": (ends + timedelta(hours=1)).isoformat()}

        async def settle(number: int, id_: str) -> Reply:
            return await post(house, tenant, f"/{id_}/settle", {"credits": "1"}, number)

        settled, _, _ = await asyncio.gather(
            at_once(settle(number, id_) for number, id_ in enumerate(ids + ids)),
            house.order("POST", place + "/clock", moved),
            house.order("POST", place + "/plan", {"plan": plan}),
        )
        assert [reply.status for reply in settled] == [200] * 16
        late = sum(reply.body["late"] for reply in settled[:8])
        assert [reply.body["late"] for reply in settled[:8]] == [reply.body["late"] for reply in settled[8:]]
        assert outlived or late == 0
        assert await house.balance(tenant) == (monthly + bonus - late) * 1_000_000
        await house.assert_ledger_holds()
    ledger = await house.rows(
        """SELECT type, count(*) FROM credit_transaction
           WHERE organization_id = %s AND type IN ('plan_allocation', 'welcome_bonus') GROUP BY 1 ORDER BY 1""",
        tenant.id,
    )
    assert ledger == [("plan_allocation", 5), ("welcome_bonus", 5)]
