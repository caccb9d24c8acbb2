"""What assistants know: documents, cut into passages that are found by full text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.assistant import Assistant, Passage
from tollhouse.store.db import OperatorTx, TenantTx

_QUESTION_LENGTH = 4000


@dataclass(frozen=True, slots=True)
class NewDocument:
    """`passages` are (heading, content), in their order."""

    id: UUID
    title: str
    source: str
    passages: Sequence[tuple[str, str]]


async def search(tx: TenantTx | OperatorTx, assistant: Assistant, words: str, most: int = 4) -> list[Passage]:
    """The passages in which any of the words stands, in whatever form, best first: many of the words, rare ones of a
    heading before the rest. None for words that say nothing ("and so on")."""
    cursor = await tx.execute(
        """WITH asked AS (SELECT replace(plainto_tsquery('english', %(words)s)::text, '&', '|')::tsquery AS query)
           SELECT p.document_id, p.position, d.title, d.source, p.heading, p.content
           FROM asked CROSS JOIN passage p
           JOIN document d ON d.organization_id = p.organization_id AND d.id = p.document_id
           WHERE p.organization_id = %(organization)s AND p.assistant_id = %(assistant)s AND p.words @@ asked.query
           ORDER BY ts_rank(p.words, asked.query, 1) DESC, p.document_id, p.position
           LIMIT %(most)s""",
        {
            "words": words[:_QUESTION_LENGTH],
            "organization": assistant.organization_id,
            "assistant": assistant.id,
            "most": most,
        },
    )
    return [Passage(*row) for row in await cursor.fetchall()]


async def insert(tx: TenantTx | OperatorTx, assistant: Assistant, one: NewDocument, now: datetime) -> None:
    """A document with all its passages."""
    await tx.execute(
        """INSERT INTO document (organization_id, id, assistant_id, title, source, created_at)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        (assistant.organization_id, one.id, assistant.id, one.title, one.source, now),
    )
    headings, contents = [heading for heading, _ in one.passages], [content for _, content in one.passages]
    await tx.execute(
        """INSERT INTO passage (organization_id, document_id, position, assistant_id, heading, content)
           SELECT %s, %s, position, %s, heading, content
           FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS x(heading, content, position)""",
        (assistant.organization_id, one.id, assistant.id, headings, contents),
    )


async def delete(tx: TenantTx | OperatorTx, assistant: Assistant, document_id: UUID) -> bool:
    """The document and its passages; False when the assistant has none of this id."""
    cursor = await tx.execute(
        "DELETE FROM document WHERE organization_id = %s AND assistant_id = %s AND id = %s",
        (assistant.organization_id, assistant.id, document_id),
    )
    return cursor.rowcount == 1
