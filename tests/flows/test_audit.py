"""The chain of the audit log, attacked row by row by somebody who owns the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from tests.flows.cast import change, found, rows
from tollhouse.core.audit import START, Chain, Head, row_hash
from tollhouse.flows.audit import record, verify
from tollhouse.flows.order import Order
from tollhouse.store.db import Database

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ROWS = 5


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def hers(db: Database) -> UUID:
    """An organisation whose chain has five rows."""
    id_ = await found(db.url, NOON)
    for number in range(ROWS):
        await write(db, id_, number)
    return id_


async def write(db: Database, organization_id: UUID, number: int) -> None:
    order = Order("person:ada", NOON + timedelta(minutes=number), "192.0.2.7")
    async with db.operator() as tx:
        await record(tx, organization_id, order, "key.created", ("key", f"k{number}"), {"n": number, "name": "mine"})


async def checked(
    url: str, organization_id: UUID | None = None, expected: Mapping[UUID, Head] | None = None
) -> dict[UUID, Chain]:
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        return {chain.organization_id: chain async for chain in verify(connection, organization_id, expected or {})}


async def fault(url: str, organization_id: UUID, expected: Head | None = None) -> int | None:
    """The row in which the chain is broken."""
    heads = {} if expected is None else {organization_id: expected}
    chain = (await checked(url, organization_id, heads))[organization_id]
    return None if chain.fault is None else chain.fault.seq


async def test_every_chain_is_checked_and_says_where_it_ends(db: Database, hers: UUID) -> None:
    his = await found(db.url, NOON)
    await write(db, his, 1)
    chains = await checked(db.url)
    assert all(chain.fault is None for chain in chains.values())
    ends = dict(await rows(db.url, "SELECT DISTINCT ON (organization_id) organization_id, hash FROM audit "
                                   "ORDER BY organization_id, seq DESC"))  # fmt: skip
    assert {id_: chain.head.hash for id_, chain in chains.items()} == ends
    assert (chains[hers].head.seq, chains[his].head.seq) == (ROWS, 1)
    assert set(await checked(db.url, his)) == {his}
    assert await checked(db.url, await found(db.url, NOON)) == {}


@pytest.mark.parametrize("seq", [1, 3, ROWS])
@pytest.mark.parametrize(
    "assignment",
    [
        "at = at + interval '1 microsecond'",
        "actor = 'person:eve'",
        "action = 'key.revoked'",
        "object_type = 'grant'",
        "object_id = object_id || ' '",
        "details = details || '{\"n\": 99}'",
        "details = details - 'name'",
        "details = details || '{\"n\": 0.5}'",
        "address = '192.0.2.8'",
        "address = NULL",
        "previous_hash = sha256('x')",
        "hash = sha256('x')",
    ],
)
async def test_a_changed_column_shows_in_its_row(db: Database, hers: UUID, assignment: LiteralString, seq: int) -> None:
    await change(db.url, f"UPDATE audit SET {assignment} WHERE organization_id = %s AND seq = %s", hers, seq)
    assert await fault(db.url, hers) == seq


@pytest.mark.parametrize(
    ("statements", "first"),
    [
        (["DELETE FROM audit WHERE organization_id = %s AND seq = 1"], 2),
        (["DELETE FROM audit WHERE organization_id = %s AND seq = 3"], 4),
        (["UPDATE audit SET seq = seq + 10 WHERE organization_id = %s AND seq = 5"], 15),
        (["DELETE FROM audit WHERE organization_id = %s AND seq = 2",
          "UPDATE audit SET seq = seq - 1 WHERE organization_id = %s AND seq > 2"], 2),
        (["UPDATE audit SET seq = 99 WHERE organization_id = %s AND seq = 2",
          "UPDATE audit SET seq = 2 WHERE organization_id = %s AND seq = 3",
          "UPDATE audit SET seq = 3 WHERE organization_id = %s AND seq = 99"], 2),
    ],
    ids=["first deleted", "deleted", "renumbered", "deleted and closed up", "two exchanged"],
)  # fmt: skip
async def test_a_row_that_is_gone_or_moved_shows(
    db: Database, hers: UUID, statements: list[LiteralString], first: int
) -> None:
    for statement in statements:
        await change(db.url, statement, hers)
    assert await fault(db.url, hers) == first


async def test_a_row_of_another_chain_does_not_fit(db: Database, hers: UUID) -> None:
    his = await found(db.url, NOON)
    await change(db.url, "UPDATE audit SET organization_id = %s WHERE organization_id = %s AND seq = 1", his, hers)
    assert await fault(db.url, his) == 1
    assert await fault(db.url, hers) == 2


async def test_rows_cut_off_the_end_show_only_against_the_head_that_was_noted(db: Database, hers: UUID) -> None:
    noted = (await checked(db.url))[hers].head
    await write(db, hers, 9)
    assert await fault(db.url, hers, noted) is None, "a chain that grew is whole"
    await change(db.url, "DELETE FROM audit WHERE organization_id = %s AND seq >= 4", hers)
    assert await fault(db.url, hers) is None
    assert await fault(db.url, hers, noted) == 4
    await change(db.url, "DELETE FROM audit WHERE organization_id = %s", hers)
    assert await checked(db.url, hers) == {}
    assert await fault(db.url, hers, noted) == 1
    assert (await checked(db.url, None, {hers: noted}))[hers].fault is not None


async def test_a_chain_written_anew_from_end_to_end_shows_against_the_head_that_was_noted(
    db: Database, hers: UUID
) -> None:
    noted = (await checked(db.url))[hers].head
    async with await AsyncConnection.connect(db.url) as connection:
        await connection.execute("UPDATE audit SET actor = 'person:eve' WHERE organization_id = %s", (hers,))
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute("SELECT * FROM audit WHERE organization_id = %s ORDER BY seq", (hers,))
        previous = START
        for row in await cursor.fetchall():
            anew = row_hash(row | {"previous_hash": previous})
            await connection.execute(
                "UPDATE audit SET previous_hash = %s, hash = %s WHERE organization_id = %s AND seq = %s",
                (previous, anew, hers, row["seq"]),
            )
            previous = anew
    assert await fault(db.url, hers) is None
    assert await fault(db.url, hers, noted) == ROWS


async def test_the_first_broken_row_of_each_chain_is_told_and_others_are_not_suspected(
    db: Database, hers: UUID
) -> None:
    his = await found(db.url, NOON)
    await write(db, his, 1)
    await change(db.url, "UPDATE audit SET actor = 'x' WHERE organization_id = %s AND seq IN (2, 4)", hers)
    chains = await checked(db.url)
    assert {id_: chain.fault.seq for id_, chain in chains.items() if chain.fault} == {hers: 2}


@pytest.mark.parametrize("text", ["", "1", "1:", "x:" + "0" * 64, "1:" + "0" * 63, "1:" + "g" * 64, "-1:" + "0" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Head.read(text)


def test_a_head_is_read_as_it_was_written() -> None:
    head = Head(17, uuid4().bytes * 2)
    assert Head.read(str(head)) == head
