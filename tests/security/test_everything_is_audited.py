"""Whatever somebody changes stands in the audit log, written in the transaction that changed it: every changing route
is asked by who may, and each row that changed meanwhile is held against the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.carriers import Carriers, carriers
from tests.conftest import Cluster, SeededTemplate
from tests.house import House, fresh_house
from tests.security.changes import Change, changes, install, untold
from tests.security.walker import Route, Walk, expected, routes
from tests.security.world import World, make_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Bodies that change something, where those of the examples say what is so already.
BODIES = {
    "PATCH /api/organization": {"business_type": "retail"},
    "PATCH /api/settings": {"retention_days": 7},
    "POST /api/operator/organizations/{organization_id}/plan": {"plan": "team"},
}
# Routes whose examples are refused: their right use is below.
BY_HAND = {
    "POST /api/invitations/accept",
    "POST /api/operator/people/{person_id}/remove-second-factor",
    "POST /api/privacy/erase",
}
# Routes by which nothing is changed, although their method might, and why.
CHANGE_NOTHING = {
    "POST /api/ai/access-check": "says what would be decided",
    "POST /api/connections/test": "tries what would be saved",
    "POST /api/connections/{connection_id}/test": "notes what it found",
    "POST /api/issuers/test": "tries what would be saved",
    "POST /api/issuers/{issuer_id}/test": "looks at the issuer's keys",
    "POST /api/operator/connections/test": "tries what would be saved",
    "POST /api/operator/connections/{connection_id}/test": "notes what it found",
    "POST /api/operator/identity-providers/test": "tries what would be saved",
    "POST /api/operator/identity-providers/{provider_id}/test": "looks at the provider's description",
    "POST /v1/messages/count_tokens": "counts",
    "PATCH /api/profile/model-preferences": "says what somebody prefers for themself",
    "POST /design": "shows a form",
    "POST /language": "changes nothing but how pages look to the one who asks",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    async with fresh_house(cluster, seeded_template, TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS="true") as made:
        install(made.database_url)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(house: House) -> AsyncIterator[Carriers]:
    async with carriers(house.database_url) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


def changing() -> list[Route]:
    """The routes that may change something and that a person, a key or an operator may ask by itself. Those of calls
    are the teller's, which tests/test_policies.py says."""
    return [one for one in routes() if one.method != "GET" and not one.policy.startswith("the teller: ")]


def sender(route: Route) -> str:
    """Who may, and to whom it is done: an owner may not leave."""
    if route.policy == "platform":
        return "superadmin"
    return "admin" if "admin" in route.example.differs else "owner"


async def test_whatever_a_route_changes_is_told_in_the_same_transaction(
    house: House, people: Carriers, stack: AsyncExitStack
) -> None:
    world, wrong = await make_world(house, people, stack), []
    for route in changing():
        # a page may end or rotate the session with which the next one would be asked
        here = await make_world(house, people, stack) if route.example.ends or route.is_page else world
        found = await _asked(here, route)
        wrong += [f"{route.name}: {one.verb} of {one.table} {sorted(one.columns)}" for one in untold(found)]
        told = [one for one in found if one.told]
        if route.name in CHANGE_NOTHING and told:
            wrong.append(f"{route.name} changes {told[0].table}: take it off the list")
        if not route.is_page and route.name not in CHANGE_NOTHING and route.name not in BY_HAND and not told:
            wrong.append(f"{route.name} changed nothing that is told of: the example proves nothing, or the route")
    assert not wrong, "\n" + "\n".join(wrong)


async def _asked(world: World, route: Route) -> list[Change]:
    """What the example of a route changed, and nothing that was made for it."""
    name = sender(route)
    caller, walk = await world.caller(name), Walk(world)
    found = {place: await world.object(kind, fresh=True) for place, kind in route.example.kinds(route.path).items()}
    if "<own_email>" in found:
        found["<own_email>"] = world.emails[name]
    await _prepare(world, route, found)
    if route.name in BODIES:
        route = replace(route, example=replace(route.example, body=BODIES[route.name]))
    before = len(changes(world.house.database_url))
    reply = await walk.send(route, caller, found, "other-words")
    if not route.is_page:
        want = expected(route, caller)
        assert want is not None and want.changes and reply.status in want.statuses, (route.name, reply.raw[:300])
    return changes(world.house.database_url)[before:]


async def _prepare(world: World, route: Route, found: Mapping[str, str]) -> None:
    """Makes what some routes undo."""
    match route.name:
        case "POST /api/operator/people/{person_id}/unsuspend":
            path = f"/people/{found['person_id']}/suspend"
            await world.house.order("POST", path, {"reason": "to be undone"})
        case "POST /api/operator/organizations/{organization_id}/unsuspend":
            path = f"/organizations/{world.id}/suspend"
            await world.house.order("POST", path, {"reason": "to be undone"})
        case "DELETE /api/requests/content":
            await world.carriers.change(
                """INSERT INTO request_content (organization_id, request_id, prompt, created_at)
                   VALUES (%s, gen_random_uuid(), '{}', now())""",
                world.id,
            )
        case "DELETE /api/settings/cache":
            await world.carriers.change(
                """INSERT INTO kept_answer (organization_id, key, model_id, answer, created_at, expires_at)
                   VALUES (%s, 'x', 'sandbox', '{}', now(), now() + interval '1 hour')""",
                world.id,
            )
        case _:
            pass


async def test_who_joins_and_who_is_erased_is_told(house: House, people: Carriers, stack: AsyncExitStack) -> None:
    world = await make_world(house, people, stack)
    guest = await world.person((await make_world(house, people, stack)).id, "member", "guest", private=False)
    token = await world._token(world.emails["guest"])
    for path, body, status in (
        ("/api/invitations/accept", {"token": token}, 200),
        ("/api/privacy/erase", {"email": world.emails["guest"]}, 202),
    ):
        before = len(changes(house.database_url))
        reply = await house.call("POST", path, json=body, headers=dict(guest))
        assert reply.status == status, reply.raw
        found = changes(house.database_url)[before:]
        assert untold(found) == [] and any(one.told for one in found), path


async def test_that_a_second_factor_was_removed_is_told(house: House, people: Carriers, stack: AsyncExitStack) -> None:
    world = await make_world(house, people, stack)
    await world.carriers.change(
        """INSERT INTO totp (person_id, secret, created_at, confirmed_at)
           SELECT id, 'sealed', now(), now() FROM person WHERE email = %s""",
        world.emails["owner"],
    )
    ((person_id,),) = await house.rows("SELECT id FROM person WHERE email = %s", world.emails["owner"])
    before = len(changes(house.database_url))
    await house.order("POST", f"/people/{person_id}/remove-second-factor", {"reason": "lost on a journey"})
    found = changes(house.database_url)[before:]
    assert untold(found) == [] and {"totp", "session"} <= {one.table for one in found if one.told}


async def test_a_change_that_nobody_tells_of_is_found(house: House, people: Carriers) -> None:
    before = len(changes(house.database_url))
    async with people.db.operator() as tx:
        await tx.execute("UPDATE organization SET name = name || '.' WHERE kind = 'platform'")
    async with people.db.operator() as tx:
        await tx.execute("UPDATE organization SET name = name WHERE kind = 'platform'")
    (found,) = untold(changes(house.database_url)[before:])
    assert (found.table, found.verb, found.columns) == ("organization", "update", frozenset({"name"}))
