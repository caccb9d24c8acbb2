"""Chats: who may say what, which model answers, and that nothing of what was not admitted stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.chatting import QUICK, Room, proved_room
from tests.conftest import Cluster, SeededTemplate
from tollhouse.core.assistant import NotEnabled, PlanRequired
from tollhouse.core.conversation import Attachment, Message
from tollhouse.core.errors import BadRequest, Conflict, NotFound, TollhouseError
from tollhouse.core.preference import Preferences
from tollhouse.core.refusals import LimitExceeded, QuotaExceeded, TrialExpired
from tollhouse.core.session import Signed
from tollhouse.flows import chat
from tollhouse.flows.chat import Parts, Said, Started
from tollhouse.flows.talk import Speech, Talk, Wish
from tollhouse.store import preference
from tollhouse.store.catalogue import PLATFORM_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = "sandbox:tokens=40 sandbox:delay=20"
TRIAL = "gpt-4o"  # premium, with two trial messages


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Room]:
    """One process for all tests of this module; the ledger holds after them."""
    with cluster.database(seeded_template.name) as url:
        async with proved_room(url) as made:
            yield made


class Heard:
    """Has models talk, and remembers what they were told."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.wishes: list[Wish] = []

    async def __call__(self, wish: Wish) -> Speech:
        self.wishes.append(wish)
        return await self._talk(wish)


def hearing(room: Room) -> tuple[Parts, Heard]:
    heard = Heard(room.parts.talk)
    return replace(room.parts, talk=heard), heard


async def choose(room: Room, signed: Signed, default: str | None = None, **overrides: str) -> None:
    """The person's default, and overrides by the assistant's slug."""
    found = {UUID(str(row[0])): overrides[row[1]] for row in await room.rows("SELECT id, slug FROM assistant")
             if row[1] in overrides}  # fmt: skip
    async with room.db.tenant(signed.organization_id) as tx:
        chosen = Preferences(default, found, about="I mend clocks.")
        await preference.write(tx, signed.organization_id, signed.person_id, chosen, room.parts.clock())


async def assistant(room: Room, slug: str, **about: object) -> UUID:
    """One of the platform's; of the same name it is made once."""
    values = {"system_message": "You are terse.", "kind": "persona", "name": slug.title(), **about}
    id_ = uuid4()
    names = ", ".join(values)
    places = ", ".join(["%s"] * len(values))
    await room.change(
        f"""INSERT INTO assistant (organization_id, id, slug, created_at, updated_at, {names})
            VALUES (%s, %s, %s, now(), now(), {places})""",  # names of columns that stand here
        PLATFORM_ID, id_, slug, *values.values(),
    )  # fmt: skip
    return id_


async def state_of(room: Room, signed: Signed) -> list[tuple[object, ...]]:
    """All that is written down of the person's chats."""
    return await room.rows(
        """SELECT c.id, c.title, c.model_choice, c.updated_at, m.id, m.state, m.content, m.replaced_at
           FROM conversation c LEFT JOIN message m ON m.conversation_id = c.id
           WHERE c.person_id = %s ORDER BY c.id, m.id""",
        signed.person_id,
    )


# ----------------------------------------------------------------------------------------------------- what is answered


async def test_what_is_said_is_answered_and_both_are_kept_with_what_it_took(room: Room) -> None:
    ada = await room.person()
    room.told.topics.clear()
    answer = await room.ask(ada, "What is a ledger, and who keeps it?")
    question, kept = await room.messages(ada, answer.conversation_id)
    assert (question.author, question.state, question.content) == (
        "person", "done", f"What is a ledger, and who keeps it? {QUICK}",
    )  # fmt: skip
    assert kept == answer
    assert answer.state == "done" and answer.content.startswith("[sandbox]") and answer.error is None
    assert (answer.model_id, answer.reason, answer.trial, answer.trial_remaining) == ("gpt-4o-mini", None, False, None)
    assert answer.model_name and answer.first_token_ms is not None and answer.duration_ms is not None
    booked = await room.rows(
        """SELECT e.input_tokens, e.output_tokens, e.cost_nanos, e.charged_micros, e.channel, e.subject_id, u.model_id
           FROM usage_event e JOIN assistant_use u ON u.request_id = e.reservation_id WHERE e.reservation_id = %s""",
        answer.request_id,
    )
    assert booked == [
        (answer.input_tokens, answer.output_tokens, answer.cost_nanos, answer.charged_micros, "chat", ada.person_id,
         "gpt-4o-mini")
    ]  # fmt: skip
    assert answer.charged_micros == 0  # by its messages the chat is limited, not by credits
    assert room.told.topics == [(ada.person_id, "usage"), (ada.person_id, "conversations")]
    title = await room.rows("SELECT title FROM conversation WHERE id = %s", answer.conversation_id)
    assert title == [(f"What is a ledger, and who keeps it? {QUICK}",)]


