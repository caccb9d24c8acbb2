"""Answers on their way: whoever reads, leaves, comes back, stops or is killed, what is written down and charged is what
came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest
import pytest_asyncio

from tests.chatting import QUICK, Room, ended, proved_room, room, texts
from tests.conftest import Cluster, SeededTemplate
from tollhouse.core.conversation import Message, Trouble
from tollhouse.core.session import Signed
from tollhouse.flows import chat
from tollhouse.flows.chat import Ended, Piece, Said, Started
from tollhouse.flows.talk import Speech, Spoken, Wish
from tollhouse.flows.writing import INTERRUPTED
from tollhouse.store import conversation
from tollhouse.store import message as messages

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = "sandbox:tokens=60 sandbox:delay=20"
ENDLESS = "sandbox:tokens=900 sandbox:delay=20"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[str]:
    with cluster.database(seeded_template.name) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(url: str) -> AsyncIterator[Room]:
    """The process that writes; the ledger holds after all tests of this module."""
    async with proved_room(url) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(url: str, here: Room) -> AsyncIterator[Room]:
    """Another process."""
    async with room(url) as made:
        yield made


async def begun(at: Room, signed: Signed, text: str, **said: object) -> tuple[Started, str]:
    """An answer that has begun to come, and its first piece."""
    started = await chat.begin(at.parts, signed, Said(text, **said))  # type: ignore[arg-type]  # what Said has
    async with asyncio.timeout(10):
        async for event in chat.follow(at.parts, signed, started.conversation.id, started.answer.id):
            assert isinstance(event, Piece), event
            return started, event.text
    raise AssertionError("nothing came")


async def books(at: Room, answer: Message) -> list[tuple[object, ...]]:
    """State of the request, output tokens, and whether somebody estimated them."""
    return await at.rows(
        """SELECT r.state, e.output_tokens, e.estimated, e.charged_micros FROM request r
           LEFT JOIN usage_event e ON e.reservation_id = r.id WHERE r.id = %s""",
        answer.request_id,
    )


# --------------------------------------------------------------------------------------------------------- who reads it


async def test_who_comes_back_reads_all_from_the_beginning_here_and_elsewhere(here: Room, there: Room) -> None:
    ada = await here.person()
    started, first = await begun(here, ada, f"Tell. {SLOW}")  # and then left
    reads = [texts(one.parts, ada, started.answer) for one in (here, there, here)]
    found = await asyncio.gather(*reads)
    (text, end), (elsewhere, end_elsewhere), _ = found
    assert text == end.content == elsewhere and text.startswith(first)
    assert end == end_elsewhere == found[2][1]
    assert (end.state, end.output_tokens) == ("done", 60)
    assert await texts(there.parts, ada, end) == (text, end)  # long after it has ended
    assert here.parts.writers._writing == {}


async def test_an_answer_is_written_down_while_it_grows(here: Room) -> None:
    ada = await here.person()
    started, _ = await begun(here, ada, f"Tell. {ENDLESS}")
    async with asyncio.timeout(10):
        while True:
            kept = (await here.messages(ada, started.conversation.id))[1]
            if kept.content:
                break
            await asyncio.sleep(0.05)
    assert kept.state == "writing" and kept.written_at > started.answer.written_at
    assert (kept.request_id, kept.model_id) == (started.answer.request_id, "gpt-4o-mini")
    await chat.stop(here.parts, ada, started.conversation.id, started.answer.id)
    assert (await here.end(ada, started)).content.startswith(kept.content)


# ------------------------------------------------------------------------------------------------------------ who stops


async def test_a_stopped_answer_keeps_and_costs_what_had_come(here: Room) -> None:
    ada = await here.person()
    started, first = await begun(here, ada, f"Tell. {ENDLESS}")
    await chat.stop(here.parts, ada, started.conversation.id, started.answer.id)
    end = await here.end(ada, started)
    assert (end.state, end.error) == ("stopped", None) and end.content.startswith(first)
    [(state, output, estimated, charged)] = await books(here, end)
    assert (state, estimated, output, charged) == ("incomplete", True, end.output_tokens, end.charged_micros)
    assert 0 < int(str(output)) < 200
    await chat.stop(here.parts, ada, started.conversation.id, started.answer.id)  # once more
    again = await here.ask(ada, "Go on.", started.conversation.id)
    assert again.state == "done"
    assert (await here.messages(ada, started.conversation.id))[1] == end


async def test_it_is_stopped_from_another_process(here: Room, there: Room) -> None:
    ada = await here.person()
    started, _ = await begun(here, ada, f"Tell. {ENDLESS}")
    await chat.stop(there.parts, ada, started.conversation.id, started.answer.id)
    assert (await ended(there.parts, ada, started.answer)).state == "stopped"


async def test_what_is_stopped_before_it_has_begun_costs_its_input(here: Room) -> None:
    ada = await here.person()
    started = await chat.begin(here.parts, ada, Said("Tell. sandbox:first=20000"))
    await chat.stop(here.parts, ada, started.conversation.id, started.answer.id)
    end = await here.end(ada, started)
    assert (end.state, end.content, end.output_tokens) == ("stopped", "", 0)
    [(state, output, _, _)] = await books(here, end)
    assert (state, output) == ("incomplete", 0) and end.input_tokens


async def test_a_conversation_that_is_deleted_in_mid_answer_stops_it(here: Room) -> None:
    ada = await here.person()
    started, _ = await begun(here, ada, f"Tell. {ENDLESS}")
    following = chat.follow(here.parts, ada, started.conversation.id, started.answer.id)
    async with here.db.member(ada.organization_id, ada.person_id) as tx:
        assert await conversation.delete(tx, ada.organization_id, started.conversation.id)
    async with asyncio.timeout(10):
        events = [event async for event in following]
    assert isinstance(events[-1], Ended) and events[-1].message.state == "stopped"
    [(state, output, _, _)] = await books(here, started.answer)
    assert state == "incomplete" and int(str(output)) < 200
    assert await here.messages(ada, started.conversation.id) == []


# ----------------------------------------------------------------------------------------------------------- what fails


async def test_a_provider_that_fails_before_it_has_said_anything_costs_nothing(here: Room) -> None:
    ada = await here.person()
    for fault in ("refuse", "status:500", "garbage", "cut:0", "error:0"):
        answer = await here.ask(ada, f"sandbox:fault={fault}")
        assert (answer.state, answer.content, answer.charged_micros) == ("failed", "", 0), fault
        assert answer.error is not None and answer.error.code == "provider_error", fault
        assert [row[0] for row in await books(here, answer)] == ["failed"], fault
    counted = await here.rows("SELECT sum(used), sum(reserved) FROM quota_window WHERE subject_id = %s", ada.person_id)
    assert counted == [(0, 0)]


async def test_a_provider_that_breaks_off_leaves_what_it_said(here: Room) -> None:
    ada = await here.person()
    for fault in ("cut:7", "error:7"):
        answer = await here.ask(ada, f"sandbox:fault={fault} sandbox:tokens=30")
        assert (answer.state, answer.output_tokens) == ("incomplete", 7), fault
        assert answer.content and answer.error is not None and answer.error.code == "provider_broke"
        [(state, output, estimated, _)] = await books(here, answer)
        assert (state, output, estimated) == ("incomplete", 7, True)


async def test_an_answer_that_was_cut_at_its_length_says_so(here: Room) -> None:
    ada = await here.person()
    answer = await here.ask(ada, "sandbox:tokens=2000")  # the plan gives 1,024
    assert (answer.state, answer.output_tokens) == ("done", 1_024)
    assert answer.error is not None and answer.error.code == "length"


# --------------------------------------------------------------------------------------------------- what becomes of it


async def test_a_server_that_stops_finishes_what_it_writes(url: str, here: Room) -> None:
    ada = await here.person()
    async with room(url) as stopping:
        started, first = await begun(stopping, ada, f"Tell. {ENDLESS}")
    end = await here.end(ada, started)
    assert (end.state, end.error) == ("incomplete", INTERRUPTED) and end.content.startswith(first)
    [(state, output, _, charged)] = await books(here, end)
    assert (state, output, charged) == ("incomplete", end.output_tokens, end.charged_micros)


async def lose_the_writers(at: Room) -> None:
    """Nobody writes on any answer any more."""
    for task in list(at.parts.writers._tasks):
        task.cancel()
    await asyncio.sleep(0)
    at.parts.writers._writing.clear()


async def test_what_the_answer_of_a_process_that_is_gone_cost_is_told_once_the_books_know_it(here: Room) -> None:
    ada = await here.person()
    lost = await chat.begin(here.parts, ada, Said(f"Tell. {SLOW}"))
    await lose_the_writers(here)
    await here.change("UPDATE message SET written_at = now() - interval '61 s' WHERE id = %s", lost.answer.id)
    end = await ended(here.parts, ada, lost.answer)
    assert (end.state, end.charged_micros, end.output_tokens) == ("incomplete", None, None)
    async with asyncio.timeout(20):
        while True:
            [(_, output, _, charged)] = await books(here, end)
            if output is not None:
                break
            await asyncio.sleep(0.05)
    [question, answer] = await here.messages(ada, lost.conversation.id)
    assert answer == await ended(here.parts, ada, lost.answer)
    assert (answer.output_tokens, answer.charged_micros) == (output, charged) == (60, 0)
    assert answer.input_tokens and answer.cost_nanos and question.charged_micros is None


async def test_the_answer_of_a_process_that_is_gone_is_finished_by_who_reads_it_and_by_the_job(here: Room) -> None:
    ada = await here.person()
    lost = [(await chat.begin(here.parts, ada, Said(f"Tell. {ENDLESS}"))) for _ in range(3)]
    await lose_the_writers(here)
    for one in lost:
        await here.change("UPDATE message SET content = 'so far', written_at = now() - interval '59 s' WHERE id = %s",
                          one.answer.id)  # fmt: skip
    async with here.db.worker() as tx:
        assert await messages.abandon_all(tx, here.parts.clock().replace(year=2000), INTERRUPTED) == 0
    with pytest.raises(TimeoutError):  # it may still be written on
        async with asyncio.timeout(0.2):
            await ended(here.parts, ada, lost[0].answer)
    await here.change("UPDATE message SET written_at = now() - interval '61 s' WHERE state = 'writing'")
    end = await ended(here.parts, ada, lost[0].answer)
    assert (end.state, end.error, end.content) == ("incomplete", INTERRUPTED, "so far")
    assert (await here.ask(ada, "Go on.", lost[1].conversation.id)).state == "done"  # who goes on finishes it, too
    assert (await here.messages(ada, lost[1].conversation.id))[1].state == "incomplete"


class Recited:
    """A speech that says what it is told to."""

    id = UUID(int=9)
    model_id, model_name, reason, trial_remaining = "sandbox", "Sandbox", "fallback: another did not answer", None

    def __init__(self, *pieces: str) -> None:
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[str]:
        for piece in self._pieces:
            yield piece

    async def end(self) -> Spoken:
        return Spoken("done", "sandbox", "Sandbox", self.reason, 1, 1, 0, 0, 1, 2, None)

    def stop(self) -> None:
        """It is short."""


async def test_passages_that_the_answer_cites_stay_with_it(here: Room) -> None:
    ada = await here.person()

    async def talk(wish: Wish) -> Speech:
        return Recited("Patience [1], and ag", "ain [1]. Not \0[99].")

    marcus = (await here.rows("SELECT id FROM assistant WHERE slug = 'marcus'"))[0][0]
    said = Said("How do I bear the anger of others?", assistant_id=marcus)
    started = await chat.begin(replace(here.parts, talk=talk), ada, said)
    end = await here.end(ada, started)
    assert end.content == "Patience [1], and again [1]. Not [99]."
    assert [one.number for one in end.citations] == [1] and end.citations[0].content
    assert end.reason == "fallback: another did not answer"
    assert (await here.messages(ada, started.conversation.id))[1] == end


class Broken(Recited):
    id = UUID(int=10)

    async def pieces(self) -> AsyncIterator[str]:
        yield "so far"
        raise RuntimeError("a fault of ours")


async def test_a_fault_of_ours_in_mid_answer_leaves_nobody_waiting(here: Room) -> None:
    ada = await here.person()

    async def talk(wish: Wish) -> Speech:
        return Broken()

    end = await here.end(ada, await chat.begin(replace(here.parts, talk=talk), ada, Said("Hello.")))
    assert (end.state, end.content) == ("incomplete", "so far") and isinstance(end.error, Trouble)
    assert (await here.ask(ada, f"Again. {QUICK}", end.conversation_id)).state == "done"


async def test_chats_go_when_their_organisation_keeps_them_no_longer(here: Room) -> None:
    ada, grace = await here.person(), await here.person()
    old, young = [await here.ask(ada, "Hello.") for _ in range(2)]
    kept = await here.ask(grace, "Hello.")
    await here.change("UPDATE organization SET chat_retention_days = 30 WHERE id = %s", ada.organization_id)
    for one in (old, kept):
        await here.change("UPDATE conversation SET updated_at = now() - interval '31 days', pinned_at = now() "
                          "WHERE id = %s", one.conversation_id)  # fmt: skip
    async with here.db.worker() as tx:
        assert await conversation.delete_outlived(tx, here.parts.clock()) == 1
    left = await here.rows("SELECT id FROM conversation WHERE person_id = %s", ada.person_id)
    assert left == [(young.conversation_id,)]
    assert await here.messages(ada, old.conversation_id) == []
    assert len(await here.messages(grace, kept.conversation_id)) == 2
