"""What is known of somebody, exported and erased: through a server that runs, with the job beside it.

Everybody here has canaries: words that stand nowhere but in what is theirs. After an erasure the whole database is
searched for them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.carriers import Carriers, carriers, cookie
from tests.conftest import Cluster, SeededTemplate
from tests.dump import tables_with
from tests.house import SCOPES, House, Reply, Tenant, ask, house
from tollhouse.core.access import Role
from tollhouse.core.privacy import QUIET, RESULT_KEPT
from tollhouse.flows import session
from tollhouse.jobs import Jobs
from tollhouse.store import member, profile
from tollhouse.store.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_TELLER: Any = None  # nothing is charged here
LATER = QUIET + timedelta(seconds=1)


@dataclass(slots=True)
class Clock:
    """Real time, put forward."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(frozen=True, slots=True)
class Somebody:
    """A person and what is theirs: `words` stand nowhere else."""

    id: UUID
    email: str
    name: str
    own: UUID
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Home:
    house: House
    made: Carriers
    db: Database

    def jobs(self, ahead: timedelta = timedelta()) -> Jobs:
        return Jobs(self.db, NO_TELLER, Clock(ahead))

    async def work(self) -> None:
        """The job, until everybody's last call is long over."""
        await self.jobs().do_privacy_tasks(0)
        await self.jobs(LATER).do_privacy_tasks(0)

    async def team(self) -> Tenant:
        """An organisation that stores what is said and keeps answers, with a key for everything but the platform."""
        made = await self.house.organization(scopes=(*SCOPES, "manage"))
        settings = {"store_content": True, "cache_ttl_seconds": 3600}
        assert (await self.house.call("PATCH", "/api/settings", json=settings, headers=made.headers)).status == 200
        return made

    async def somebody(self, organization_id: UUID | None = None, role: Role = "member") -> Somebody:
        """A person with all that a person may have, who may belong to an organisation."""
        mark = uuid4().hex[:12]
        id_, email, name = uuid4(), f"mail-{mark}@example.com", f"Name {mark}"
        async with self.db.operator() as tx:
            assert await profile.insert(tx, id_, email, name, datetime.now(UTC), datetime.now(UTC))
            if organization_id is not None:
                await member.insert(tx, organization_id, id_, role, datetime.now(UTC))
        await self.cookie(id_)  # the first sign-in makes the personal organisation
        ((own,),) = await self.house.rows(
            """SELECT o.id FROM organization o JOIN member m ON m.organization_id = o.id
               WHERE m.person_id = %s AND o.kind = 'personal'""",
            id_,
        )
        words = (
            email,
            name,
            *(f"{what}-{mark}" for what in ("agent", "subject", "linked", "letter", "pass", "orgname")),
            *(f"{what}-{mark}" for what in ("helper", "told", "knows", "passage", "ownmodel", "chat", "note", "about")),
        )
        await self._give(id_, email, own, mark)
        return Somebody(id_, email, name, own, words)

    async def _give(self, id_: UUID, email: str, own: UUID, mark: str) -> None:
        change, now = self.made.change, datetime.now(UTC)
        await change("UPDATE session SET user_agent = %s WHERE person_id = %s", f"agent-{mark}", id_)
        await change("INSERT INTO password VALUES (%s, %s, %s)", id_, f"pass-{mark}", now)
        await change("INSERT INTO totp (person_id, secret, created_at, confirmed_at) VALUES (%s, %s, %s, %s)",
                     id_, f"pass-{mark}".encode(), now, now)  # fmt: skip
        await change("DELETE FROM totp WHERE person_id = %s", id_)  # else every session waits for a code
        await change("INSERT INTO recovery_code VALUES (%s, %s)", id_, f"pass-{mark}".encode())
        await change(
            """INSERT INTO identity_provider (id, name, issuer, client_id, created_at)
               VALUES (%s, 'Elsewhere', %s, 'tollhouse', now()) ON CONFLICT DO NOTHING""",
            (provider := uuid4()), f"https://{uuid4().hex}.example.com",
        )  # fmt: skip
        await change("INSERT INTO linked_identity VALUES (%s, %s, %s, %s, now())",
                     id_, provider, f"subject-{mark}", f"linked-{mark}@example.com")  # fmt: skip
        await change(
            """INSERT INTO one_time_token (digest, purpose, person_id, email, created_at, expires_at)
               VALUES (%s, 'change_email', %s, %s, now(), now())""",
            uuid4().bytes, id_, f"letter-{mark}@example.com",
        )  # fmt: skip
        told = (email, "x"), (f"letter-{mark}@example.com", f"letter-{mark}"), ("boss@example.com", email)
        for recipient, subject in (*told, ("boss@example.com", f"Name {mark} has come")):
            await change(
                """INSERT INTO mail (id, recipient, kind, subject, body, created_at, due_at, sent_at)
                   VALUES (%s, %s, 'told', %s, %s, now(), now(), now())""",
                uuid4(), recipient, subject, f"a body about {subject}",
            )  # fmt: skip
        await change(
            """INSERT INTO invitation (organization_id, id, email, role, digest, invited_by, created_at, expires_at)
               VALUES (%s, %s, %s, 'member', %s, 'system', now(), now())""",
            (await self.house.organization("0")).id, uuid4(), email, uuid4().bytes,
        )  # fmt: skip
        await change("UPDATE organization SET name = %s, stores_content = true, cache_ttl_s = 3600 WHERE id = %s",
                     f"orgname-{mark}", own)  # fmt: skip
        await change("INSERT INTO end_user VALUES (%s, %s, %s, now())", own, uuid4(), f"agent-{mark}")
        await self._chat(id_, own, mark)

    async def _chat(self, id_: UUID, organization_id: UUID, mark: str) -> None:
        """A conversation, and all else that one has of one's own beside it."""
        change, chat, assistant, document = self.made.change, uuid4(), uuid4(), uuid4()
        await change(
            """INSERT INTO assistant (organization_id, id, person_id, slug, kind, name, system_message, created_at,
                   updated_at)
               VALUES (%s, %s, %s, %s, 'template', %s, %s, now(), now())""",
            organization_id, assistant, id_, f"slug-{mark}", f"helper-{mark}", f"told-{mark}",
        )  # fmt: skip
        await change("INSERT INTO document VALUES (%s, %s, %s, %s, '', now())",
                     organization_id, document, assistant, f"knows-{mark}")  # fmt: skip
        await change("INSERT INTO passage VALUES (%s, %s, 1, %s, '', %s)",
                     organization_id, document, assistant, f"passage-{mark}")  # fmt: skip
        await change(
            """INSERT INTO own_model (organization_id, id, person_id, name, protocol, base_url, provider_model_id,
                   key_ciphertext, context_window, max_output_tokens, created_at, updated_at)
               VALUES (%s, %s, %s, %s, 'openai', 'https://example.com', 'm', %s, 1, 1, now(), now())""",
            organization_id, uuid4(), id_, f"ownmodel-{mark}", f"pass-{mark}".encode(),
        )  # fmt: skip
        await change(
            """INSERT INTO conversation (organization_id, id, person_id, title, created_at, updated_at)
               VALUES (%s, %s, %s, %s, now(), now())""",
            organization_id, chat, id_, f"chat-{mark}",
        )  # fmt: skip
        await change(
            """INSERT INTO message (organization_id, conversation_id, id, person_id, author, state, content,
                   rating_note, created_at, written_at)
               VALUES (%s, %s, %s, %s, 'assistant', 'done', %s, %s, now(), now())""",
            organization_id, chat, uuid4(), id_, f"told-{mark}", f"note-{mark}",
        )  # fmt: skip
        await change("INSERT INTO preference VALUES (%s, %s, 'gpt-4o', %s, true, now())",
                     organization_id, id_, f"about-{mark}")  # fmt: skip
        await change("INSERT INTO persona_override VALUES (%s, %s, %s, 'gpt-4o')",
                     organization_id, id_, assistant)  # fmt: skip

    async def cookie(self, person_id: UUID, organization_id: UUID | None = None) -> dict[str, str]:
        if organization_id is None:
            site, order, browser = self.made.site, self.made.order, session.Browser("Tests/1.0")
            begun = await session.begin(self.db, site, order, person_id, "password", browser)
            return cookie(begun.cookie)
        return cookie(await self.made.session(person_id, organization_id))

    async def say(self, headers: dict[str, str], words: str, **more: str) -> Reply:
        """A call, its content stored and its answer kept."""
        sent = (
            headers | {"idempotency-key": uuid4().hex} | {name.replace("_", "-"): value for name, value in more.items()}
        )
        reply = await self.house.call("POST", "/v1/chat/completions", json=ask(f"Repeat {words}"), headers=sent)
        assert reply.status == 200, reply.raw
        id_ = UUID(reply.headers["x-request-id"])
        async with asyncio.timeout(5):
            while True:
                if await self.house.rows("SELECT FROM kept_answer WHERE request_id = %s", id_):
                    return reply
                await asyncio.sleep(0.02)

    async def note(self, tenant: Tenant, words: str, user: str) -> None:
        """What a host application notes about a call that it made itself."""
        body = {"credits": "1", "user": user, "metadata": {"noted": words}}
        reply = await self.reserve(tenant, body)
        assert reply.status == 201, reply.raw
        path = f"/api/credits/reservations/{reply.body['id']}/settle"
        settled = await self.house.call("POST", path, json={"credits": "1"}, headers=tenant.headers)
        assert settled.status == 200, settled.raw

    async def reserve(self, tenant: Tenant, body: Any) -> Reply:
        headers = tenant.headers | {"idempotency-key": uuid4().hex}
        return await self.house.call("POST", "/api/credits/reservations", json=body, headers=headers)

    async def post(self, path: str, headers: dict[str, str], body: Any = None) -> Reply:
        return await self.house.call("POST", path, json=body, headers=headers)

    async def ordered(self, path: str, headers: dict[str, str], body: Any = None) -> Any:
        reply = await self.post(path, headers, body)
        assert reply.status == 202, reply.raw
        return reply.body

    async def task(self, id_: str) -> tuple[str, str | None, int, int]:
        query = "SELECT state, error, steps_done, steps FROM privacy_task WHERE id = %s"
        ((state, error, done, steps),) = await self.house.rows(query, UUID(id_))
        return state, error, done, steps

    async def sums(self) -> list[tuple[Any, ...]]:
        """What was counted and charged, of everybody."""
        return await self.house.rows(
            """SELECT organization_id::text, subject_id::text, sum(charged_micros), sum(input_tokens), count(*)
               FROM usage_event GROUP BY 1, 2
               UNION ALL SELECT organization_id::text, type, sum(amount_micros), max(seq), count(*)
               FROM credit_transaction GROUP BY 1, 2
               UNION ALL SELECT organization_id::text, meter, sum(used), sum(reserved), count(*)
               FROM quota_window GROUP BY 1, 2
               UNION ALL SELECT organization_id::text, '', remaining_micros, debt_micros, seq FROM credit_balance
               ORDER BY 1, 2, 3, 4, 5"""
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Home]:
    """When all tests are over, the ledger must prove."""
    with cluster.database(seeded_template.name) as url:
        async with house(url, seeded_template) as made, carriers(url) as ways:
            yield Home(made, ways, ways.db)


