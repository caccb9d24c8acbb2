"""What a body may not hold is refused by its name: every column of every table, in the body of every route."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.house import Reply
from tests.security.books import books_of
from tests.security.fields import columns, documented
from tests.security.walker import Route, Walk, routes
from tests.security.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
AT_ONCE = 40  # fewer than a refusal lists


def with_bodies() -> list[tuple[Route, frozenset[str]]]:
    known = documented()
    return [
        (route, fields)
        for route in routes()
        if route.path.startswith("/api/") and (fields := known[route.name]) is not None
    ]


async def sent(world: World, route: Route, **more: Any) -> Reply:
    """The example of its rightful sender with these fields besides."""
    walk = Walk(world)
    caller = await world.caller("operator" if route.policy == "platform" else "owner")
    found = {place: await world.object(kind) for place, kind in route.example.kinds(route.path).items()}
    return await walk.send(route, caller, found, f"words_{uuid4().hex}", **more)


async def test_there_are_routes_with_bodies() -> None:
    assert len(with_bodies()) > 40


async def test_every_column_of_every_table_is_refused_by_name(world: World) -> None:
    names, wrong = await columns(world.house.database_url), []
    assert len(names) > 200
    for route, _ in with_bodies():
        for kind in route.example.kinds(route.path).values():
            await world.object(kind)
    before = await books_of(world.house.database_url, world.id)
    for route, fields in with_bodies():
        for start in range(0, len(names), AT_ONCE):
            extra = [name for name in names[start : start + AT_ONCE] if name not in fields]
            reply = await sent(world, route, **dict.fromkeys(extra, "x"))
            refused = {} if reply.status not in (400, 422) else {one["field"] for one in reply.body.get("errors", ())}
            if set(extra) - set(refused):
                wrong.append(
                    f"{route.name}: {reply.status} without {sorted(set(extra) - set(refused))[:5]}: {reply.raw[:200]!r}"
                )
    assert not wrong, "\n" + "\n".join(wrong)
    assert await books_of(world.house.database_url, world.id) == before


async def test_a_column_alone_is_refused_where_it_would_matter_most(world: World) -> None:
    """One by one, so that no other field is what it is refused for."""
    tempting = (
        "role", "superadmin", "organization_id", "person_id", "plan_id", "scopes", "created_by", "email_verified_at",
        "suspended_at", "deleted_at", "digest", "origin", "kind", "id",
    )  # fmt: skip
    for route, fields in with_bodies():
        if route.policy == "platform":
            continue
        for name in tempting:
            if name in fields:
                continue
            reply = await sent(world, route, **{name: "x"})
            assert reply.status in (400, 422), (route.name, name, reply.raw)
            assert name in str(reply.body["errors"]), (route.name, name, reply.raw)


async def test_what_takes_no_body_takes_nothing_from_one(world: World) -> None:
    """What is only read stays as it was, whatever is sent along."""
    for route in routes():
        for kind in route.example.kinds(route.path).values():
            await world.object(kind)
    before = await books_of(world.house.database_url, world.id)
    names = await columns(world.house.database_url)
    for name, fields in documented().items():
        route = next(one for one in routes() if one.name == name)
        if fields is None and route.method == "GET":
            reply = await sent(world, route, **dict.fromkeys(names, "x"))
            assert reply.status < 500, (route.name, reply.raw)
    after = await books_of(world.house.database_url, world.id)
    assert {name for name in before if before[name] != after[name]} <= {"audit"}  # who exports is written down
