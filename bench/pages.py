"""``python -m bench.pages``: what the pages of people cost on the server, with 200 models, 10,000 conversations of one
person and a million usage rows in the database."""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from psycopg import AsyncConnection

from bench.cost import cpu_seconds
from bench.furnishing import Amounts, furnish
from bench.server import NotReady, Servers, Target
from tollhouse.core.vault import Keyring
from tollhouse.flows import session
from tollhouse.flows.order import Order
from tollhouse.flows.sign_up import make
from tollhouse.flows.site import Site
from tollhouse.store.db import Database

LARGE = Amounts(conversations=10_000, calls=1_000_000, days=90, people=50, transactions=1_000, models=192)
SMALL = Amounts(models=20)
LIMIT_MS = 200.0
PATHS = (
    "/chat", "<chat>", "/settings/ai-models", "/settings/credits", "/dashboard", "/dashboard?days=90", "/playground",
    "/account/ai", "/account/ai/templates", "/account/ai/marcus", "/notices", "/settings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one page: the time until it was read, as the median and the longest; CPU as the mean."""

    path: str
    wall_ms: float
    slowest_ms: float
    server_cpu_ms: float
    database_cpu_ms: float
    kilobytes: float


def main() -> int:
    """Gives 0 when every page takes less than the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="each page is asked for (default 20)")
    parser.add_argument("--small", action="store_true", help="with a small database, to see that it works")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - the embedded PostgreSQL of root runs as another user
        servers = Servers(Path(name))
        try:
            target = servers.tollhouse(servers.provider(), "gpt-4o-mini")
            found = asyncio.run(_measure(servers, target, SMALL if options.small else LARGE, options.times))
        except NotReady as problem:
            print(f"The benchmark could not run: {problem}\n{servers.said()}", file=sys.stderr)
            return 1
        finally:
            servers.stop()
    if not options.json:
        print(table(found))
    print(json.dumps([asdict(one) for one in found]))
    return 0 if all(one.wall_ms <= LIMIT_MS for one in found) else 1


def table(found: list[Cost]) -> str:
    rows = [f"| `{one.path}` | {one.wall_ms:.0f} / {one.slowest_ms:.0f} ms | {one.server_cpu_ms:.0f} ms "
            f"| {one.database_cpu_ms:.0f} ms | {one.kilobytes:.0f} kB |" for one in found]  # fmt: skip
    head = "| page | time, median / longest | CPU of Tollhouse | CPU of PostgreSQL | size |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


async def _measure(servers: Servers, target: Target, amounts: Amounts, times: int) -> list[Cost]:
    url, site = servers.environment["TOLLHOUSE_DATABASE_URL"], _site(servers)
    cookie = await _furnished(url, site, amounts)
    headers = {"cookie": f"{site.cookie}={cookie}", "accept": "text/html"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{target.port}", headers=headers) as client:
        return [await _cost(client, target, path, times) for path in PATHS]


async def _cost(client: aiohttp.ClientSession, target: Target, path: str, times: int) -> Cost:
    assert target.server_pid is not None and target.database_pid is not None
    where = await _last_chat(client) if path == "<chat>" else path
    await _read(client, where)  # templates are read once
    taken: list[float] = []
    before = cpu_seconds(target.server_pid), cpu_seconds(target.database_pid)
    size = 0
    for _ in range(times):
        began = time.perf_counter()
        size = len(await _read(client, where))
        taken.append(1000 * (time.perf_counter() - began))
    server, database = cpu_seconds(target.server_pid) - before[0], cpu_seconds(target.database_pid) - before[1]
    shown = "/chat/{id}" if path == "<chat>" else path
    mean = 1000 / times
    return Cost(shown, statistics.median(taken), max(taken), server * mean, database * mean, size / 1000)


async def _read(client: aiohttp.ClientSession, path: str) -> bytes:
    async with client.get(path, allow_redirects=False) as response:
        body = await response.read()
    if response.status != 200:
        raise NotReady(f"{path} answered {response.status}: {body[:500].decode(errors='replace')}")
    return body


async def _last_chat(client: aiohttp.ClientSession) -> str:
    found = re.search(rb'href="(/chat/[0-9a-f-]{36})"', await _read(client, "/chat"))
    if found is None:
        raise NotReady("the list of chats is empty")
    return found[1].decode()


async def _furnished(url: str, site: Site, amounts: Amounts) -> str:
    """Fills the database; gives the cookie of the person whose it all is."""
    db, order = Database(url), Order("system", datetime.now(UTC))
    await db.open()
    try:
        async with db.operator() as tx:
            person_id = await make(tx, order, "ada@example.com", "Ada Lovelace", verified=True)
        if person_id is None:
            raise NotReady("the person was there already")
        begun = await session.begin(db, site, order, person_id, "password", session.Browser("bench"))
    finally:
        await db.close()
    async with await AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("SELECT organization_id FROM member WHERE person_id = %s", (person_id,))
        row = await cursor.fetchone()
        assert row is not None
        await connection.execute("UPDATE organization SET plan_id = 'pro' WHERE id = %s", row)
        await furnish(connection, row[0], person_id, order.now, amounts)
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE")
    return begun.cookie


def _site(servers: Servers) -> Site:
    origin = f"http://127.0.0.1:{servers.environment['TOLLHOUSE_PORT']}"
    return Site(origin, "test", Keyring(servers.environment["TOLLHOUSE_SECRET_KEY"].encode()))


if __name__ == "__main__":
    sys.exit(main())