async def unpack(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.raw
    with zipfile.ZipFile(io.BytesIO(reply.raw)) as archive:
        assert archive.testzip() is None
        return {name.removesuffix(".json"): json.loads(archive.read(name)) for name in archive.namelist()}


# ---------------------------------------------------------------------------------------------------------- an account


async def test_of_an_erased_account_nothing_is_left_but_its_id_and_what_it_was_charged(home: Home) -> None:
    team = await home.team()
    ada, eve = await home.somebody(team.id), await home.somebody(team.id, "owner")
    for who in (ada, eve):
        await home.say(await home.cookie(who.id, team.id), f"said-{who.words[0]}")
        await home.say(await home.cookie(who.id, who.own), f"own-{who.words[0]}")
    words = (*ada.words, f"said-{ada.words[0]}")
    assert set(tables_with(home.db.url, words)) == set(words), "the canaries sing before"
    before, browser = await home.sums(), await home.cookie(ada.id, team.id)
    key = await home.house.key(ada.own, ("gateway",))
    task = await home.ordered("/api/privacy/erase", browser, {"email": f" {ada.email.upper()} "})
    assert (task["state"], task["steps_done"], task["account"]) == ("waiting", 0, True)
    await home.work()
    assert await home.task(task["id"]) == ("done", None, 2, 2)
    assert tables_with(home.db.url, words) == {}
    assert await home.sums() == before
    await home.house.assert_ledger_holds()
    assert (await home.house.call("GET", "/v1/models", headers=browser)).status == 401
    assert (await home.house.call("GET", "/v1/models", headers={"x-api-key": key["key"]})).status == 401
    assert set(tables_with(home.db.url, eve.words)) == set(eve.words), "others lose nothing"
    assert (await home.house.call("GET", "/v1/models", headers=await home.cookie(eve.id, team.id))).status == 200
    trail = await home.house.rows(
        "SELECT organization_id, action FROM audit WHERE actor = %s ORDER BY at", f"person:{ada.id}"
    )
    assert set(trail) >= {
        (ada.own, "erasure.ordered"), (ada.own, "erasure.done"), (ada.own, "organization.deleted"),
        (team.id, "member.removed"),
    }  # fmt: skip


async def test_an_address_that_was_erased_may_sign_up_again_as_somebody_new(home: Home) -> None:
    ada = await home.somebody()
    await home.ordered("/api/privacy/erase", await home.cookie(ada.id), {"email": ada.email})
    await home.work()
    async with home.db.operator() as tx:
        assert await profile.find(tx, ada.email) is None
        assert await profile.insert(tx, uuid4(), ada.email, "", None, datetime.now(UTC))


async def test_an_account_is_erased_by_its_person_in_person_alone(home: Home) -> None:
    team = await home.team()
    ada, eve = await home.somebody(team.id), await home.somebody(team.id, "owner")
    mine = await home.cookie(ada.id, team.id)
    for email in (eve.email, "", "x" * 254):
        refused = await home.post("/api/privacy/erase", mine, {"email": email})
        assert (refused.status, refused.body["errors"][0]["field"]) == (400, "email")
    for headers in (team.headers, {}):
        assert (await home.post("/api/privacy/erase", headers, {"email": ada.email})).status in (401, 403)
        assert (await home.post("/api/privacy/export", headers)).status in (401, 403)
    elsewhere = mine | {"sec-fetch-site": "cross-site"}
    assert (await home.post("/api/privacy/erase", elsewhere, {"email": ada.email})).status == 403
    own_key = await home.house.key(ada.own, ("manage",))
    headers = {"x-api-key": own_key["key"]}
    for kind in ("export", "erasure"):
        reply = await home.post("/api/privacy/tasks", headers, {"kind": kind, "member": str(ada.id)})
        assert reply.status == 400, "a key of one's own organisation is not oneself"
    await home.made.change("UPDATE session SET proved_at = now() - interval '11 minutes' WHERE person_id = %s", ada.id)
    stale = await home.post("/api/privacy/erase", mine, {"email": ada.email})
    assert (stale.status, stale.body["code"]) == (403, "proof_required")
    assert await home.house.rows("SELECT FROM privacy_task WHERE subject_id = %s", ada.id) == []


async def test_who_acts_as_somebody_else_neither_exports_nor_erases_them(home: Home) -> None:
    ada, boss = await home.somebody(), await home.somebody()
    browser = await home.cookie(ada.id)
    await home.made.change(
        """UPDATE session SET method = 'impersonation', impersonator_id = %s, impersonation_reason = 'to look into it',
               impersonator_session_id = (SELECT id FROM session WHERE person_id = %s)
           WHERE person_id = %s""",
        boss.id, boss.id, ada.id,
    )  # fmt: skip
    assert (await home.post("/api/privacy/erase", browser, {"email": ada.email})).status in (401, 403)
    assert (await home.post("/api/privacy/export", browser)).status in (401, 403)
    assert await home.house.rows("SELECT FROM privacy_task WHERE subject_id = %s", ada.id) == []


async def test_the_last_owner_is_told_what_to_do_first(home: Home) -> None:
    team = await home.team()
    ada = await home.somebody(team.id, "owner")
    browser = await home.cookie(ada.id, team.id)
    refused = await home.post("/api/privacy/erase", browser, {"email": ada.email})
    assert refused.status == 409 and "'Mill'" in refused.body["detail"] and "owner" in refused.body["detail"]
    eve = await home.somebody(team.id, "owner")
    task = await home.ordered("/api/privacy/erase", browser, {"email": ada.email})
    await home.made.change("UPDATE person SET suspended_at = now() WHERE id = %s", eve.id)  # before the job comes
    await home.work()
    state, error, done, _ = await home.task(task["id"])
    assert (state, done) == ("failed", 0) and error is not None and "'Mill'" in error
    assert set(tables_with(home.db.url, ada.words)) == set(ada.words)


async def test_of_two_owners_who_leave_at_once_one_stays(home: Home) -> None:
    team = await home.team()
    owners = [await home.somebody(team.id, "owner") for _ in range(2)]
    for who in owners:
        await home.ordered("/api/privacy/erase", await home.cookie(who.id, team.id), {"email": who.email})
    await asyncio.gather(home.jobs().do_privacy_tasks(0), home.jobs().do_privacy_tasks(0))
    await home.work()
    left = await home.house.rows("SELECT person_id FROM member WHERE organization_id = %s", team.id)
    assert len(left) == 1
    assert left[0][0] in {who.id for who in owners}


async def test_the_last_superadmin_stays(home: Home) -> None:
    ada = await home.somebody()
    await home.made.change("UPDATE person SET superadmin = false WHERE id <> %s", ada.id)
    await home.made.change("UPDATE person SET superadmin = true WHERE id = %s", ada.id)
    refused = await home.post("/api/privacy/erase", await home.cookie(ada.id), {"email": ada.email})
    assert refused.status == 409 and "superadmin" in refused.body["detail"]
    await home.made.change("UPDATE person SET superadmin = false WHERE id = %s", ada.id)


# ---------------------------------------------------------------------------------------------- calls that are running


async def test_nobody_is_erased_under_a_call_that_runs(home: Home) -> None:
    team = await home.team()
    body = {"credits": "1", "user": "ada", "ttl_seconds": 600}
    running = await home.reserve(team, body)
    assert running.status == 201, running.raw
    order = {"kind": "erasure", "user": "ada"}
    refused = await home.post("/api/privacy/tasks", team.headers, order)
    assert refused.status == 409 and "running for them (1)" in refused.body["detail"]
    path = f"/api/credits/reservations/{running.body['id']}/release"
    assert (await home.post(path, team.headers, {"reason": "over"})).status == 200
    task = await home.ordered("/api/privacy/tasks", team.headers, order)
    again = await home.reserve(team, body)
    await home.work()
    state, error, _, _ = await home.task(task["id"])
    assert state == "failed" and error is not None and "running" in error, "one that began before the job"
    path = f"/api/credits/reservations/{again.body['id']}/release"
    assert (await home.post(path, team.headers, {"reason": "over"})).status == 200


async def test_content_that_is_stored_behind_the_settlement_is_erased_too(home: Home) -> None:
    """The names go at once, the words when the last call has been over for a minute."""
    team, mark = await home.team(), uuid4().hex
    reply = await home.say(team.headers, f"word-{mark}", X_Tollhouse_User=f"user-{mark}")
    task = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "erasure", "user": f"user-{mark}"})
    await home.jobs().do_privacy_tasks(0)
    assert await home.task(task["id"]) == ("running", None, 1, 2)
    assert set(tables_with(home.db.url, [f"word-{mark}", f"user-{mark}"])) == {f"word-{mark}"}
    body = json.dumps({"late": f"word-{mark}"})
    await home.made.change("UPDATE request_content SET answer = %s WHERE request_id = %s", body,
                           UUID(reply.headers["x-request-id"]))  # fmt: skip
    await home.jobs(LATER).do_privacy_tasks(0)
    assert (await home.task(task["id"]))[0] == "done"
    assert tables_with(home.db.url, [f"word-{mark}"]) == {}


