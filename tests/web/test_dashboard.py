"""The dashboard: one's own figures, by the range and figure that the address names, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, time, timedelta
from uuid import UUID

import pytest_asyncio

from tests.store.test_figures import Call, record
from tests.web.serving import Answer, Visitor, clock, serving
from tests.web.team import Team, at, seen, signed_in, team
from tests.wire_proxy import WireProxy

DAY = timedelta(days=1)


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


def today() -> datetime:
    """A second after its beginning."""
    return datetime.combine(clock().date(), time(0, 0, 1), clock().tzinfo)


async def used(mill: Team, who: Visitor, count: int, days_ago: int = 0, model: str = "gpt-4o-mini") -> None:
    assert who.person_id is not None
    moment = today() - days_ago * DAY
    await record(
        mill.place.database_url,
        [Call(moment, who.person_id, model, organization=mill.id) for _ in range(count)],
    )


def stats(page: Answer, testid: str) -> dict[str, str]:
    """The figures of a card, by what they are called."""
    found = page.soup.select(f'[data-testid="{testid}"] .stat')
    return {str(one.dt.text): one.dd.get_text(" ").strip() for one in found if one.dt and one.dd}


def rows(page: Answer, testid: str) -> list[list[str]]:
    found = page.soup.select(f'[data-testid="{testid}"] tbody tr')
    return [[" ".join(cell.get_text(" ").split()) for cell in row.select("th, td")] for row in found]


async def test_what_the_day_cost_is_told_and_only_of_ones_own_calls(mill: Team) -> None:
    member = await mill.join("member@example.com", "member")
    await used(mill, mill.owner, 3)
    await used(mill, mill.owner, 2, days_ago=1)
    await used(mill, member, 7)
    page = await mill.owner.get("/dashboard")
    assert stats(page, "today") == {"Messages": "3", "Cost": "$0.00", "Credits": "0", "Tokens": "330"}
    assert "Yesterday: 2" in seen(page)
    assert rows(page, "models") == [["GPT-4o Mini", "5 550 tokens", "0", "$0.00"]]
    assert rows(page, "days")[:2] == [
        [f"{clock().day} {clock():%b %Y}", "3", "330", "0", "$0.00"],
        [f"{(clock() - DAY).day} {clock() - DAY:%b %Y}", "2", "220", "0", "$0.00"],
    ]
    assert len(rows(page, "days")) == 30 and len(rows(page, "calls")) == 5
    assert stats(await member.get("/dashboard"), "today")["Messages"] == "7"


async def test_range_and_figure_stand_in_the_address(mill: Team) -> None:
    await used(mill, mill.owner, 1)
    for number, model in enumerate(("gpt-4o", "sandbox", "llama-3.1-8b", "claude-3-5-haiku", "gpt-4o-mini")):
        await used(mill, mill.owner, 9 - number, days_ago=5, model=model)
    await used(mill, mill.owner, 4, days_ago=40, model="gpt-4o")
    page = await mill.owner.get("/dashboard?days=7&show=tokens")
    data = json.loads(str(at(page, "canvas")["data-figures"]))
    assert len(data["labels"]) == 7 and data["format"] == {"notation": "compact"}
    named = {one["label"]: sum(one["values"]) for one in data["series"]}
    assert named == {"GPT-4o": 990, "Sandbox (test answers)": 880, "Llama 3.1 8B": 770, "Claude 3.5 Haiku": 660,
                     "Others": 660}  # fmt: skip
    chosen = [one.text for one in page.soup.select('.segments [aria-current="true"]')]
    assert chosen == ["7 days", "Tokens"]
    quarter = await mill.owner.get("/dashboard?days=90")
    assert ["GPT-4o", "13 1,430 tokens", "0", "$0.00"] in rows(quarter, "models")
    for address in ("days=8", "days=0x7", "show=secrets", "cursor=nonsense", "cursor=Y2FsbDp4L3k", "days=%00"):
        assert (await mill.owner.get("/dashboard?" + address)).status == 400, address


async def test_calls_are_listed_in_parts(mill: Team) -> None:
    await used(mill, mill.owner, 13)
    first = await mill.owner.get("/dashboard?days=7")
    following = at(first, 'nav[aria-label="Pages of calls"] a.btn')["href"]
    assert str(following).startswith("/dashboard?days=7&cursor=")
    second = await mill.owner.get(str(following).partition("#")[0])
    ids = [one.text for page in (first, second) for one in page.soup.select('[data-testid="calls"] code')]
    assert len(ids) == len(set(ids)) == 13 and all(UUID(one) for one in ids)
    assert at(second, 'nav[aria-label="Pages of calls"] a.link')["href"] == "/dashboard?days=7#calls"


async def test_newcomers_are_led_to_the_chat_and_whoever_was_away_to_what_was(mill: Team) -> None:
    page = await mill.owner.get("/dashboard")
    assert "Nothing used yet" in seen(page) and at(page, '.empty a[href="/chat"]')
    assert "Messages today" in seen(page)
    await used(mill, mill.owner, 1, days_ago=40)
    page = await mill.owner.get("/dashboard")
    assert "Nothing in these days" in seen(page) and len(rows(page, "calls")) == 1


async def test_answers_are_told_with_their_speed_and_ratings(mill: Team) -> None:
    assert mill.owner.person_id is not None
    about = {"subject": mill.owner.person_id, "model": "gpt-4o", "organization": mill.id}
    whole = [Call(today(), **about, first_ms=400, whole_ms=2000, rating=1) for _ in range(3)]  # type: ignore[arg-type]
    broken = Call(today(), **about, first_ms=None, whole_ms=None, state="incomplete", rating=-1)  # type: ignore[arg-type]
    await record(mill.place.database_url, [*whole, broken])
    page = await mill.owner.get("/dashboard")
    assert rows(page, "answers") == [["GPT-4o", "4", "0.4 s 0.4 s", "2 s 2 s", "25%", "good 3 bad 1"]]
    assert "Broken off" in rows(page, "calls")[0][1] + rows(page, "calls")[1][1] + seen(page)


async def test_a_part_of_the_page_renews_today_and_the_limits(mill: Team) -> None:
    page = await mill.owner.get("/dashboard?days=7")
    assert at(page, "#today")["hx-get"] == "/dashboard/today?days=7"
    await used(mill, mill.owner, 2)
    part = await mill.owner.get("/dashboard/today?days=7", hx_request="true")
    assert part.text.lstrip().startswith('<div class="grid') and "<html" not in part.text
    assert stats(part, "today")["Messages"] == "2"


async def test_an_organisation_that_is_suspended_may_be_looked_at_and_strangers_may_not(mill: Team) -> None:
    await used(mill, mill.owner, 2)
    await mill.place.change("UPDATE organization SET suspended_at = now() WHERE id = %s", mill.id)
    assert stats(await mill.owner.get("/dashboard"), "today")["Messages"] == "2"
    answer = await mill.place.visitor().get("/dashboard?days=7")
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in?next=%2Fdashboard%3Fdays%3D7")


async def test_it_takes_as_many_queries_for_many_calls_as_for_few(database_url: str) -> None:
    async with WireProxy(database_url) as proxy, serving(proxy.url) as place:
        owner = await place.in_a_team("owner@example.com", "owner")
        mill = Team(place, (await signed_in(place, owner)).organization_id, owner)
        counted = []
        for path in ("/dashboard", "/settings/credits"):
            for more in (1, 40):
                await used(mill, owner, more, model="gpt-4o" if more == 1 else "sandbox")
                await owner.get(path)
                proxy.seen.clear()
                assert (await owner.get(path)).status == 200
                counted.append((path, sum(point.role == "tollhouse_web" for point in proxy.seen)))
    (_, few), (_, many), (_, little), (_, much) = counted
    assert few == many <= 30 and little == much <= 30, counted
