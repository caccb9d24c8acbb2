"""A clock, a teller, and a database whose ledger is proved when the test is over."""

from collections.abc import AsyncIterator

import pytest

from tests.flows.cast import Clock
from tests.ledger import assert_ledger_holds
from tollhouse.flows.spend import Teller


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def books(database_url: str) -> AsyncIterator[str]:
    """The owner's URL of a seeded database; its ledger must hold when the test is over."""
    yield database_url
    await assert_ledger_holds(database_url)


@pytest.fixture
async def teller(books: str, clock: Clock) -> AsyncIterator[Teller]:
    made = Teller(books, "test", clock)
    await made.open()
    yield made
    await made.close()
