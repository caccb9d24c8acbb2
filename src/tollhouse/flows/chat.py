"""Chats: what a person says, which assistant and model answer, and how the answer is written down.

Saying something is three steps. The message and its empty answer are written down under the conversation's lock, so
that of two tabs only one is answered. Then the call is admitted; a refusal takes back what was written, and the text
stays with the person. Then a task owns the answer (flows/writing.py), and whoever asked may leave.
"""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core.conversation import Attachment, Conversation, Message
from tollhouse.core.errors import BadRequest, Conflict, NotFound, TollhouseError
from tollhouse.core.key import ordered_id
from tollhouse.core.prompt import title_of
from tollhouse.core.session import Signed
from tollhouse.core.text import holds_nul
from tollhouse.flows import reading
from tollhouse.flows.briefing import Brief, brief
from tollhouse.flows.talk import Talk
from tollhouse.flows.writing import INTERRUPTED, SILENT, Ended, Event, Piece, Writers, Writing
from tollhouse.store import assistant_use, conversation, message
from tollhouse.store.db import Database, TenantTx
from tollhouse.store.message import Begun, Key

__all__ = ["Ended", "Event", "Parts", "Piece", "Said", "Started"]

TEXT_MAX = 100_000
ATTACHMENTS_MAX = 5
ATTACHMENT_MAX = 100_000
NAME_MAX = 200
NOTE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Parts:
    """What chats are made with. `writers` own the answers of this process."""

    db: Database
    talk: Talk
    clock: Callable[[], datetime]
    writers: Writers


@dataclass(frozen=True, slots=True)
class Said:
    """What a person says. `model`: what they chose with it, which then counts for the whole chat; empty: by preference
    again; None: as before. `assistant_id` matters where a conversation begins."""

    text: str
    attachments: tuple[Attachment, ...] = ()
    model: str | None = None
    assistant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The person's message, and the answer that is being written to it."""

    conversation: Conversation
    question: Message
    answer: Message


@dataclass(frozen=True, slots=True)
class _Claim:
    """What is written down before the call is admitted. `former`: as the conversation was before, None for one that
    begins; `replaces`: this message and all after it are replaced; `writes_question` False: it stands there already."""

    conversation: Conversation
    former: Conversation | None
    question: Message
    answer: Message
    at: datetime
    writes_question: bool = True
    replaces: UUID | None = None


async def begin(parts: Parts, signed: Signed, said: Said) -> Started:
    """A new conversation. Raises what `say` raises; then there is none."""
    said, now = _checked(said), parts.clock()
    new = Conversation(
        signed.organization_id, _id(now), signed.person_id, title_of(said.text, said.attachments), said.assistant_id,
        said.model or None, None, now, now,
    )  # fmt: skip
    question, answer = _messages(new.id, said, now)
    return await _answer(parts, signed, _Claim(new, None, question, answer, now), new.model_choice)


async def say(parts: Parts, signed: Signed, conversation_id: UUID, said: Said) -> Started:
    """Goes on with a conversation. NotFound for another's, Conflict while an answer is written in it; refusals of the
    assistant, of the model, of limits and credits: then nothing has changed."""
    said, now = _checked(said), parts.clock()
    found = await _find(parts, signed, conversation_id)
    question, answer = _messages(found.id, said, now)
    choice = found.model_choice if said.model is None else said.model or None
    claim = _Claim(replace(found, model_choice=choice, updated_at=now), found, question, answer, now)
    return await _answer(parts, signed, claim, choice)


async def regenerate(
    parts: Parts, signed: Signed, conversation_id: UUID, message_id: UUID, model: str | None = None
) -> Started:
    """Answers anew, this once with another model when one is named. The answer and all that came after it are replaced.
    Raises what `say` raises."""
    now = parts.clock()
    found = await _find(parts, signed, conversation_id)
    before = await _before(parts, signed, conversation_id, message_id, "assistant")
    question = next((one for one in reversed(before) if one.author == "person"), None)
    if question is None:
        raise NotFound("There is no question to this answer any more. Ask anew.")
    answer = _new_answer(found.id, now)
    claim = _Claim(replace(found, updated_at=now), found, question, answer, now, False, message_id)
    return await _answer(parts, signed, claim, model or found.model_choice)


