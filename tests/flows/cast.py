"""What the tests of the teller begin with: a clock that they move, organisations with exactly so much, and asks."""

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection

from tollhouse.core.ask import Ask, CallWant, Credential, Size
from tollhouse.core.credit import Source
from tollhouse.core.fund import first_balance, new_grant
from tollhouse.core.fund import give as book
from tollhouse.core.key import ordered_id
from tollhouse.core.price import Usage
from tollhouse.flows import fund
from tollhouse.flows.operation import Admit, Answered, Outcome, Settle
from tollhouse.flows.spend import Teller
from tollhouse.store import organization as organizations
from tollhouse.store.call import Origin
from tollhouse.store.db import OperatorTx
from tollhouse.store.organization import Organization

SOMEBODY = UUID(int=77)
CREDIT = 1_000_000
# What the usual ask costs at most: 1,000 tokens of input and 100 of output, with the sandbox's model and with GPT-4o.
SANDBOX_PRICE, GPT_PRICE = 65_000, 350_000
# What its input alone is reckoned at when nothing more is ever heard of it: 250 tokens.
INPUT_PRICE = 12_500
TOKENS = 1_100
DONE = Outcome("done", first_byte_ms=5, duration_ms=20)
FAILED = Outcome("failed", error="the provider refused")


@dataclass(slots=True)
class Clock:
    """Stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


async def rows(url: str, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
    async with await AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def change(url: str, statement: LiteralString, *parameters: Any) -> None:
    async with await AsyncConnection.connect(url) as connection:
        assert (await connection.execute(statement, parameters)).rowcount > 0


async def found(url: str, now: datetime, micros: int = 0, plan_id: str = "pro") -> UUID:
    """An organisation whose first period begins now, with one grant of so many micro-credits that never ends."""
    id_ = ordered_id(now, os.urandom(10))
    async with await AsyncConnection.connect(url) as connection:
        tx = OperatorTx(connection)
        await organizations.insert(tx, Organization(id_, "Hers", "team", "general", plan_id, None, now, 0, None, now))
        await organizations.insert_balance(tx, first_balance(id_, now, now))
    if micros:
        await give(url, id_, micros, now)
    return id_


async def give(
    url: str, organization_id: UUID, micros: int, now: datetime, source: Source = "topup", **about: Any
) -> UUID:
    """Books a grant, as an operator does."""
    async with await AsyncConnection.connect(url) as connection:
        tx = OperatorTx(connection)
        locked = await fund.lock_one(tx, organization_id)
        assert locked is not None
        account = await fund.load_account(tx, locked)
        grant = new_grant(ordered_id(now, os.urandom(10)), source, micros, now, **about)
        book(account, grant, now, "somebody")
        await fund.write(tx, account, [grant])
    return grant.id


async def add_key(url: str, organization_id: UUID) -> UUID:
    id_ = ordered_id(datetime.now(UTC), os.urandom(10))
    await change(
        url,
        """INSERT INTO api_key (organization_id, id, name, digest, start, scopes, mode, created_at)
           VALUES (%s, %s, 'Hers', %s, 'th_test_hers', '{gateway}', 'test', now())""",
        organization_id,
        id_,
        id_.bytes,
    )
    return id_


def ask(
    organization_id: UUID,
    model_id: str = "sandbox",
    input_tokens: int = 1_000,
    output_tokens: int | None = 100,
    key_id: UUID | None = None,
    **about: Any,
) -> Admit:
    """1,000 tokens of input and 100 of output, if nothing else is said."""
    credential = None if key_id is None else Credential("key", key_id)
    usual = Ask(organization_id, credential, SOMEBODY, "api", CallWant(model_id, Size(input_tokens, output_tokens)))
    return Admit(organization_id, replace(usual, **about), "/v1/chat/completions")


def answered(model_id: str = "sandbox", attempt: int = 1, origin: Origin = "provider") -> Answered:
    """By the sandbox in place of the model's provider."""
    return Answered(model_id, "sandbox", attempt, origin)


def settle(
    organization_id: UUID, reservation_id: UUID, usage: Usage | None = None, by: Answered | None = None
) -> Settle:
    """All that the usual ask may use, answered by the sandbox at once, if nothing else is said."""
    return Settle(organization_id, reservation_id, usage or Usage(1_000, 100), DONE, by or answered())


async def answer(teller: Teller, operation: Any) -> Any:
    """What the teller answers, a refusal or an error among it."""
    try:
        return await teller.do(operation)
    except Exception as refusal:
        return refusal


async def balance(url: str, organization_id: UUID) -> tuple[int, int, int]:
    """What remains, what is reserved, what is owed."""
    (row,) = await rows(
        url,
        "SELECT remaining_micros, reserved_micros, debt_micros FROM credit_balance WHERE organization_id = %s",
        organization_id,
    )
    return row[0], row[1], row[2]


async def ledger(url: str, organization_id: UUID) -> list[tuple[str, int]]:
    """Type and amount of every transaction, in order."""
    return [
        (row[0], row[1])
        for row in await rows(
            url,
            "SELECT type, amount_micros FROM credit_transaction WHERE organization_id = %s ORDER BY seq",
            organization_id,
        )
    ]


async def counters(url: str, organization_id: UUID) -> dict[tuple[str, str], tuple[int, int]]:
    """Of each meter and model what is used and what is reserved, over all windows."""
    found_rows = await rows(
        url,
        """SELECT meter, model_id, sum(used)::bigint, sum(reserved)::bigint FROM quota_window
           WHERE organization_id = %s GROUP BY 1, 2""",
        organization_id,
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in found_rows}
