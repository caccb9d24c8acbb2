"""Credits: what is left and what it is made of, what more would bring, and the statement with its filters."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest_asyncio
from psycopg import AsyncConnection

from tests.store.test_figures import Call, record
from tests.web.serving import Answer, clock
from tests.web.team import Team, at, seen, team

HERE = "/settings/credits"


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def book(mill: Team, *amounts: int, of: UUID | None = None, note: str = "", at: datetime | None = None) -> None:
    """Uses of a model and bonuses, in micro-credits, with what was left after each."""
    async with await AsyncConnection.connect(mill.place.database_url) as connection:
        for amount in amounts:
            reservation = uuid4()
            await connection.execute(
                """INSERT INTO reservation (organization_id, id, subject_id, channel, model_id, charged, amount_micros,
                       parts, state, created_at, expires_at, charged_micros, closed_at)
                   VALUES (%s, %s, %s, 'api', 'gpt-4o', true, 0, '{}', 'settled', now(), now(), 0, now())""",
                (mill.id, reservation, of or mill.id),
            )
            await connection.execute(
                """WITH b AS (UPDATE credit_balance SET seq = seq + 1, remaining_micros = remaining_micros + %(amount)s
                              WHERE organization_id = %(id)s RETURNING seq, remaining_micros)
                   INSERT INTO credit_transaction (organization_id, seq, id, type, amount_micros, balance_after_micros,
                       reservation_id, note, actor, created_at)
                   SELECT %(id)s, seq, gen_random_uuid(), %(type)s, %(amount)s, remaining_micros, %(reservation)s,
                          %(note)s, 'system', coalesce(%(at)s, now()) FROM b""",
                {"id": mill.id, "amount": amount, "type": "promo_bonus" if amount > 0 else "ai_consumption",
                 "reservation": None if amount > 0 else reservation, "note": note, "at": at},
            )  # fmt: skip


def rows(page: Answer) -> list[list[str]]:
    """What, credits and balance of each row of the statement."""
    found = page.soup.select('[data-testid="transaction-row"]')
    return [[" ".join(cell.get_text(" ").split()) for cell in row.select("td")[1:]] for row in found]


async def test_the_balance_is_told_with_what_it_is_made_of_and_when_it_is_renewed(mill: Team) -> None:
    await mill.place.change(
        """UPDATE credit_balance SET debt_micros = 1000000, overdraft_limit_micros = 5000000, reserved_micros = 2500000
           WHERE organization_id = %s""",
        mill.id,
    )
    page = await mill.owner.get(HERE)
    assert at(page, '[data-testid="spendable"]').text == "21.5"
    receipt = {row.dt.text: row.dd.text for row in page.soup.select(".receipt > div") if row.dt and row.dd}
    assert list(receipt.values()) == ["10", "10", "−2.5", "−1", "+5"]
    assert "0 of 10 monthly credits" in seen(page) and "Renewed in" in seen(page)
    assert at(page, '[data-testid="credit-balance"]').get_text(" ", strip=True) == "21.5 credits"


async def test_low_and_spent_credits_are_told_beside_every_page(mill: Team) -> None:
    for left, level, said in ((2_000_000, "ok", "2 credits"), (1_999_999, "low", "1.99 credits Low"),
                              (0, "none", "0 credits None left")):  # fmt: skip
        await mill.place.change(
            "UPDATE credit_balance SET remaining_micros = %s WHERE organization_id = %s", left, mill.id
        )
        beside = at(await mill.owner.get("/settings"), "#credits-left")
        assert (beside["data-level"], " ".join(beside.get_text(" ").split())) == (level, said)
        part = await mill.owner.get(HERE + "/left", hx_request="true")
        assert "<html" not in part.text and at(part, "#credits-left")["data-level"] == level
    assert "No credits are left" in seen(await mill.owner.get(HERE))


async def test_plans_packages_and_features_say_what_more_would_bring(mill: Team) -> None:
    page = await mill.owner.get(HERE)
    plans = [" ".join(row.get_text(" ").split()) for row in page.soup.select("#plan tbody tr")]
    assert plans[0] == "Free Yours 10 100 2M free" and plans[3] == "Pro 500 10,000 200M $49.00"
    assert plans[5] == "Enterprise 10,000 no limit no limit on request"
    assert "100 credits $9.99" in " ".join(at(page, '[data-testid="package-starter"]').get_text(" ").split())
    assert "Ask those who run this installation" in seen(page)
    fast, enhanced = (
        at(page, f'[data-testid="quality-question_generation-{name}"]') for name in ("fast", "enhanced")
    )  # fmt: skip
    assert fast["data-locked"] == "no" and "about 1 credit" in fast.text
    assert enhanced["data-locked"] == "yes" and "Pro plan" in enhanced.text
    await mill.place.change("UPDATE organization SET plan_id = 'pro', pending_plan_id = 'basic' WHERE id = %s", mill.id)
    page = await mill.owner.get(HERE)
    assert "Plan: Pro" in seen(page) and ": Basic." in seen(page)
    assert "about 2 credits" in at(page, '[data-testid="quality-question_generation-enhanced"]').text


async def test_the_statement_has_a_running_balance_and_filters_in_its_address(mill: Team) -> None:
    await book(mill, -1_250_000, of=mill.owner.person_id)
    await book(mill, 3_000_000, note="for the fair")
    page = await mill.owner.get(HERE)
    assert [row[1:] for row in rows(page)] == [["+3", "21.75"], ["−1.25", "18.75"], ["+10", "20"], ["+10", "10"]]
    assert rows(page)[0][0].startswith("Bonus for the fair ")
    assert rows(page)[1][0].startswith("Use gpt-4o · Ada Lovelace ")
    assert [row[1] for row in rows(await mill.owner.get(HERE + "?type=ai_consumption"))] == ["−1.25"]
    day = clock().date()
    assert len(rows(await mill.owner.get(f"{HERE}?since={day}&until={day}"))) == 4
    none = await mill.owner.get(f"{HERE}?since={day + timedelta(days=1)}")
    assert rows(none) == [] and "Nothing like that" in seen(none)
    part = await mill.owner.get(HERE + "?type=promo_bonus", hx_request="true")
    assert part.text.lstrip().startswith("<section") and len(rows(part)) == 1
    for address in (
        "type=theft",
        "since=yesterday",
        "since=2026-02-02&until=2026-02-01",
        "cursor=nonsense",
        "type=%00",
    ):
        assert (await mill.owner.get(f"{HERE}?{address}")).status == 400, address
        assert address.startswith("cursor") or (await mill.owner.get(f"{HERE}/export?{address}")).status == 400, address


async def test_parts_of_the_statement_follow_one_another(mill: Team) -> None:
    await book(mill, *([-1] * 25))
    first = await mill.owner.get(HERE + "?type=ai_consumption")
    following = str(at(first, '[data-testid="pagination-next"]')["hx-get"])
    second = await mill.owner.get(following, hx_request="true")
    assert (len(rows(first)), len(rows(second))) == (20, 5)
    assert at(second, '[data-testid="pagination-prev"]')["hx-get"] == HERE + "?type=ai_consumption"
    assert not second.soup.select('[data-testid="pagination-next"]')


async def test_the_export_has_all_of_the_filter_and_no_formulas(mill: Team) -> None:
    await book(mill, *([-1] * 1_010), of=mill.owner.person_id)
    await book(mill, 7, note='=cmd("x")')
    answer = await mill.owner.get(HERE + "/export?type=ai_consumption")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith("attachment;")
    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(found) == 1_010 and {row["credits"] for row in found} == {"-0.000001"}
    assert {(row["model"], row["user"]) for row in found} == {("gpt-4o", str(mill.owner.person_id))}
    assert [int(row["seq"]) for row in found] == list(range(1_012, 2, -1))
    whole = list(csv.DictReader(io.StringIO((await mill.owner.get(HERE + "/export")).text)))
    assert (len(whole), whole[0]["note"], whole[0]["credits"]) == (1_013, '\'=cmd("x")', "0.000007")


async def test_members_see_the_balance_and_their_own_part_and_not_the_ledger(mill: Team) -> None:
    await book(mill, -1_250_000, of=mill.owner.person_id, note="canary")
    member = await mill.join("member@example.com", "member")
    assert member.person_id is not None
    mine = Call(clock(), member.person_id, "gpt-4o", organization=mill.id)
    his = Call(clock(), mill.owner.person_id or mill.id, "gpt-4o", organization=mill.id)
    await record(mill.place.database_url, [mine, his])
    page = await member.get(HERE)
    assert at(page, '[data-testid="spendable"]').text == "18.75" and "canary" not in page.text
    own = at(page, '[data-testid="own-use"]')
    assert [one.text for one in own.select(".stat > dd")] == ["0", "1", "110"] and own.select('a[href="/dashboard"]')
    assert not page.soup.select("#statement, #grants") and "Ask an owner or admin of Mill" in seen(page)
    for options in ({}, {"hx_request": "true"}):
        assert "canary" not in (await member.get(HERE + "?type=ai_consumption", **options)).text
    assert (await member.get(HERE + "/export")).status == 403


async def test_another_tenant_sees_nothing_of_it(mill: Team) -> None:
    await book(mill, -1_250_000, note="canary")
    other = await mill.place.in_a_team("other@example.com", "owner")
    for path in (HERE, HERE + "/export", HERE + "?type=ai_consumption"):
        assert "canary" not in (await other.get(path)).text
    assert at(await other.get(HERE), '[data-testid="spendable"]').text == "20"


async def test_a_period_that_has_ended_is_booked_before_it_is_shown(mill: Team) -> None:
    await mill.place.change(
        "UPDATE organization SET clock_offset_micros = 40 * 86400 * 1000000::bigint WHERE id = %s", mill.id
    )
    page = await mill.owner.get(HERE)
    assert [row[0].split(" ")[0] for row in rows(page)] == ["Monthly", "Expired", "Welcome", "Monthly"]


async def test_who_is_suspended_with_the_organisation_is_told_why(mill: Team) -> None:
    await mill.place.change("UPDATE organization SET suspended_at = now() WHERE id = %s", mill.id)
    answer = await mill.owner.get(HERE)
    assert answer.status == 403 and "is suspended" in seen(answer)
    assert not (await mill.owner.get("/settings")).soup.select("#credits-left")
