"""kill -9 before and after every statement that a web process sends to its database.

A survey counts the statements of each request; then the requests are made again and again, and each time the process is
killed at others of them, started again, and asked again as a client would. The ledger is proved after each kill, and in
the end the books say exactly what happened: nothing was lost, nothing was done twice.

TOLLHOUSE_TEST_SWEEP=all kills at all of them; any other text at those whose name holds it; without it, a sample that
has every statement once, and every commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, LiteralString

import aiohttp
import pytest
from psycopg import AsyncConnection

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import Call, FakeProvider
from tests.house import CHAT, charge, micros
from tests.journeys.customer import MODEL, Customer, Step, Unanswered
from tests.ledger import assert_ledger_holds
from tests.nursery import Forked, Nursery
from tests.server import Program
from tests.wire_proxy import Point, When, WireProxy

STEPS: tuple[Step, ...] = (
    Customer.begins,
    Customer.gets_a_key,
    Customer.is_given_credits,
    Customer.calls_plain,
    Customer.calls_for_a_stream,
    Customer.calls_a_provider_that_fails,
    Customer.runs_a_capability,
    Customer.reserves,
    Customer.renews,
    Customer.settles,
    Customer.reserves_for_a_model,
    Customer.releases,
    Customer.upgrades,
    Customer.reserves_for_too_long,
    Customer.comes_to_a_new_period,
    Customer.settles_late,
    Customer.calls_plain,
    Customer.waits_for_the_reaper,
)
CALLS = (
    Customer.calls_plain,
    Customer.calls_for_a_stream,
    Customer.calls_a_provider_that_fails,
    Customer.runs_a_capability,
)
ADMITTED = (Point("tollhouse_teller", "COMMIT", 1), "after")
WHENS: tuple[When, ...] = ("before", "after")
GRANTS = [
    ("plan", "50"),
    ("welcome", "15"),
    ("topup", "20"),
    ("plan_change", "100"),
    ("welcome", "20"),
    ("plan", "150"),
]


@dataclass(frozen=True, slots=True)
class Kill:
    step: int
    point: Point
    when: When

    def __str__(self) -> str:
        return f"{STEPS[self.step].__name__}, {self.when} {self.point}"


@dataclass(frozen=True, slots=True)
class Figures:
    """Calls of chats: those that their provider answered, those charged by its count, those charged by estimate (runs
    of a capability among them), and those charged by count whose answer the customer never saw."""

    answered: int = 0
    counted: int = 0
    estimated: int = 0
    unseen: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.answered + other.answered,
            self.counted + other.counted,
            self.estimated + other.estimated,
            self.unseen + other.unseen,
        )


class Site:
    """A database of its own behind a proxy, and the one web process that runs at the moment."""

    def __init__(self, database_url: str, proxy: WireProxy, nursery: Nursery, customer: Customer) -> None:
        self.database_url = database_url
        self.proxy = proxy
        self.customer = customer
        self.kills: list[Kill] = []
        self._nursery = nursery
        self._server: Forked | None = None
        self._fresh = False

    async def fresh_server(self) -> Forked:
        """A process that has served nobody yet, with nothing counted."""
        if self._server is None or not self._fresh:
            if self._server is not None:
                await self._server.kill()
            self._server = await self._nursery.serve(self.proxy.url)
            self.customer.url = self._server.url
            self._fresh = True
        self.proxy.forget()
        return self._server

    async def does(self, step: int) -> None:
        self._fresh = False
        await STEPS[step](self.customer)

    async def survives(self, kill: Kill) -> None:
        """The request, the kill in the middle of it, and the request again if it was not answered."""
        self.kills.append(kill)
        server = await self.fresh_server()
        trap = self.proxy.trap(lambda point: point == kill.point, kill.when, server.strike)
        answered = False
        with contextlib.suppress(Unanswered):
            await self.does(kill.step)
            answered = True
        async with asyncio.timeout(5):
            await trap.sprung.wait()
        await self.fresh_server()
        if not answered:
            await self.does(kill.step)
        await assert_ledger_holds(self.database_url)


class Sweep:
    """Passes through all steps, each with one kill in some of them."""

    def __init__(
        self, cluster: Cluster, template: SeededTemplate, prepared: str, provider: FakeProvider, nursery: Nursery
    ) -> None:
        self._cluster, self._template, self._prepared = cluster, template, prepared
        self._provider, self._nursery = provider, nursery

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        with self._cluster.database(self._prepared) as url:
            async with WireProxy(url) as proxy, aiohttp.ClientSession() as session:
                customer = Customer(session, self._template.operator_key, self._provider)
                yield Site(url, proxy, self._nursery, customer)

    async def survey(self) -> list[list[Point]]:
        """The points of each step, in a process that has served nobody yet."""
        found, before = [], len(self._provider.log)
        async with self.site() as site:
            for step in range(len(STEPS)):
                await site.fresh_server()
                await site.does(step)
                found.append([point for point in site.proxy.seen if point.role.startswith("tollhouse_")])
            figures = await assert_books(site, self._provider.log[before:])
            assert (figures.answered, figures.estimated, figures.unseen) == (figures.counted, 0, 0)
        return found

    async def run(self, kills: dict[int, Kill]) -> Figures:
        """One pass."""
        async with self.site() as site:
            before = len(self._provider.log)
            await site.fresh_server()
            try:
                for step in range(len(STEPS)):
                    if step in kills:
                        await site.survives(kills[step])
                    else:
                        await site.does(step)
                return await assert_books(site, self._provider.log[before:])
            except (AssertionError, TimeoutError) as error:
                error.add_note("killed at\n  " + "\n  ".join(map(str, site.kills)))
                raise


async def assert_books(site: Site, calls: list[Call]) -> Figures:
    """The books hold what happened, once: `calls` are those that the provider was sent."""
    customer, tenant = site.customer, site.customer.tenant
    assert tenant is not None
    async with await AsyncConnection.connect(site.database_url) as connection:

        async def rows(query: LiteralString) -> list[tuple[Any, ...]]:
            return await (await connection.execute(query, {"id": tenant.id})).fetchall()

        organizations = await rows("SELECT count(*) FROM organization WHERE name = 'Mill'")
        grants = await rows(
            """SELECT source, amount_micros FROM credit_grant WHERE organization_id = %(id)s ORDER BY 1, 2"""
        )
        found = await rows(
            """SELECT r.id, q.endpoint, r.state, r.charged_micros, e.estimated FROM reservation r
               LEFT JOIN request q USING (organization_id, id)
               LEFT JOIN usage_event e ON e.organization_id = r.organization_id AND e.reservation_id = r.id
               WHERE r.organization_id = %(id)s"""
        )
        ((held,),) = await rows("SELECT sum(reserved) FROM quota_window")
    assert organizations == [(1,)]
    assert grants == sorted((source, micros(credits)) for source, credits in GRANTS)
    assert held == 0 and all(state != "pending" for _, _, state, _, _ in found)
    own = sorted((str(id_), state, charged) for id_, endpoint, state, charged, _ in found if endpoint is None)
    first, second, third = (customer.held[name] for name in ("first", "second", "third"))
    late = charge(MODEL, 900, 100)
    assert own == sorted([(first, "settled", 3_500_000), (second, "released", None), (third, "expired", late)])
    for call in calls:
        await call.ended.wait()
    answered = [call for call in calls if call.outcome == "answered" and call.output_tokens]
    exact = {id_: (endpoint, charged) for id_, endpoint, _, charged, estimated in found if estimated is False}
    chats = {id_: charged for id_, (endpoint, charged) in exact.items() if endpoint == CHAT}
    assert set(chats.values()) == {charge(MODEL, call.input_tokens, call.output_tokens) for call in answered}
    assert customer.seen.items() <= chats.items()
    assert {id_: charged for id_, (endpoint, charged) in exact.items() if endpoint not in (None, CHAT)} == customer.ran
    # what a killed process had not settled is charged by estimate: from the commit on that admitted it, since the books
    # do not tell whether its provider was called then
    estimates = [charged for _, endpoint, _, charged, estimated in found if endpoint is not None and estimated]
    released = sum(state == "released" for _, endpoint, state, _, _ in found if endpoint is not None)
    unsent = sum(STEPS[kill.step] in CALLS and (kill.point, kill.when) == ADMITTED for kill in site.kills)
    assert all(charged > 0 for charged in estimates)
    assert len(answered) <= len(chats) + len(estimates)
    assert len(chats) + len(customer.ran) + len(estimates) <= len(calls) + unsent - released
    return Figures(len(answered), len(chats), len(estimates), len(chats) - len(customer.seen))


def sample(points: list[list[Point]]) -> list[Kill]:
    """Every statement of each role once, in the step that has fewest kills so far, by turns before it and after it; and
    after the last commit of each step."""
    chosen: list[list[Kill]] = [[] for _ in points]
    where: dict[tuple[str, str], dict[int, Point]] = {}
    for step, found in enumerate(points):
        for point in found:
            where.setdefault((point.role, point.statement), {}).setdefault(step, point)
        for commit in [point for point in found if point.statement == "COMMIT" and point.role != "tollhouse_web"][-1:]:
            chosen[step].append(Kill(step, commit, "after"))
    for when, places in zip(cycle(WHENS), where.values(), strict=False):
        step = min(places, key=lambda one: len(chosen[one]))
        chosen[step].append(Kill(step, places[step], when))
    return [kill for kills in chosen for kill in kills]


def passes(kills: list[Kill]) -> list[dict[int, Kill]]:
    """As few passes as there are kills in the step with most of them."""
    found: list[dict[int, Kill]] = []
    ordinal: Counter[int] = Counter()
    for kill in kills:
        if ordinal[kill.step] == len(found):
            found.append({})
        found[ordinal[kill.step]][kill.step] = kill
        ordinal[kill.step] += 1
    return found


@asynccontextmanager
async def sweeping(cluster: Cluster, template: SeededTemplate) -> AsyncIterator[Sweep]:
    """With a database to copy from whose model is connected to a fake provider."""
    async with FakeProvider() as provider, Nursery() as nursery:
        with cluster.database(template.name) as prepared:
            async with Program(prepared, "seed", OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="sk-test") as seed:
                assert await seed.wait() == 0
            name = prepared.partition("?")[0].rpartition("/")[2]
            yield Sweep(cluster, template, name, provider, nursery)


async def test_a_process_killed_at_any_statement_loses_nothing_and_does_nothing_twice(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    """A call that its process had admitted and not settled is charged by estimate."""
    async with sweeping(cluster, seeded_template) as sweep:
        points = await sweep.survey()
        every = [Kill(step, point, when) for step, found in enumerate(points) for point in found for when in WHENS]
        wanted = os.environ.get("TOLLHOUSE_TEST_SWEEP")
        named = [kill for kill in every if wanted == "all" or (wanted or "") in str(kill)]
        kills = sample(points) if wanted is None else named
        assert kills
        failures, total = [], Figures()
        for one in passes(kills):
            try:
                total += await sweep.run(one)
            except AssertionError as failure:
                failures.append(failure)
        print(f"{len(kills)} kills at {len(every) // 2} points: {total}")
        if failures:
            raise ExceptionGroup(f"{len(failures)} passes failed", failures)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_call_that_its_provider_answered_is_charged_though_its_process_was_killed_before_it_settled(
    cluster: Cluster, seeded_template: SeededTemplate, stream: bool
) -> None:
    """A call that ran is never free: what is not known of it is estimated."""
    step = STEPS.index(Customer.calls_for_a_stream if stream else Customer.calls_plain)
    async with sweeping(cluster, seeded_template) as sweep, sweep.site() as site:
        settling = Point("tollhouse_teller", "COMMIT", 2)
        await site.fresh_server()
        for number in range(step):
            await site.does(number)
        server = await site.fresh_server()
        trap = site.proxy.trap(lambda point: point == settling, "before", server.strike)
        with contextlib.suppress(Unanswered):
            await site.does(step)
        await trap.sprung.wait()
        await site.fresh_server()
        await site.customer.waits_for_the_reaper()
        await assert_ledger_holds(site.database_url)
        async with await AsyncConnection.connect(site.database_url) as connection:
            cursor = await connection.execute(
                "SELECT r.state, r.charged_micros > 0, e.estimated FROM reservation r "
                "LEFT JOIN usage_event e ON e.reservation_id = r.id ORDER BY r.id DESC LIMIT 1"
            )
            assert await cursor.fetchone() == ("settled", True, True)