async def test_who_is_never_quiet_is_told_so_after_a_day(home: Home) -> None:
    team = await home.team()
    await home.note(team, "x", "busy")
    task = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "erasure", "user": "busy"})
    await home.jobs().do_privacy_tasks(0)
    await home.reserve(team, {"credits": "1", "user": "busy"})
    await home.jobs(LATER).do_privacy_tasks(0)
    assert (await home.task(task["id"]))[0] == "running"
    await home.jobs(timedelta(hours=25)).do_privacy_tasks(0)
    state, error, _, _ = await home.task(task["id"])
    assert state == "failed" and error is not None and "whole day" in error


# --------------------------------------------------------------------------------- what an organisation has of its own


async def test_of_an_end_user_nothing_is_left_but_a_pseudonym_and_what_was_charged(home: Home) -> None:
    team, other = await home.team(), await home.team()
    mark = uuid4().hex
    words = [f"user-{mark}", f"word-{mark}", f"noted-{mark}"]
    for tenant in (team, other):
        await home.say(tenant.headers, f"word-{mark}-{tenant.id}", X_Tollhouse_User=f"user-{mark}")
        await home.note(tenant, f"noted-{mark}-{tenant.id}", f"user-{mark}")
    limit = {"scope": "person", "subject": f"user-{mark}", "meter": "messages", "period": "day", "maximum": 9}
    await home.house.order("POST", f"/organizations/{team.id}/limits", limit)
    before = await home.sums()
    task = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "erasure", "user": f"user-{mark}"})
    await home.work()
    assert (await home.task(task["id"]))[0] == "done"
    mine = [f"word-{mark}-{team.id}", f"noted-{mark}-{team.id}"]
    assert tables_with(home.db.url, mine) == {}
    assert await home.house.rows("SELECT external_id FROM end_user WHERE organization_id = %s", team.id) == [
        (f"erased-{task['subject_id']}",)
    ]
    assert await home.sums() == before
    assert set(tables_with(home.db.url, words)) == set(words), "another organisation's end user is somebody else"
    second = await home.ordered("/api/privacy/tasks", other.headers, {"kind": "erasure", "user": f"user-{mark}"})
    await home.work()
    assert (await home.task(second["id"]))[0] == "done"
    assert tables_with(home.db.url, words) == {}


