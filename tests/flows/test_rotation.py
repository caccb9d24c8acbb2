"""Stored provider keys under another secret of the installation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.flows.cast import found, rows
from tollhouse.core.vault import NONCE_BYTES, Keyring, SealBroken, association
from tollhouse.flows.rotation import Rotated, rotate
from tollhouse.store import connection as store
from tollhouse.store.connection import Resealed
from tollhouse.store.db import Database

NOW = datetime(2026, 5, 1, tzinfo=UTC)
OLDER, OLD, NEW = b"the oldest secret", b"the former secret", b"the present secret"
PLATFORM = UUID(int=0)


@pytest.fixture
async def db(books: str) -> AsyncIterator[Database]:
    made = Database(books)
    await made.open()
    yield made
    await made.close()


async def connect(url: str, owner: UUID, secret: bytes | None, key: str = "sk-1", provider: str = "openai") -> UUID:
    """A connection whose key was sealed under this secret; None, it has no key."""
    id_ = uuid4()
    associated = association(owner, provider)
    sealed = None if secret is None else Keyring(secret).seal(key, associated, os.urandom(NONCE_BYTES))
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(
            """INSERT INTO connection (organization_id, id, provider_id, base_url, key_ciphertext, origin, created_at)
               VALUES (%s, %s, %s, 'https://host.example', %s, 'organization', now())""",
            (owner, id_, provider, sealed),
        )
    return id_


async def opened(url: str, keyring: Keyring) -> dict[UUID, str | None]:
    """The key of each connection; None of one that this keyring does not open, or that has none."""
    keys: dict[UUID, str | None] = {}
    for id_, owner, provider, sealed in await rows(
        url, "SELECT id, organization_id, provider_id, key_ciphertext FROM connection"
    ):
        try:
            keys[id_] = sealed and keyring.open(sealed, association(owner, provider))
        except SealBroken:
            keys[id_] = None
    return keys


@pytest.mark.parametrize("together", [1, 2, 3, 100])
async def test_every_key_opens_with_the_present_secret_alone_however_many_go_together(
    books: str, db: Database, together: int
) -> None:
    hers = await found(books, NOW)
    wanted = {
        await connect(books, PLATFORM, OLD, "sk-a"): "sk-a",
        await connect(books, hers, OLDER, "sk-b", "google"): "sk-b",
        await connect(books, hers, NEW, "sk-c"): "sk-c",
        await connect(books, hers, OLD, "sk-d"): "sk-d",
        await connect(books, hers, None): None,
    }
    assert await rotate(db, Keyring(NEW, (OLD, OLDER)), NOW, together) == Rotated(3, 1, ())
    assert await opened(books, Keyring(NEW)) == wanted
    before = await rows(books, "SELECT id, key_ciphertext FROM connection ORDER BY id")
    version = await rows(books, "SELECT version FROM catalogue_version")
    assert await rotate(db, Keyring(NEW, (OLD,)), NOW, together) == Rotated(0, 4, ())
    assert await rows(books, "SELECT id, key_ciphertext FROM connection ORDER BY id") == before
    assert await rows(books, "SELECT version FROM catalogue_version") == version
    trail = await rows(
        books, "SELECT actor, details FROM audit WHERE organization_id = %s AND action = 'keys.rotated'", PLATFORM
    )
    assert sorted(details["renewed"] for _, details in trail) == [0, 3]
    assert {actor for actor, _ in trail} == {"system"}


async def test_what_no_secret_opens_is_told_and_stays_as_it_is_and_the_others_are_served(
    books: str, db: Database
) -> None:
    lost = await connect(books, PLATFORM, b"a secret that nobody has", "sk-lost")
    kept = await connect(books, PLATFORM, OLD, "sk-kept")
    before = await rows(books, "SELECT key_ciphertext FROM connection WHERE id = %s", lost)
    done = await rotate(db, Keyring(NEW, (OLD,)), NOW, 1)
    assert (done.renewed, done.current, [row.id for row in done.broken]) == (1, 0, [lost])
    assert await rows(books, "SELECT key_ciphertext FROM connection WHERE id = %s", lost) == before
    assert await opened(books, Keyring(NEW)) == {lost: None, kept: "sk-kept"}


async def test_rotations_at_once_lose_no_key(books: str, db: Database) -> None:
    ids = {await connect(books, PLATFORM, OLD, f"sk-{number}"): f"sk-{number}" for number in range(12)}
    done = await asyncio.gather(*(rotate(db, Keyring(NEW, (OLD,)), NOW, 5) for _ in range(2)))
    assert sum(one.renewed for one in done) == len(ids)
    assert await opened(books, Keyring(NEW)) == ids


async def test_keys_of_models_of_ones_own_are_sealed_anew(books: str, db: Database) -> None:
    hers, keyring = await found(books, NOW), Keyring(NEW, (OLD,))
    kept: dict[UUID, str] = {}
    for number, secret in enumerate((OLD, OLD, NEW)):
        id_ = uuid4()
        kept[id_] = f"sk-{number}"
        sealed = Keyring(secret).seal(kept[id_], association(hers, f"own/{id_}"), os.urandom(NONCE_BYTES))
        async with await psycopg.AsyncConnection.connect(books) as connection:
            await connection.execute(
                """INSERT INTO own_model (organization_id, id, name, protocol, base_url, provider_model_id,
                       key_ciphertext, context_window, max_output_tokens, created_at, updated_at)
                   VALUES (%s, %s, 'mine', 'openai', 'https://host.example', 'm', %s, 8000, 100, now(), now())""",
                (hers, id_, sealed),
            )
    assert await rotate(db, keyring, NOW, 1) == Rotated(2, 1, ())
    after = dict(await rows(books, "SELECT id, key_ciphertext FROM own_model"))
    assert {id_: Keyring(NEW).open(sealed, association(hers, f"own/{id_}")) for id_, sealed in after.items()} == kept
    assert await rotate(db, Keyring(NEW), NOW, 2) == Rotated(0, 3, ())


async def test_a_key_that_was_entered_meanwhile_is_not_put_back(books: str, db: Database) -> None:
    id_ = await connect(books, PLATFORM, OLD, "sk-former")
    ((before,),) = await rows(books, "SELECT key_ciphertext FROM connection WHERE id = %s", id_)
    keyring, associated = Keyring(NEW, (OLD,)), association(PLATFORM, "openai")
    async with db.operator() as tx:
        entered = keyring.seal("sk-entered", associated, bytes(NONCE_BYTES))
        await tx.execute("UPDATE connection SET key_ciphertext = %s WHERE id = %s", (entered, id_))
        after = keyring.seal("sk-former", associated, bytes(NONCE_BYTES))
        assert await store.reseal(tx, [Resealed(PLATFORM, id_, before, after)]) == 0
    assert await opened(books, Keyring(NEW)) == {id_: "sk-entered"}
