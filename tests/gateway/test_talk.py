"""Models that talk to a person, over connections: who answers when one fails, and what becomes of a call whose person
is a member no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.chatting import Room, proved_room
from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tollhouse.core.ask import Credential
from tollhouse.core.errors import BadRequest, Overloaded, TollhouseError, Unauthenticated
from tollhouse.core.prompt import Line
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.session import Signed
from tollhouse.flows.talk import Speech, Spoken, Wish
from tollhouse.gateway.talk import Talks

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEFAULT, NOWHERE = "gpt-4o-mini", "llama-3.1-8b"  # the port of the second one's provider is closed
PREMIUM = "gpt-4o"  # of the provider that answers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[Room]:
    """One process, connected to the fake provider as OpenAI, and for Together to a port where nobody is."""
    with cluster.database(seeded_template.name) as url:
        async with proved_room(url) as made:
            for provider_id, address in (("openai", provider.url), ("together", "http://127.0.0.1:9/v1")):
                await made.change(
                    """INSERT INTO connection (organization_id, id, provider_id, base_url, name, origin, created_at)
                       VALUES (%s, %s, %s, %s, 'ours', 'operator', now())""",
                    PLATFORM_ID, uuid4(), provider_id, address,
                )  # fmt: skip
            yield made


@pytest.fixture(autouse=True)
def rested(provider: FakeProvider) -> None:
    provider.raw_answers.clear()
    provider.order = ""


def wish(ada: Signed, text: str, model: str = DEFAULT) -> Wish:
    credential = Credential("person", ada.person_id)
    return Wish(ada.organization_id, ada.person_id, credential, model, [Line("user", text)], 200)


async def heard(speech: Speech) -> tuple[str, Spoken]:
    async with asyncio.timeout(20):
        text = "".join([piece async for piece in speech.pieces()])
        return text, await speech.end()


async def test_what_a_provider_says_is_passed_on_as_text_with_its_own_count(room: Room, provider: FakeProvider) -> None:
    ada, before = await room.person(), provider.calls
    speech = await room.parts.talk(wish(ada, "Hello. sandbox:tokens=20 sandbox:delay=0"))
    text, spoken = await heard(speech)
    call = await provider.call(before)
    assert (spoken.state, spoken.model_id, spoken.reason, spoken.error) == ("done", DEFAULT, None, None)
    assert text and (spoken.input_tokens, spoken.output_tokens) == (call.input_tokens, 20)
    assert call.body["stream"] is True and call.body["messages"][0]["content"].startswith("Hello.")
    assert spoken.settled and spoken.cost_nanos > 0
    row = await room.rows("SELECT endpoint, channel, stream, state FROM request WHERE id = %s", speech.id)
    assert row == [("/chat", "chat", True, "done")]


async def test_the_systems_default_answers_for_one_that_does_not_and_says_so(room: Room) -> None:
    ada = await room.person()
    answer = await room.ask(ada, "Hello. sandbox:tokens=5", model=NOWHERE)
    assert (answer.state, answer.model_id) == ("done", DEFAULT)
    assert answer.reason == f"fallback: {NOWHERE} did not answer"
    used = await room.rows("SELECT model_id FROM usage_event WHERE reservation_id = %s", answer.request_id)
    assert used == [(DEFAULT,)]


async def test_a_trial_that_another_model_answered_is_given_back(room: Room, provider: FakeProvider) -> None:
    ada = await room.person()
    provider.raw_answers.extend([b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n"] * 2)
    answer = await room.ask(ada, "Hello. sandbox:tokens=5", model=PREMIUM)
    assert (answer.state, answer.model_id, answer.trial, answer.trial_remaining) == ("done", DEFAULT, False, None)
    left = [(await room.ask(ada, "Again.", model=PREMIUM)).trial_remaining for _ in range(2)]
    assert left == [1, 0]


async def test_a_provider_that_breaks_off_is_not_replaced_by_another(room: Room, provider: FakeProvider) -> None:
    ada, before = await room.person(), provider.calls
    text, spoken = await heard(await room.parts.talk(wish(ada, "Hello. sandbox:tokens=20 sandbox:fault=cut:5")))
    assert (spoken.state, spoken.model_id, spoken.output_tokens > 0) == ("incomplete", DEFAULT, True)
    assert text and spoken.error is not None and spoken.error.code == "provider_broke"
    assert provider.calls == before + 1


async def test_a_call_that_is_stopped_leaves_its_provider_at_once(room: Room, provider: FakeProvider) -> None:
    ada, before = await room.person(), provider.calls
    speech = await room.parts.talk(wish(ada, "Hello. sandbox:tokens=200 sandbox:delay=50"))
    pieces = speech.pieces()
    first = await anext(pieces)
    speech.stop()
    rest = "".join([piece async for piece in pieces])
    spoken = await speech.end()
    call = await provider.call(before)
    assert (spoken.state, spoken.error) == ("stopped", None) and first + rest
    assert call.output_tokens < 100 and 0 < spoken.output_tokens < 100


async def test_a_person_who_is_a_member_no_more_is_not_talked_with(room: Room) -> None:
    ada = await room.person()
    member = await room.colleague(ada)
    speech = await room.parts.talk(wish(member, "Hello. sandbox:tokens=200 sandbox:delay=100"))
    pieces = speech.pieces()
    await anext(pieces)
    await room.change("DELETE FROM member WHERE organization_id = %s AND person_id = %s",
                      ada.organization_id, member.person_id)  # fmt: skip
    with pytest.raises(Unauthenticated):
        await room.parts.talk(wish(member, "Hello."))
    async with asyncio.timeout(15):  # at the next checkpoint the call ends as well
        async for _ in pieces:
            pass
        spoken = await speech.end()
    assert spoken.state == "incomplete" and spoken.error is not None and spoken.error.code == "invalid_api_key"


async def test_what_cannot_be_sent_takes_nothing(room: Room) -> None:
    ada = await room.person()
    for bad, error in (
        (replace(wish(ada, "x"), lines=[]), BadRequest),
        (replace(wish(ada, "x"), max_output_tokens=0), BadRequest),
        (wish(ada, "x", "no-such-model"), TollhouseError),
    ):
        with pytest.raises(error):
            await room.parts.talk(bad)
    assert await room.rows("SELECT FROM reservation WHERE organization_id = %s", ada.organization_id) == []


async def test_a_server_that_goes_down_takes_no_new_talk(room: Room) -> None:
    ada = await room.person()
    assert isinstance(room.parts.talk, Talks)
    room.pumps.draining = True
    try:
        with pytest.raises(Overloaded):
            await room.parts.talk(wish(ada, "Hello."))
    finally:
        room.pumps.draining = False