async def test_an_end_user_who_comes_again_stays_behind_the_pseudonym(home: Home) -> None:
    team, mark = await home.team(), uuid4().hex
    await home.note(team, "x", f"user-{mark}")
    first = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "erasure", "user": f"user-{mark}"})
    await home.work()
    await home.note(team, "x", f"user-{mark}")
    query = "SELECT external_id FROM end_user WHERE organization_id = %s"
    assert await home.house.rows(query, team.id) == [(f"erased-{first['subject_id']}",)]
    for name in (f"user-{mark}", first["subject_id"]):
        again = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "erasure", "user": name})
        assert again["subject_id"] == first["subject_id"]
        await home.work()
        assert (await home.task(again["id"]))[0] == "done"


async def test_an_organisation_erases_what_it_has_of_a_member_and_not_the_account(home: Home) -> None:
    team, other = await home.team(), await home.team()
    ada, boss = await home.somebody(team.id), await home.somebody(team.id, "admin")
    async with home.db.operator() as tx:
        await member.insert(tx, other.id, ada.id, "member", datetime.now(UTC))
    mark = uuid4().hex
    await home._chat(ada.id, team.id, f"inside-{mark}")
    await home.say(await home.cookie(ada.id, team.id), f"inside-{mark}")
    await home.say(await home.cookie(ada.id, other.id), f"outside-{mark}")
    browser, before = await home.cookie(boss.id, team.id), await home.sums()
    task = await home.ordered("/api/privacy/tasks", browser, {"kind": "erasure", "member": str(ada.id)})
    await home.work()
    assert (await home.task(task["id"]))[0] == "done"
    assert tables_with(home.db.url, [f"inside-{mark}"]) == {}
    assert tables_with(home.db.url, [f"outside-{mark}"])
    assert set(tables_with(home.db.url, ada.words)) == set(ada.words)
    left = await home.house.rows("SELECT organization_id FROM member WHERE person_id = %s", ada.id)
    assert {row[0] for row in left} == {other.id, ada.own}
    assert await home.sums() == before
    again = await home.ordered("/api/privacy/tasks", browser, {"kind": "erasure", "member": str(ada.id)})
    assert again["id"] != task["id"], "also when somebody has left"


