"""Organisations, members and invitations over HTTP: by people who are signed in, and by keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.conftest import Api, Reply
from tests.society import Society, society
from tollhouse.store.catalogue import PLATFORM_ID


@dataclass
class Town:
    """A running server, and the people who use it."""

    api: Api
    society: Society

    async def call(self, person: UUID, method: str, path: str, body: object = None, *, at: UUID | None = None) -> Reply:
        """By somebody in a browser, who has chosen the organisation `at`."""
        cookie = f"{self.society.site.cookie}={await self.society.cookie(person, at)}"
        return await self.api.call(method, path, body, Cookie=cookie, Sec_Fetch_Site="same-origin")


NOBODY = UUID("0190f3c4-0000-7000-8000-000000000000")  # nothing has this id


@pytest.fixture
async def town(client: Api) -> AsyncIterator[Town]:
    async with society(client.database_url) as made:
        yield Town(client, made)


def code(reply: Reply) -> tuple[int, str]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status, reply.body["code"]


async def made(town: Town, person: UUID, **body: Any) -> UUID:
    reply = await town.call(person, "POST", "/api/organizations", {"name": "Mill", **body})
    assert reply.status == 201, reply.text
    return UUID(reply.body["id"])


async def test_a_person_makes_an_organisation_sees_it_and_changes_it(town: Town) -> None:
    ada = await town.society.person()
    mill = await made(town, ada, name=" Mill ", business_type="retail")
    listed = (await town.call(ada, "GET", "/api/organizations")).body["items"]
    assert [(one["kind"], one["name"], one["role"], one["suspended_at"]) for one in listed] == [
        ("personal", "Personal", "owner", None), ("team", "Mill", "owner", None),
    ]  # fmt: skip
    changed = await town.call(ada, "PATCH", "/api/organization", {"name": "Bakery"}, at=mill)
    assert changed.status == 200, changed.text
    read = await town.call(ada, "GET", "/api/organization", at=mill)
    assert read.body == changed.body
    assert (read.body["name"], read.body["business_type"], read.body["role"]) == ("Bakery", "retail", "owner")


async def test_a_key_sees_its_own_organisation_and_no_other(town: Town) -> None:
    mill = await town.api.organization()
    await town.api.organization()
    key = await town.api.key(mill, "manage")
    one = await town.api.call("GET", "/api/organization", key=key)
    listed = await town.api.call("GET", "/api/organizations", key=key)
    assert one.body["id"] == mill and one.body["role"] is None
    assert [row["id"] for row in listed.body["items"]] == [mill]
    changed = await town.api.call("PATCH", "/api/organization", {"business_type": "legal"}, key=key)
    assert (changed.status, changed.body["business_type"]) == (200, "legal")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/organizations", {"name": "Mill"}),
        ("DELETE", "/api/organization", {"name": "Mill"}),
        ("POST", "/api/organization/transfer", {"person_id": str(NOBODY)}),
        ("POST", "/api/organization/leave", None),
        ("POST", "/api/invitations/accept", {"token": "x"}),
    ],
)
async def test_what_only_people_do_no_key_does(town: Town, method: str, path: str, body: object) -> None:
    key = await town.api.key(await town.api.organization(), "manage", "gateway", "credits", "act_as")
    for credential in (key, town.api.operator_key):
        assert code(await town.api.call(method, path, body, key=credential)) == (403, "forbidden")
    assert code(await town.api.call(method, path, body)) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/organizations", None),
        ("GET", "/api/organization", None),
        ("PATCH", "/api/organization", {"name": "Mine"}),
        ("GET", "/api/members", None),
        ("GET", f"/api/members/{NOBODY}", None),
        ("PATCH", f"/api/members/{NOBODY}", {"role": "admin"}),
        ("DELETE", f"/api/members/{NOBODY}", None),
        ("GET", "/api/invitations", None),
        ("POST", "/api/invitations", {"email": "bob@example.com"}),
        ("DELETE", f"/api/invitations/{NOBODY}", None),
    ],
)
async def test_a_key_for_use_manages_nothing(town: Town, method: str, path: str, body: object) -> None:
    key = await town.api.key(await town.api.organization(), "gateway", "credits", "act_as")
    reply = await town.api.call(method, path, body, key=key)
    assert code(reply) == (403, "forbidden")
    assert "manage" in reply.body["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/organization", {"name": "Mill", "plan": "enterprise"}),
        ("/api/organization", {"plan_id": "enterprise"}),
        ("/api/organization", {"suspended_at": None}),
        ("/api/organization", {"kind": "platform"}),
        ("/api/organization", {"id": str(PLATFORM_ID)}),
        ("/api/organization", {"clock_offset_micros": 1}),
        ("/api/organization", {"name": None}),
        ("/api/organization", {"name": ""}),
    ],
)
async def test_no_other_field_is_changed(town: Town, path: str, body: object) -> None:
    ada = await town.society.person()
    mill = await made(town, ada)
    before = await town.society.rows("SELECT * FROM organization WHERE id = %s", mill)
    assert (await town.call(ada, "PATCH", path, body, at=mill)).status == 400
    assert await town.society.rows("SELECT * FROM organization WHERE id = %s", mill) == before


async def test_members_are_listed_page_by_page_and_changed(town: Town) -> None:
    ada = await town.society.person()
    mill, people = await town.society.team(ada, bob="member", eve="admin")
    seen: list[str] = []
    cursor = ""
    while True:
        page = await town.call(ada, "GET", f"/api/members?limit=2{cursor}", at=mill)
        seen += [one["person_id"] for one in page.body["items"]]
        if page.body["next_cursor"] is None:
            break
        cursor = f"&cursor={page.body['next_cursor']}"
    assert sorted(seen) == sorted(map(str, (ada, *people.values())))
    bob = f"/api/members/{people['bob']}"
    raised = await town.call(ada, "PATCH", bob, {"role": "admin"}, at=mill)
    assert (raised.status, raised.body["role"]) == (200, "admin")
    assert (await town.call(people["eve"], "GET", bob, at=mill)).body == raised.body
    assert (await town.call(people["eve"], "DELETE", bob, at=mill)).status == 204
    assert code(await town.call(ada, "GET", bob, at=mill)) == (404, "not_found")


async def test_anothers_members_answer_like_those_that_never_were(town: Town) -> None:
    ada, eve = await town.society.person(), await town.society.person()
    mill, people = await town.society.team(ada, bob="member")
    bakery, _ = await town.society.team(eve)
    for method, body in (("GET", None), ("PATCH", {"role": "admin"}), ("DELETE", None)):
        seen = []
        for person in (people["bob"], uuid4()):
            reply = await town.call(eve, method, f"/api/members/{person}", body, at=bakery)
            reply.body.pop("request_id")
            seen.append((reply.status, reply.body))
        assert seen[0] == seen[1] and seen[0][0] == 404, method
    assert await town.society.roles(mill) == {ada: "owner", people["bob"]: "member"}


async def test_somebody_is_invited_accepts_and_leaves(town: Town) -> None:
    ada, bob = await town.society.person(), await town.society.person("bob@example.com")
    mill = await made(town, ada)
    sent = await town.call(ada, "POST", "/api/invitations", {"email": "Bob@example.com", "role": "admin"}, at=mill)
    assert sent.status == 201, sent.text
    token = await town.society.invited("bob@example.com")
    waiting = await town.call(ada, "GET", "/api/invitations", at=mill)
    assert waiting.body["items"] == [sent.body]
    assert token not in sent.text + waiting.text
    joined = await town.call(bob, "POST", "/api/invitations/accept", {"token": token})
    assert (joined.status, joined.body["id"], joined.body["role"]) == (200, str(mill), "admin")
    assert (await town.call(ada, "GET", "/api/invitations", at=mill)).body["items"] == []
    again = await town.call(bob, "POST", "/api/invitations/accept", {"token": token})
    assert code(again) == (409, "conflict")
    assert (await town.call(bob, "POST", "/api/organization/leave", at=mill)).status == 204
    assert [one["kind"] for one in (await town.call(bob, "GET", "/api/organizations")).body["items"]] == ["personal"]


async def test_an_invitation_is_withdrawn_by_a_key(town: Town) -> None:
    mill = await town.api.organization()
    key = await town.api.key(mill, "manage")
    sent = await town.api.call("POST", "/api/invitations", {"email": "bob@example.com"}, key=key)
    assert (sent.status, sent.body["role"]) == (201, "member")
    path = f"/api/invitations/{sent.body['id']}"
    other = await town.api.key(await town.api.organization(), "manage")
    assert code(await town.api.call("DELETE", path, key=other)) == (404, "not_found")
    assert (await town.api.call("DELETE", path, key=key)).status == 204
    assert (await town.api.call("GET", "/api/invitations", key=key)).body["items"] == []


async def test_nobody_is_invited_as_an_owner(town: Town) -> None:
    key = await town.api.key(await town.api.organization(), "manage")
    reply = await town.api.call("POST", "/api/invitations", {"email": "bob@example.com", "role": "owner"}, key=key)
    assert code(reply) == (400, "invalid_request")


async def test_an_organisation_is_handed_on_and_deleted(town: Town) -> None:
    ada = await town.society.person()
    mill, people = await town.society.team(ada, bob="member")
    bob = people["bob"]
    body = {"person_id": str(bob)}
    assert (await town.call(bob, "POST", "/api/organization/transfer", body, at=mill)).status == 403
    given = await town.call(ada, "POST", "/api/organization/transfer", body, at=mill)
    assert (given.status, given.body["role"]) == (200, "owner")
    assert (await town.call(ada, "DELETE", "/api/organization", {"name": "Mill"}, at=mill)).status == 403
    wrong = await town.call(bob, "DELETE", "/api/organization", {"name": "mill"}, at=mill)
    assert code(wrong) == (400, "invalid_request")
    assert (await town.call(bob, "DELETE", "/api/organization", {"name": "Mill"}, at=mill)).status == 204
    assert [one["kind"] for one in (await town.call(bob, "GET", "/api/organizations")).body["items"]] == ["personal"]


async def test_a_suspended_organisation_shows_so_and_does_nothing(town: Town) -> None:
    ada = await town.society.person()
    mill = await made(town, ada)
    key = await town.api.key(str(mill), "manage")
    suspended = await town.api.order("POST", f"/organizations/{mill}/suspend", {"reason": "unpaid"})
    assert suspended.status == 200 and suspended.body["suspended_at"] is not None
    listed = (await town.call(ada, "GET", "/api/organizations", at=mill)).body["items"]
    assert {one["id"]: one["suspended_at"] for one in listed}[str(mill)] is not None
    for reply in (
        await town.call(ada, "PATCH", "/api/organization", {"name": "Bakery"}, at=mill),
        await town.call(ada, "POST", "/api/organization/leave", at=mill),
        await town.api.call("PATCH", "/api/organization", {"name": "Bakery"}, key=key),
        await town.api.call("POST", "/api/invitations", {"email": "bob@example.com"}, key=key),
    ):
        assert code(reply) == (403, "forbidden")
    opened = await town.api.order("POST", f"/organizations/{mill}/unsuspend", {"reason": "paid"})
    assert opened.body["suspended_at"] is None
    assert (await town.api.call("PATCH", "/api/organization", {"name": "Bakery"}, key=key)).status == 200


async def test_operators_find_people_and_suspend_them(town: Town) -> None:
    ada = await town.society.person("ada@example.com")
    page = await town.api.order("GET", "/people?search=ADA%40")
    assert [one["id"] for one in page.body["items"]] == [str(ada)] and page.body["next_cursor"] is None
    read = await town.api.order("GET", f"/people/{ada}")
    assert [one["kind"] for one in read.body["organizations"]] == ["personal"]
    cookie = f"{town.society.site.cookie}={await town.society.cookie(ada)}"
    suspended = await town.api.order("POST", f"/people/{ada}/suspend", {"reason": "sends spam"})
    assert suspended.status == 200 and suspended.body["suspended_at"] is not None
    refused = await town.api.call("GET", "/api/organizations", Cookie=cookie, Sec_Fetch_Site="same-origin")
    assert refused.status == 403
    assert (await town.api.order("POST", f"/people/{ada}/unsuspend", {"reason": "appealed"})).status == 200
    assert code(await town.api.order("POST", f"/people/{ada}/suspend", {})) == (400, "invalid_request")
    assert code(await town.api.order("GET", f"/people/{uuid4()}")) == (404, "not_found")


async def test_operators_find_organisations(town: Town) -> None:
    made_ids = [await town.api.organization() for _ in range(3)]
    first = await town.api.order("GET", "/organizations?search=mill&limit=2")
    rest = await town.api.order("GET", f"/organizations?search=mill&limit=2&cursor={first.body['next_cursor']}")
    found = [one["id"] for one in first.body["items"] + rest.body["items"]]
    assert found == made_ids[::-1] and rest.body["next_cursor"] is None
    assert code(await town.api.order("GET", "/organizations?cursor=zzz")) == (400, "invalid_request")
    assert code(await town.api.order("GET", "/people?limit=1000")) == (400, "invalid_request")


async def test_nobody_but_an_operator_looks_at_people(town: Town) -> None:
    ada = await town.society.person()
    mill = await made(town, ada)
    for path in ("/api/operator/people", "/api/operator/organizations", f"/api/operator/people/{ada}"):
        assert code(await town.call(ada, "GET", path, at=mill)) == (403, "forbidden")
    body = {"reason": "because"}
    assert (await town.call(ada, "POST", f"/api/operator/organizations/{mill}/suspend", body, at=mill)).status == 403
