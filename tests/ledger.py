"""The ledger's proof as the last word of every test that moves money."""

from psycopg import AsyncConnection

from tollhouse.store.proof import prove


async def assert_ledger_holds(url: str) -> None:
    """Fails with the invariants that do not hold, and the rows that break them; `url` is the owner's."""
    async with await AsyncConnection.connect(url) as connection:
        failures = await prove(connection)
    assert failures == [], "\n".join(f"{one.number}: {one.statement}: {one.rows}" for one in failures)