async def test_nobody_reaches_over_to_another_organisation(home: Home) -> None:
    team, other = await home.team(), await home.team()
    ada, boss = await home.somebody(team.id), await home.somebody(other.id, "owner")
    mark = uuid4().hex
    await home.note(team, "x", f"user-{mark}")
    task = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "export", "user": f"user-{mark}"})
    await home.work()
    his = await home.cookie(boss.id, other.id)
    for headers in (other.headers, his):
        for body in ({"member": str(ada.id)}, {"user": f"user-{mark}"}, {"user": task["subject_id"]},
                     {"member": str(uuid4())}, {"member": task["subject_id"]}):  # fmt: skip
            for kind in ("export", "erasure"):
                assert (await home.post("/api/privacy/tasks", headers, {"kind": kind, **body})).status == 404
        for path in (f"/api/privacy/tasks/{task['id']}", f"/api/privacy/tasks/{task['id']}/file"):
            assert (await home.house.call("GET", path, headers=headers)).status == 404
        listed = await home.house.call("GET", "/api/privacy/tasks", headers=headers)
        assert listed.body["items"] == []
    weak = {"x-api-key": (await home.house.key(team.id, ("gateway", "credits")))["key"]}
    for headers in (weak, await home.cookie(ada.id, team.id)):
        assert (await home.post("/api/privacy/tasks", headers, {"kind": "export", "user": "x"})).status == 403
        assert (await home.house.call("GET", "/api/privacy/tasks", headers=headers)).status == 403


