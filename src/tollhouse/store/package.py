"""Packages of credits that are on sale."""

from dataclasses import dataclass

from psycopg.rows import class_row

from tollhouse.store.db import TenantTx


@dataclass(frozen=True, slots=True)
class Package:
    """`price_cents` in US dollars."""

    id: str
    name: str
    description: str
    credits_micros: int
    price_cents: int


async def on_sale(tx: TenantTx) -> list[Package]:
    """In the order in which they are shown."""
    async with tx.cursor(row_factory=class_row(Package)) as cursor:
        await cursor.execute(
            """SELECT id, name, description, credits_micros, price_cents FROM topup_package
               WHERE is_active ORDER BY display_order, id"""
        )
        return await cursor.fetchall()
