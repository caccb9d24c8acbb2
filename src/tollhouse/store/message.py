"""Messages of conversations. Like these they are one person's alone, and need a transaction of that person."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from tollhouse.core.conversation import Attachment, Citation, Message, Trouble
from tollhouse.store.db import TenantTx, WorkerTx

SHOWN_MAX = 400
_COLUMNS: LiteralString = """conversation_id, id, author, state, content, attachments, citations, error, created_at,
    written_at, request_id, model_id, model_name, reason, trial, trial_remaining, input_tokens, output_tokens,
    cost_nanos, charged_micros, first_token_ms, duration_ms, rating, rating_note"""


@dataclass(frozen=True, slots=True)
class Key:
    """Which message, and whose."""

    organization_id: UUID
    person_id: UUID
    conversation_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of an answer once its call is admitted."""

    request_id: UUID
    model_id: str
    model_name: str
    reason: str | None
    trial_remaining: int | None


async def of(
    tx: TenantTx, organization_id: UUID, conversation_id: UUID, before: UUID | None = None, limit: int = SHOWN_MAX
) -> list[Message]:
    """Those that are shown, in the order of time; of very many the last ones. `before`: those earlier than this one."""
    cursor = await tx.execute(
        f"""SELECT {_COLUMNS} FROM message
            WHERE organization_id = %(organization)s AND conversation_id = %(conversation)s AND replaced_at IS NULL
              AND (%(before)s::uuid IS NULL OR id < %(before)s)
            ORDER BY id DESC LIMIT %(limit)s""",
        {"organization": organization_id, "conversation": conversation_id, "before": before, "limit": limit},
    )
    return await _with_bills(tx, organization_id, [_message(row) for row in reversed(await cursor.fetchall())])