@pytest.mark.parametrize(
    "body",
    [{"kind": "export"}, {"kind": "export", "member": str(UUID(int=7)), "user": "x"}, {"kind": "all", "user": "x"},
     {"kind": "export", "member": "x"}, {"kind": "export", "user": ""},
     {"kind": "export", "user": "x", "state": "done"}],
    ids=str,
)  # fmt: skip
async def test_what_cannot_be_ordered_is_refused(home: Home, body: dict[str, Any]) -> None:
    assert (await home.post("/api/privacy/tasks", (await home.team()).headers, body)).status == 400


async def test_an_owner_is_not_erased_by_the_organisation(home: Home) -> None:
    team = await home.team()
    ada = await home.somebody(team.id, "owner")
    await home.somebody(team.id, "owner")
    refused = await home.post("/api/privacy/tasks", team.headers, {"kind": "erasure", "member": str(ada.id)})
    assert refused.status == 409 and "another role" in refused.body["detail"]


# ------------------------------------------------------------------------------------------------------------- exports


async def test_an_export_holds_all_that_is_known_and_nothing_that_opens_anything(home: Home) -> None:
    team = await home.team()
    ada, eve = await home.somebody(team.id), await home.somebody(team.id, "owner")
    mark = uuid4().hex
    for who in (ada, eve):
        await home.say(await home.cookie(who.id, team.id), f"said-{mark}-{who.id}")
        await home.say(await home.cookie(who.id, who.own), f"own-{mark}-{who.id}")
    browser = await home.cookie(ada.id, team.id)
    task = await home.ordered("/api/privacy/export", browser)
    assert (await home.ordered("/api/privacy/export", browser))["id"] == task["id"], "once at a time"
    await home.jobs().do_privacy_tasks(0)
    (listed,) = (await home.house.call("GET", "/api/privacy/own", headers=browser)).body["items"]
    assert (listed["id"], listed["state"], listed["steps_done"]) == (task["id"], "done", listed["steps"])
    files = await unpack(await home.house.call("GET", f"/api/privacy/own/{task['id']}/file", headers=browser))
    index = files.pop("index")
    assert {one["name"].removesuffix(".json"): one["rows"] for one in index["files"]} == {
        name: len(rows) for name, rows in files.items()
    }
    assert all(one["holds"] for one in index["files"]) and index["subject_id"] == str(ada.id)
    whole = json.dumps(files)
    assert files["profile"][0]["email"] == ada.email
    assert {row["organization_id"] for row in files["memberships"]} == {str(team.id), str(ada.own)}
    assert {row["prompt"]["messages"][0]["content"] for row in files["content"]} == {
        f"Repeat said-{mark}-{ada.id}", f"Repeat own-{mark}-{ada.id}"
    }  # fmt: skip
    for name in ("usage", "requests", "reservations", "content"):
        assert len(files[name]) == 2, name
    for name in ("sessions", "linked_identities", "mail", "invitations", "own_end_users", "audit", "ledger"):
        assert files[name], name
    for word in ada.words:
        assert (word in whole) is (not word.startswith("pass-")), word
    assert not any(word in whole for word in (*eve.words, str(eve.id), f"said-{mark}-{eve.id}"))
    for query in ("SELECT digest FROM session", "SELECT digest FROM one_time_token", "SELECT digest FROM api_key"):
        assert not any(row[0].hex() in whole for row in await home.house.rows(query))
    trail = await home.house.rows("SELECT action FROM audit WHERE object_id = %s AND action ~ '^export' ORDER BY seq",
                                  str(ada.id))  # fmt: skip
    assert [row[0] for row in trail] == ["export.ordered", "export.made", "export.downloaded"]


