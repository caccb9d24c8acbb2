"""Chats as pages: what is said and answered, with scripts and without, and whose it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest_asyncio
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from tests.web.serving import Answer, Place, Visitor, serving
from tests.web.team import seen
from tollhouse.web.chat import FORM_MAX, SHOWN

QUICK = "sandbox:delay=0 sandbox:tokens=12"
EVENTS = {"accept": "text/event-stream"}


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def rows(place: Place, query: LiteralString, *parameters: Any) -> list[dict[str, Any]]:
    async with await AsyncConnection.connect(place.database_url, row_factory=dict_row) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def send(visitor: Visitor, path: str, fields: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    token = (await visitor.get("/organizations")).token
    pairs = [(name, one) for name, value in fields.items() for one in (value if isinstance(value, list) else [value])]
    return await visitor.post(path, [*pairs, ("csrf", token)], headers)


def told(answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    parts = [part.split("\n") for part in answer.text.strip().split("\n\n") if part.startswith("event: ")]
    return [(first.removeprefix("event: "), json.loads(second.removeprefix("data: "))) for first, second in parts]


async def begun(visitor: Visitor, text: str = f"Hello {QUICK}", **more: Any) -> str:
    """The path of a new chat, whose answer is complete."""
    events = told(await send(visitor, "/chat", {"text": text, **more}, EVENTS))
    assert events[-1][0] == "done", events
    return str(events[0][1]["url"])


async def articles(visitor: Visitor, path: str) -> list[tuple[str, str]]:
    """Author and id of each message that the page shows."""
    page = await visitor.get(path)
    assert page.status == 200, page.text
    return [(str(one["data-author"]), str(one["id"])[2:]) for one in page.soup.select("article")]


# ------------------------------------------------------------------------------------------------------------ talking


async def test_an_answer_comes_as_text_then_as_html_and_stands_on_the_page_afterwards(place: Place) -> None:
    ada = await place.person("ada@example.com")
    events = told(await send(ada, "/chat", {"text": f"What is **that**? {QUICK}", "assistant": ""}, EVENTS))
    names = [name for name, _ in events]
    assert names[:2] == ["chat", "articles"] and names[-1] == "done" and {"text", "html"} <= set(names)
    assert "What is **that**?" in events[1][1]["html"] and "aria-busy" in events[1][1]["html"]
    text = "".join(data["text"] for name, data in events if name == "text")
    page = await ada.get(events[0][1]["url"])
    answer = page.soup.select_one('[data-testid="assistant-message"]')
    assert answer is not None and answer["data-model-id"] == "gpt-4o-mini" and answer["data-state"] == "done"
    assert text.strip() in answer.text and text.startswith("[sandbox]")
    assert [one.text for one in page.soup.select(".receipt dt")][:3] == ["Model", "Tokens", "Time"]
    assert page.soup.select_one(".chat-row a[aria-current=page]") is not None
    assert 'id="m-' in events[-1][1]["html"] and 'data-testid="model-selector"' in events[-1][1]["picker"]


async def test_without_scripts_the_same_form_leads_to_the_page(place: Place) -> None:
    ada = await place.person("ada@example.com")
    answer = await send(ada, "/chat", {"text": "", "task": f"Begin {QUICK}", "model": "sandbox"})
    assert answer.status == 303
    path = answer.headers["location"].partition("#")[0]
    assert [author for author, _ in await articles(ada, path)] == ["person", "assistant"]
    [row] = await rows(place, "SELECT model_choice, title FROM conversation")
    assert row["model_choice"] == "sandbox" and row["title"].startswith("Begin")
    assert (await send(ada, path, {"text": f"More {QUICK}"})).status in (303, 409)


async def test_a_chat_with_a_persona_begins_with_who_it_is_and_what_to_ask(place: Place) -> None:
    ada = await place.person("ada@example.com")
    page = await ada.get("/chat?assistant=marcus&model=sandbox")
    assert "Marcus Aurelius" in seen(page) and page.soup.select(".tasks button[name=task]")
    hidden = page.soup.select_one('input[name="assistant"]')
    assert hidden is not None
    path = await begun(ada, assistant=hidden["value"])
    page = await ada.get(path)
    assert [one.text for one in page.soup.select(".answer > header h2")] == ["Marcus Aurelius"]
    assert (await ada.get("/chat?assistant=nobody")).status == 404
    assert (await ada.get("/chat?model=nothing")).status == 200
    assert (await send(ada, "/chat", {"text": "x", "assistant": str(uuid4())}, EVENTS)).status == 404


async def test_files_go_with_a_message_and_no_more_than_is_said(place: Place) -> None:
    ada = await place.person("ada@example.com")
    files: dict[str, Any] = {"file_name": ["a.txt", "b <i>.csv"], "file_text": ["ä" * 100_000, "1;2\r\n3;4"]}
    path = await begun(ada, **files)
    [row] = await rows(place, "SELECT attachments FROM message WHERE author = 'person'")
    assert [one["name"] for one in row["attachments"]] == files["file_name"]
    assert row["attachments"][1]["text"] == "1;2\n3;4"
    assert "b <i>.csv" in [one.text for one in (await ada.get(path)).soup.select(".attached summary span")]
    for wrong in (
        {"file_name": ["a"], "file_text": ["x" * 100_001]},
        {"file_name": ["a", "b"], "file_text": ["x"]},
        {"file_name": ["a"] * 6, "file_text": ["x"] * 6},
    ):
        answer = await send(ada, path, {"text": "More", **wrong}, EVENTS)
        assert answer.status == 400 and answer.soup.select_one(".refusal") is not None, wrong
    too_large = {"content-type": "application/x-www-form-urlencoded"}
    assert (await ada.ask("POST", path, too_large, data=BytesIO(b"text=" + b"x" * FORM_MAX))).status == 413
    assert (await send(ada, f"{path}/rename", {"title": "x" * 70_000})).status == 413, "the others stay small"
    assert len(await articles(ada, path)) == 2


async def test_a_refusal_is_a_card_with_its_remedy_and_nothing_is_lost(place: Place) -> None:
    ada = await place.person("ada@example.com")
    for left in (1, 0):
        events = told(await send(ada, "/chat", {"text": f"Try {QUICK}", "model": "gpt-4o"}, EVENTS))
        assert "Trial message" in events[-1][1]["html"]
        assert (f"{left} trial message{'' if left == 1 else 's'} remaining") in events[-1][1]["html"]
    typed = {"text": "Once more, with <feeling>", "model": "gpt-4o"}
    answer = await send(ada, "/chat", typed, EVENTS)
    card = answer.soup.select_one('.refusal[data-code="trial_expired"]')
    assert answer.status == 402 and card is not None
    assert card.select_one('a[href="/settings/ai-models#gpt-4o"]').text.strip() == "Unlock for $2.99"  # type: ignore[union-attr]
    page = await send(ada, "/chat", typed)
    assert page.status == 402 and page.soup.select_one(".chat-log .refusal") is not None
    assert page.soup.select_one("textarea#message").text == typed["text"]  # type: ignore[union-attr]
    await place.change("UPDATE model SET trial_messages = 0 WHERE id = 'claude-3-5-sonnet'")
    answer = await send(ada, "/chat", {"text": "Hi", "model": "claude-3-5-sonnet"}, EVENTS)
    assert answer.status in (402, 403, 503) and answer.soup.select_one(".refusal") is not None
    assert (await send(ada, "/chat", {"text": " "}, EVENTS)).status == 400
    assert len(await rows(place, "SELECT FROM conversation")) == 2


async def test_an_answer_is_made_anew_edited_and_rated(place: Place) -> None:
    ada = await place.person("ada@example.com")
    path = await begun(ada)
    [(_, question), (_, first)] = await articles(ada, path)
    events = told(await send(ada, f"{path}/messages/{first}/regenerate", {"model": "sandbox"}, EVENTS))
    assert events[0][0] == "articles" and events[0][1]["replaces"] == f"m-{first}"
    [(_, same), (_, second)] = await articles(ada, path)
    assert (same, second != first) == (question, True)
    events = told(await send(ada, f"{path}/messages/{question}/edit", {"text": f"Anew {QUICK}"}, EVENTS))
    assert events[0][1]["replaces"] == f"m-{question}" and "Anew" in events[0][1]["html"]
    [(_, edited), (_, third)] = await articles(ada, path)
    assert {edited, third}.isdisjoint({question, second})
    answer = await send(ada, f"{path}/messages/{third}/rate", {"rating": "-1"}, {"hx-request": "true"})
    assert answer.soup.select_one('button[aria-pressed="true"]')["aria-label"] == "Bad answer"  # type: ignore[index]
    noted = {"rating": "-1", "note": "It <b>repeats</b> itself"}
    answer = await send(ada, f"{path}/messages/{third}/rate", noted, {"hx-request": "true"})
    assert "Thank you" in answer.text
    [row] = await rows(place, "SELECT rating, rating_note FROM message WHERE id = %s", UUID(third))
    assert row == {"rating": -1, "rating_note": noted["note"]}
    assert (await send(ada, f"{path}/messages/{third}/rate", {"rating": "0"})).status == 303
    assert (await send(ada, f"{path}/messages/{third}/rate", {"rating": "2"})).status == 400
    assert (await send(ada, f"{path}/messages/{edited}/rate", {"rating": "1"})).status == 404
    assert (await send(ada, f"{path}/messages/{third}/edit", {"text": "x"}, EVENTS)).status == 404


async def test_the_models_for_another_answer_are_all_that_may_answer_with_those_of_ones_own(place: Place) -> None:
    ada = await place.person("ada@example.com")
    path = await begun(ada)
    [member] = await rows(place, "SELECT organization_id FROM member WHERE person_id = %s", ada.person_id)
    own = uuid4()
    await place.change(
        """INSERT INTO own_model (organization_id, id, person_id, name, protocol, base_url, provider_model_id,
               context_window, max_output_tokens, created_at, updated_at)
           VALUES (%s, %s, %s, 'Our Llama', 'openai', 'http://127.0.0.1:9/v1', 'llama', 8000, 100, now(), now())""",
        member["organization_id"], own, ada.person_id,
    )  # fmt: skip
    found = {str(one["value"]): one.get_text() for one in (await ada.get(path)).soup.select("#again-model option")}
    assert found[f"own/{own}"] == "Our Llama" and {"auto", "sandbox", "gpt-4o"} <= found.keys()
    assert "2 trial messages left" in found["gpt-4o"]
    label = (await ada.get(path)).soup.select_one('#rename label[for="chat-title"]')
    assert label is not None and label.find_next("input")["id"] == "chat-title"  # type: ignore[index]


async def test_who_leaves_and_comes_back_reads_the_whole_answer_and_only_one_is_written(place: Place) -> None:
    ada = await place.person("ada@example.com")
    slow = "sandbox:delay=15 sandbox:tokens=40"
    answer = await send(ada, "/chat", {"text": f"Slowly {slow}"})
    path = answer.headers["location"].partition("#")[0]
    page = await ada.get(path)
    article = page.soup.select_one("article[data-writing]")
    assert article is not None and page.soup.select_one('noscript meta[http-equiv="refresh"]') is not None
    busy = await send(ada, path, {"text": "Now"}, EVENTS)
    assert busy.status == 409 and "One answer at a time" in seen(busy)
    events = told(await ada.get(str(article["data-writing"]), accept="text/event-stream"))
    assert events[0][0] == "text" and events[-1][0] == "done"
    text = "".join(data["text"] for name, data in events if name == "text")
    [row] = await rows(place, "SELECT content, state FROM message WHERE author = 'assistant'")
    assert row == {"content": text, "state": "done"}
    assert (await ada.get(str(article["data-writing"]))).status == 406


async def test_a_stopped_answer_keeps_what_came(place: Place) -> None:
    ada = await place.person("ada@example.com")
    answer = await send(ada, "/chat", {"text": "Long sandbox:delay=20 sandbox:tokens=2000"})
    path = answer.headers["location"].partition("#")[0]
    [_, (_, writing)] = await articles(ada, path)
    assert (await send(ada, f"{path}/messages/{writing}/stop", {}, EVENTS)).status == 204
    events = told(await ada.get(f"{path}/messages/{writing}/events", accept="text/event-stream"))
    assert events[-1][0] == "done" and "Stopped." in events[-1][1]["html"]


async def test_a_provider_that_breaks_leaves_what_came_and_says_so(place: Place) -> None:
    ada = await place.person("ada@example.com")
    events = told(await send(ada, "/chat", {"text": "Break sandbox:delay=0 sandbox:fault=error:9"}, EVENTS))
    assert 'data-state="incomplete"' in events[-1][1]["html"] and "broke off" in events[-1][1]["html"]
    events = told(await send(ada, "/chat", {"text": "Never sandbox:fault=status:500"}, EVENTS))
    assert 'data-state="failed"' in events[-1][1]["html"] and "did not answer" in events[-1][1]["html"]


async def test_an_answer_of_a_hostile_model_is_text_wherever_it_stands(place: Place) -> None:
    ada = await place.person("ada@example.com")
    evil = "<script>alert(1)</script>[x](javascript:alert(1)) </p></article><img src=x onerror=alert(1)>"
    path = await begun(ada, f"{evil} {QUICK}")
    await place.change("UPDATE message SET content = %s, model_name = %s, reason = %s", evil, evil, evil)
    await place.change("UPDATE conversation SET title = %s", evil)
    for page in (await ada.get(path), await ada.get("/chat"), await ada.get("/chat?q=script")):
        assert page.status == 200
        assert "<script>alert" not in page.text and "<img src=x" not in page.text
        assert not page.soup.select("[onerror]") and not page.soup.select('[href^="javascript"]')


# -------------------------------------------------------------------------------------------- the list, and whose it is


async def test_chats_are_found_renamed_pinned_and_deleted(place: Place) -> None:
    ada = await place.person("ada@example.com")
    first, second = await begun(ada, f"About rivers {QUICK}"), await begun(ada, f"About stones {QUICK}")
    hx = {"hx-request": "true"}
    found = await ada.get("/chat/list?q=riv", **{"hx_request": "true"})
    assert [one["href"] for one in found.soup.select(".chat-row > a")] == [first]
    assert "No chat has these words" in (await ada.get("/chat/list?q=zebra", **{"hx_request": "true"})).text
    row = await send(ada, f"{first}/rename", {"title": "Water & more"}, hx)
    assert row.soup.select_one(".chat-row > a").text.strip() == "Water & more"  # type: ignore[union-attr]
    listed = await send(ada, f"{first}/pin", {"pinned": "yes"}, hx)
    assert [one["href"] for one in listed.soup.select(".chat-row > a")] == [first, second]
    assert [one.text for one in listed.soup.select("h2")] == ["Pinned", "Recent"]
    await send(ada, f"{first}/pin", {"pinned": "no"})
    assert "Delete" in (await ada.get(f"{first}/row?mode=delete")).text
    assert (await send(ada, f"{first}/delete", {}, hx)).text == ""
    open_here = hx | {"hx-current-url": place.url + second}
    assert (await send(ada, f"{second}/delete", {}, open_here)).headers["hx-redirect"] == "/chat"
    assert (await ada.get(first)).status == 404 and await rows(place, "SELECT FROM message") == []
    assert (await send(ada, f"{second}/rename", {"title": "x"})).status == 404


async def test_a_long_list_and_a_long_chat_go_on_from_where_they_ended(place: Place) -> None:
    ada = await place.person("ada@example.com")
    path = await begun(ada)
    await place.change(
        """INSERT INTO conversation (organization_id, id, person_id, title, created_at, updated_at)
           SELECT organization_id, gen_random_uuid(), person_id, 'Chat ' || n, now(), now() - interval '1 hour' * n
           FROM conversation, generate_series(1, 40) AS n"""
    )
    await place.change(
        """INSERT INTO message (organization_id, conversation_id, id, person_id, author, state, content, created_at,
               written_at)
           SELECT organization_id, id, lpad(to_hex(n), 32, '0')::uuid, person_id, 'person', 'done', 'Old ' || n, now(),
               now()
           FROM conversation, generate_series(1, 60) AS n WHERE id = %s""",
        UUID(path.rpartition("/")[2]),
    )
    first = await ada.get("/chat")
    more = first.soup.select_one(".chats-more a")
    assert more is not None and len(first.soup.select(".chat-row")) == 30
    rest = await ada.get(str(more["href"]), **{"hx_request": "true"})
    assert len(rest.soup.select(".chat-row")) == 11 and rest.soup.select_one(".chats-more") is None
    assert (await ada.get("/chat/list?cursor=nonsense", **{"hx_request": "true"})).status == 400
    page = await ada.get(path)
    earlier = page.soup.select_one(".earlier a")
    assert earlier is not None and len(page.soup.select("article")) == SHOWN
    before = await ada.get(str(earlier["href"]), **{"hx_request": "true"})
    assert len(before.soup.select("article")) == 62 - SHOWN and before.soup.select_one(".earlier") is None


async def test_a_chat_is_taken_along_as_markdown_and_as_json(place: Place) -> None:
    ada = await place.person("ada@example.com")
    path = await begun(ada, f"Rivers\n\n# and stones {QUICK}")
    await send(ada, f"{path}/rename", {"title": 'A "title"/../x'})
    text = await ada.get(f"{path}/export?as=markdown")
    assert text.headers["content-disposition"] == 'attachment; filename="a-title-x.md"'
    assert '# A "title"' in text.text and "# and stones" in text.text and "[sandbox]" in text.text
    found = json.loads((await ada.get(f"{path}/export?as=json")).text)
    assert [one["author"] for one in found["messages"]] == ["person", "assistant"]
    assert found["messages"][1]["model_id"] == "gpt-4o-mini" and found["messages"][1]["output_tokens"] == 12


async def test_nobody_else_finds_a_chat_in_the_same_organisation_or_in_another(place: Place) -> None:
    ada = await place.in_a_team("ada@example.com", "member")
    path = await begun(ada, f"Canary {QUICK}", model="sandbox")
    [(_, question), (_, reply)] = await articles(ada, path)
    [row] = await rows(place, "SELECT organization_id FROM conversation")
    boss, other = await place.person("boss@example.com"), await place.person("other@example.com")
    await place.change(
        "INSERT INTO member (organization_id, person_id, role, created_at) VALUES (%s, %s, 'owner', now())",
        row["organization_id"], boss.person_id,
    )  # fmt: skip
    await place.change(
        "UPDATE session SET organization_id = %s WHERE person_id = %s", row["organization_id"], boss.person_id
    )
    for visitor in (boss, other):
        for there in ("", "/row", "/export?as=json", f"/messages/{reply}/events"):
            answer = await visitor.get(path + there, accept="text/html, text/event-stream")
            assert answer.status == 404 and "Canary" not in answer.text, there
        for there, fields in (
            ("", {"text": "Mine"}), ("/rename", {"title": "Mine"}), ("/pin", {"pinned": "yes"}), ("/delete", {}),
            (f"/messages/{reply}/regenerate", {}), (f"/messages/{question}/edit", {"text": "Mine"}),
            (f"/messages/{reply}/stop", {}), (f"/messages/{reply}/rate", {"rating": "1"}),
        ):  # fmt: skip
            assert (await send(visitor, path + there, fields, EVENTS)).status == 404, there
        assert "Canary" not in (await visitor.get("/chat?q=Canary")).soup.select_one("#chat-list").text  # type: ignore[union-attr]
    mine = await begun(other, model="sandbox")
    for way in ("regenerate", "stop", "rate"):
        answer = await send(other, f"{mine}/messages/{reply}/{way}", {"rating": "1"} if way == "rate" else {}, EVENTS)
        assert answer.status in (204, 404), "a message of one chat under the address of another"
    [after] = await rows(place, "SELECT title, pinned_at FROM conversation WHERE id = %s", UUID(path[6:]))
    assert after["title"].startswith("Canary") and after["pinned_at"] is None
    assert await articles(ada, path) == [("person", question), ("assistant", reply)]


async def test_who_acts_as_somebody_reads_none_of_their_chats_and_asks_nothing_at_their_expense(
    place: Place,
) -> None:  # fmt: skip
    ada = await place.person("ada@example.com")
    path = await begun(ada)
    operator = await place.person("operator@example.com")
    await place.change(
        """UPDATE session SET method = 'impersonation', impersonator_id = %s, impersonation_reason = 'Asked to',
               impersonator_session_id = (SELECT id FROM session WHERE person_id = %s)
           WHERE person_id = %s""",
        operator.person_id, operator.person_id, ada.person_id,
    )  # fmt: skip
    await place.change("UPDATE person SET superadmin = true WHERE id = %s", operator.person_id)
    for there in (path, "/chat", f"{path}/export?as=json", f"{path}/row"):
        assert (await ada.get(there)).status == 403
    token = (await ada.get("/playground")).token
    asked = await ada.post("/playground/run", {"csrf": token, "model": "sandbox", "prompt": "Say it"})
    assert asked.status == 403


async def test_a_form_needs_its_token_and_a_session_that_goes_on(place: Place) -> None:
    ada = await place.person("ada@example.com")
    path = await begun(ada)
    assert (await ada.post(path, {"text": "x", "csrf": "no"}, EVENTS)).status == 403
    await place.change("DELETE FROM session WHERE person_id = %s", ada.person_id)
    answer = await ada.post(path, {"text": "x"}, EVENTS)
    assert answer.status == 303 and answer.headers["location"].startswith("/sign-in")
