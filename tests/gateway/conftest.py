"""One running installation for all tests of a module, each with organisations of its own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.house import House, fresh_house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    """In test mode, with nobody connected: every model is answered by the sandbox."""
    async with fresh_house(cluster, seeded_template) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def proved(house: House) -> AsyncIterator[None]:
    """The ledger holds when the test is over."""
    yield
    await house.assert_ledger_holds()