async def test_a_file_is_its_persons_alone_and_only_while_signed_in(home: Home) -> None:
    team = await home.team()
    ada, eve = await home.somebody(team.id), await home.somebody(team.id, "owner")
    task = await home.ordered("/api/privacy/export", await home.cookie(ada.id, team.id))
    await home.jobs().do_privacy_tasks(0)
    key = {"x-api-key": (await home.house.key(ada.own, ("manage",)))["key"]}
    path = f"/api/privacy/own/{task['id']}/file"
    assert (await home.house.call("GET", path)).status == 401
    assert (await home.house.call("GET", path, headers=key)).status == 403
    assert (await home.house.call("GET", path, headers=await home.cookie(eve.id, team.id))).status == 404
    for headers in (key, await home.cookie(ada.id, ada.own), await home.cookie(eve.id, team.id)):
        for there in (f"/api/privacy/tasks/{task['id']}/file", f"/api/privacy/tasks/{task['id']}"):
            assert (await home.house.call("GET", there, headers=headers)).status == 404
        listed = await home.house.call("GET", "/api/privacy/tasks", headers=headers)
        assert task["id"] not in json.dumps(listed.body)
    mine = await home.house.call("GET", path, headers=await home.cookie(ada.id, ada.own))
    assert (mine.status, mine.headers["cache-control"]) == (200, "no-store")


async def test_a_file_is_kept_for_seven_days(home: Home) -> None:
    team = await home.team()
    await home.note(team, "x", "week")
    task = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "export", "user": "week"})
    path = f"/api/privacy/tasks/{task['id']}/file"
    assert (await home.house.call("GET", path, headers=team.headers)).status == 404, "not made yet"
    await home.jobs().do_privacy_tasks(0)
    assert (await unpack(await home.house.call("GET", path, headers=team.headers)))["profile"][0][
        "external_id"
    ] == "week"
    stored = "SELECT result IS NOT NULL FROM privacy_task WHERE id = %s"
    await home.jobs(RESULT_KEPT - timedelta(minutes=1)).tidy(0)
    assert await home.house.rows(stored, UUID(task["id"])) == [(True,)]
    await home.jobs(RESULT_KEPT + timedelta(minutes=1)).tidy(0)
    assert await home.house.rows(stored, UUID(task["id"])) == [(False,)]
    assert (await home.house.call("GET", path, headers=team.headers)).status == 404
    assert (await home.task(task["id"]))[0] == "done"


async def test_an_organisations_export_of_a_member_ends_at_its_own_door(home: Home) -> None:
    team, other = await home.team(), await home.team()
    ada = await home.somebody(team.id)
    async with home.db.operator() as tx:
        await member.insert(tx, other.id, ada.id, "member", datetime.now(UTC))
    mark = uuid4().hex
    await home._chat(ada.id, team.id, mark)
    await home.say(await home.cookie(ada.id, team.id), f"inside-{mark}")
    await home.say(await home.cookie(ada.id, other.id), f"outside-{mark}")
    task = await home.ordered("/api/privacy/tasks", team.headers, {"kind": "export", "member": str(ada.id)})
    await home.jobs().do_privacy_tasks(0)
    path = f"/api/privacy/tasks/{task['id']}/file"
    files = await unpack(await home.house.call("GET", path, headers=team.headers))
    whole = json.dumps(files)
    assert f"inside-{mark}" in whole and f"outside-{mark}" not in whole
    assert str(other.id) not in whole and str(ada.own) not in whole
    assert {"profile", "sessions", "linked_identities", "mail", "invitations"}.isdisjoint(files)
    assert files["preferences"][0]["default_model_id"] == "gpt-4o"
    for word in ("chat", "told", "note", "about", "passage"):
        assert f"{word}-{mark}" not in whole, "chats are nobody else's, an organisation's neither"


async def test_what_was_erased_is_in_no_file_that_was_made_before(home: Home) -> None:
    ada = await home.somebody()
    browser = await home.cookie(ada.id)
    first = await home.ordered("/api/privacy/export", browser)
    await home.jobs().do_privacy_tasks(0)
    await home.ordered("/api/privacy/erase", browser, {"email": ada.email})
    waiting = await home.ordered("/api/privacy/export", browser)
    await home.made.change("UPDATE privacy_task SET requested_at = requested_at + interval '1 minute' WHERE id = %s",
                           UUID(waiting["id"]))  # fmt: skip
    await home.work()
    assert await home.house.rows("SELECT count(*) FROM privacy_task WHERE result IS NOT NULL AND subject_id = %s",
                                 ada.id) == [(0,)]  # fmt: skip
    assert [(await home.task(one["id"]))[0] for one in (first, waiting)] == ["done", "failed"]


# ----------------------------------------------------------------------------------------------------------- operators


