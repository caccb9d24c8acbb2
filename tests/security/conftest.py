"""One installation for the walks of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from tests.carriers import Carriers, carriers
from tests.conftest import Cluster, SeededTemplate
from tests.house import House, fresh_house
from tests.security.world import World, make_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    """Its log says whatever it can say."""
    settings = {"TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS": "true", "TOLLHOUSE_LOG_LEVEL": "debug"}
    async with fresh_house(cluster, seeded_template, **settings) as made:  # type: ignore[arg-type]
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(house: House) -> AsyncIterator[Carriers]:
    async with carriers(house.database_url) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(house: House, people: Carriers, stack: AsyncExitStack) -> World:
    return await make_world(house, people, stack)
