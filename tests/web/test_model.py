"""The page AI models: every state of a model, what is chosen, and what is compared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest_asyncio

from tests.web.serving import Visitor, clock
from tests.web.team import Team, at, seen, send, sent_on, team
from tollhouse.core.preference import Preferences
from tollhouse.core.quota import Meter, counter
from tollhouse.store import preference

HERE = "/settings/ai-models"
GPT, SONNET, OPUS, GEMINI, MINI, HAIKU, LLAMA = (
    "gpt-4o", "claude-3-5-sonnet", "claude-3-opus", "gemini-pro-1.5", "gpt-4o-mini", "claude-3-5-haiku",
    "llama-3.1-8b",
)  # fmt: skip


@pytest_asyncio.fixture
async def mill(database_url: str) -> AsyncIterator[Team]:
    async with team(database_url) as made:
        yield made


async def use(mill: Team, who: Visitor, model_id: str, meter: Meter, count: int) -> None:
    """So many messages of the model, today or of its trial."""
    assert who.person_id is not None
    about = counter(who.person_id, meter, "day" if meter == "messages" else "lifetime", clock(), model_id)
    await mill.place.change(
        """INSERT INTO quota_window (organization_id, id, subject_id, meter, model_id, period, starts_at, used,
               reserved, capability)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0, '')""",
        mill.id, about.window_id, who.person_id, meter, model_id, about.period, about.starts_at, count,
    )  # fmt: skip


async def unlock(mill: Team, model_id: str) -> None:
    """For everybody there."""
    await mill.place.change(
        """INSERT INTO entitlement (organization_id, id, model_id, source, starts_at)
           VALUES (%s, %s, %s, 'admin_grant', now() - interval '1 day')""",
        mill.id, uuid4(), model_id,
    )  # fmt: skip


async def preferences(mill: Team, who: Visitor) -> Preferences:
    assert who.person_id is not None
    async with mill.place.db.tenant(mill.id) as tx:
        return await preference.read(tx, mill.id, who.person_id)


async def test_every_state_of_a_model_is_said_with_what_helps(mill: Team) -> None:
    place, ada = mill.place, mill.owner
    await unlock(mill, SONNET)
    await unlock(mill, OPUS)
    await use(mill, ada, SONNET, "messages", 45)
    await use(mill, ada, OPUS, "messages", 30)
    await use(mill, ada, GPT, "trial_messages", 1)
    await place.change("UPDATE model SET trial_messages = 0 WHERE id = %s", GEMINI)
    await place.change("DELETE FROM model_price WHERE model_id = %s", LLAMA)
    page = await ada.get(HERE)
    card = {id_: at(page, f'[id="{id_}"]') for id_ in (GPT, SONNET, OPUS, GEMINI, MINI, LLAMA)}
    said = {id_: " ".join(one.get_text(" ").split()) for id_, one in card.items()}
    states = {id_: one["data-state"] for id_, one in card.items()}
    assert states == {
        GPT: "trial", SONNET: "unlocked", OPUS: "limit_hit", GEMINI: "locked", MINI: "free", LLAMA: "unavailable",
    }  # fmt: skip
    for part in ("$2.99", "Standard", "Excellent", "128K", "Best for: Deep analysis", "Try Free", "Unlock $2.99"):
        assert part in said[GPT], part
    assert "1 free trial message remaining" in said[GPT]
    assert at(page, f'[id="{GPT}"] a[href="/chat?model={GPT}"]').get_text(strip=True) == "Try Free"
    assert "Unlocked" in said[SONNET] and "45/50 messages today" in said[SONNET] and "Resets" in said[SONNET]
    assert "Unlock $" not in said[SONNET]
    assert "Today’s 30 messages of Claude 3 Opus are used. There are more from" in said[OPUS]
    assert "Unlocked" in said[OPUS] and "/chat?model=" not in str(card[OPUS])
    assert "There is no trial" in said[GEMINI] and "Try Free" not in said[GEMINI] and "2M" in said[GEMINI]
    assert "Free" in said[MINI] and f"/chat?model={MINI}" in str(card[MINI])
    assert "cannot be asked at the moment" in said[LLAMA] and "/chat?model=" not in str(card[LLAMA])
    await place.change("UPDATE quota_window SET used = 2 WHERE meter = 'trial_messages'")
    exhausted = at(await ada.get(HERE), f'[id="{GPT}"]')
    text = " ".join(exhausted.get_text(" ").split())
    assert exhausted["data-state"] == "trial_exhausted" and "0 free trial messages remaining" in text
    assert "Your trial of GPT-4o is used" in text and "Try Free" not in text and "Unlock $2.99" in text


async def test_a_choice_is_saved_at_once_with_a_word_about_it(mill: Team) -> None:
    ada, bob = mill.owner, await mill.join("bob@example.com", "member")
    await mill.place.change(
        """INSERT INTO assistant_setting (organization_id, assistant_id, enabled, updated_at)
           SELECT %s, id, true, now() FROM assistant WHERE slug = 'marcus'""",
        mill.id,
    )
    page = await sent_on(ada, f"{HERE}/default", {"model": HAIKU})
    assert "Your default model is saved." in seen(page)
    assert "Claude 3.5 Haiku (Free)" in at(page, '[data-testid="default-model-dropdown"]').get_text()
    token = page.token
    part = await ada.post(
        f"{HERE}/assistants/marcus", [("model", MINI), ("csrf", token)], {"hx-request": "true"}
    )  # fmt: skip
    assert part.status == 200 and "<html" not in part.text
    assert "The model for Marcus Aurelius is saved." in at(part, '[hx-swap-oob="beforeend:#toaster"] .toast').get_text()
    assert at(part, "#default-choice") and at(part, '#overrides[hx-swap-oob="outerMorph:#overrides"]')
    [marcus] = await mill.rows("SELECT id FROM assistant WHERE slug = 'marcus'")
    found = await preferences(mill, ada)
    assert (found.default_model_id, dict(found.overrides)) == (HAIKU, {marcus["id"]: MINI})
    assert await preferences(mill, bob) == Preferences()
    page = await sent_on(ada, f"{HERE}/assistants/marcus", {"model": ""})
    assert "Use Default (Claude 3.5 Haiku)" in seen(page)
    await sent_on(ada, f"{HERE}/default", {"model": ""})
    assert await preferences(mill, ada) == Preferences()
    assert [one for one in await mill.audited() if one.startswith("preference")] == []


async def test_what_cannot_last_or_is_not_there_is_refused_and_what_stands_stays(mill: Team) -> None:
    ada = mill.owner
    await sent_on(ada, f"{HERE}/default", {"model": HAIKU})
    for path in (f"{HERE}/default", f"{HERE}/assistants/marcus"):
        for model_id, word in ((GPT, "Unlock it for $2.99"), ("gpt-nothing", "no model")):
            page = await sent_on(ada, path, {"model": model_id})
            assert word in at(page, '.toast[data-category="error"]').get_text()
    token = (await ada.get(HERE)).token
    part = await ada.post(f"{HERE}/default", [("model", GPT), ("csrf", token)], {"hx-request": "true"})
    assert part.status == 403 and at(part, '.toast[data-category="error"]')
    assert "Claude 3.5 Haiku" in at(part, '[data-testid="default-model-dropdown"]').get_text()
    assert (await send(ada, f"{HERE}/assistants/nobody", {"model": MINI})).status == 404
    assert (await send(ada, f"{HERE}/default", {"models": MINI})).status == 400
    assert (await ada.post(f"{HERE}/default", {"model": MINI})).status == 403  # without the page's token
    assert await preferences(mill, ada) == Preferences(HAIKU)


async def test_a_default_that_is_switched_off_is_said_with_what_answers_instead(mill: Team) -> None:
    await sent_on(mill.owner, f"{HERE}/default", {"model": HAIKU})
    await mill.place.change("UPDATE model SET enabled = false WHERE id = %s", HAIKU)
    page = await mill.owner.get(HERE)
    warning = at(page, '.alert[data-variant="warn"]').get_text()
    assert "Claude 3.5 Haiku is switched off" in warning and "GPT-4o Mini" in warning
    assert page.soup.select_one(f'[id="{HAIKU}"]') is None


async def test_what_assistants_are_told_is_kept_within_bounds(mill: Team) -> None:
    ada = mill.owner
    page = await sent_on(ada, f"{HERE}/about", {"about": "I teach history.\nShort answers, please. <b>"})
    assert at(page, "#field-about").get_text() == "I teach history.\nShort answers, please. <b>"
    assert (await preferences(mill, ada)).about == "I teach history.\nShort answers, please. <b>"
    refused = await send(ada, f"{HERE}/about", {"about": "x" * 2001})
    assert refused.status == 422 and at(refused, "#field-about-error")
    await sent_on(ada, f"{HERE}/default", {"model": HAIKU})
    assert (await preferences(mill, ada)).about.startswith("I teach")  # one choice leaves the other as it is


async def test_models_are_compared_side_by_side_three_at_most(mill: Team) -> None:
    ada = mill.owner
    everything = at(await ada.get(HERE), "#comparison table")
    assert len(everything.select("tbody tr")) >= 8
    page = await ada.get(
        f"{HERE}?compare={GPT}&compare={GPT}&compare=nothing&compare={MINI}&compare={OPUS}&compare={LLAMA}"
    )
    table = at(page, "#comparison .model-compared")
    assert [one.get_text() for one in table.select("thead a")] == ["GPT-4o", "GPT-4o Mini", "Claude 3 Opus"]
    rows = {
        row.select("th")[0].get_text(): [cell.get_text(strip=True) for cell in row.select("td")]
        for row in table.select("tbody tr")
    }
    assert rows["Price"] == ["$2.99", "Free", "$4.99"] and rows["Cost per 1M tokens"] == ["$2.50", "$0.15", "$15.00"]
    assert rows["Messages a day"] == ["50", "No limit", "30"] and rows["Trial messages"][0] == "2 of 2 left"
    part = await ada.get(f"{HERE}?compare={GPT}", hx_request="true")
    assert part.soup.select_one("html") is None and at(part, "section#comparison")


async def test_unlocking_says_whom_to_ask_where_nothing_can_be_paid(mill: Team) -> None:
    page = await mill.owner.get(f"{HERE}/{GPT}/unlock")
    assert page.status == 200 and "Payments are not set up here" in seen(page) and "$2.99, once" in seen(page)
    await unlock(mill, GPT)
    assert "You have this model already" in seen(await mill.owner.get(f"{HERE}/{GPT}/unlock"))
    assert (await mill.owner.get(f"{HERE}/gpt-nothing/unlock")).status == 404


async def test_without_any_model_the_page_says_who_can_help(mill: Team) -> None:
    await mill.place.change("UPDATE model SET enabled = false")
    page = await mill.owner.get(HERE)
    assert page.status == 200 and "No models here yet" in seen(page)


async def test_what_is_ones_own_is_nobody_elses_who_acts_in_ones_place(mill: Team) -> None:
    ada, root = mill.owner, await mill.place.person("root@example.com")
    await sent_on(ada, f"{HERE}/about", {"about": "I teach history."})
    assert isinstance(root.person_id, UUID)
    await mill.place.change(
        """UPDATE session SET method = 'impersonation', impersonator_id = %s, impersonation_reason = 'Asked to',
               impersonator_session_id = (SELECT id FROM session WHERE person_id = %s)
           WHERE person_id = %s""",
        root.person_id, root.person_id, ada.person_id,
    )  # fmt: skip
    await mill.place.change("UPDATE person SET superadmin = true WHERE id = %s", root.person_id)
    page = await ada.get(HERE)
    assert page.status == 200 and "I teach history." not in page.text
    assert (await send(ada, f"{HERE}/default", {"model": HAIKU})).status == 403
    assert (await send(ada, f"{HERE}/about", {"about": "x"})).status == 403


async def test_of_a_large_catalogue_the_first_are_cards_and_the_rest_lines_that_lead_on(mill: Team) -> None:
    await mill.place.change(
        """INSERT INTO model (id, provider_id, provider_model_id, display_name, tier, price_cents, context_window,
               max_output_tokens, sort_order)
           SELECT 'more-' || n, 'sandbox', 'sandbox', 'More ' || n, CASE WHEN n > 30 THEN 'premium' ELSE 'free' END,
                  CASE WHEN n > 30 THEN 199 END, 8000, 1000, 1000 + n FROM generate_series(1, 60) n"""
    )
    await mill.place.change(
        """INSERT INTO model_price (model_id, version, effective_from, free, input_nanos_per_million,
               cached_input_nanos_per_million, output_nanos_per_million)
           SELECT id, 1, '2020-01-01', true, 0, 0, 0 FROM model WHERE id LIKE 'more-%%'"""
    )
    page = await mill.owner.get(HERE)
    cards, lines = page.soup.select(".model-card"), page.soup.select(".model-lines > li")
    assert len(cards) == 2 * 24
    assert {str(one["id"]) for one in lines}.isdisjoint(str(one["id"]) for one in cards)
    ways = {str(one["id"]): str(one.a["href"]) for one in lines if one.a}
    assert ways["more-30"] == "/chat?model=more-30"
    assert ways["more-60"] == "/settings/ai-models/more-60/unlock"
    assert (await mill.owner.get(ways["more-60"])).status == 200