async def test_an_operator_exports_and_erases_accounts_and_what_organisations_have(home: Home) -> None:
    team = await home.team()
    ada = await home.somebody(team.id)
    await home.note(team, "x", "op-user")
    operator = {"authorization": f"Bearer {home.house.operator_key}"}
    export = await home.ordered("/api/operator/privacy/tasks", operator, {"kind": "export", "person": str(ada.id)})
    await home.jobs().do_privacy_tasks(0)
    path = f"/api/operator/privacy/organizations/{export['organization_id']}/tasks/{export['id']}/file"
    files = await unpack(await home.house.call("GET", path, headers=operator))
    assert files["profile"][0]["email"] == ada.email
    assert (await home.house.call("GET", path, headers=team.headers)).status == 403
    of_user = {"kind": "erasure", "organization_id": str(team.id), "user": "op-user"}
    tasks = [
        await home.ordered("/api/operator/privacy/tasks", operator, body)
        for body in ({"kind": "erasure", "person": str(ada.id)}, of_user)
    ]
    await home.work()
    for task in tasks:
        assert (await home.task(task["id"]))[0] == "done"
    assert tables_with(home.db.url, ada.words) == {}
    listed = await home.house.call("GET", f"/api/operator/privacy/tasks?organization_id={team.id}", headers=operator)
    assert [one["id"] for one in listed.body["items"]] == [tasks[1]["id"]]
    gone = await home.post("/api/operator/privacy/tasks", operator, {"kind": "export", "person": str(ada.id)})
    assert gone.status == 404
    for body in ({"kind": "export"}, {"kind": "export", "user": "x"}):
        assert (await home.post("/api/operator/privacy/tasks", operator, body)).status == 400


# ------------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("kind", ["export", "erasure"])
async def test_cut_anywhere_and_done_twice_at_once_the_result_is_the_same(home: Home, kind: str) -> None:
    team, mark = await home.team(), uuid4().hex
    await home.say(team.headers, f"word-{mark}", X_Tollhouse_User=f"user-{mark}")
    task = await home.ordered("/api/privacy/tasks", team.headers, {"kind": kind, "user": f"user-{mark}"})
    for steps in (1, 2, 3, 5, 8, 13, 21, 34, 55):
        job = asyncio.ensure_future(home.jobs(LATER).do_privacy_tasks(0))
        for _ in range(steps):
            await asyncio.sleep(0.002)
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job
    await asyncio.gather(*(home.jobs(LATER).do_privacy_tasks(0) for _ in range(2)))
    await home.jobs(LATER).do_privacy_tasks(0)
    assert (await home.task(task["id"]))[0] == "done"
    done = "export.made" if kind == "export" else "erasure.done"
    trail = await home.house.rows("SELECT FROM audit WHERE organization_id = %s AND action = %s", team.id, done)
    assert len(trail) == 1
    if kind == "erasure":
        assert tables_with(home.db.url, [f"word-{mark}", f"user-{mark}"]) == {}
    else:
        path = f"/api/privacy/tasks/{task['id']}/file"
        files = await unpack(await home.house.call("GET", path, headers=team.headers))
        assert len(files["content"]) == 1


# -------------------------------------------------------------------------------------------------------- completeness

# Where something stands that says who somebody is, or whose it is: each is exported, and erased or kept on purpose.
KNOWN = {
    "api_key": {"created_by", "name"}, "assistant": {"person_id", "name"}, "assistant_use": {"subject_id"},
    "conversation": {"person_id", "title"}, "document": {"title"}, "message": {"person_id", "content"},
    "notice_read": {"person_id"}, "own_model": {"person_id", "name"}, "passage": {"content"},
    "persona_override": {"subject_id"}, "preference": {"subject_id"},
    "audit": {"actor", "address"}, "connection": {"name"},
    "entitlement": {"subject_id"}, "identity_provider": {"name"}, "invitation": {"email", "invited_by"},
    "jwt_issuer": {"name"}, "linked_identity": {"person_id", "email", "subject"}, "mail": {"recipient", "subject"},
    "member": {"person_id"}, "one_time_token": {"person_id", "email"}, "organization": {"name"},
    "password": {"person_id"}, "person": {"email", "name"}, "privacy_task": {"subject_id", "requested_by"},
    "quota_window": {"subject_id"}, "recovery_code": {"person_id"}, "request": {"subject_id"},
    "request_rate": {"subject_id"}, "reservation": {"subject_id", "metadata"}, "end_user": {"external_id"},
    "session": {"person_id", "address", "user_agent", "impersonator_id"}, "totp": {"person_id"},
    "usage_day": {"subject_id"}, "usage_event": {"subject_id"}, "usage_limit": {"subject_id"},
    "credit_transaction": {"actor"}, "kept_answer": {"answer"}, "request_content": {"answer", "prompt"},
}  # fmt: skip
# Of the catalogue, not of people.
NOT_OF_PEOPLE = {"capability", "experiment", "model", "plan", "provider", "quality_level", "topup_package"}


async def test_every_column_that_may_be_about_somebody_is_known_here(home: Home) -> None:
    """A new one is to be exported (store/export.py) and erased (store/erasure.py), and then named above."""
    found = await home.house.rows(
        """SELECT table_name, column_name FROM information_schema.columns
           WHERE table_schema = 'public' AND table_name !~ '^usage_event_' AND column_name ~
               '^(person_id|subject_id|subject|email|recipient|name|actor|address|user_agent|external_id|external_user'
               '|.*_by|impersonator_id|prompt|answer|metadata|phone|content|title|body_text)$'"""
    )
    columns: dict[str, set[str]] = {}
    for table, column in found:
        if table not in NOT_OF_PEOPLE and (table, column) != ("api_key", "replaced_by"):
            columns.setdefault(table, set()).add(column)
    assert columns == KNOWN
