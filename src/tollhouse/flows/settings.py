"""What an organisation chooses for its calls and chats, and the forgetting of what was kept for it.

The choice and its audit row are one transaction, and so are forgetting and its row. Answers that a choice outdates are
forgotten after it, in a transaction of its own: cut between the two, the row tells of the choice, and they go when
their time is over."""

from dataclasses import dataclass
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.flows import fund
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.store import content, kept_answer
from tollhouse.store import settings as store
from tollhouse.store.db import Database, TenantTx
from tollhouse.store.settings import Settings


@dataclass(frozen=True, slots=True)
class NewTtl:
    """For how many seconds answers are kept; None, not at all."""

    seconds: int | None


@dataclass(frozen=True, slots=True)
class NewChatRetention:
    """After how many days without a message chats are deleted; None, never."""

    days: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """What is None stays as it is."""

    cache_ttl: NewTtl | None = None
    stores_content: bool | None = None
    retention_days: int | None = None
    chat_retention: NewChatRetention | None = None


async def change(db: Database, order: Order, organization_id: UUID, wanted: Change) -> Settings:
    """Counts from the next call on. Answers that were kept for longer than they now may be are forgotten at once;
    prompts, answers and chats, by the next hour."""
    async with db.operator() as tx:
        await fund.lock_one(tx, organization_id)
        before = await store.read(tx, organization_id)
        after = Settings(
            before.cache_ttl_s if wanted.cache_ttl is None else wanted.cache_ttl.seconds,
            before.stores_content if wanted.stores_content is None else wanted.stores_content,
            before.retention_days if wanted.retention_days is None else wanted.retention_days,
            before.chat_retention_days if wanted.chat_retention is None else wanted.chat_retention.days,
        )
        if after != before:
            await store.write(tx, organization_id, after)
            about = ("organization", str(organization_id))
            await record(tx, organization_id, order, "settings.changed", about, _changes(before, after))
    if (after.cache_ttl_s or 0) < (before.cache_ttl_s or 0):
        async with db.tenant(organization_id) as tenant:
            await kept_answer.forget(tenant, organization_id)
    return after


def _changes(before: Settings, after: Settings) -> dict[str, Detail]:
    """What was chosen anew, from what to what, by its name in the API."""
    pairs = {
        "cache_ttl_seconds": (before.cache_ttl_s, after.cache_ttl_s),
        "store_content": (before.stores_content, after.stores_content),
        "retention_days": (before.retention_days, after.retention_days),
        "chat_retention_days": (before.chat_retention_days, after.chat_retention_days),
    }
    return {name: {"from": old, "to": new} for name, (old, new) in pairs.items() if old != new}


async def empty_cache(db: Database, order: Order, organization_id: UUID) -> int:
    """Forgets every kept answer. How many there were."""
    async with db.tenant(organization_id) as tx:
        answers = await kept_answer.forget(tx, organization_id)
        await _record_forgotten(tx, order, organization_id, "cache.emptied", {"answers": answers})
    return answers


async def forget_content(db: Database, order: Order, organization_id: UUID) -> int:
    """Forgets all prompts and answers that were stored. Of how many requests there were some."""
    async with db.tenant(organization_id) as tx:
        requests = await content.forget(tx, organization_id)
        await _record_forgotten(tx, order, organization_id, "content.forgotten", {"requests": requests})
    return requests


async def _record_forgotten(
    tx: TenantTx, order: Order, organization_id: UUID, action: str, details: dict[str, Detail]
) -> None:
    """Comes last: it locks the organisation, whose calls shall not wait for what is deleted."""
    await record(tx, organization_id, order, action, ("organization", str(organization_id)), details)
