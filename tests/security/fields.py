"""Which fields a body of the API may have, and what is tried besides."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection

from tests.test_policies import served

# What somebody would like to say who does not decide about prices, plans and amounts.
OF_MONEY = {
    "price_cents": 1, "price": 0, "cost": 0, "cost_nanos": 0, "amount": 1_000_000, "amount_micros": 1_000_000_000,
    "charged": False, "charged_micros": 0, "charged_credits": "0", "multiplier": 0, "multiplier_permille": 1,
    "markup": "0", "rate_version": 1, "price_version": 1, "plan": "unlimited", "plan_id": "unlimited", "trial": True,
    "free": True, "paid": True, "balance": "1000000", "available": "1000000", "remaining_micros": 1,
    "overdraft": "1000", "reserved_micros": 0, "estimated_credits": "0", "estimated_micros": 0,
    "own_key": True, "origin": "cache",
    "currency": "XXX", "discount": 100, "superadmin": True, "role": "owner", "organization_id": "<organization>",
    "subject_id": "<organization>", "key_id": "<member>", "person_id": "<member>", "kind": "platform", "mode": "live",
}  # fmt: skip


def documented() -> dict[str, frozenset[str] | None]:
    """The fields of each route's body, all the way down; None for a route without a body."""
    document = served().openapi()
    schemas = document["components"]["schemas"]
    found: dict[str, frozenset[str] | None] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            found[f"{method.upper()} {path}"] = None if schema is None else frozenset(_properties(schema, schemas))
    return found


def _properties(schema: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    named = set(schema.get("properties", {}))
    if "$ref" in schema:
        named |= _properties(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for part in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        named |= _properties(part, schemas)
    return named


async def columns(url: str) -> list[str]:
    """The name of every column of every table of ours."""
    async with await AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT DISTINCT column_name::text FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1"
        )
        return [row[0] for row in await cursor.fetchall()]
