"""How many statements a page takes does not hang on how much there is: as many with three of everything as with
three hundred."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import AsyncConnection, AsyncCursor
from starlette.routing import compile_path

from bench.furnishing import Amounts, crowd, furnish
from tests.conftest import Cluster, SeededTemplate
from tests.web.serving import Visitor
from tests.web.team import Team, team
from tests.web.test_operator import superadmin
from tollhouse import web
from tollhouse.web.route import SUPERADMIN

FEW, MANY = 3, 300
# What any page may ask for. The highest are those that show several nouns.
MOST = 40
_LINK = re.compile(r'(?:href|hx-get)="(/[^"#?]*)')
PAGES = [(row, compile_path(row.path)[0]) for row in web.PAGES if "GET" in row.methods]
ENDLESS = {"/events"}  # a stream, which lasts as long as somebody listens


@contextmanager
def counted(counter: Counter[str]) -> Iterator[None]:
    """Counts each statement that this process sends; what only asks whether a connection lives is none."""
    execute, executemany = AsyncCursor.execute, AsyncCursor.executemany

    async def counting(self: Any, query: Any, *rest: Any, **options: Any) -> Any:
        counter["all"] += query != ""
        return await execute(self, query, *rest, **options)

    async def counting_many(self: Any, *rest: Any, **options: Any) -> Any:
        counter["all"] += 1
        return await executemany(self, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncCursor, "execute", counting)
        patch.setattr(AsyncCursor, "executemany", counting_many)
        yield


@asynccontextmanager
async def furnished(cluster: Cluster, template: SeededTemplate, amount: int) -> AsyncIterator[tuple[Team, Visitor]]:
    """A team with so many of everything, and a superadmin."""
    with cluster.database(template.name) as url:
        async with team(url) as mill:
            assert mill.owner.person_id is not None
            root = await superadmin(mill.place)
            amounts = Amounts(
                conversations=amount, calls=10 * amount, days=60, people=3, transactions=amount, models=amount
            )
            async with await AsyncConnection.connect(url) as connection:
                await furnish(connection, mill.id, mill.owner.person_id, datetime.now(UTC), amounts)
                await crowd(connection, mill.id, mill.owner.person_id, datetime.now(UTC), amount)
                # that somebody is still there is noted once a minute, with whichever page comes then
                await connection.execute("UPDATE session SET seen_at = now() + interval '1 hour'")
            yield mill, root


async def statements(mill: Team, root: Visitor) -> dict[str, int]:
    """Of each page that can be come to, how many it takes when it is asked for a second time, at most for some of those
    that it is about; of one that breaks its status, below zero."""
    found: dict[str, int] = {}
    links: set[str] = set()
    counter: Counter[str] = Counter()
    with counted(counter):
        for with_places in (False, True):  # first those with nothing to fill in, which link to the others
            for row, pattern in PAGES:
                if ("{" in row.path) is not with_places or row.path in ENDLESS:
                    continue
                who = root if row.needs == SUPERADMIN else mill.owner
                for path in _some(links, pattern) if with_places else [row.path]:
                    first = await who.get(path)
                    links |= set(_LINK.findall(first.text))
                    before = counter["all"]
                    again = await who.get(path)
                    taken = counter["all"] - before if again.status < 500 else -again.status
                    found[row.path] = max(found.get(row.path, taken), taken, key=abs)
    return found


def _some(links: set[str], pattern: re.Pattern[str]) -> list[str]:
    """At most six of the links that lead to such a page, from all over their order."""
    known = {row.path for row, _ in PAGES}
    fitting = sorted(link for link in links - known if pattern.match(link))
    return fitting[:: max(1, len(fitting) // 6)][:6]


async def test_a_page_takes_as_many_statements_whatever_there_is(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    async with furnished(cluster, seeded_template, FEW) as (mill, root):
        few = await statements(mill, root)
    async with furnished(cluster, seeded_template, MANY) as (mill, root):
        many = await statements(mill, root)
    assert many == few
    assert {path: count for path, count in many.items() if not 0 <= count <= MOST} == {}
    assert {"/chat", "/chat/{conversation_id:uuid}", "/dashboard", "/settings/ai-models", "/admin/keys"} <= few.keys()
