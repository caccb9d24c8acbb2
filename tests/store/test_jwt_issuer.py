"""Issuers in SQL: a tenant's transaction sees its own and changes none; without a tenant there is a narrow look-up."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from psycopg.errors import InsufficientPrivilege

from tollhouse.core.key import ordered_id
from tollhouse.flows import govern
from tollhouse.flows.order import NewOrganization, Order
from tollhouse.store import identity_provider, jwt_issuer
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.jwt_issuer import JwtIssuer

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


async def trusting(db: Database, audience: str) -> JwtIssuer:
    made = await govern.create_organization(db, Order("system", datetime.now(UTC)), NewOrganization("Mill", "free"))
    id_ = made.result().organization.id
    row = JwtIssuer(
        id_, ordered_id(NOW, os.urandom(10)), "n", "https://id.example", audience, "u", "sub", True, NOW, None
    )
    async with db.operator() as tx:
        assert await jwt_issuer.insert(tx, row)
    return row


async def test_a_tenant_sees_its_own_issuers_whatever_it_asks_for(db: Database) -> None:
    hers, others = await trusting(db, "a"), await trusting(db, "b")
    async with db.tenant(hers.organization_id) as tx:
        assert await jwt_issuer.of(tx, hers.organization_id) == [hers]
        assert await jwt_issuer.of(tx, others.organization_id) == []
        assert await jwt_issuer.one(tx, others.organization_id, others.id) is None
        cursor = await tx.execute("SELECT id FROM jwt_issuer")
        assert await cursor.fetchall() == [(hers.id,)]
    async with db.nobody() as tx:
        cursor = await tx.execute("SELECT id FROM jwt_issuer")
        assert await cursor.fetchall() == []


@pytest.mark.parametrize("statement", ["UPDATE jwt_issuer SET jwks_url = 'mine'", "DELETE FROM jwt_issuer"])
async def test_a_tenants_transaction_changes_no_issuer(db: Database, statement: str) -> None:
    hers = await trusting(db, "a")
    async with db.tenant(hers.organization_id) as tx:
        with pytest.raises(InsufficientPrivilege):
            await tx.execute(statement)


async def test_the_look_up_finds_what_is_named_whole(db: Database) -> None:
    hers, others = await trusting(db, "a"), await trusting(db, "b")
    async with db.nobody() as tx:
        for issuer, audiences, found in (
            ("https://id.example", ["a"], {hers.id}), ("https://id.example", ["a", "b", "c"], {hers.id, others.id}),
            ("https://id.example", ["%"], set()), ("https://id.example", [], set()), ("%", ["a"], set()),
            ("https://ID.example", ["a"], set()), ("https://id.example", ["' OR '1'='1"], set()),
        ):  # fmt: skip
            assert {row.id for row in await jwt_issuer.find(tx, issuer, audiences)} == found


async def test_issuer_and_audience_are_one_rows(db: Database) -> None:
    hers = await trusting(db, "a")
    async with db.operator() as tx:
        assert not await _again(tx, hers)


async def _again(tx: OperatorTx, row: JwtIssuer) -> bool:
    twin = JwtIssuer(
        row.organization_id, UUID(int=9), "n", row.issuer, row.audience, "u", "sub", True, NOW, None
    )  # fmt: skip
    return await jwt_issuer.insert(tx, twin)


async def test_what_was_used_once_is_used_until_it_is_forgotten(db: Database) -> None:
    async with db.nobody() as tx:
        assert await identity_provider.use_once(tx, b"d" * 32, NOW)
        assert not await identity_provider.use_once(tx, b"d" * 32, NOW)
        assert await identity_provider.use_once(tx, b"e" * 32, NOW)


async def test_pages_change_no_identity_provider(db: Database) -> None:
    async with db.nobody() as tx:
        with pytest.raises(InsufficientPrivilege):
            await tx.execute("UPDATE identity_provider SET issuer = 'mine'")
