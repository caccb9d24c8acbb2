"""What the admins of an organisation decide about assistants, and assistants of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.web.team import Team, at, seen, send, sent_on, signed_in, team
from tollhouse.core.assistant import Task
from tollhouse.store import assistant as store
from tollhouse.store import passage

WRITTEN: dict[str, Any] = {
    "name": "Tarif- & Offer writer!", "description": "Writes offers.", "role": "offer_writer",
    "system_message": "You write offers for a mill.", "tasks": "Draft: Draft an offer from: \n\nShort: Shorten: x",
    "icon": "briefcase", "model": "sandbox", "token_limit": "5000", "token_period": "week",
}  # fmt: skip
PRICES = "# Prices\n\nAn hour at the mill is ninety euros.\n\n# Travel\n\nA kilometre is fifty cents."


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def made(mill: Team, **changes: Any) -> str:
    """The path of a new assistant of the organisation's own."""
    answer = await send(mill.owner, "/admin/ai/new", WRITTEN | changes)
    assert answer.status == 303, answer.text
    return str(answer.headers["location"])


async def test_an_assistant_of_ones_own_is_there_for_all_members_at_once_and_knows_its_documents(mill: Team) -> None:
    grace, admin = await mill.join("grace@example.com", "member"), await mill.join("admin@example.com", "admin")
    path = await made(mill)
    again = await made(mill)
    assert path != again
    page = await sent_on(admin, f"{path}/documents", {"title": "Price list", "source": "Intranet", "text": PRICES})
    assert "2 passages" in seen(page)
    theirs = await grace.get("/account/ai/templates")
    assert "Tarif- & Offer writer!" in seen(theirs) and "ORGANISATION" in seen(theirs)
    assert len(theirs.soup.select('[data-testid="assistant-tarif-offer-writer"]')) == 1
    assert len(theirs.soup.select('[data-testid="assistant-tarif-offer-writer-2"]')) == 1
    signed = await signed_in(mill.place, grace)
    async with mill.place.db.tenant(mill.id) as tx:
        one = await store.by_slug(tx, mill.id, signed.person_id, "tarif-offer-writer")
        assert one is not None
        found = await passage.search(tx, one, "What does an hour cost?")
    assert one.tasks == (Task("Draft", "Draft an offer from:"), Task("Short", "Shorten: x"))
    assert (one.model_id, one.token_limit, one.token_period) == ("sandbox", 5000, "week")
    assert [(row.title, row.source, row.heading) for row in found] == [("Price list", "Intranet", "Prices")]
    delete = str(at(page, 'form[action*="/documents/"][action$="/delete"]')["action"])
    assert "Nothing of its own yet" in seen(await sent_on(mill.owner, delete))
    for way in ("", "/limit", "/documents", "/delete", "/disable"):
        assert (await send(grace, path + way, WRITTEN if not way else {})).status == 403
    assert (await send(mill.owner, "/admin/ai/new", WRITTEN | {"person_id": "x"})).status == 400
    await sent_on(mill.owner, f"{path}/delete")
    assert (await grace.get("/account/ai/tarif-offer-writer")).status == 404
    assert (await send(mill.owner, path, WRITTEN)).status == 404
    actions = [one for one in await mill.audited() if one.startswith("assistant.")]
    assert actions == [
        "assistant.created", "assistant.created", "assistant.document_added", "assistant.document_removed",
        "assistant.deleted",
    ]  # fmt: skip
    details = str(await mill.rows("SELECT details FROM audit WHERE action LIKE 'assistant.%%'"))
    assert "You write offers" not in details and "ninety" not in details


async def test_what_cannot_be_stands_at_its_field(mill: Team) -> None:
    for field, value, said in (
        ("name", "", "Fill this in"),
        ("system_message", "", "Fill this in"),
        ("role", "Tax Clerk", "small letters"),
        ("tasks", "no colon", "a colon"),
        ("icon", "skull", "Choose one of the list"),
        ("model", "text-embedding-3-small", "no such model"),
        ("token_limit", "0", "whole number"),
        ("token_period", "hour", "Choose one of the list"),
    ):
        answer = await send(mill.owner, "/admin/ai/new", WRITTEN | {field: value})
        assert answer.status == 422 and said in str(at(answer, f"#field-{field}-error")), (field, answer.text)
    path = await made(mill)
    empty = await send(mill.owner, f"{path}/documents", {"title": "Nothing", "text": "# Only a heading"})
    assert empty.status == 422 and "no text in it" in str(at(empty, "#field-text-error"))
    assert at(empty, '[name="title"][value="Nothing"]')


async def test_a_limit_is_at_most_what_the_plan_has_and_holds_for_each_member(mill: Team) -> None:
    grace = await mill.join("grace@example.com", "member")
    row = at(await mill.owner.get("/admin/ai"), '[data-testid="offer-meeting-notes"] form')
    path = str(row["action"]).removesuffix("/enable")
    above = await send(mill.owner, f"{path}/limit", {"token_limit": "2000001"})  # the free plan has two million
    assert above.status == 422 and "limit nobody" in str(at(above, "#limit-tokens-error"))
    for wrong in ("0", "-5", "1.5"):
        assert (await send(mill.owner, f"{path}/limit", {"token_limit": wrong})).status == 422
    page = await sent_on(mill.owner, f"{path}/limit", {"token_limit": "1500"})
    assert at(page, "#limit-tokens")["value"] == "1500" and "each of 2 people" in seen(page)
    assert "Meeting Notes" not in seen(await grace.get("/account/ai/templates"))  # a limit switches nothing on
    await sent_on(mill.owner, f"{path}/enable")
    assert "0 / 1,500 tokens" in seen(await grace.get("/account/ai/templates"))
    await sent_on(mill.owner, f"{path}/limit", {"token_limit": ""})
    assert "0 / 20,000 tokens" in seen(await grace.get("/account/ai/templates"))
    trail = await mill.rows("SELECT details FROM audit WHERE action = 'assistant.limited' ORDER BY seq")
    assert [(one["details"]["from"], one["details"]["to"]) for one in trail] == [(None, 1500), (1500, None)]


async def test_what_the_plan_has_not_cannot_be_switched_on_and_nobody_changes_what_is_anothers(mill: Team) -> None:
    page = await mill.owner.get("/admin/ai")
    assert "Upgrade" in at(page, '[data-testid="offer-blog-content-writer"]').get_text()
    path = str(at(page, '[data-testid="offer-blog-content-writer"] a')["href"])
    refused = await sent_on(mill.owner, f"{path}/enable")
    assert "comes with the plan Pro" in seen(refused)
    assert await mill.rows("SELECT 1 FROM assistant_setting") == []
    for way, fields in (("", WRITTEN), ("/delete", {}), ("/documents", {"title": "Mine", "text": "Words."})):
        assert (await send(mill.owner, path + way, fields)).status == 404  # the platform's are its own
    theirs = await made(mill)
    stranger = await mill.place.in_a_team("stranger@example.com", "owner")
    for way, fields in (("", WRITTEN), ("/enable", {}), ("/limit", {"token_limit": "5"}), ("/delete", {})):
        assert (await send(stranger, theirs + way, fields)).status == 404
    assert (await stranger.get(theirs)).status == 404
