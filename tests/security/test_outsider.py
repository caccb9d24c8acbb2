"""Nobody gets in where they do not belong: every route, asked by everybody who might try."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tests.carriers import Carriers
from tests.house import House
from tests.security.books import books_of
from tests.security.callers import CALLERS
from tests.security.walker import Walk, everybody, expected, missing, routes
from tests.security.world import World, canaries_in, make_world

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_route_has_an_example() -> None:
    assert missing() == []


async def test_who_may_not_is_refused_learns_nothing_and_changes_nothing(world: World) -> None:
    await everybody(world)
    for route in routes():
        for kind in route.example.kinds(route.path).values():
            await world.object(kind)
    before = await books_of(world.house.database_url, world.id)
    assert before["api_key"] and before["person"] and before["session"]
    walk = Walk(world)
    for route in routes():
        for name in CALLERS:
            want = expected(route, CALLERS[name])
            if want is not None and not want.changes:
                await walk.visit(route, await world.caller(name), want, fresh=False)
    assert not walk.wrong, "\n" + "\n".join(walk.wrong)
    assert await books_of(world.house.database_url, world.id) == before


async def test_a_hole_would_be_found(world: World) -> None:
    """The owner of A in the place of B's: each route that lets in whom it should not would look like this."""
    owner, outsider = await world.caller("owner"), await world.caller("owner of B")
    impostor = replace(outsider, headers=owner.headers)
    walk = Walk(world)
    looked_at = ("GET /api/keys/{key_id}", "GET /api/organization", "GET /api/members", "GET /admin/keys/{key_id:uuid}")
    for route in routes():
        if route.name in looked_at:
            want = expected(route, outsider)
            assert want is not None
            before = len(walk.wrong)
            await walk.visit(route, impostor, want, fresh=False)
            assert "is told" in " ".join(walk.wrong[before:]), route.name
    assert sum("not [404, 409]" in one for one in walk.wrong) == 2


async def test_who_may_gets_what_is_declared_and_sees_what_is_theirs(
    world: World, house: House, people: Carriers, stack: AsyncExitStack
) -> None:
    """The examples are valid, or a refusal would prove nothing."""
    walk = Walk(world)
    for route in routes():
        for name in CALLERS:
            want = expected(route, CALLERS[name])
            if want is None or not want.changes:
                continue
            here = world
            if route.example.ends:
                here = await make_world(house, people, stack)
            walk.world = here
            await walk.visit(route, await here.caller(name), want, fresh=True)
    assert not walk.wrong, "\n" + "\n".join(walk.wrong)


async def test_nothing_of_anybody_stands_in_the_log(world: World) -> None:
    """After everything that came before; what may not be seen in answers may not be read in the log either."""
    said = world.house.server.said()
    assert canaries_in(said) == set()
    for caller in world.callers.values():
        for value in (caller.headers.get("authorization", "")[7:], caller.headers.get("cookie", "")[10:]):
            assert not value or value not in said, f"what {caller.name} came with stands in the log"
