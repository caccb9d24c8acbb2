"""Throttles: so many tries and not one more, however many ask at once and wherever; nothing of who tried is stored."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEST_SECRET
from tests.core.cast import NOON
from tollhouse.core.errors import Overloaded, TooManyTries
from tollhouse.core.throttle import Guesses, Memory, Rule, subject
from tollhouse.core.vault import Keyring
from tollhouse.flows import throttle
from tollhouse.store import throttle as throttles
from tollhouse.store.db import Database

KEYRING = Keyring(TEST_SECRET)
SECOND = timedelta(seconds=1)
RULE = Rule("test: account", 5, timedelta(minutes=5))


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await opened.open()
    yield opened
    await opened.close()


async def passes(db: Database, *parts: str, rule: Rule = RULE, later: timedelta = timedelta()) -> bool:
    try:
        await throttle.check(db, KEYRING, rule, *parts, now=NOON + later)
    except TooManyTries:
        return False
    return True


async def test_a_burst_passes_and_the_next_try_is_refused_until_one_has_come_back(db: Database) -> None:
    assert [await passes(db, "ada") for _ in range(6)] == [True] * 5 + [False]
    with pytest.raises(TooManyTries) as refused:
        await throttle.check(db, KEYRING, RULE, "ada", now=NOON + 15 * SECOND)
    assert refused.value.retry_after_s == 45
    assert not await passes(db, "ada", later=59 * SECOND)
    assert await passes(db, "ada", later=60 * SECOND)
    assert not await passes(db, "ada", later=61 * SECOND)
    assert [await passes(db, "ada", later=timedelta(hours=1)) for _ in range(6)] == [True] * 5 + [False]


async def test_of_many_at_once_no_more_pass_than_there_are_tries(db: Database) -> None:
    answers = await asyncio.gather(*(passes(db, "ada") for _ in range(60)))
    assert sum(answers) == RULE.burst


async def test_subjects_and_rules_do_not_mix(db: Database) -> None:
    for _ in range(6):
        await passes(db, "ada", "192.0.2.1")
    assert await passes(db, "ada", "192.0.2.2")
    assert await passes(db, "ada192.0.2.1")
    assert await passes(db, "192.0.2.1", "ada")
    assert await passes(db, "ada", "192.0.2.1", rule=Rule("another", 5, timedelta(minutes=5)))
    assert not await passes(db, "ada", "192.0.2.1")


async def test_who_succeeds_gets_the_tries_back(db: Database) -> None:
    for _ in range(6):
        await passes(db, "ada")
    await throttle.forget(db, KEYRING, RULE, "ada")
    assert await passes(db, "ada")


async def test_a_network_of_ipv6_counts_as_one_address(db: Database) -> None:
    assert [await passes(db, f"2001:db8:1:2::{host:x}") for host in range(6)] == [True] * 5 + [False]
    assert await passes(db, "2001:db8:1:3::1")


async def test_a_try_stays_taken_when_what_was_tried_fails(db: Database) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with db.nobody():
                await throttle.check(db, KEYRING, RULE, "ada", now=NOON)
                raise ZeroDivisionError
    assert not await passes(db, "ada")


async def test_neither_the_address_nor_the_account_is_stored(db: Database, database_url: str) -> None:
    await passes(db, "ada@example.com", "192.0.2.1")
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await (await connection.execute("SELECT id FROM throttle")).fetchall()
    assert [len(row[0]) for row in rows] == [32]
    assert not any(word in rows[0][0] for word in (b"ada", b"192"))


async def test_what_has_all_come_back_is_dropped_and_the_rest_is_kept(db: Database, database_url: str) -> None:
    await passes(db, "ada")
    await passes(db, "bob", later=30 * SECOND)
    async with db.worker() as tx:
        await throttles.forget_whole(tx, NOON + 60 * SECOND)
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await (await connection.execute("SELECT ready_at FROM throttle")).fetchall()
    assert rows == [(NOON + 90 * SECOND,)]


async def test_without_the_database_nothing_passes() -> None:
    away = Database("postgresql://tollhouse@127.0.0.1:1/none")
    await away.open()
    try:
        with pytest.raises(Overloaded):
            await throttle.check(away, KEYRING, RULE, "ada", now=NOON)
    finally:
        await away.close()


@pytest.mark.parametrize(
    ("part", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("ada@example.com", "ada@example.com"),
        ("", ""),
    ],
)
def test_what_is_counted_as_one(part: str, counted: str) -> None:
    assert subject(part) == counted


@given(st.lists(st.floats(0, 400), max_size=60))
def test_in_no_stretch_of_a_period_do_more_than_twice_the_burst_pass(seconds: list[float]) -> None:
    memory = Memory(RULE)
    passed = []
    for moment in sorted(NOON + second * SECOND for second in seconds):
        try:
            memory.take("ada", moment)
        except TooManyTries as refused:
            assert 1 <= refused.retry_after_s <= RULE.interval // SECOND
        else:
            passed.append(moment)
    for start in passed:
        within = [one for one in passed if start <= one < start + RULE.per]
        assert len(within) <= 2 * RULE.burst - 1


@given(st.lists(st.floats(0, 400), min_size=1, max_size=60))
def test_memory_refuses_until_the_moment_it_names(seconds: list[float]) -> None:
    memory = Memory(RULE)
    for moment in sorted(NOON + second * SECOND for second in seconds):
        memory.count("ada", moment)
        try:
            memory.check("ada", moment)
        except TooManyTries as refused:
            memory.check("ada", moment + refused.retry_after_s * SECOND)


def test_memory_is_bounded() -> None:
    memory = Memory(Rule("one", 1, timedelta(hours=1)), most=3)
    for name in ("a", "b", "c", "d"):
        memory.take(name, NOON)
    memory.take("a", NOON)  # forgotten, the first that came
    with pytest.raises(TooManyTries):
        memory.take("d", NOON)


def guess(guesses: Guesses, number: int, address: str = "192.0.2.1", later: timedelta = timedelta()) -> bool:
    """Whether the store was asked for the credential, which it does not know."""
    digested = number.to_bytes(32, "big")
    if not guesses.worth_asking(address, digested, NOON + later):
        return False
    guesses.failed(address, digested, NOON + later)
    return True


def test_after_so_many_guesses_an_address_is_refused_without_asking() -> None:
    guesses = Guesses(RULE)
    assert all(guess(guesses, number) for number in range(5))
    with pytest.raises(TooManyTries):
        guess(guesses, 5)
    assert guess(guesses, 5, address="192.0.2.2")
    assert guess(guesses, 6, later=61 * SECOND)


def test_a_credential_that_was_found_works_on_from_an_address_that_guesses() -> None:
    guesses = Guesses(RULE)
    guesses.found(b"good")
    for number in range(5):
        guess(guesses, number)
    assert guesses.worth_asking("192.0.2.1", b"good", NOON)
    with pytest.raises(TooManyTries):
        guesses.worth_asking("192.0.2.1", b"never seen", NOON)


def test_a_client_with_one_wrong_key_is_no_guesser() -> None:
    guesses = Guesses()
    asked = [guess(guesses, 7, later=number * SECOND) for number in range(3600)]
    assert sum(asked) == 60  # each minute, and never refused as a guesser
    with pytest.raises(TooManyTries):
        for number in range(100, 200):
            guess(guesses, number, later=3600 * SECOND)
    assert not guess(guesses, 7, later=3599 * SECOND)