async def test_a_model_is_told_who_and_when_and_what_was_said_before(room: Room) -> None:
    ada = await room.person()
    await choose(room, ada)
    parts, heard = hearing(room)
    first = await room.ask(ada, "My cat is called Bernoulli.")
    file = Attachment("cats.txt", "```\nBernoulli: grey")
    started = await chat.say(parts, ada, first.conversation_id, Said(f"What is it called? {QUICK}", (file,)))
    answer = await room.end(ada, started)
    system, question, said, asked = heard.wishes[0].lines
    assert [line.role for line in heard.wishes[0].lines] == ["system", "user", "assistant", "user"]
    assert f"{room.parts.clock():%B %Y}" in system.content
    assert "Ada Lovelace" in system.content and "I mend clocks." in system.content
    assert question.content.startswith("My cat is called Bernoulli.") and said.content == first.content
    assert asked.content.startswith("File cats.txt:\n````\n```\nBernoulli: grey\n````\n\nWhat is it called?")
    assert (await room.messages(ada, answer.conversation_id))[2].attachments == (file,)


async def test_a_model_is_chosen_in_the_chat_then_for_the_persona_then_by_default_then_by_the_assistant(
    room: Room,
) -> None:
    ada = await room.person(plan="pro")
    own = await assistant(room, "chooser")
    models = [row[0] for row in await room.rows(
        "SELECT id FROM model WHERE tier = 'free' AND selectable AND enabled AND kind = 'chat' AND NOT is_default"
    )]  # fmt: skip
    by_default, by_override, makers = models[:3]
    asked = makers
    await room.change("UPDATE assistant SET model_id = %s WHERE id = %s", makers, own)

    async def answers(conversation_id: UUID | None = None, model: str | None = None) -> Message:
        return await room.ask(ada, "Who are you?", conversation_id, model=model, assistant_id=own)

    assert (await answers()).model_id == makers
    await choose(room, ada, by_default)
    assert (await answers()).model_id == by_default
    await choose(room, ada, by_default, chooser=by_override)
    overridden = await answers()
    assert (overridden.model_id, overridden.reason) == (by_override, None)
    chosen = await answers(overridden.conversation_id, asked)
    assert chosen.model_id == asked
    assert (await answers(overridden.conversation_id)).model_id == asked  # it counts for the whole chat
    assert (await answers(overridden.conversation_id, "")).model_id == by_override  # by preference again
    await answers(overridden.conversation_id, asked)
    await room.change("UPDATE model SET enabled = false WHERE id = %s", asked)
    fallen = await answers(overridden.conversation_id)
    await room.change("UPDATE model SET enabled = true WHERE id = %s", asked)
    assert fallen.model_id == "gpt-4o-mini" and fallen.reason is not None and "switched off" in fallen.reason
    auto = await answers(model="auto")
    assert auto.reason is not None and auto.reason.startswith("auto: ")


async def test_a_persona_answers_with_what_it_knows_and_cites_what_it_used(room: Room) -> None:
    ada = await room.person()
    id_ = (await room.rows("SELECT id FROM assistant WHERE slug = 'marcus'"))[0][0]
    parts, heard = hearing(room)
    said = Said(f"How do I bear the anger of others? {QUICK}", assistant_id=id_)
    answer = await room.end(ada, await chat.begin(parts, ada, said))
    system = heard.wishes[0].lines[0].content
    assert "[1] " in system and "material, not instructions" in system
    assert answer.citations == ()  # the sandbox cites nothing: see test_writing.py
    counted = await room.rows("SELECT assistant_id FROM assistant_use WHERE request_id = %s", answer.request_id)
    assert counted == [(id_,)]


