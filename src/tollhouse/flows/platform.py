"""The installation as a whole, as operators see it."""

from dataclasses import dataclass

from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.people import Page
from tollhouse.store import catalogue as catalogues
from tollhouse.store import platform as store
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database
from tollhouse.store.platform import Numbers, Proved
from tollhouse.store.privacy import Task


@dataclass(frozen=True, slots=True)
class Overview:
    """`proved` None: the ledger was not proved yet."""

    numbers: Numbers
    proved: Proved | None


async def overview(db: Database) -> Overview:
    """Numbers tell of nobody: looking at them leaves no trace."""
    async with db.operator() as tx:
        return Overview(await store.numbers(tx), await store.last_proof(tx))


async def plan_ids(db: Database) -> list[str]:
    async with db.operator() as tx:
        return list((await catalogues.load(tx)).plans)


async def privacy_tasks(db: Database, order: Order, cursor: str | None, limit: int) -> Page[Task]:
    """What was ordered of all organisations, newest first."""
    before = id_in("privacy-tasks", cursor)
    async with db.operator() as tx:
        await record(tx, PLATFORM_ID, order, "privacy.read", ("organization", "all"), {})
        found = await store.privacy_tasks(tx, before, limit + 1)
    items = found[:limit]
    return Page(items, cursor_of("privacy-tasks", str(items[-1].id)) if len(found) > limit else None)
