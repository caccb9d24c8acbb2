"""An answer that another process writes, or none any more, as somebody reads it: from what is written down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from tollhouse.core.conversation import Message
from tollhouse.core.errors import NotFound
from tollhouse.flows.writing import INTERRUPTED, SILENT, Ended, Event, Piece
from tollhouse.store import message as messages
from tollhouse.store.db import Database
from tollhouse.store.message import Key

LOOK_S = 0.3


async def follow(db: Database, clock: Callable[[], datetime], key: Key) -> AsyncIterator[Event]:
    """All text so far, then what comes, then the end. NotFound for what is none of this person's; an answer that is
    deleted meanwhile just ends."""
    seen, first = 0, True
    while True:
        found = await _look(db, clock, key)
        if found is None:
            if first:
                raise NotFound("There is no such message in this chat. It may have been replaced or deleted.")
            return
        if len(found.content) > seen:
            piece, seen = found.content[seen:], len(found.content)
            yield Piece(piece)
        if found.state != "writing":
            yield Ended(found)
            return
        first = False
        await asyncio.sleep(LOOK_S)


async def _look(db: Database, clock: Callable[[], datetime], key: Key) -> Message | None:
    """The message; one on which nobody writes any more is finished."""
    where = key.organization_id, key.conversation_id
    async with db.member(key.organization_id, key.person_id) as tx:
        found = await messages.find(tx, *where, key.id)
        since = clock() - SILENT
        if found is not None and found.state == "writing" and found.written_at < since:
            await messages.abandon(tx, *where, since, INTERRUPTED)
            found = await messages.find(tx, *where, key.id)
        return found
