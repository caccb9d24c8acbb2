"""Conversations. They are one person's alone: what is read and written here needs a transaction of that person
(`db.member`), and finds nothing of anybody else."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.conversation import Conversation
from tollhouse.store.db import TenantTx, WorkerTx

PAGE = 30
PINNED_MAX = 50
_END = datetime.max.replace(tzinfo=UTC)
_LAST = UUID(int=(1 << 128) - 1)
_COLUMNS: LiteralString = """organization_id, id, person_id, title, assistant_id, model_choice, pinned_at, created_at,
    updated_at"""
_WORD = re.compile(r"\w+")
_WORDS_MAX = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of the list ended: at the conversation whose last message was at this moment."""

    updated_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Hit:
    """A conversation that was found. `snippet`: what stands around the words in the message that has them, each word
    between U+E000 and U+E001; None when they stand in the title."""

    conversation: Conversation
    snippet: str | None


async def insert(tx: TenantTx, one: Conversation) -> None:
    await tx.execute(
        f"INSERT INTO conversation ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (one.organization_id, one.id, one.person_id, one.title, one.assistant_id, one.model_choice, one.pinned_at,
         one.created_at, one.updated_at),
    )  # fmt: skip


async def find(tx: TenantTx, organization_id: UUID, conversation_id: UUID) -> Conversation | None:
    async with tx.cursor(row_factory=class_row(Conversation)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM conversation WHERE organization_id = %s AND id = %s",
            (organization_id, conversation_id),
        )
        return await cursor.fetchone()


async def lock(tx: TenantTx, organization_id: UUID, conversation_id: UUID) -> Conversation | None:
    """The same; nobody else says something in it until the transaction ends."""
    async with tx.cursor(row_factory=class_row(Conversation)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM conversation WHERE organization_id = %s AND id = %s FOR UPDATE",
            (organization_id, conversation_id),
        )
        return await cursor.fetchone()


async def touch(
    tx: TenantTx, organization_id: UUID, conversation_id: UUID, updated_at: datetime, model_choice: str | None
) -> None:
    """Something was said in it, with this choice of a model."""
    await tx.execute(
        "UPDATE conversation SET updated_at = %s, model_choice = %s WHERE organization_id = %s AND id = %s",
        (updated_at, model_choice, organization_id, conversation_id),
    )


