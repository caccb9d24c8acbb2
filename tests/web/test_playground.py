"""The playground: one question, answers of several models, each a call of its own of which nothing is kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bs4 import BeautifulSoup

from tests.ledger import assert_ledger_holds
from tests.web.serving import Answer, Visitor
from tests.web.team import Team, at, seen, send, team

RUN = "/playground/run"


def events(answer: Answer) -> list[tuple[str, BeautifulSoup]]:
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        html = json.loads(data.removeprefix("data: "))
        found.append((name.removeprefix("event: "), BeautifulSoup(html, "html.parser")))
    return found


def figures(part: BeautifulSoup) -> dict[str, str]:
    return {row.dt.text: " ".join(row.dd.text.split()) for row in part.select("dl > div") if row.dt and row.dd}


async def run(visitor: Visitor, model: str, prompt: str = "Say it", **fields: str) -> Answer:
    return await send(visitor, RUN, {"model": model, "prompt": prompt, **fields})


async def requests(of: Team) -> list[dict[str, Any]]:
    return await of.rows("SELECT model_id, state, channel FROM request WHERE organization_id = %s ORDER BY id", of.id)


async def settled(of: Team, calls: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(15):
        while True:
            found = await requests(of)
            if len(found) == calls and all(one["state"] != "running" for one in found):
                return found
            await asyncio.sleep(0.02)


async def test_an_answer_comes_as_it_is_written_with_its_figures_and_nothing_is_kept(database_url: str) -> None:
    async with team(database_url) as mill:
        page = await mill.owner.get("/playground")
        assert len(page.soup.select("[data-column]")) == 3
        assert len(page.soup.select('[data-testid="model-selector"]')) == 3
        costs = json.loads(str(at(page, "#playground")["data-costs"]))
        assert {"gpt-4o-mini", "sandbox"} <= set(costs), "each model that may be chosen has its price"
        found = events(
            await run(mill.owner, "sandbox", "A **bold** <script>alert(1)</script> question", system="Be brief")
        )
        assert [name for name, _ in found[:-1]] == ["html"] * (len(found) - 1)
        name, done = found[-1]
        assert name == "done"
        assert not any(part.select("script") for _, part in found)
        shown = figures(done)
        assert list(shown) == ["First words", "In all", "Tokens", "Cost", "Credits"]
        (event,) = await mill.rows("SELECT input_tokens, output_tokens, subject_id FROM usage_event")
        assert f"{event['input_tokens']} in, {event['output_tokens']} out" in shown["Tokens"]
        assert event["subject_id"] == mill.owner.person_id
        assert await requests(mill) == [{"model_id": "sandbox", "state": "done", "channel": "chat"}]
        assert await mill.rows("SELECT FROM conversation") == await mill.rows("SELECT FROM message") == []
        await assert_ledger_holds(database_url)


async def test_what_is_locked_or_used_up_is_said_in_its_column_with_what_helps(database_url: str) -> None:
    async with team(database_url) as mill:
        for left in (1, 0):
            _, done = events(await run(mill.owner, "gpt-4o"))[-1]
            words = " ".join(done.text.split())
            assert "Trial message" in words
            assert f"{left} trial message{'s' if left != 1 else ''} remaining" in words
        refused = await run(mill.owner, "gpt-4o")
        assert refused.status == 402
        assert at(refused, '[data-code="trial_expired"] a')["href"] == "/settings/ai-models#gpt-4o"
        assert refused.soup.find("html") is None, "a part, not a page"
        assert (await run(mill.owner, "no-such-model")).status == 404
        for fields in ({"prompt": ""}, {"prompt": "x" * 8001}, {"model": ""}):
            wrong = await send(mill.owner, RUN, {"model": "sandbox", "prompt": "x", **fields})
            assert wrong.status == 422
            assert wrong.soup.select('[role="alert"]')
        assert len(await requests(mill)) == 2
        await assert_ledger_holds(database_url)


async def test_who_leaves_stops_the_model_and_pays_for_what_was_written(database_url: str) -> None:
    async with team(database_url) as mill:
        token = (await mill.owner.get("/organizations")).token
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in mill.owner.cookies.items()),
                   "sec-fetch-site": "same-origin"}  # fmt: skip
        fields = {"model": "sandbox", "prompt": "sandbox:tokens=4000 sandbox:delay=2", "csrf": token}
        async with mill.place.client.post(mill.place.url + RUN, data=fields, headers=headers) as response:
            assert response.status == 200
            await response.content.readuntil(b"\n\n")
            response.close()
        (call,) = await settled(mill, 1)
        assert call["state"] != "running"
        (event,) = await mill.rows("SELECT output_tokens FROM usage_event")
        assert event["output_tokens"] < 4000
        await assert_ledger_holds(database_url)


async def test_who_may_not_use_models_may_not_play_with_them(database_url: str) -> None:
    async with team(database_url) as mill:
        stranger = mill.place.visitor()
        assert (await stranger.get("/playground")).headers["location"] == "/sign-in?next=%2Fplayground"
        member = await mill.join("bob@example.com", "member")
        assert (await run(member, "sandbox")).status == 200
        await mill.place.change("UPDATE organization SET suspended_at = now() WHERE id = %s", mill.id)
        assert "suspended" in seen(await member.get("/playground"))
        assert (await run(member, "sandbox")).status == 403
        assert len(await requests(mill)) == 1
