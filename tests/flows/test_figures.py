"""What the dashboard says agrees with the books: each person's sums with the events and the ledger, and their limits
with what the teller decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from tests.chatting import Room, proved_room
from tests.conftest import Cluster, SeededTemplate
from tollhouse.core import figures as rules
from tollhouse.core.figures import Sum
from tollhouse.core.refusals import LimitExceeded
from tollhouse.core.session import Signed
from tollhouse.flows import chat, figures
from tollhouse.store import figures as store

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Room]:
    with cluster.database(seeded_template.name) as url:
        async with proved_room(url) as made:
            await made.change(
                """INSERT INTO plan (id, name, rank, monthly_credits_micros, daily_messages, monthly_tokens,
                       max_output_tokens, charged_channels)
                   VALUES ('paid', 'Paid', 41, 500000000, 5, 1000000, 4096, '{chat,api,capability}')"""
            )
            yield made


async def used(room: Room, signed: Signed) -> Sum:
    today = datetime.now(UTC).date()
    days = rules.days_until(today, 7)
    async with room.db.tenant(signed.organization_id) as tx:
        parts = await store.parts(tx, signed.organization_id, signed.person_id, days[0], today)
        by_assistant = await store.of_assistants(tx, signed.organization_id, signed.person_id, days[0])
        listed = await store.calls(tx, signed.organization_id, signed.person_id, 100, None)
    total = rules.total(parts)
    assert sum((one.sum for one in by_assistant), Sum()) == total
    assert sum(one.charged_micros for one in listed) == total.charged_micros and len(listed) == total.requests
    return total


async def test_what_two_people_used_is_told_apart_and_agrees_with_events_and_ledger(room: Room) -> None:
    ada = await room.person(plan="paid")
    charles = await room.colleague(ada)
    [(marcus,)] = await room.rows("SELECT id FROM assistant WHERE slug = 'marcus'")
    await room.change(
        """INSERT INTO assistant_setting (organization_id, assistant_id, enabled, updated_at)
           VALUES (%s, %s, true, now())""",
        ada.organization_id, marcus,
    )  # fmt: skip
    said = [
        (ada, {"assistant_id": marcus}), (ada, {"assistant_id": marcus}), (ada, {"model": "gpt-4o"}),
        (charles, {}), (charles, {"model": "sandbox"}),
    ]  # fmt: skip
    answers = [await room.ask(who, f"What is {number} good for?", **about) for number, (who, about) in enumerate(said)]
    await chat.rate(room.parts, ada, answers[2].conversation_id, answers[2].id, -1, "")
    for who, mine in ((ada, answers[:3]), (charles, answers[3:])):
        [booked] = await room.rows(
            """SELECT count(*), sum(messages), sum(input_tokens), sum(output_tokens), sum(charged_micros),
                      sum(cost_nanos) FROM usage_event WHERE organization_id = %s AND subject_id = %s""",
            who.organization_id, who.person_id,
        )  # fmt: skip
        [(ledger,)] = await room.rows(
            """SELECT -sum(t.amount_micros) FROM credit_transaction t
               JOIN reservation r ON r.organization_id = t.organization_id AND r.id = t.reservation_id
               WHERE t.organization_id = %s AND r.subject_id = %s""",
            who.organization_id, who.person_id,
        )  # fmt: skip
        total = await used(room, who)
        assert total == Sum(*map(int, booked)) and total.requests == len(mine)
        assert total.charged_micros == ledger > 0
        assert total.cost_nanos == sum(one.cost_nanos or 0 for one in mine)
    async with room.db.tenant(ada.organization_id) as tx:
        by_name = {
            (one.name, one.in_chat): one.sum.requests
            for one in await store.of_assistants(tx, ada.organization_id, ada.person_id, datetime.now(UTC).date())
        }
        rated = await store.ratings(tx, ada.organization_id, ada.person_id, datetime.now(UTC).date())
    assert by_name == {("Marcus Aurelius", True): 2, (None, True): 1}
    assert {name: (one.up, one.down) for name, one in rated.items()} == {answers[2].model_id: (0, 1)}


async def test_limits_are_what_the_teller_goes_by_and_each_stands_once(room: Room) -> None:
    ada = await room.person(plan="paid")
    before = await figures.limits(room.teller, ada, ["sandbox", "gpt-4o", "own/nothing"])
    found = {(one.meter, one.period, one.model_id): (one.limit, one.used, one.remaining) for one in before}
    assert len(found) == len(before)
    assert found == {
        ("messages", "day", None): (5, 0, 5), ("tokens", "month", None): (1_000_000, 0, 1_000_000),
        ("messages", "day", "gpt-4o"): (50, 0, 50), ("trial_messages", "lifetime", "gpt-4o"): (2, 0, 2),
    }  # fmt: skip
    first = await room.ask(ada, "One", model="sandbox")
    for _ in range(4):
        await room.ask(ada, "More", first.conversation_id)
    after = {one.meter: one.remaining for one in await figures.limits(room.teller, ada, [])}
    assert after["messages"] == 0 and 0 < after["tokens"] < 1_000_000
    with pytest.raises(LimitExceeded):
        await room.ask(ada, "One too many", first.conversation_id)
    [(tokens,)] = await room.rows(
        "SELECT sum(input_tokens + output_tokens) FROM usage_event WHERE subject_id = %s", ada.person_id
    )
    assert after["tokens"] == 1_000_000 - tokens


async def test_what_a_use_takes_is_said_for_each_quality_and_which_plan_has_those_that_are_locked(room: Room) -> None:
    ada = await room.person()  # on the free plan
    await figures.limits(room.teller, ada, ())
    told = {one.capability.id: one.qualities for one in await figures.usable(room.teller, ada)}
    fast, enhanced, premium = told["question_generation"]
    assert (fast.level.allowed, fast.level.estimated_micros, fast.plan) == (True, 1_000_000, None)
    assert not enhanced.level.allowed and enhanced.plan is not None and enhanced.plan.id == "pro"
    assert not premium.level.allowed and premium.plan is not None and premium.plan.id == "team"
    assert all(not one.level.allowed for one in told["testimonial_polish"])


async def test_asking_for_limits_takes_nothing(room: Room) -> None:
    ada = await room.person()
    await room.ask(ada, "One", model="sandbox")
    books = "SELECT id, used, reserved FROM quota_window WHERE organization_id = %s ORDER BY id"
    before = await room.rows(books, ada.organization_id)
    await figures.limits(room.teller, ada, ["sandbox", "gpt-4o"])
    await figures.usable(room.teller, ada)
    assert await room.rows(books, ada.organization_id) == before != []