# ------------------------------------------------------------------------------------------------------ what is refused


async def test_trials_are_counted_exactly_and_a_refused_message_leaves_nothing(room: Room) -> None:
    ada = await room.person()
    said = Said(f"Try it. {QUICK}", model=TRIAL)
    found = await asyncio.gather(*(chat.begin(room.parts, ada, said) for _ in range(10)), return_exceptions=True)
    started = [one for one in found if isinstance(one, Started)]
    assert len(started) == 2 and sum(isinstance(one, TrialExpired) for one in found) == 8
    ends = [await room.end(ada, one) for one in started]
    assert all(one.trial for one in ends) and {one.trial_remaining for one in ends} == {0, 1}
    assert len(await state_of(room, ada)) == 4
    before = await state_of(room, ada)
    where = ends[0].conversation_id
    for attempt in (
        chat.say(room.parts, ada, where, Said("More.")),
        chat.regenerate(room.parts, ada, where, ends[0].id),
        chat.edit(room.parts, ada, where, started[0].question.id, "Else."),
    ):
        with pytest.raises(TrialExpired):
            await attempt
        assert await state_of(room, ada) == before
    free = await room.ask(ada, "And now?", ends[0].conversation_id, model="gpt-4o-mini")
    assert (free.state, free.trial) == ("done", False)


async def test_a_trial_message_that_was_never_answered_is_given_back(room: Room) -> None:
    ada = await room.person()
    failed = await room.ask(ada, "sandbox:fault=status:400", model=TRIAL)
    assert (failed.state, failed.trial, failed.trial_remaining) == ("failed", False, None)
    assert failed.error is not None and failed.error.code == "provider_error"
    assert (failed.charged_micros, failed.content) == (0, "")
    kept = [(await room.ask(ada, "Again.", failed.conversation_id)).trial_remaining for _ in range(2)]
    assert kept == [1, 0]


async def test_a_limit_that_is_hit_in_mid_conversation_takes_nothing(room: Room) -> None:
    ada = await room.person()
    first = await room.ask(ada, "One.")
    await room.change(
        """INSERT INTO usage_limit (organization_id, id, scope, meter, period, maximum, created_at)
           VALUES (%s, gen_random_uuid(), 'person', 'messages', 'day', 1, now())""",
        ada.organization_id,
    )
    await room.ask(ada, "Two.", first.conversation_id)
    before = await state_of(room, ada)
    with pytest.raises(LimitExceeded):
        await room.ask(ada, "Three.", first.conversation_id)
    assert await state_of(room, ada) == before


async def test_an_assistants_tokens_are_counted_exactly_under_concurrency(room: Room) -> None:
    ada = await room.person()
    id_ = await assistant(room, "frugal", token_limit=3_000, token_period="day", max_output_tokens=400)
    said = Said(f"Tell. sandbox:tokens=300 {QUICK}", assistant_id=id_)
    found = await asyncio.gather(*(chat.begin(room.parts, ada, said) for _ in range(12)), return_exceptions=True)
    ends = [await room.end(ada, one) for one in found if isinstance(one, Started)]
    assert all(one.state == "done" for one in ends)
    refused = [one for one in found if isinstance(one, QuotaExceeded)]
    assert len(ends) + len(refused) == 12 and ends and refused
    while True:  # what was reserved and not used can be used by those who come later
        try:
            ends.append(await room.ask(ada, "sandbox:tokens=300 sandbox:delay=0", assistant_id=id_))
        except QuotaExceeded as refusal:
            assert (refusal.limit, refusal.period, refusal.scope) == (3_000, "day", "person")
            break
    used = sum((one.input_tokens or 0) + (one.output_tokens or 0) for one in ends)
    window = await room.rows("SELECT used, reserved, limit_id FROM quota_window WHERE limit_id = %s", id_)
    assert window == [(used, 0, id_)] and 2_500 < used <= 3_000
    other = await room.person()
    assert (await room.ask(other, "Mine are my own.", assistant_id=id_)).state == "done"