async def find(tx: TenantTx, organization_id: UUID, conversation_id: UUID, message_id: UUID) -> Message | None:
    """None for one that was replaced, too."""
    cursor = await tx.execute(
        f"""SELECT {_COLUMNS} FROM message
            WHERE organization_id = %s AND conversation_id = %s AND id = %s AND replaced_at IS NULL""",
        (organization_id, conversation_id, message_id),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    [found] = await _with_bills(tx, organization_id, [_message(row)])
    return found


async def _with_bills(tx: TenantTx, organization_id: UUID, messages: list[Message]) -> list[Message]:
    """The same messages. What an answer cost whose process is gone stands in the books alone, once they have closed its
    call: later than it began, but for clocks that differ."""
    lost = [one.id for one in messages if one.state == "incomplete" and one.request_id and one.charged_micros is None]
    if not lost:
        return messages
    cursor = await tx.execute(
        """SELECT one.id, sum(event.input_tokens)::bigint, sum(event.output_tokens)::bigint,
               sum(event.cost_nanos)::bigint, sum(event.charged_micros)::bigint
           FROM message one JOIN usage_event event
               ON event.organization_id = one.organization_id AND event.subject_id = one.person_id
                   AND event.key_id IS NULL AND event.reservation_id = one.request_id
                   AND event.recorded_at >= one.created_at - interval '1 hour'
           WHERE one.organization_id = %s AND one.id = ANY(%s)
           GROUP BY one.id""",
        (organization_id, lost),
    )
    names = "input_tokens", "output_tokens", "cost_nanos", "charged_micros"
    bills = {id_: dict(zip(names, bill, strict=True)) for id_, *bill in await cursor.fetchall()}
    return [replaced(one, **bills.get(one.id, {})) for one in messages]


async def writing(tx: TenantTx, organization_id: UUID, conversation_id: UUID) -> list[Message]:
    """The answers in it that are being written, or seem to be."""
    cursor = await tx.execute(
        f"""SELECT {_COLUMNS} FROM message
            WHERE organization_id = %s AND conversation_id = %s AND state = 'writing'""",
        (organization_id, conversation_id),
    )
    return [_message(row) for row in await cursor.fetchall()]


async def insert(tx: TenantTx, organization_id: UUID, person_id: UUID, message: Message) -> None:
    """A message as it begins: what was said, or an answer that is to be written."""
    await tx.execute(
        """INSERT INTO message (organization_id, person_id, conversation_id, id, author, state, content, attachments,
               created_at, written_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (organization_id, person_id, message.conversation_id, message.id, message.author, message.state,
         message.content, _json(message.attachments), message.created_at, message.written_at),
    )  # fmt: skip


async def delete(tx: TenantTx, organization_id: UUID, conversation_id: UUID, ids: Sequence[UUID]) -> None:
    await tx.execute(
        "DELETE FROM message WHERE organization_id = %s AND conversation_id = %s AND id = ANY(%s)",
        (organization_id, conversation_id, list(ids)),
    )


async def replace(tx: TenantTx, organization_id: UUID, conversation_id: UUID, first_id: UUID, at: datetime) -> None:
    """This message and all after it are shown no more."""
    await tx.execute(
        """UPDATE message SET replaced_at = %s
           WHERE organization_id = %s AND conversation_id = %s AND id >= %s AND replaced_at IS NULL""",
        (at, organization_id, conversation_id, first_id),
    )


async def restore(tx: TenantTx, organization_id: UUID, conversation_id: UUID, at: datetime) -> None:
    """What was replaced at exactly this moment is shown again."""
    await tx.execute(
        """UPDATE message SET replaced_at = NULL
           WHERE organization_id = %s AND conversation_id = %s AND replaced_at = %s""",
        (organization_id, conversation_id, at),
    )


async def begin(tx: TenantTx, key: Key, begun: Begun) -> bool:
    """The call of the answer runs. False when it is not being written any more."""
    cursor = await tx.execute(
        """UPDATE message SET request_id = %s, model_id = %s, model_name = %s, reason = %s, trial_remaining = %s,
               trial = %s
           WHERE organization_id = %s AND conversation_id = %s AND id = %s AND state = 'writing'""",
        (begun.request_id, begun.model_id, begun.model_name, begun.reason, begun.trial_remaining,
         begun.trial_remaining is not None, key.organization_id, key.conversation_id, key.id),
    )  # fmt: skip
    return cursor.rowcount == 1


async def grow(tx: TenantTx, key: Key, content: str, now: datetime) -> bool | None:
    """So much of the answer is there. Whether it is to be stopped; None when it is not being written any more."""
    cursor = await tx.execute(
        """UPDATE message SET content = %s, written_at = %s
           WHERE organization_id = %s AND conversation_id = %s AND id = %s AND state = 'writing'
           RETURNING stop_wanted""",
        (content, now, key.organization_id, key.conversation_id, key.id),
    )
    row = await cursor.fetchone()
    return None if row is None else bool(row[0])


async def is_stop_wanted(tx: TenantTx, key: Key) -> bool | None:
    """The same without writing anything."""
    cursor = await tx.execute(
        """SELECT stop_wanted FROM message
           WHERE organization_id = %s AND conversation_id = %s AND id = %s AND state = 'writing'""",
        (key.organization_id, key.conversation_id, key.id),
    )
    row = await cursor.fetchone()
    return None if row is None else bool(row[0])


async def want_stop(tx: TenantTx, organization_id: UUID, conversation_id: UUID, message_id: UUID) -> None:
    await tx.execute(
        """UPDATE message SET stop_wanted = true
           WHERE organization_id = %s AND conversation_id = %s AND id = %s AND state = 'writing'""",
        (organization_id, conversation_id, message_id),
    )


async def finish(tx: TenantTx, key: Key, message: Message) -> bool:
    """The answer as it stands in the end. False when somebody else finished or deleted it."""
    cursor = await tx.execute(
        """UPDATE message SET state = %s, content = %s, citations = %s, error = %s, model_id = %s, model_name = %s,
               reason = %s, trial = %s, trial_remaining = %s, input_tokens = %s, output_tokens = %s, cost_nanos = %s,
               charged_micros = %s, first_token_ms = %s, duration_ms = %s, written_at = %s
           WHERE organization_id = %s AND conversation_id = %s AND id = %s AND state = 'writing'""",
        (message.state, message.content, _json(message.citations), _trouble(message.error), message.model_id,
         message.model_name, message.reason, message.trial, message.trial_remaining, message.input_tokens,
         message.output_tokens, message.cost_nanos, message.charged_micros, message.first_token_ms,
         message.duration_ms, message.written_at, key.organization_id, key.conversation_id, key.id),
    )  # fmt: skip
    return cursor.rowcount == 1


async def abandon(tx: TenantTx, organization_id: UUID, conversation_id: UUID, before: datetime, why: Trouble) -> int:
    """Answers in this conversation that nobody wrote on since then are finished as they stand; how many."""
    cursor = await tx.execute(
        """UPDATE message SET state = 'incomplete', error = %s
           WHERE organization_id = %s AND conversation_id = %s AND state = 'writing' AND written_at < %s""",
        (_trouble(why), organization_id, conversation_id, before),
    )
    return cursor.rowcount


async def abandon_all(tx: WorkerTx, before: datetime, why: Trouble) -> int:
    """The same everywhere."""
    cursor = await tx.execute(
        "UPDATE message SET state = 'incomplete', error = %s WHERE state = 'writing' AND written_at < %s",
        (_trouble(why), before),
    )
    return cursor.rowcount


async def rate(
    tx: TenantTx, organization_id: UUID, conversation_id: UUID, message_id: UUID, rating: int | None, note: str
) -> Message | None:
    """None when there is no such answer that is finished."""
    cursor = await tx.execute(
        f"""UPDATE message SET rating = %s, rating_note = %s
            WHERE organization_id = %s AND conversation_id = %s AND id = %s AND author = 'assistant'
              AND state IN ('done', 'stopped', 'incomplete') AND replaced_at IS NULL
            RETURNING {_COLUMNS}""",
        (rating, note, organization_id, conversation_id, message_id),
    )
    row = await cursor.fetchone()
    return None if row is None else _message(row)


def _json(parts: Sequence[Attachment] | Sequence[Citation]) -> Jsonb:
    return Jsonb([{name: getattr(part, name) for name in part.__slots__} for part in parts])


def _trouble(error: Trouble | None) -> Jsonb | None:
    return None if error is None else Jsonb({"code": error.code, "message": error.message})


def _message(row: tuple[Any, ...]) -> Message:
    conversation_id, id_, author, state, content, attachments, citations, error, *rest = row
    return Message(
        conversation_id,
        id_,
        author,
        state,
        content,
        tuple([Attachment(**one) for one in attachments]),
        tuple([Citation(**one) for one in citations]),
        None if error is None else Trouble(**error),
        *rest,
    )