async def edit(
    parts: Parts, signed: Signed, conversation_id: UUID, message_id: UUID, text: str, model: str | None = None
) -> Started:
    """Says something else in place of an earlier message, with the same files; it and all that came after it are
    replaced. Raises what `say` raises."""
    now = parts.clock()
    found = await _find(parts, signed, conversation_id)
    async with parts.db.member(signed.organization_id, signed.person_id) as tx:
        former = await message.find(tx, signed.organization_id, conversation_id, message_id)
    if former is None or former.author != "person":
        raise _no_message()
    said = _checked(Said(text, former.attachments, model))
    question, answer = _messages(found.id, said, now)
    choice = found.model_choice if model is None else model or None
    changed = replace(found, model_choice=choice, updated_at=now)
    claim = _Claim(changed, found, question, answer, now, replaces=message_id)
    return await _answer(parts, signed, claim, choice)


async def stop(parts: Parts, signed: Signed, conversation_id: UUID, message_id: UUID) -> None:
    """The answer ends here; what came until now is kept, and charged. One that has ended stays as it is."""
    await _find(parts, signed, conversation_id)
    async with parts.db.member(signed.organization_id, signed.person_id) as tx:
        await message.want_stop(tx, signed.organization_id, conversation_id, message_id)
    writing = parts.writers.find(Key(signed.organization_id, signed.person_id, conversation_id, message_id))
    if writing is not None:
        writing.speech.stop()


async def rate(
    parts: Parts, signed: Signed, conversation_id: UUID, message_id: UUID, rating: int | None, note: str = ""
) -> Message:
    """1 or -1, with a note; None takes it back. NotFound for what is no finished answer of theirs."""
    if rating not in (1, -1, None):
        raise BadRequest("A rating is 1 or -1.", "rating")
    note = note.strip().replace("\0", "")[:NOTE_MAX] if rating is not None else ""
    async with parts.db.member(signed.organization_id, signed.person_id) as tx:
        found = await message.rate(tx, signed.organization_id, conversation_id, message_id, rating, note)
        if found is not None and found.request_id is not None:
            await assistant_use.rate(tx, signed.organization_id, found.request_id, rating)
    if found is None:
        raise _no_message()
    return found


async def follow(
    parts: Parts, signed: Signed, conversation_id: UUID, message_id: UUID
) -> AsyncIterator[Event]:  # fmt: skip
    """An answer, for who (re)loads the page: first all text so far, then what comes, then its end. NotFound for what is
    none of theirs."""
    key = Key(signed.organization_id, signed.person_id, conversation_id, message_id)
    writing = parts.writers.find(key)
    async for event in writing.follow() if writing is not None else reading.follow(parts.db, parts.clock, key):
        yield event


# ---------------------------------------------------------------------------------------------------------- the answer


async def _answer(parts: Parts, signed: Signed, claim: _Claim, choice: str | None) -> Started:
    """Has the question answered. Whatever goes wrong before the answer has begun, nothing of it stays."""
    key = Key(signed.organization_id, signed.person_id, claim.conversation.id, claim.answer.id)
    about = replace(claim.conversation, model_choice=choice)
    async with parts.db.member(signed.organization_id, signed.person_id) as tx:
        history = await _history(tx, signed, claim)
        told = await brief(tx, signed, about, history, claim.question, claim.at)
        await _write(tx, signed, claim)
    try:
        speech = await parts.talk(told.wish)
    except BaseException:
        await _take_back(parts, signed, claim)
        raise
    writing = Writing(key, claim.answer, speech, told.passages, told.reason)
    try:
        await _begin(parts, signed, writing, told)
    except BaseException:
        speech.stop()
        raise
    parts.writers.start(writing)
    return Started(claim.conversation, claim.question, writing.message)


async def _history(tx: TenantTx, signed: Signed, claim: _Claim) -> list[Message]:
    """What was said before the question."""
    if claim.former is None:
        return []
    before = claim.question.id if not claim.writes_question else claim.replaces
    return await message.of(tx, signed.organization_id, claim.conversation.id, before)


async def _write(tx: TenantTx, signed: Signed, claim: _Claim) -> None:
    """Under the lock of the conversation, in which nobody else is answered."""
    organization_id, one = signed.organization_id, claim.conversation
    if claim.former is None:
        await conversation.insert(tx, one)
    else:
        if await conversation.lock(tx, organization_id, one.id) is None:
            raise _no_conversation()
        await message.abandon(tx, organization_id, one.id, claim.at - SILENT, INTERRUPTED)
        if await message.writing(tx, organization_id, one.id):
            raise Conflict("An answer is being written in this chat. Wait for its end, or stop it.")
        if claim.replaces is not None:
            await message.replace(tx, organization_id, one.id, claim.replaces, claim.at)
        await conversation.touch(tx, organization_id, one.id, one.updated_at, one.model_choice)
    if claim.writes_question:
        await message.insert(tx, organization_id, signed.person_id, claim.question)
    await message.insert(tx, organization_id, signed.person_id, claim.answer)


