"""Chats: who may say what, which model answers, and that an answer is written down whatever happens to who asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chatting import Room, proved_room
from tests.conftest import Cluster, SeededTemplate

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Room]:
    """One process for all tests of this module; the ledger holds after them."""
    with cluster.database(seeded_template.name) as url:
        async with proved_room(url) as made:
            yield made


async def test_what_is_said_is_answered_and_both_are_kept(room: Room) -> None:
    ada = await room.person()
    answer = await room.ask(ada, "What is a ledger?")
    assert answer.state == "done" and answer.content.startswith("[sandbox]")
    question, kept = await room.messages(ada, answer.conversation_id)
    assert question.author == "person" and kept == answer
