"""Answers that are being written: a supervised task owns each, whoever reads it, and writes it down as it grows.

A reader that leaves changes nothing. A process that is killed leaves the answer as it was last written down; who reads
it afterwards, or a job, finishes it as interrupted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

import structlog

from tollhouse.core.assistant import Passage
from tollhouse.core.conversation import Message, Trouble
from tollhouse.core.errors import Overloaded
from tollhouse.core.prompt import citations
from tollhouse.flows.talk import Speech, Spoken
from tollhouse.store import message as messages
from tollhouse.store.db import Database, TenantTx
from tollhouse.store.message import Key

WRITE_DOWN_S = 0.5
# Of a long answer each writing down costs more: so it is done less often, but not less often than this.
WRITE_DOWN_MAX_S = 2.0
_LONG = 16 * 1024
ALIVE_S = 10.0  # so often one is touched that does not grow
SILENT = timedelta(seconds=60)  # an answer on which nobody wrote for so long has lost its process
INTERRUPTED = Trouble("interrupted", "The answer was interrupted: the server stopped.")
_CLOSE_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Piece:
    """So much more text."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer as it stands in the end."""

    message: Message


Event = Piece | Ended
Topic = Literal["usage", "conversations"]


class Tell(Protocol):
    """Tells a person's open pages that something changed, when the transaction commits."""

    async def __call__(self, tx: TenantTx, organization_id: UUID, person_id: UUID | None, topic: Topic) -> None: ...


class Writing:
    """One answer. `message` is as it was when it began; in the end as it stands then."""

    def __init__(self, key: Key, message: Message, speech: Speech, passages: Sequence[Passage], reason: str | None):
        self.key = key
        self.message = message
        self.text = ""
        self.over = False
        self.interrupted = False
        self.speech = speech
        self._passages = passages
        self._reason = reason  # why this model was chosen, before anybody was asked
        self._woken = asyncio.Event()

    def add(self, text: str) -> None:
        self.text += text.replace("\0", "")
        self._wake()

    def end(self, message: Message) -> None:
        self.message, self.over = message, True
        self._wake()

    def final(self, spoken: Spoken, now: datetime) -> Message:
        """The answer as it is to be written down in the end."""
        state, error = spoken.state, spoken.error
        if self.interrupted and state == "stopped":
            state, error = "incomplete", INTERRUPTED
        remaining = self.speech.trial_remaining
        reasons = [one for one in (self._reason, spoken.reason) if one]
        return replace(
            self.message,
            state=state,
            content=self.text,
            citations=citations(self.text, self._passages),
            error=error,
            written_at=now,
            model_id=spoken.model_id,
            model_name=spoken.model_name,
            reason="; ".join(reasons) or None,
            trial=remaining is not None and state != "failed",
            trial_remaining=None if state == "failed" else remaining,
            input_tokens=spoken.input_tokens,
            output_tokens=spoken.output_tokens,
            cost_nanos=spoken.cost_nanos,
            charged_micros=spoken.charged_micros,
            first_token_ms=spoken.first_token_ms,
            duration_ms=spoken.duration_ms,
        )

    async def follow(self) -> AsyncIterator[Event]:
        """All text so far, then what comes, then the end."""
        seen = 0
        while True:
            woken = self._woken
            if len(self.text) > seen:
                piece, seen = self.text[seen:], len(self.text)
                yield Piece(piece)
            elif self.over:
                yield Ended(self.message)
                return
            else:
                await woken.wait()

    def _wake(self) -> None:
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()


class Writers:
    """All answers that this process writes. `tell` is told when one has ended."""

    def __init__(self, db: Database, clock: Callable[[], datetime], tell: Tell | None = None) -> None:
        self._db = db
        self._clock = clock
        self._tell = tell
        self._writing: dict[Key, Writing] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def start(self, writing: Writing) -> None:
        self._writing[writing.key] = writing
        task = asyncio.create_task(self._write(writing), name=f"answer {writing.key.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def find(self, key: Key) -> Writing | None:
        """None when another process writes it, or none."""
        return self._writing.get(key)

    async def close(self) -> None:
        """Stops and finishes all; what cannot be written down in time is finished by who reads it next."""
        self._closing = True
        for writing in self._writing.values():
            writing.interrupted = True
            writing.speech.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_S)
            for task in late:
                task.cancel()

    async def _write(self, writing: Writing) -> None:
        growing = asyncio.create_task(self._grow(writing), name=f"growth of {writing.key.id}")
        try:
            async for piece in writing.speech.pieces():
                writing.add(piece)
            spoken = await writing.speech.end()
        except Exception as error:
            log.error("an answer was lost", message=str(writing.key.id), exc_info=error)
            writing.speech.stop()
            spoken = None
        finally:
            growing.cancel()
        final = replace(writing.message, state="incomplete", content=writing.text, error=INTERRUPTED)
        if spoken is not None:
            final = writing.final(spoken, self._clock())
        try:
            await self._finish(writing.key, final)
        finally:
            del self._writing[writing.key]
            writing.end(final)

    async def _grow(self, writing: Writing) -> None:
        """Writes down what has come; obeys who wants it stopped, from whichever process. One whose conversation was
        deleted meanwhile nobody wants."""
        loop, written, touched = asyncio.get_running_loop(), 0, 0.0
        while True:
            await asyncio.sleep(min(WRITE_DOWN_MAX_S, WRITE_DOWN_S * max(1, len(writing.text) // _LONG)))
            length, now = len(writing.text), loop.time()
            key = writing.key
            try:
                async with self._db.member(key.organization_id, key.person_id) as tx:
                    if length > written or now > touched + ALIVE_S:
                        wanted = await messages.grow(tx, key, writing.text[:length], self._clock())
                        written, touched = length, now
                    else:
                        wanted = await messages.is_stop_wanted(tx, key)
            except Overloaded:
                continue  # what is missing is written down the next time
            if wanted is None or wanted:
                writing.speech.stop()

    async def _finish(self, key: Key, message: Message) -> None:
        """However long the database is away, unless this process goes down."""
        pause = 0.2
        while True:
            try:
                async with self._db.member(key.organization_id, key.person_id) as tx:
                    if await messages.finish(tx, key, message) and self._tell is not None:
                        await self._tell(tx, key.organization_id, key.person_id, "usage")
                        await self._tell(tx, key.organization_id, key.person_id, "conversations")
                return
            except Overloaded as error:
                if self._closing:
                    log.warning("an answer could not be written down", message=str(key.id), error=str(error))
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
