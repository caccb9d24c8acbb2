"""One running installation for all clients, and a watcher in front of it.

The tests that use them are one group of xdist, so that one worker has all of them and no client is run twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from psycopg import AsyncConnection

from tests.clients.watcher import Watcher
from tests.conftest import Cluster, SeededTemplate
from tests.house import House
from tests.house import house as running

LOCKED = "gpt-4o"


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    """Every model is answered by the sandbox. One is premium and has no trial."""
    with cluster.database(seeded_template.name) as url:
        async with await AsyncConnection.connect(url) as connection:
            await connection.execute("UPDATE model SET trial_messages = 0 WHERE id = %s", (LOCKED,))
        async with running(url, seeded_template) as made:
            yield made


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def watcher(house: House) -> AsyncIterator[Watcher]:
    async with Watcher(house.server.port) as made:
        yield made
