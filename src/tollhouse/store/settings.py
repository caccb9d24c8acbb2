"""What an organisation has chosen for its calls through the gateway, and for the chats of its members."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.db import OperatorTx, TenantTx


@dataclass(frozen=True, slots=True)
class Settings:
    """`cache_ttl_s`: for how many seconds an answer is kept to be given again to an equal request; None, not at all.
    `stores_content`: whether prompts and answers are stored, to be read again, and `retention_days` for how long.
    `chat_retention_days`: after so many days without a message a chat is deleted; None, never."""

    cache_ttl_s: int | None
    stores_content: bool
    retention_days: int
    chat_retention_days: int | None


async def read(tx: TenantTx | OperatorTx, organization_id: UUID) -> Settings:
    async with tx.cursor(row_factory=class_row(Settings)) as cursor:
        await cursor.execute(
            """SELECT cache_ttl_s, stores_content, retention_days, chat_retention_days FROM organization
               WHERE id = %s""",
            (organization_id,),
        )
        found = await cursor.fetchone()
    assert found is not None
    return found


async def write(tx: OperatorTx, organization_id: UUID, settings: Settings) -> None:
    await tx.execute(
        """UPDATE organization SET cache_ttl_s = %s, stores_content = %s, retention_days = %s, chat_retention_days = %s
           WHERE id = %s""",
        (settings.cache_ttl_s, settings.stores_content, settings.retention_days, settings.chat_retention_days,
         organization_id),
    )  # fmt: skip