async def test_a_free_assistant_takes_no_credits_where_the_chat_takes_them(room: Room) -> None:
    await room.change(
        """INSERT INTO plan (id, name, rank, monthly_credits_micros, max_output_tokens, charged_channels)
           VALUES ('charging', 'Charging', 3, 0, 4096, '{chat}')"""
    )
    ada = await room.person(plan="charging")
    paid = await room.ask(ada, "For a fee.")
    gratis = await room.ask(ada, "For nothing.", assistant_id=await assistant(room, "gratis", is_free=True))
    assert paid.charged_micros is not None and paid.charged_micros > 0
    assert (gratis.state, gratis.charged_micros) == ("done", 0)


async def test_an_assistant_that_one_may_not_use_answers_nobody(room: Room) -> None:
    ada, grace = await room.person(), await room.person()
    dear = await assistant(room, "dear", required_plan_id="pro")
    gone = await assistant(room, "gone", deleted_at="2026-01-01")
    with pytest.raises(PlanRequired):
        await room.ask(ada, "Hello.", assistant_id=dear)
    for id_ in (gone, uuid4()):
        with pytest.raises(NotFound):
            await room.ask(ada, "Hello.", assistant_id=id_)
    member = await room.colleague(grace)
    with pytest.raises(NotEnabled):
        await room.ask(member, "Hello.", assistant_id=await assistant(room, "of-admins", kind="template"))
    assert await state_of(room, ada) == await state_of(room, member) == []


async def test_what_is_too_much_or_nothing_is_refused_before_it_is_written(room: Room) -> None:
    ada = await room.person()
    file = Attachment("a.txt", "a")
    for said in (
        Said("  \n "),
        Said("x" * 100_001),
        Said("x", (file,) * 6),
        Said("x", (Attachment("a.txt", "x" * 100_001),)),
        Said("x", (Attachment("", "x"),)),
        Said("x\0"),
        Said("x", (Attachment("a.bin", "\0"),)),
    ):
        with pytest.raises(BadRequest):
            await chat.begin(room.parts, ada, said)
    with pytest.raises(BadRequest, match="longer than the model can read"):
        await room.change("UPDATE model SET context_window = 1000 WHERE id = 'llama-3.1-8b'")
        await room.ask(ada, "word " * 1000, model="llama-3.1-8b")
    assert await state_of(room, ada) == []


# --------------------------------------------------------------------------------------------------- changes and others


async def test_of_two_tabs_at_once_one_is_answered_and_the_other_takes_nothing(room: Room) -> None:
    ada = await room.person()
    first = await room.ask(ada, "Begin.")
    calls = "SELECT count(*) FROM reservation WHERE organization_id = %s"
    found = await asyncio.gather(
        *(chat.say(room.parts, ada, first.conversation_id, Said(f"{n} {SLOW}")) for n in range(4)),
        return_exceptions=True,
    )
    started = [one for one in found if isinstance(one, Started)]
    assert len(started) == 1 and sum(isinstance(one, Conflict) for one in found) == 3
    assert await room.rows(calls, ada.organization_id) == [(2,)]
    for attempt in (
        chat.say(room.parts, ada, first.conversation_id, Said("Late.")),
        chat.regenerate(room.parts, ada, first.conversation_id, first.id),
    ):
        with pytest.raises(Conflict):
            await attempt
    assert (await room.end(ada, started[0])).state == "done"
    assert [one.author for one in await room.messages(ada, first.conversation_id)] == ["person", "assistant"] * 2


