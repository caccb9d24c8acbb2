"""One authentication, whatever somebody comes with: each carrier in each state, at each kind of surface."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.carriers import SOON, Carriers, Headers, bearer, carriers, cookie, x_api_key
from tests.conftest import Cluster, SeededTemplate
from tests.house import CHAT, House, Tenant, ask, chunks, fresh_house
from tollhouse.core.key import end_user_id, make_key
from tollhouse.core.link import new_token
from tollhouse.gateway.call import CHECKPOINT_S

ALL = ("gateway", "credits", "manage")
RESERVATIONS = "/api/credits/reservations"
WANT: dict[str, object] = {"model": "sandbox", "input_tokens": 100, "max_output_tokens": 100}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    """The keys of issuers are published on this machine."""
    async with fresh_house(cluster, seeded_template, TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS="true") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(house: House) -> AsyncIterator[Carriers]:
    async with carriers(house.database_url) as made:
        yield made


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def everywhere(house: House, headers: Headers) -> tuple[int, ...]:
    """What those who come with this are answered: POST of /v1, GET of /v1, a read of /api, what the teller decides
    there, and what is for admins."""
    once = headers | {"idempotency-key": str(uuid4())}
    replies = [
        await house.call("POST", CHAT, json=ask("hello"), headers=headers),
        await house.call("GET", "/v1/models", headers=headers),
        await house.call("GET", "/api/credits/balance", headers=headers),
        await house.call("POST", RESERVATIONS, json=WANT, headers=once),
        await house.call("GET", "/api/settings", headers=headers),
    ]
    return tuple(reply.status for reply in replies)


DONE, UNKNOWN, REFUSED = (200, 200, 200, 201, 200), (401,) * 5, (403,) * 5
NOT_FOR_ADMINS = (200, 200, 200, 201, 403)
Make = Callable[[House, Carriers], Awaitable[Headers]]
MATRIX: dict[str, tuple[Make, tuple[int, ...]]] = {}


def state(name: str, statuses: tuple[int, ...]) -> Callable[[Make], Make]:
    """One row of the matrix: what those are answered who come with what this makes."""

    def kept(make: Make) -> Make:
        MATRIX[name] = make, statuses
        return make

    return kept


async def suspend(cast: Carriers, organization_id: UUID) -> None:
    await cast.change("UPDATE organization SET suspended_at = now() WHERE id = %s", organization_id)


# ----------------------------------------------------------------------------------------------------------------- keys

for carrier in (bearer, x_api_key):

    @state(f"{carrier.__name__}: valid", DONE)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        return carrier((await house.organization(scopes=ALL)).key)

    @state(f"{carrier.__name__}: unknown", UNKNOWN)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        return carrier(make_key("test", os.urandom(64)))

    @state(f"{carrier.__name__}: malformed", UNKNOWN)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        return carrier((await house.organization(scopes=ALL)).key[:-1])

    @state(f"{carrier.__name__}: expired", UNKNOWN)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        made = await house.organization(scopes=ALL)
        await cast.change("UPDATE api_key SET expires_at = now() WHERE organization_id = %s", made.id)
        return carrier(made.key)

    @state(f"{carrier.__name__}: revoked", UNKNOWN)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        made = await house.organization(scopes=ALL)
        await everywhere(house, carrier(made.key))  # it is known from memory now
        await cast.change("UPDATE api_key SET revoked_at = now() WHERE organization_id = %s", made.id)
        return carrier(made.key)

    @state(f"{carrier.__name__}: suspended organisation", REFUSED)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        made = await house.organization(scopes=ALL)
        await everywhere(house, carrier(made.key))
        await suspend(cast, made.id)
        return carrier(made.key)

    @state(f"{carrier.__name__}: too small a scope", REFUSED)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        return carrier((await house.organization(scopes=("act_as",))).key)

    @state(f"{carrier.__name__}: no scope of admins", NOT_FOR_ADMINS)
    async def _(house: House, cast: Carriers, carrier: Callable[[str], Headers] = carrier) -> Headers:
        return carrier((await house.organization(scopes=("gateway", "credits"))).key)


# --------------------------------------------------------------------------------------------------------------- tokens


@state("token: valid", NOT_FOR_ADMINS)
async def _(house: House, cast: Carriers) -> Headers:
    return bearer((await cast.issuer((await house.organization()).id)).token("ada"))


@state("token: valid, as x-api-key", NOT_FOR_ADMINS)
async def _(house: House, cast: Carriers) -> Headers:
    return x_api_key((await cast.issuer((await house.organization()).id)).token("ada"))


@state("token: of an issuer that nobody trusts", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    return bearer((await cast.issuer((await house.organization()).id)).token("ada", iss="https://else.example.com"))


@state("token: for another organisation's audience", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    issuer, other = await cast.issuer((await house.organization()).id), await house.organization()
    await cast.issuer(other.id)
    return bearer(issuer.token("ada", aud=f"tollhouse:{other.id}"))


@state("token: malformed", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    token = (await cast.issuer((await house.organization()).id)).token("ada")
    return bearer(token.rpartition(".")[0] + ".AAAA")


@state("token: expired", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    past = int((datetime.now(UTC) - timedelta(minutes=10)).timestamp())
    return bearer((await cast.issuer((await house.organization()).id)).token("ada", iat=past - 60, exp=past))


@state("token: of an issuer that was trusted", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    issuer = await cast.issuer((await house.organization()).id)
    headers = bearer(issuer.token("ada"))
    await everywhere(house, headers)
    await cast.change("UPDATE jwt_issuer SET enabled = false WHERE id = %s", issuer.id)
    await asyncio.sleep(SOON.total_seconds())
    return headers


@state("token: suspended organisation", REFUSED)
async def _(house: House, cast: Carriers) -> Headers:
    made = await house.organization()
    headers = bearer((await cast.issuer(made.id)).token("ada"))
    await suspend(cast, made.id)
    return headers


# ------------------------------------------------------------------------------------------------------------- sessions


async def signed_in(house: House, cast: Carriers, role: Any = "admin") -> tuple[Tenant, UUID, str]:
    """An organisation, somebody who belongs to it, and the cookie with which they are there."""
    made = await house.organization()
    person_id = await cast.member(made.id, role)
    return made, person_id, await cast.session(person_id, made.id)


@state("session: of an admin", DONE)
async def _(house: House, cast: Carriers) -> Headers:
    return cookie((await signed_in(house, cast))[2])


@state("session: of a member", NOT_FOR_ADMINS)
async def _(house: House, cast: Carriers) -> Headers:
    return cookie((await signed_in(house, cast, "member"))[2])


@state("session: unknown", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    return cookie(new_token(os.urandom(32)))


@state("session: malformed", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    return cookie("x' OR 1=1")


@state("session: expired", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    _, person_id, value = await signed_in(house, cast)
    await cast.change("UPDATE session SET expires_at = now() WHERE person_id = %s", person_id)
    return cookie(value)


@state("session: revoked", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    _, person_id, value = await signed_in(house, cast)
    assert await everywhere(house, cookie(value)) == DONE
    await cast.change("UPDATE session SET revoked_at = now() WHERE person_id = %s", person_id)
    return cookie(value)


@state("session: waits for its second factor", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    _, person_id, value = await signed_in(house, cast)
    await cast.change(
        "INSERT INTO totp (person_id, secret, created_at, confirmed_at) VALUES (%s, '', now(), now())", person_id
    )
    return cookie(value)


@state("session: suspended organisation", REFUSED)
async def _(house: House, cast: Carriers) -> Headers:
    made, _, value = await signed_in(house, cast)
    await suspend(cast, made.id)
    return cookie(value)


@state("session: suspended person", REFUSED)
async def _(house: House, cast: Carriers) -> Headers:
    _, person_id, value = await signed_in(house, cast)
    await cast.change("UPDATE person SET suspended_at = now() WHERE id = %s", person_id)
    return cookie(value)


@state("session: sent by another site", REFUSED)
async def _(house: House, cast: Carriers) -> Headers:
    return cookie((await signed_in(house, cast))[2], **{"sec-fetch-site": "cross-site"})


@state("nothing", UNKNOWN)
async def _(house: House, cast: Carriers) -> Headers:
    return {}


@pytest.mark.parametrize("name", MATRIX)
async def test_every_carrier_is_answered_the_same_at_every_surface(house: House, cast: Carriers, name: str) -> None:
    make, statuses = MATRIX[name]
    headers = await make(house, cast)
    before = await house.books()
    assert await everywhere(house, headers) == statuses
    if 200 not in statuses:
        assert await house.books() == before


# ------------------------------------------------------------------------------------------------ which carrier is it


async def test_of_two_keys_that_differ_none_is_believed(house: House) -> None:
    mine, other = await house.organization(scopes=ALL), await house.organization(scopes=ALL)
    assert await everywhere(house, bearer(mine.key) | x_api_key(other.key)) == (400,) * 5
    assert await everywhere(house, bearer(mine.key) | x_api_key(mine.key)) == DONE


async def test_a_key_is_believed_before_a_cookie(house: House, cast: Carriers) -> None:
    _, _, value = await signed_in(house, cast)
    mine = await house.organization(scopes=("gateway",))
    who = await house.call("GET", "/v1/key", headers=cookie(value) | bearer(mine.key))
    assert (who.body["object"], who.body["organization_id"]) == ("key", str(mine.id))
    assert await everywhere(house, cookie(value) | bearer("th_test_wrong")) == UNKNOWN


async def test_of_two_sessions_that_differ_none_is_believed(house: House, cast: Carriers) -> None:
    values = [(await signed_in(house, cast))[2] for _ in range(2)]
    headers = cookie(f"{values[0]}; tollhouse={values[1]}")
    assert await everywhere(house, headers) == (400,) * 5


# ------------------------------------------------------------------------------------------------------- who it is then


async def test_each_is_told_who_they_are(house: House, cast: Carriers) -> None:
    made, person_id, value = await signed_in(house, cast, "member")
    issuer = await cast.issuer(made.id)
    person = (await house.call("GET", "/v1/key", headers=cookie(value))).body
    end_user = (await house.call("GET", "/v1/key", headers=bearer(issuer.token("ada")))).body
    assert (person["object"], person["id"], person["role"]) == ("person", str(person_id), "member")
    assert (end_user["object"], end_user["user"]) == ("end_user", "ada")
    assert end_user["id"] == str(end_user_id(made.id, "ada"))
    assert end_user["issuer"] == {"id": str(issuer.id), "name": "Mill's app"}
    assert person["organization_id"] == end_user["organization_id"] == str(made.id)


async def subjects(house: House, tenant: Tenant) -> list[UUID]:
    found = await house.rows(
        "SELECT subject_id FROM request WHERE organization_id = %s AND channel = 'api' ORDER BY id", tenant.id
    )
    return [row[0] for row in found]


async def test_a_call_takes_the_limits_of_whoever_made_it(house: House, cast: Carriers) -> None:
    made, person_id, value = await signed_in(house, cast)
    token, ada = (await cast.issuer(made.id)).token("ada"), {"x-tollhouse-user": "ada"}
    for headers in (made.headers, made.headers | ada, bearer(token), bearer(token) | ada, cookie(value)):
        assert (await house.call("POST", CHAT, json=ask("hello"), headers=headers)).status == 200
    end_user = end_user_id(made.id, "ada")
    assert await subjects(house, made) == [made.id, end_user, end_user, end_user, person_id]
    named = await house.rows("SELECT id, external_id FROM end_user WHERE organization_id = %s", made.id)
    assert named == [(end_user, "ada")]


async def test_nobody_acts_for_others_without_the_right_to(house: House, cast: Carriers) -> None:
    made, _, value = await signed_in(house, cast)
    token = (await cast.issuer(made.id)).token("ada")
    key = (await house.key(made.id, ("gateway", "credits")))["key"]
    before = await house.books()
    for headers in (bearer(key), bearer(token), cookie(value)):
        for_bob = headers | {"x-tollhouse-user": "bob", "idempotency-key": str(uuid4())}
        assert (await house.call("POST", CHAT, json=ask("hello"), headers=for_bob)).status == 403
        assert (await house.call("POST", RESERVATIONS, json=WANT, headers=for_bob)).status == 403
        in_body = WANT | {"user": "bob"}
        once = headers | {"idempotency-key": str(uuid4())}
        assert (await house.call("POST", RESERVATIONS, json=in_body, headers=once)).status == 403
    assert await house.books() == before


async def test_people_and_end_users_share_no_idempotency_keys(house: House, cast: Carriers) -> None:
    made, _, value = await signed_in(house, cast)
    issuer = await cast.issuer(made.id)
    same = {"idempotency-key": "the same for all"}
    ids = []
    for headers in (bearer(issuer.token("ada")), bearer(issuer.token("bob")), cookie(value), made.headers):
        for _ in range(2):
            reply = await house.call("POST", RESERVATIONS, json=WANT, headers=headers | same)
            assert reply.status == 201, reply.raw
            ids.append(reply.body["id"])
        told = [await house.call("POST", CHAT, json=ask("hello"), headers=headers | same) for _ in range(2)]
        assert [one.headers.get("idempotent-replayed") for one in told] == [None, "true"]
    assert ids[::2] == ids[1::2] and len(set(ids)) == 4


async def test_people_and_end_users_reach_their_own_reservations_only(house: House, cast: Carriers) -> None:
    made, _, value = await signed_in(house, cast)
    issuer, other = await cast.issuer(made.id), await house.organization()
    holders = [bearer(issuer.token("ada")), bearer(issuer.token("bob")), cookie(value)]
    strangers = [cookie((await signed_in(house, cast))[2]), other.headers]
    for holder in holders:
        once = holder | {"idempotency-key": str(uuid4())}
        id_ = (await house.call("POST", RESERVATIONS, json=WANT, headers=once)).body["id"]
        for headers in [one for one in holders + strangers if one is not holder]:
            assert await reached(house, id_, headers) == (404, 404, 404, 404)
        assert await reached(house, id_, made.headers) == (200, 200, 200, 409)


async def test_end_users_pay_for_what_they_used_and_state_no_credits(house: House, cast: Carriers) -> None:
    made = await house.organization()
    ada = bearer((await cast.issuer(made.id)).token("ada"))
    before = await house.books()
    once = ada | {"idempotency-key": str(uuid4())}
    stated = await house.call("POST", RESERVATIONS, json={"credits": "1"}, headers=once)
    assert (stated.status, await house.books()) == (403, before)
    once = ada | {"idempotency-key": str(uuid4())}
    id_ = (await house.call("POST", RESERVATIONS, json=WANT, headers=once)).body["id"]
    settle = f"{RESERVATIONS}/{id_}/settle"
    assert (await house.call("POST", settle, json={"credits": "1"}, headers=ada)).status == 403
    used = {"usage": {"input_tokens": 100, "output_tokens": 10}}
    assert (await house.call("POST", settle, json=used, headers=ada)).status == 200


async def reached(house: House, id_: str, headers: Headers) -> tuple[int, ...]:
    at = f"{RESERVATIONS}/{id_}"
    replies = [
        await house.call("GET", at, headers=headers),
        await house.call("POST", f"{at}/renew", json={"ttl_seconds": 60}, headers=headers),
        await house.call("POST", f"{at}/settle", json={"credits": "0.5"}, headers=headers),
        await house.call("POST", f"{at}/release", json={"reason": "not used"}, headers=headers),
    ]
    return tuple(reply.status for reply in replies)


async def test_members_and_end_users_are_told_of_their_own_calls_only(house: House, cast: Carriers) -> None:
    made, person_id, value = await signed_in(house, cast, "member")
    admin = cookie(await cast.session(await cast.member(made.id, "admin"), made.id))
    issuer = await cast.issuer(made.id)
    ada, bob = bearer(issuer.token("ada")), bearer(issuer.token("bob"))
    for headers in (ada, bob, bob, cookie(value)):
        assert (await house.call("POST", CHAT, json=ask("hello"), headers=headers)).status == 200
    everybody = {"ada", "bob", str(person_id)}
    for headers, seen in ((ada, {"ada"}), (cookie(value), {str(person_id)}), (admin, everybody)):
        used = (await house.call("GET", "/v1/usage?group_by=user", headers=headers)).body
        assert {one["user"] for one in used["data"]} == seen
        booked = (await house.call("GET", "/api/credits/transactions", headers=headers)).body
        assert {one["user"] for one in booked["items"] if one["type"] == "ai_consumption"} == seen
        if headers is not admin:
            assert {one["user"] for one in booked["items"]} == seen


async def test_a_running_call_ends_when_whoever_made_it_has_no_right_to_it_any_more(
    house: House, cast: Carriers
) -> None:
    """Within the time between two looks at a running call, of which there are three here at once."""
    left, suspended, trusted = [await signed_in(house, cast) for _ in range(3)]
    issuer = await cast.issuer(trusted[0].id)
    began = asyncio.Barrier(4)
    running = asyncio.gather(
        ended(house, began, left[0], cookie(left[2])),
        ended(house, began, suspended[0], cookie(suspended[2])),
        ended(house, began, trusted[0], bearer(issuer.token("ada"))),
    )
    await began.wait()
    await cast.change("DELETE FROM member WHERE person_id = %s AND organization_id = %s", left[1], left[0].id)
    await cast.change("UPDATE person SET suspended_at = now() WHERE id = %s", suspended[1])
    await cast.change("UPDATE jwt_issuer SET enabled = false WHERE id = %s", issuer.id)
    of_left, of_suspended, of_trusted = await running
    assert "no member of this organisation" in of_left and of_left == of_suspended
    assert "issuer" in of_trusted


async def ended(house: House, began: asyncio.Barrier, tenant: Tenant, headers: Headers) -> str:
    """Of a call that would take a hundred seconds, what it is told at its end."""
    body = ask("sandbox:tokens=2000 sandbox:delay=50", stream=True)
    async with asyncio.timeout(CHECKPOINT_S + 15):
        async with house.session.post(house.server.url + CHAT, json=body, headers=headers) as response:
            first = await response.content.readline()
            await began.wait()
            told = chunks(first + await response.content.read())
        ((state, _),) = await house.quiet(tenant, 1)
    assert (response.status, state, told[-1]["error"]["code"]) == (200, "incomplete", "invalid_api_key")
    message: str = told[-1]["error"]["message"]
    return message


# -------------------------------------------------------------------------------------------------------------- cookies


JSON = {"content-type": "application/json"}
HERE = "http://127.0.0.1:8400"


@pytest.mark.parametrize(
    ("said", "writes", "reads"),
    [
        ({"sec-fetch-site": "same-origin"}, 201, 200),
        ({"sec-fetch-site": "same-origin", "origin": "http://else.example.com"}, 201, 200),
        ({"origin": HERE}, 201, 200),
        ({}, 403, 200),
        ({"sec-fetch-site": "none"}, 403, 200),
        ({"sec-fetch-site": "same-site"}, 403, 200),
        ({"sec-fetch-site": "cross-site"}, 403, 403),
        ({"sec-fetch-site": "cross-site", "origin": HERE}, 403, 403),
        ({"sec-fetch-site": "nonsense"}, 403, 403),
        ({"origin": "http://127.0.0.1:8400.example.com"}, 403, 403),
        ({"origin": "https://127.0.0.1:8400"}, 403, 403),
        ({"origin": "null"}, 403, 403),
    ],
)
async def test_with_a_cookie_only_our_own_pages_change_anything(
    house: House, cast: Carriers, said: Headers, writes: int, reads: int
) -> None:
    _, _, value = await signed_in(house, cast)
    headers = {"cookie": f"tollhouse={value}"} | said
    once = headers | JSON | {"idempotency-key": str(uuid4())}
    assert (await house.call("POST", RESERVATIONS, data=b'{"credits":"1"}', headers=once)).status == writes
    assert (await house.call("POST", CHAT, json=ask("hello"), headers=headers)).status == (200 if writes < 400 else 403)
    for path in ("/api/credits/balance", "/v1/models", "/v1/key", "/v1/usage"):
        reply = await house.call("GET", path, headers=headers)
        assert reply.status == reads, reply.raw
        assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_with_a_cookie_a_form_is_no_request(house: House, cast: Carriers, kind: str) -> None:
    _, _, value = await signed_in(house, cast)
    headers = cookie(value) | {"content-type": kind, "idempotency-key": str(uuid4())}
    for path, body in ((CHAT, b'{"model":"sandbox","messages":[]}'), (RESERVATIONS, b'{"credits":"1"}')):
        reply = await house.call("POST", path, data=body, headers=headers)
        assert reply.status == 415, reply.raw


async def test_no_other_site_is_let_in_by_cors(house: House, cast: Carriers) -> None:
    _, _, value = await signed_in(house, cast)
    asked = {"origin": "http://else.example.com", "access-control-request-method": "POST"}
    for path in (CHAT, RESERVATIONS, "/api/settings"):
        for headers in (asked, asked | {"cookie": f"tollhouse={value}"}):
            reply = await house.call("OPTIONS", path, headers=headers)
            assert reply.status in (401, 403, 405)
            assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


# ------------------------------------------------------------------------------------------------------------- anything


_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=200)
_PARTS = st.sampled_from(
    ["Bearer ", "bearer", "Basic ", "th_test_", "th_live_", "eyJhbGciOiJub25lIn0", "ey.e.x", ".", "..", "=", ";", ",",
     "tollhouse=", "__Host-tollhouse=", "'", "%00", '"', "\\", " ", "a" * 500]
)  # fmt: skip
_VALUES = st.lists(st.one_of(_PARTS, _TEXT), max_size=6).map("".join)
_NAMES = st.sampled_from(["authorization", "x-api-key", "cookie", "sec-fetch-site", "origin", "x-tollhouse-user"])


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=4), st.sampled_from([CHAT, "/v1/key", "/api/settings"]))
async def test_no_header_brings_the_server_down(house: House, headers: list[tuple[str, str]], path: str) -> None:
    reply = await said(house, "POST" if path == CHAT else "GET", path, headers)
    assert reply in (400, 401, 403, 429), headers


async def said(house: House, method: str, path: str, headers: list[tuple[str, str]]) -> int:
    """The status; the headers go over the socket byte for byte, which clients would not let through."""
    reader, writer = await asyncio.open_connection(house.server.host, house.server.port)
    try:
        lines = [f"{method} {path} HTTP/1.1", "host: test", "connection: close", "content-length: 0"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        async with asyncio.timeout(20):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()
