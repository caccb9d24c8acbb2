"""An installation that is connected to providers of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conftest import Cluster, SeededTemplate
from tests.house import House
from tests.house import house as running
from tests.server import Program


@asynccontextmanager
async def connected_house(
    cluster: Cluster, template: SeededTemplate, settings: dict[str, str], processes: int = 1
) -> AsyncIterator[House]:
    """Seeded and started with these settings, among them the base URLs and keys of its providers."""
    with cluster.database(template.name) as url:
        async with Program(url, "seed", **settings) as seed:
            assert await seed.wait() == 0
            assert not any(value in seed.said() for name, value in settings.items() if name.endswith("_API_KEY"))
        async with running(url, template, processes, **settings) as made:
            yield made


async def rest(house: House) -> None:
    """What failed until now counts no more: a connection that was changed begins anew, with a closed breaker."""
    await house.change("UPDATE connection SET priority = (priority + 1) %% 1000")