async def test_an_edited_message_replaces_it_and_all_that_came_after(room: Room) -> None:
    ada = await room.person()
    parts, heard = hearing(room)
    file = Attachment("a.txt", "alpha")
    first = await room.ask(ada, "One.")
    second = await room.ask(ada, "Two.", first.conversation_id, attachments=(file,))
    await room.ask(ada, "Three.", first.conversation_id)
    question = (await room.messages(ada, first.conversation_id))[2]
    started = await chat.edit(parts, ada, first.conversation_id, question.id, f"Zwei. {QUICK}")
    answer = await room.end(ada, started)
    shown = await room.messages(ada, first.conversation_id)
    assert [one.content for one in shown] == [f"One. {QUICK}", first.content, f"Zwei. {QUICK}", answer.content]
    assert shown[2].attachments == (file,)
    assert [line.role for line in heard.wishes[0].lines] == ["system", "user", "assistant", "user"]
    with pytest.raises(NotFound):  # replaced
        await chat.regenerate(room.parts, ada, first.conversation_id, second.id)
    with pytest.raises(NotFound):  # none of the person's
        await chat.edit(room.parts, ada, first.conversation_id, answer.id, "I said this.")


async def test_an_answer_is_written_anew_once_with_another_model(room: Room) -> None:
    ada = await room.person()
    parts, heard = hearing(room)
    first = await room.ask(ada, "One.")
    started = await chat.regenerate(parts, ada, first.conversation_id, first.id, "llama-3.1-8b")
    again = await room.end(ada, started)
    assert again.model_id == "llama-3.1-8b" and again.id != first.id
    question, shown = await room.messages(ada, first.conversation_id)
    assert shown == again and started.question == question
    assert [line.content for line in heard.wishes[0].lines[1:]] == [question.content]
    assert (await room.ask(ada, "Two.", first.conversation_id)).model_id == "gpt-4o-mini"


async def test_finished_answers_are_rated_and_the_rating_stays_for_the_figures(room: Room) -> None:
    ada = await room.person()
    answer = await room.ask(ada, "One.")
    rated = "SELECT rating FROM assistant_use WHERE request_id = %s"
    found = await chat.rate(room.parts, ada, answer.conversation_id, answer.id, -1, " too short\0 ")
    assert (found.rating, found.rating_note) == (-1, "too short")
    assert await room.rows(rated, answer.request_id) == [(-1,)]
    found = await chat.rate(room.parts, ada, answer.conversation_id, answer.id, None, "no more")
    assert (found.rating, found.rating_note) == (None, "")
    assert await room.rows(rated, answer.request_id) == [(None,)]
    question = (await room.messages(ada, answer.conversation_id))[0]
    with pytest.raises(NotFound):
        await chat.rate(room.parts, ada, answer.conversation_id, question.id, 1)
    with pytest.raises(BadRequest):
        await chat.rate(room.parts, ada, answer.conversation_id, answer.id, 5)


async def test_neither_a_colleague_nor_a_stranger_finds_anything_of_a_chat(room: Room) -> None:
    ada = await room.person()
    started = await chat.begin(room.parts, ada, Said(f"Mine. {SLOW}"))
    answer, question = started.answer, started.question
    where = answer.conversation_id
    before = await state_of(room, ada)
    colleague, stranger = await room.colleague(ada, "owner"), await room.person()
    for other in (colleague, stranger, replace(ada, organization_id=stranger.organization_id)):
        attempts = (
            chat.say(room.parts, other, where, Said("Hello.")),
            chat.regenerate(room.parts, other, where, answer.id),
            chat.edit(room.parts, other, where, question.id, "Else."),
            chat.stop(room.parts, other, where, answer.id),
            chat.rate(room.parts, other, where, answer.id, 1),
            anext(chat.follow(room.parts, other, where, answer.id)),
        )
        for attempt in attempts:
            with pytest.raises(NotFound):
                await attempt
        assert await room.messages(other, where) == []
    assert [row[:4] for row in await state_of(room, ada)] == [row[:4] for row in before]
    assert (await room.end(ada, started)).state == "done"


async def test_a_refusal_that_cannot_be_told_beforehand_is_one_of_ours(room: Room) -> None:
    """Whoever says something is told in one way, whatever the reason."""
    ada = await room.person()
    await room.change("UPDATE organization SET suspended_at = now() WHERE id = %s", ada.organization_id)
    with pytest.raises(TollhouseError) as refused:
        await room.ask(ada, "Hello.")
    assert refused.value.status == 403
    assert await state_of(room, ada) == []
