"""The page Models: templates with what is left of them, previews, and models of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.web.serving import Answer, Place, Visitor, clock, serving
from tests.web.team import Team, at, seen, send, sent_on, signed_in, team
from tollhouse.core.assistant import Allowance, counter_of, rule_of
from tollhouse.flows.assistant import offers
from tollhouse.web.assistant import left_of, thousands, wait

KEY = "sk-of-ones-own-0123456789"
MODEL = {
    "name": "Our Llama", "protocol": "openai", "base_url": "https://models.example.com/v1",
    "provider_model_id": "llama-3.3-70b", "key": KEY, "context_window": "32000", "max_output_tokens": "1000",
    "do": "make",
}  # fmt: skip
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def use(place: Place, visitor: Visitor, slug: str, tokens: int) -> None:
    """The person has used so many tokens of an assistant in its period."""
    signed = await signed_in(place, visitor)
    offer = next(one for one in await offers(place.db, signed, clock()) if one.assistant.slug == slug)
    rule = rule_of(offer)
    assert rule is not None
    about = counter_of(rule, signed.person_id, clock())
    await place.change(
        """INSERT INTO quota_window (organization_id, id, subject_id, meter, model_id, period, starts_at, used,
               reserved, capability, limit_id)
           VALUES (%s, %s, %s, 'tokens', '', %s, %s, %s, 0, '', %s)
           ON CONFLICT (organization_id, id) DO UPDATE SET used = EXCLUDED.used""",
        signed.organization_id, about.window_id, signed.person_id, rule.period, about.starts_at, tokens, rule.id,
    )  # fmt: skip


async def plan(place: Place, visitor: Visitor, plan_id: str) -> None:
    signed = await signed_in(place, visitor)
    await place.change("UPDATE organization SET plan_id = %s WHERE id = %s", plan_id, signed.organization_id)


def card(answer: Answer, slug: str) -> str:
    return " ".join(at(answer, f'[data-testid="assistant-{slug}"]').get_text(" ").split())


# ------------------------------------------------------------------------------------------------------------ templates


async def test_a_card_shows_what_is_left_and_warns_in_the_words_for_80_90_and_100_per_cent(place: Place) -> None:
    ada = await place.person("ada@example.com")
    await plan(place, ada, "pro")
    for tokens, level, said in (
        (2_500, "good", None),
        (5_001, "good", None),
        (5_100, "near", None),
        (8_000, "near", "Approaching token limit (8K/10K used)"),
        (8_100, "full", "Approaching token limit (8.1K/10K used)"),
        (9_000, "full", "Almost at limit! (9K/10K used)"),
        (10_000, "full", "Monthly limit reached. Resets in "),
    ):
        await use(place, ada, "blog-content-writer", tokens)
        page = await ada.get("/account/ai/templates")
        text = card(page, "blog-content-writer")
        assert f"Used: {tokens:,} / 10,000 tokens" in text and "5 tasks available" in text and "SYSTEM" in text
        assert "Resets in " in text and (said is None or said in text), text
        assert at(page, '[data-testid="assistant-blog-content-writer"] progress')["data-level"] == level
        way = at(page, '[data-testid="assistant-blog-content-writer"]').select('a[href^="/chat?assistant="]')
        assert len(way) == (0 if tokens == 10_000 else 1)


async def test_what_the_plan_has_not_is_locked_and_names_the_plan_that_has_it(place: Place) -> None:
    ada = await place.person("ada@example.com")
    page = await ada.get("/account/ai/templates")
    locked = card(page, "blog-content-writer")
    assert "Plan: Pro" in locked and "Upgrade to Pro" in locked and "Use model" not in locked and "Used:" not in locked
    assert "Trial of 7 days" in card(page, "product-description")
    assert "Use model" in card(page, "meeting-notes") and "Used: 0 / 20,000 tokens" in card(page, "meeting-notes")
    preview = seen(await ada.get("/account/ai/blog-content-writer"))
    assert "Not in your plan" in preview and "comes with the plan Pro and all above it" in preview
    states = [one["data-state"] for one in page.soup.select("[data-state]")]
    assert states[:3] == ["open"] * 3 and sorted(states[3:]) == states[3:]  # what can be used comes first


async def test_a_trial_that_is_over_says_so(place: Place) -> None:
    ada = await place.person("ada@example.com")
    signed = await signed_in(place, ada)
    first = next(one for one in await offers(place.db, signed, clock()) if one.assistant.slug == "product-description")
    began = clock() - timedelta(days=3)
    await place.change(
        "INSERT INTO assistant_use (organization_id, request_id, subject_id, assistant_id, model_id, created_at) "
        "VALUES (%s, %s, %s, %s, 'sandbox', %s)",
        signed.organization_id, uuid4(), signed.person_id, first.assistant.id, began,
    )  # fmt: skip
    assert "Trial until" in card(await ada.get("/account/ai/templates"), "product-description")
    await place.change("UPDATE assistant_use SET created_at = created_at - interval '5 days'")
    assert "Plan: Basic" in card(await ada.get("/account/ai/templates"), "product-description")
    assert "Your trial ended on" in seen(await ada.get("/account/ai/product-description"))


async def test_a_preview_shows_tasks_knowledge_and_thirty_days_of_ones_own_use(place: Place) -> None:
    ada, charles = await place.person("ada@example.com"), await place.person("charles@example.com")
    signed = await signed_in(place, ada)
    marcus = next(one for one in await offers(place.db, signed, clock()) if one.assistant.slug == "marcus")
    for days, person, tokens in ((0, ada.person_id, 100), (3, ada.person_id, 250), (40, ada.person_id, 9_000),
                                 (1, charles.person_id, 7_777)):  # fmt: skip
        await used(place, signed.organization_id, person, marcus.assistant.id, clock() - timedelta(days=days), tokens)
    page = await ada.get("/account/ai/marcus")
    text = seen(page)
    assert "Prepare for a hard day" in text and "Meditations, book 2" in text and "You speak as Marcus Aurelius" in text
    assert "Messages 2 Tokens 350" in text and "9,000" not in text and "7,777" not in text
    assert len(page.soup.select("svg.assistant-bars rect")) == 2
    assert page.soup.select_one('a[href="/chat?assistant=marcus"]') is not None


async def used(
    place: Place, organization_id: UUID, person_id: UUID | None, assistant_id: UUID, at_: datetime, tokens: int
) -> None:
    request_id = uuid4()
    await place.change(
        "INSERT INTO assistant_use (organization_id, request_id, subject_id, assistant_id, model_id, created_at) "
        "VALUES (%s, %s, %s, %s, 'sandbox', %s)",
        organization_id, request_id, person_id, assistant_id, at_,
    )  # fmt: skip
    await place.change(
        """INSERT INTO usage_event (organization_id, id, recorded_at, started_at, reservation_id, subject_id, channel,
               multiplier_permille, messages, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens,
               trial, estimated, cost_nanos, charged_micros)
           VALUES (%s, %s, %s, %s, %s, %s, 'chat', 1000, 1, %s, 0, 0, 0, false, false, 0, 0)""",
        organization_id, uuid4(), at_, at_, request_id, person_id, tokens,
    )  # fmt: skip


async def test_members_of_a_team_see_what_their_admins_switched_on_and_nothing_else(mill: Team) -> None:
    grace = await mill.join("grace@example.com", "member")
    theirs = seen(await grace.get("/account/ai/templates"))
    assert "Marcus Aurelius" in theirs and "Meeting Notes" not in theirs
    assert (await grace.get("/account/ai/meeting-notes")).status == 404
    page = await mill.owner.get("/admin/ai")
    way = str(at(page, '[data-testid="offer-meeting-notes"] form')["action"])
    await sent_on(mill.owner, way)
    assert "Meeting Notes" in seen(await grace.get("/account/ai/templates"))
    assert (await send(grace, way.replace("enable", "disable"))).status == 403
    for offer in (await mill.owner.get("/admin/ai")).soup.select('form[action$="/disable"]'):
        await sent_on(mill.owner, str(offer["action"]))
    assert (await grace.get("/account/ai/meeting-notes")).status == 404
    assert (await grace.get("/account/ai/marcus")).status == 404
    assert "No assistants are switched on here" in seen(await grace.get("/account/ai/templates"))
    assert "Choose assistants" in seen(await mill.owner.get("/account/ai/templates"))


# -------------------------------------------------------------------------------------------------- models of one's own


async def test_a_model_of_ones_own_is_added_and_its_key_shown_on_no_page(place: Place) -> None:
    ada, charles = await place.person("ada@example.com"), await place.person("charles@example.com")
    listed = await sent_on(ada, "/account/ai/new", MODEL)
    assert "Our Llama" in seen(listed) and "…6789" in seen(listed) and "1 of the 1" in seen(listed)
    path = str(at(listed, 'a[href^="/account/ai/models/"]')["href"])
    assert listed.soup.select_one(f'a[href="/chat?model=own/{path.rsplit("/", 1)[1]}"]') is not None
    shown = await ada.get(path)
    assert KEY not in listed.text + shown.text
    assert "ends in …6789" in seen(shown) and not at(shown, 'input[name="key"]').get("value")
    assert (await charles.get(path)).status == 404
    assert (await send(charles, f"{path}/delete")).status == 404
    full = await send(ada, "/account/ai/new", MODEL)
    assert full.status == 422 and "upgrade the plan" in seen(full) and KEY not in full.text
    renamed = await sent_on(ada, path, MODEL | {"key": "", "name": "Renamed", "do": "save"})
    assert "Renamed" in seen(renamed) and "…6789" in seen(renamed)
    assert "No models of your own yet" in seen(await sent_on(ada, f"{path}/delete"))


async def test_what_cannot_be_stands_at_its_field(place: Place) -> None:
    ada = await place.person("ada@example.com")
    for field, value, said in (
        ("name", "", "Fill this in"),
        ("protocol", "telnet", "Choose one of the list"),
        ("base_url", "http://127.0.0.1/v1", "https://"),
        ("key", "two words", "no spaces"),
        ("context_window", "many", "whole number"),
        ("max_output_tokens", "32001", "cannot be longer than the context"),
    ):
        sent: dict[str, Any] = MODEL | {field: value}
        answer = await send(ada, "/account/ai/new", sent)
        assert answer.status == 422 and said in str(at(answer, f"#field-{field}-error")), answer.text
        assert KEY not in answer.text
        assert at(answer, '[name="provider_model_id"]')["value"] == "llama-3.3-70b"


# ------------------------------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(days=15), "15 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=23, minutes=29), "23 hours"),
        (timedelta(minutes=59, seconds=1), "1 hour"),
        (timedelta(minutes=20), "20 minutes"),
        (timedelta(seconds=1), "1 minute"),
    ],
)
def test_a_wait_is_said_in_the_largest_unit_that_fits(span: timedelta, said: str) -> None:
    assert wait(span) == said


def test_each_period_has_its_own_words() -> None:
    for period, said in (("day", "Daily"), ("week", "Weekly"), ("month", "Monthly")):
        left = left_of(Allowance(10, 10, period, NOON + timedelta(days=3)), NOON)  # type: ignore[arg-type]
        assert left.warning == f"{said} limit reached. Resets in 3 days." and left.reached


def test_thousands_are_short() -> None:
    assert [thousands(n) for n in (999, 1_000, 8_000, 9_250, 33_000, 1_200_000)] == [
        "999", "1K", "8K", "9.2K", "33K", "1.2M"
    ]  # fmt: skip