async def _take_back(parts: Parts, signed: Signed, claim: _Claim) -> None:
    organization_id, one, former = signed.organization_id, claim.conversation, claim.former
    async with parts.db.member(organization_id, signed.person_id) as tx:
        if former is None:
            await conversation.delete(tx, organization_id, one.id)
            return
        written = [claim.answer.id, *([claim.question.id] if claim.writes_question else [])]
        await message.delete(tx, organization_id, one.id, written)
        if claim.replaces is not None:
            await message.restore(tx, organization_id, one.id, claim.at)
        await conversation.touch(tx, organization_id, one.id, former.updated_at, former.model_choice)


async def _begin(parts: Parts, signed: Signed, writing: Writing, told: Brief) -> None:
    """The call is admitted: what is known of it from here on."""
    speech, key = writing.speech, writing.key
    reason = "; ".join(one for one in (told.reason, speech.reason) if one) or None
    begun = Begun(speech.id, speech.model_id, speech.model_name, reason, speech.trial_remaining)
    own_time = parts.clock() + timedelta(microseconds=signed.clock_offset_micros)
    async with parts.db.member(signed.organization_id, signed.person_id) as tx:
        await message.begin(tx, key, begun)
        await assistant_use.insert(
            tx, key.organization_id, begun.request_id, key.person_id, told.assistant_id, begun.model_id, own_time
        )
    writing.message = replace(
        writing.message,
        request_id=begun.request_id,
        model_id=begun.model_id,
        model_name=begun.model_name,
        reason=begun.reason,
        trial=begun.trial_remaining is not None,
        trial_remaining=begun.trial_remaining,
    )


# ---------------------------------------------------------------------------------------------------- small and shared


async def _find(parts: Parts, signed: Signed, conversation_id: UUID) -> Conversation:
    async with parts.db.member(signed.organization_id, signed.person_id) as tx:
        found = await conversation.find(tx, signed.organization_id, conversation_id)
    if found is None:
        raise _no_conversation()
    return found


async def _before(
    parts: Parts, signed: Signed, conversation_id: UUID, message_id: UUID, author: str
) -> list[Message]:  # fmt: skip
    """What was said before this message of this author."""
    async with parts.db.member(signed.organization_id, signed.person_id) as tx:
        found = await message.find(tx, signed.organization_id, conversation_id, message_id)
        if found is None or found.author != author:
            raise _no_message()
        return await message.of(tx, signed.organization_id, conversation_id, message_id)


def _messages(conversation_id: UUID, said: Said, now: datetime) -> tuple[Message, Message]:
    question = Message(conversation_id, _id(now), "person", "done", said.text, said.attachments, (), None, now, now)
    return question, _new_answer(conversation_id, now)


def _new_answer(conversation_id: UUID, now: datetime) -> Message:
    """Its id comes after that of its question."""
    return Message(
        conversation_id, _id(now + timedelta(milliseconds=1)), "assistant", "writing", "", (), (), None, now, now
    )  # fmt: skip


def _id(now: datetime) -> UUID:
    return ordered_id(now, os.urandom(10))


def _checked(said: Said) -> Said:
    """BadRequest for what is too long, too much or nothing at all."""
    text = said.text.strip()
    if not text and not said.attachments:
        raise BadRequest("Write something first.", "text")
    if len(text) > TEXT_MAX:
        raise BadRequest(f"A message has {TEXT_MAX:,} characters at most. Send the rest as a file, or later.", "text")
    if len(said.attachments) > ATTACHMENTS_MAX:
        raise BadRequest(f"A message has {ATTACHMENTS_MAX} files at most.", "attachments")
    for one in said.attachments:
        if not one.name or len(one.name) > NAME_MAX:
            raise BadRequest(f"The name of a file has 1 to {NAME_MAX} characters.", "attachments")
        if len(one.text) > ATTACHMENT_MAX:
            raise BadRequest(f"{one.name}: a file has {ATTACHMENT_MAX:,} characters at most.", "attachments")
    if holds_nul([text, *(part for one in said.attachments for part in (one.name, one.text))]):
        raise BadRequest("The text holds the character NUL, as files do that are no text.", "text")
    return replace(said, text=text)


def _no_conversation() -> TollhouseError:
    return NotFound("There is no such chat. It may have been deleted.")


def _no_message() -> TollhouseError:
    return NotFound("There is no such message in this chat. It may have been replaced or deleted.")
