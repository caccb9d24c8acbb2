"""The models as they stand for somebody: what the shelf says is what the teller does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection

from tests.chatting import clock as real_time
from tests.chatting import room
from tests.flows.cast import FAILED, SOMEBODY, Clock, add_key, answer, answered, ask, change, found, rows, settle
from tests.wire_proxy import WireProxy
from tollhouse.core.ask import Credential
from tollhouse.core.errors import TollhouseError
from tollhouse.core.preference import Preferences
from tollhouse.core.shelf import ModelState, Shelf
from tollhouse.flows import preference as flow
from tollhouse.flows import shelf as shelves
from tollhouse.flows.operation import Admitted, Release
from tollhouse.flows.order import Order
from tollhouse.flows.preference import Change, NewDefault
from tollhouse.flows.shelf import Viewer
from tollhouse.flows.spend import Teller
from tollhouse.store import preference
from tollhouse.store.db import Database

GPT, MINI, OPUS = "gpt-4o", "gpt-4o-mini", "claude-3-opus"


@dataclass(slots=True)
class Reader:
    """Somebody who chats, in an organisation of the plan `free`: there chats take no credits."""

    url: str
    db: Database
    teller: Teller
    clock: Clock
    id: UUID
    key_id: UUID
    subject_id: UUID = field(default=SOMEBODY)

    async def look(self) -> Shelf:
        viewer = Viewer(self.id, Credential("key", self.key_id), self.subject_id, "chat")
        return await shelves.shelf_of(self.db, self.teller, viewer, self.clock())

    async def at(self, model_id: str) -> ModelState:
        one = (await self.look()).find(model_id)
        assert one is not None
        return one

    async def say(self, model_id: str) -> Any:
        """One message, answered at once; the refusal when it is one."""
        admitted = await self.hold(model_id)
        return (
            await self.teller.do(settle(self.id, admitted.id, by=answered(model_id)))
            if isinstance(admitted, Admitted)
            else admitted
        )

    async def hold(self, model_id: str) -> Any:
        """A message that is being answered."""
        operation = ask(
            self.id, model_id, 500, None, self.key_id, channel="chat", subject_id=self.subject_id,
            needs=frozenset({"gateway"}),
        )  # fmt: skip
        return await answer(self.teller, operation)

    async def run(self, statement: LiteralString, *parameters: Any) -> None:
        await change(self.url, statement, *parameters)

    async def unlock(self, model_id: str) -> None:
        await self.run(
            """INSERT INTO entitlement (organization_id, id, subject_id, model_id, source, starts_at)
               VALUES (%s, %s, %s, %s, 'admin_grant', %s)""",
            self.id, uuid4(), self.subject_id, model_id, self.clock(),
        )  # fmt: skip

    async def choose(self, preferences: Preferences) -> None:
        async with self.db.tenant(self.id) as tx:
            await preference.write(tx, self.id, self.subject_id, preferences, self.clock())


@asynccontextmanager
async def reading(url: str, teller: Teller, clock: Clock, through: str | None = None) -> AsyncIterator[Reader]:
    db = Database(through or url)
    await db.open()
    id_ = await found(url, clock(), plan_id="free")
    try:
        yield Reader(url, db, teller, clock, id_, await add_key(url, id_))
    finally:
        await db.close()


@pytest.fixture
async def ada(books: str, teller: Teller, clock: Clock) -> AsyncIterator[Reader]:
    async with reading(books, teller, clock) as made:
        yield made


def midnight_after(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


async def test_on_the_first_day_free_models_answer_and_premium_ones_have_their_trial(ada: Reader) -> None:
    shelf = await ada.look()
    assert {one.model.id for one in shelf.free} >= {MINI, "claude-3-5-haiku", "llama-3.1-8b"}
    assert {one.state for one in shelf.free} == {"free"} and {one.state for one in shelf.premium} == {"trial"}
    gpt = shelf.find(GPT)
    assert gpt is not None
    assert (gpt.price_cents, gpt.trial_remaining, gpt.trial_total) == (299, 2, 2)
    assert (gpt.used_today, gpt.limit_today, gpt.resets_at) == (0, 50, midnight_after(ada.clock()))
    assert (gpt.refusal, gpt.unlocked, gpt.most_micros) == (None, False, 0)
    said = gpt.metadata
    assert (said.provider, said.speed, said.quality, said.context_window) == (
        "OpenAI",
        "standard",
        "excellent",
        128_000,
    )
    assert said.cost_per_1m_tokens == 2.5 and len(said.best_for) == 3 and said.description
    assert (shelf.selected.model_id, shelf.selected.source, shelf.system_default) == (MINI, "system", MINI)
    assert [(one.meter, one.period, one.limit) for one in shelf.limits][:1] == [("messages", "day", 100)]
    assert all(one.model.kind == "chat" and one.model.selectable for one in shelf.models)


async def test_auto_says_which_model_would_answer_what(ada: Reader) -> None:
    by_level = (await ada.look()).auto.by_level
    fast, powerful = by_level["simple"], by_level["complex"]
    assert fast is not None and fast.quality_tier == "fast"
    assert powerful is not None and powerful.tier == "free"  # nothing premium is unlocked
    await ada.unlock(GPT)
    balanced = (await ada.look()).auto.by_level["complex"]
    assert balanced is not None and balanced.id == GPT


async def test_a_trial_is_counted_down_message_by_message_also_while_it_is_answered(ada: Reader) -> None:
    await ada.say(GPT)
    held = await ada.hold(GPT)
    one = await ada.at(GPT)
    assert (one.state, one.trial_remaining, one.used_today) == ("trial_exhausted", 0, 2)
    assert one.refusal is not None and one.refusal.code == "trial_expired"
    await ada.teller.do(Release(ada.id, held.id, FAILED))
    one = await ada.at(GPT)
    assert (one.state, one.trial_remaining, one.used_today) == ("trial", 1, 1)
    await ada.say(GPT)
    ada.clock.move(days=2)
    assert ((await ada.at(GPT)).state, (await ada.at(GPT)).used_today) == ("trial_exhausted", 0)


async def test_without_a_trial_a_premium_model_is_locked(ada: Reader) -> None:
    await ada.run("UPDATE model SET trial_messages = 0 WHERE id = %s", GPT)
    one = await ada.at(GPT)
    assert (one.state, one.trial_remaining, one.price_cents) == ("locked", 0, 299)
    assert one.refusal is not None and [hint.kind for hint in one.refusal.hints()] == ["unlock"]


async def test_an_unlocked_model_shows_its_day_and_comes_back_at_midnight(ada: Reader) -> None:
    await ada.unlock(GPT)
    await ada.say(GPT)
    one = await ada.at(GPT)
    assert (one.state, one.used_today, one.limit_today, one.lasting) == ("unlocked", 1, 50, True)
    assert one.trial_remaining == 2  # a message of one who has unlocked it is none of the trial
    await ada.run("UPDATE model SET daily_messages = 1 WHERE id = %s", GPT)
    one = await ada.at(GPT)
    assert (one.state, one.used_today, one.limit_today) == ("limit_hit", 1, 1) and one.lasting
    assert one.refusal is not None and one.resets_at == midnight_after(ada.clock())
    ada.clock.move(days=1)
    one = await ada.at(GPT)
    assert (one.state, one.used_today) == ("unlocked", 0)


async def test_the_tightest_limit_of_the_model_is_the_one_that_is_shown(ada: Reader) -> None:
    await ada.unlock(GPT)
    await ada.run(
        """INSERT INTO usage_limit (organization_id, id, scope, model_id, meter, period, maximum, created_at)
           VALUES (%s, %s, 'organization', %s, 'messages', 'day', 3, now())""",
        ada.id, uuid4(), GPT,
    )  # fmt: skip
    await ada.say(GPT)
    one = await ada.at(GPT)
    assert (one.used_today, one.limit_today) == (1, 3)


async def test_when_the_plans_messages_of_the_day_are_used_no_model_answers(ada: Reader) -> None:
    await ada.run("UPDATE plan SET daily_messages = 1 WHERE id = 'free'")
    await ada.say(MINI)
    shelf = await ada.look()
    assert {one.state for one in shelf.models} == {"limit_hit"}
    assert shelf.auto.refusal is not None and shelf.auto.by_level["simple"] is None
    [day] = [one for one in shelf.limits if one.meter == "messages"]
    assert (day.used, day.remaining) == (1, 0)


async def test_what_nobody_could_use_says_why_and_what_is_switched_off_is_gone(ada: Reader) -> None:
    assert (await ada.at(OPUS)).state == "trial"
    await ada.run("DELETE FROM model_price WHERE model_id = %s", OPUS)
    await ada.run("UPDATE model SET enabled = false WHERE id = %s", GPT)
    shelf = await ada.look()
    one = shelf.find(OPUS)
    assert one is not None and one.state == "unavailable"
    assert one.refusal is not None and one.refusal.code == "price_unknown"
    assert shelf.find(GPT) is None
    assert {one.state for one in shelf.models} == {"free", "trial", "unavailable"}


async def test_a_suspended_organisation_and_a_key_that_was_revoked_may_use_nothing(ada: Reader) -> None:
    await ada.run("UPDATE organization SET suspended_at = now() WHERE id = %s", ada.id)
    assert {one.state for one in (await ada.look()).models} == {"unavailable"}
    await ada.run("UPDATE organization SET suspended_at = NULL WHERE id = %s", ada.id)
    await ada.run("UPDATE api_key SET revoked_at = now() WHERE id = %s", ada.key_id)
    shelf = await ada.look()
    assert {one.refusal.code for one in shelf.models if one.refusal} == {"invalid_api_key"}


async def test_what_others_used_unlocked_and_prefer_is_theirs(
    ada: Reader, books: str, teller: Teller, clock: Clock
) -> None:
    await ada.unlock(GPT)
    await ada.say(GPT)
    await ada.say(OPUS)
    await ada.choose(Preferences("llama-3.1-8b"))
    colleague = Reader(books, ada.db, teller, clock, ada.id, ada.key_id, UUID(int=78))
    async with reading(books, teller, clock) as elsewhere:
        for other in (colleague, elsewhere):
            shelf = await other.look()
            gpt, opus = shelf.find(GPT), shelf.find(OPUS)
            assert gpt is not None and opus is not None
            assert (gpt.state, gpt.used_today, opus.trial_remaining) == ("trial", 0, 2)
            assert shelf.preferences == Preferences() and shelf.selected.model_id == MINI


async def test_preferences_are_kept_replaced_and_decide_what_answers(ada: Reader) -> None:
    marcus, laozi = uuid4(), uuid4()
    await ada.choose(Preferences("llama-3.1-8b", {marcus: GPT, laozi: MINI}, "I teach.", mail_notices=False))
    await ada.choose(Preferences("claude-3-5-haiku", {marcus: "llama-3.1-8b"}, "I learn.", mail_notices=False))
    shelf = await ada.look()
    assert shelf.preferences == Preferences("claude-3-5-haiku", {marcus: "llama-3.1-8b"}, "I learn.", False)
    assert (shelf.selected.model_id, shelf.selected.source) == ("claude-3-5-haiku", "default")
    await ada.run("UPDATE model SET enabled = false WHERE id = 'claude-3-5-haiku'")
    selected = (await ada.look()).selected
    assert (selected.model_id, selected.source) == (MINI, "system") and selected.reason is not None


async def test_choices_made_at_once_lose_nothing(ada: Reader) -> None:
    shelf, marcus = await ada.look(), uuid4()
    viewer = Viewer(ada.id, Credential("key", ada.key_id), ada.subject_id, "chat")
    wanted = (Change(default=NewDefault(MINI)), Change(override=(marcus, MINI)), Change(about="I teach."))
    order = Order("somebody", ada.clock())
    await asyncio.gather(*(flow.change(ada.db, order, viewer, shelf, one) for one in wanted))
    assert (await ada.look()).preferences == Preferences(MINI, {marcus: MINI}, "I teach.")


async def test_what_the_shelf_says_is_what_the_teller_does(ada: Reader) -> None:
    """In a world in which something is wrong with nearly every model."""
    await ada.unlock(OPUS)
    await ada.unlock("claude-3-5-sonnet")
    await ada.run("UPDATE model SET trial_messages = 0 WHERE id = 'gemini-pro-1.5'")
    await ada.run("UPDATE model SET daily_messages = 1 WHERE id IN ('llama-3.1-8b', %s)", OPUS)
    await ada.run("DELETE FROM model_price WHERE model_id = 'claude-3-5-haiku'")
    for model_id in (GPT, GPT, "llama-3.1-8b", OPUS):
        await ada.say(model_id)
    shelf, seen = await ada.look(), set()
    for one in shelf.models:
        outcome = await ada.hold(one.model.id)
        refused = outcome if isinstance(outcome, TollhouseError) else None
        assert (one.refusal and one.refusal.code) == (refused and refused.code), one.model.id
        assert str(one.refusal) == str(refused)
        seen.add(one.state)
        if isinstance(outcome, Admitted):
            await ada.teller.do(Release(ada.id, outcome.id, FAILED))
    assert seen == {"free", "unlocked", "trial", "trial_exhausted", "locked", "limit_hit", "unavailable"} - {"trial"}


async def test_with_an_assistant_its_model_its_limit_and_ones_override_count(books: str) -> None:
    async with room(books) as here:
        signed = await here.person(plan="pro")
        [(marcus,)] = await here.rows("SELECT id FROM assistant WHERE slug = 'marcus'")
        await here.change(
            "UPDATE assistant SET model_id = 'llama-3.1-8b', token_limit = 600, token_period = 'day' WHERE id = %s",
            marcus,
        )
        found = await shelves.shelf(here.db, here.teller, signed, real_time(), marcus)
        assert (found.selected.model_id, found.selected.source) == ("llama-3.1-8b", "assistant")
        refusals = {one.refusal.code for one in found.models if one.refusal is not None}
        assert refusals == {"quota_exceeded"} and {one.state for one in found.models} == {"limit_hit"}
        chosen = Preferences("claude-3-5-haiku", {marcus: MINI})
        async with here.db.tenant(signed.organization_id) as tx:
            await preference.write(tx, signed.organization_id, signed.person_id, chosen, real_time())
        found = await shelves.shelf(here.db, here.teller, signed, real_time(), marcus)
        assert (found.selected.model_id, found.selected.source) == (MINI, "override")
        bare = await shelves.shelf(here.db, here.teller, signed, real_time())
        assert (bare.selected.model_id, bare.selected.source) == ("claude-3-5-haiku", "default")
        assert {one.state for one in bare.free} == {"free"}


async def test_models_of_ones_own_stand_beside_those_of_the_catalogue(books: str) -> None:
    async with room(books) as here:
        ada = await here.person()
        bob = await here.colleague(ada)
        for number, owner in ((1, ada.person_id), (2, None)):
            await here.change(
                """INSERT INTO own_model (organization_id, id, person_id, name, protocol, base_url, provider_model_id,
                       context_window, max_output_tokens, created_at, updated_at)
                   VALUES (%s, %s, %s, %s, 'openai', 'http://127.0.0.1:9/v1', 'one', 8000, 1000, now(), now())""",
                ada.organization_id, UUID(int=number), owner, f"Own {number}",
            )  # fmt: skip
        shelf = await shelves.shelf(here.db, here.teller, ada, real_time())
        assert [one.name for one in shelf.own] == ["Own 1", "Own 2"]
        assert shelf.name_of(f"own/{UUID(int=1)}") == "Own 1" and shelf.name_of("auto") == "Auto"
        assert [one.name for one in (await shelves.shelf(here.db, here.teller, bob, real_time())).own] == ["Own 2"]


async def test_a_period_that_has_ended_is_booked_before_anybody_looks(ada: Reader) -> None:
    await ada.look()
    ada.clock.move(days=40)
    await ada.look()
    [(booked,)] = await rows(ada.url, "SELECT period_start FROM credit_balance WHERE organization_id = %s", ada.id)
    assert booked > ada.clock() - timedelta(days=31)


async def test_two_hundred_models_take_as_many_queries_as_a_dozen(books: str, teller: Teller, clock: Clock) -> None:
    async with WireProxy(books) as proxy, reading(books, teller, clock, proxy.url) as ada:
        counted = []
        for more in (0, 200):
            await _add_models(books, more)
            await ada.look()
            proxy.seen.clear()
            shelf = await ada.look()
            counted.append((len(shelf.models), sum(point.role == "tollhouse_web" for point in proxy.seen)))
    (few, queries), (many, of_many) = counted
    assert many >= 200 > few and of_many == queries <= 9, counted


async def _add_models(url: str, count: int) -> None:
    """Copies of GPT-4o with its price."""
    async with await AsyncConnection.connect(url) as connection:
        await connection.execute(
            """INSERT INTO model (id, provider_id, provider_model_id, display_name, tier, price_cents, daily_messages,
                   trial_messages, context_window, max_output_tokens, metadata)
               SELECT 'copy-' || n, provider_id, provider_model_id, display_name || ' ' || n, tier, price_cents,
                      daily_messages, trial_messages, context_window, max_output_tokens, metadata
               FROM model, generate_series(1, %s) n WHERE id = %s""",
            (count, GPT),
        )
        await connection.execute(
            """INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million,
                   cached_input_nanos_per_million, output_nanos_per_million)
               SELECT m.id, 1, p.effective_from, p.input_nanos_per_million, p.cached_input_nanos_per_million,
                      p.output_nanos_per_million
               FROM model m, model_price p WHERE m.id LIKE 'copy-%%' AND p.model_id = %s""",
            (GPT,),
        )