async def page(
    tx: TenantTx, organization_id: UUID, person_id: UUID, after: Place | None = None, limit: int = PAGE
) -> list[Conversation]:
    """The person's, those with the newest message first; before them on the first page all that are pinned, the newest
    pin first. `limit` is for the others; the next page begins after the last of them."""
    async with tx.cursor(row_factory=class_row(Conversation)) as cursor:
        await cursor.execute(
            f"""(SELECT {_COLUMNS} FROM conversation
                 WHERE %(first)s AND organization_id = %(organization)s AND person_id = %(person)s
                   AND pinned_at IS NOT NULL
                 ORDER BY pinned_at DESC, id LIMIT %(pinned)s)
                UNION ALL
                (SELECT {_COLUMNS} FROM conversation
                 WHERE organization_id = %(organization)s AND person_id = %(person)s AND pinned_at IS NULL
                   AND (updated_at, id) < (%(at)s, %(id)s)
                 ORDER BY updated_at DESC, id DESC LIMIT %(limit)s)""",
            {
                "first": after is None,
                "organization": organization_id,
                "person": person_id,
                "pinned": PINNED_MAX,
                "at": after.updated_at if after else _END,
                "id": after.id if after else _LAST,
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def search(
    tx: TenantTx, organization_id: UUID, person_id: UUID, text: str, limit: int = PAGE
) -> list[Hit]:  # fmt: skip
    """The person's in whose title or in one of whose messages all words of the text stand, the last one as far as it
    was typed; the newest first. Each is found once."""
    words = _WORD.findall(text)[:_WORDS_MAX]
    if not words:
        return []
    query = " & ".join(f"'{word}'" for word in words) + ":*"
    cursor = await tx.execute(
        f"""WITH asked AS MATERIALIZED (SELECT to_tsquery('simple', %(query)s) AS query),
            found AS (
                SELECT c.*, c.words @@ asked.query AS by_title, (
                    SELECT m.id FROM message m
                    WHERE m.organization_id = c.organization_id AND m.conversation_id = c.id
                      AND m.replaced_at IS NULL AND m.words @@ asked.query
                    ORDER BY m.id DESC LIMIT 1) AS message_id
                FROM conversation c CROSS JOIN asked
                WHERE c.organization_id = %(organization)s AND c.person_id = %(person)s),
            best AS (
                SELECT * FROM found WHERE by_title OR message_id IS NOT NULL
                ORDER BY updated_at DESC, id DESC LIMIT %(limit)s)
            SELECT {_COLUMNS}, CASE WHEN by_title THEN NULL ELSE (
                SELECT ts_headline('simple', left(m.content, 20000), asked.query,
                                   'StartSel=' || chr(57344) || ', StopSel=' || chr(57345)
                                   || ', MaxWords=16, MinWords=8, MaxFragments=1')
                FROM message m WHERE m.organization_id = best.organization_id AND m.conversation_id = best.id
                  AND m.id = best.message_id) END
            FROM best CROSS JOIN asked ORDER BY updated_at DESC, id DESC""",
        {"query": query, "organization": organization_id, "person": person_id, "limit": limit},
    )
    return [Hit(Conversation(*row[:-1]), row[-1]) for row in await cursor.fetchall()]


async def rename(tx: TenantTx, organization_id: UUID, conversation_id: UUID, title: str) -> bool:
    """False when there is none."""
    cursor = await tx.execute(
        "UPDATE conversation SET title = %s WHERE organization_id = %s AND id = %s",
        (title, organization_id, conversation_id),
    )
    return cursor.rowcount == 1


async def pin(tx: TenantTx, organization_id: UUID, person_id: UUID, conversation_id: UUID, now: datetime) -> bool:
    """False when there is none, or so many are pinned already that this one would not be shown."""
    cursor = await tx.execute(
        """UPDATE conversation c SET pinned_at = coalesce(c.pinned_at, %(now)s)
           WHERE c.organization_id = %(organization)s AND c.id = %(id)s AND (
               SELECT count(*) FROM conversation
               WHERE organization_id = %(organization)s AND person_id = %(person)s AND pinned_at IS NOT NULL
                 AND id <> %(id)s) < %(most)s""",
        {
            "now": now,
            "organization": organization_id,
            "id": conversation_id,
            "person": person_id,
            "most": PINNED_MAX,
        },
    )
    return cursor.rowcount == 1


async def unpin(tx: TenantTx, organization_id: UUID, conversation_id: UUID) -> bool:
    cursor = await tx.execute(
        "UPDATE conversation SET pinned_at = NULL WHERE organization_id = %s AND id = %s",
        (organization_id, conversation_id),
    )
    return cursor.rowcount == 1


async def delete(tx: TenantTx, organization_id: UUID, conversation_id: UUID) -> bool:
    """With all its messages. An answer that is being written in it is stopped by whoever writes it."""
    cursor = await tx.execute(
        "DELETE FROM conversation WHERE organization_id = %s AND id = %s", (organization_id, conversation_id)
    )
    return cursor.rowcount == 1


async def delete_all(tx: TenantTx, organization_id: UUID, person_id: UUID) -> int:
    """All of the person's; how many they were."""
    cursor = await tx.execute(
        "DELETE FROM conversation WHERE organization_id = %s AND person_id = %s", (organization_id, person_id)
    )
    return cursor.rowcount


async def delete_outlived(tx: WorkerTx, now: datetime) -> int:
    """Those in which nothing was said for as long as their organisation keeps chats, pinned ones too."""
    cursor = await tx.execute(
        """DELETE FROM conversation c USING organization o
           WHERE o.id = c.organization_id AND o.chat_retention_days IS NOT NULL
             AND c.updated_at < %s - make_interval(days => o.chat_retention_days)""",
        (now,),
    )
    return cursor.rowcount
