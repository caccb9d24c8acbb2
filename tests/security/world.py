"""Organisation A with an object of every kind, whose texts all are canaries, and whoever may come near it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.carriers import Carriers, bearer, cookie
from tests.fake_idp import FakeIdp
from tests.house import House
from tests.security.callers import ALL_SCOPES, CALLERS, Caller
from tests.security.examples import ARMS
from tollhouse.core.access import Role
from tollhouse.core.key import ordered_id
from tollhouse.flows import session

CANARY = re.compile(r"canary_([a-z]+(?:_[a-z]+)*)_[0-9a-f]{8}")
_HOUR = timedelta(hours=1)


def canary(kind: str) -> str:
    """A text that is found wherever it comes out."""
    return f"canary_{kind}_{uuid4().hex[:8]}"


def canaries_in(text: str) -> set[str]:
    """The kinds of those in a text."""
    return set(CANARY.findall(text))


@dataclass
class World:
    house: House
    carriers: Carriers
    stack: AsyncExitStack
    id: UUID
    name: str
    owner: Mapping[str, str] = field(default_factory=dict)  # headers of its owner
    key: Mapping[str, str] = field(default_factory=dict)  # headers of a key of it that may do whatever a key may
    other: UUID | None = None  # organisation B
    callers: dict[str, Caller] = field(default_factory=dict)
    emails: dict[str, str] = field(default_factory=dict)
    homes: dict[str, UUID] = field(default_factory=dict)  # the organisation that each has chosen
    objects: dict[str, str] = field(default_factory=dict)
    fakes: list[FakeIdp] = field(default_factory=list)
    _slots: int = 0

    # ----------------------------------------------------------------------------------------------------- who may come

    async def caller(self, name: str) -> Caller:
        if name not in self.callers:
            self.callers[name] = CALLERS[name].with_headers(await self._headers(name))
        return self.callers[name]

    async def _headers(self, name: str) -> dict[str, str]:
        match name.split():
            case ["nobody"]:
                return {}
            case ["garbage"]:
                return bearer("th_test_" + "x" * 36)
            case ["owner" | "admin" | "member" as role]:
                return dict(self.owner) if role == "owner" else await self.person(self.id, role, name)
            case ["key", "that", "is", state]:
                return await self._dead_key(state)
            case ["key", "with", scope]:
                return bearer((await self.house.key(self.id, [scope]))["key"])
            case ["end", "user", "of", "A"]:
                return bearer((await self.carriers.issuer(self.id)).token("nobody-in-particular"))
            case ["superadmin"]:
                return await self._superadmin()
            case ["operator"]:
                return bearer(self.house.operator_key)
            case _:
                return await self._others(name)

    async def _others(self, name: str) -> dict[str, str]:
        if name.startswith("suspended"):
            headers = await self.person(self.id, "admin", name)
            await self.carriers.change("UPDATE person SET suspended_at = now() WHERE email = %s", self.emails[name])
            return headers
        if name.startswith("half"):
            headers = await self.person(self.id, "admin", name)
            await self.carriers.change(
                """INSERT INTO totp (person_id, secret, created_at, confirmed_at)
                   SELECT id, 'x', now(), now() FROM person WHERE email = %s""",
                self.emails[name],
            )
            return headers
        if name.startswith("former"):
            headers = await self.person(self.id, "admin", name)
            await self.carriers.change(
                "DELETE FROM member WHERE person_id = (SELECT id FROM person WHERE email = %s) "
                "AND organization_id = %s",
                self.emails[name], self.id,
            )  # fmt: skip
            return headers
        if "shut" in name:
            shut = UUID(await self._organization("a shut one"))
            who = await self.person(shut, "owner", name) if "owner" in name else await self._whole_key(shut)
            await self.carriers.change("UPDATE organization SET suspended_at = now() WHERE id = %s", shut)
            return who
        return await self._of_b(name)

    async def _of_b(self, name: str) -> dict[str, str]:
        if self.other is None:
            self.other = UUID(await self._organization("organisation B"))
        if name.startswith("owner"):
            headers = await self.person(self.other, "owner", name, private=False)
        elif name.startswith("key"):
            headers = await self._whole_key(self.other)
        else:
            headers = bearer((await self.carriers.issuer(self.other)).token("theirs"))
        if "naming A's user" in name:
            headers["x-tollhouse-user"] = await self.object("shared_user")
        if "naming A" in name:
            headers.setdefault("x-tollhouse-user", str(self.id))
        return headers

    async def person(self, organization_id: UUID, role: Role, name: str, *, private: bool = True) -> dict[str, str]:
        """Somebody of the organisation, as a browser that is signed in; `private` with a name and an address that are
        canaries."""
        made = await self.carriers.member(organization_id, role)
        kind = name.split()[0] if organization_id == self.id and private else "stranger"
        self.emails[name] = f"{canary(kind) if private else uuid4().hex}@example.com"
        await self.carriers.change(
            "UPDATE person SET email = %s, name = %s, email_verified_at = now() WHERE id = %s",
            self.emails[name], canary(kind) if private else "Bo", made,
        )  # fmt: skip
        if not name.startswith("former"):
            self.homes[name] = organization_id
        return cookie(await self.carriers.session(made, organization_id))

    async def _superadmin(self) -> dict[str, str]:
        made = await self.carriers.person()
        await self.carriers.change("UPDATE person SET superadmin = true WHERE id = %s", made)
        self.emails["superadmin"] = (await self.rows("SELECT email FROM person WHERE id = %s", made))[0][0]
        return cookie(await self.carriers.session(made))

    async def _whole_key(self, organization_id: UUID) -> dict[str, str]:
        return bearer((await self.house.key(organization_id, ALL_SCOPES))["key"])

    async def _dead_key(self, state: str) -> dict[str, str]:
        made = await self.house.key(self.id, ALL_SCOPES)
        column = "revoked_at" if state == "revoked" else "expires_at"
        statement = f"UPDATE api_key SET {column} = now() - interval '1 minute' WHERE id = '{made['id']}'"
        await self.carriers.change(statement)
        return bearer(made["key"])

    async def _organization(self, name: str) -> str:
        made = await self.house.order("POST", "/organizations", {"name": name, "plan": "pro"})
        grant = {"source": "topup", "credits": "100000", "note": canary("grant") if name != "organisation B" else "x"}
        await self.house.order(
            "POST", f"/organizations/{made['id']}/grants", grant, **{"idempotency-key": str(uuid4())}
        )
        return str(made["id"])

    async def keep_cookie(self, name: str, set_cookies: list[str]) -> None:
        """What a browser does with an answer's cookie; whoever was signed out signs in again."""
        values = [one.removeprefix("tollhouse=") for one in set_cookies if one.startswith("tollhouse=")]
        if not values or name not in self.emails:
            return
        value = values[-1].partition(";")[0].strip('"') or await self._signed_in_again(name)
        if self.homes.get(name) is not None:
            await self.carriers.change(
                "UPDATE session SET organization_id = %s WHERE person_id = (SELECT id FROM person WHERE email = %s)",
                self.homes[name], self.emails[name],
            )  # fmt: skip
        self.callers[name] = self.callers[name].with_headers(dict(self.callers[name].headers) | cookie(value))
        if name == "owner":
            self.owner = self.callers[name].headers

    async def _signed_in_again(self, name: str) -> str:
        ((person_id, suspended_at),) = await self.rows(
            "SELECT id, suspended_at FROM person WHERE email = %s", self.emails[name]
        )
        await self.carriers.change("UPDATE person SET suspended_at = NULL WHERE id = %s", person_id)
        browser = session.Browser("Tests/1.0")
        begun = await session.begin(
            self.carriers.db, self.carriers.site, self.carriers.order, person_id, "password", browser
        )
        await self.carriers.change("UPDATE person SET suspended_at = %s WHERE id = %s", suspended_at, person_id)
        return begun.cookie

    # --------------------------------------------------------------------------------------------------- what it holds

    async def object(self, kind: str, *, fresh: bool = False) -> str:
        """The id of an object of organisation A; `fresh`: of one that nothing was done to yet."""
        if kind in ("organization", "name"):
            return str(self.id) if kind == "organization" else self.name
        if fresh or kind not in self.objects:
            self.objects[kind] = await self._made(kind)
        return self.objects[kind]

    async def _made(self, kind: str) -> str:
        text = canary(kind)
        match kind:
            case "key":
                return str((await self.post("/api/keys", {"name": text, "scopes": ["gateway"], "mode": "test"}))["id"])
            case "connection":
                return str((await self.post("/api/connections", connection(text)))["id"])
            case "platform_connection":
                return str((await self.house.order("POST", "/connections", connection(text)))["id"])
            case "invitation":
                return str((await self.post("/api/invitations", {"email": f"{text}@example.com"}))["id"])
            case "token":
                return await self._token(f"{text}@example.com")
            case "issuer":
                return str((await self.carriers.issuer(self.id)).id)
            case "member":
                name = f"member {text}"
                await self.person(self.id, "member", name)
                return str((await self.rows("SELECT id FROM person WHERE email = %s", self.emails[name]))[0][0])
            case "reservation":
                user = await self.object("end_user")
                body = {"model": "sandbox", "input_tokens": 9, "metadata": {"about": text}, "user": user}
                return str((await self.post("/api/credits/reservations", body, self.key))["id"])
            case "end_user" | "shared_user":
                await self.post("/api/credits/reservations", {"credits": "1", "user": text}, self.key)
                return text
            case "request":
                return await self._request(text)
            case _:
                return await self._made_by_operators(kind, text)

    async def _made_by_operators(self, kind: str, text: str) -> str:
        now = datetime.now(UTC)
        match kind:
            case "task" | "own_task":
                return await self._task(text, own=kind == "own_task")
            case "limit":
                limit = {"scope": "organization", "meter": "messages", "period": "day", "maximum": 1_000_000}
                return str((await self.house.order("POST", f"/organizations/{self.id}/limits", limit))["id"])
            case "experiment" | "begun_experiment":
                body = {"name": text, "model": "gpt-4o", "arms": ARMS}
                if kind == "experiment":
                    body |= {"starts_at": self.moment("from"), "ends_at": self.moment("to")}
                else:
                    await self._end_experiments()
                    body["ends_at"] = self.moment("soon")
                return str((await self.house.order("POST", "/experiments", body))["id"])
            case "identity_provider":
                id_ = ordered_id(now, uuid4().bytes[:10])
                await self.carriers.change(
                    "INSERT INTO identity_provider (id, name, issuer, client_id, created_at) "
                    "VALUES (%s, %s, %s, %s, %s)",
                    id_, text, f"https://{id_.hex}.example.com", text, now,
                )  # fmt: skip
                return str(id_)
            case "assistant" | "own_model" | "document":
                return await self._made_of_ai(kind, text, now)
            case "spare_capability":
                name = "spare_" + uuid4().hex[:8]
                body = {"name": text, "estimated_credits": "1"}
                await self.house.order("PUT", f"/capabilities/{name}", body)
                await self.house.order(
                    "PUT", f"/plans/bare/capabilities/{name}", {"quality_levels": {"fast": ["sandbox"]}}
                )
                return name
            case "idp":
                return (await self._fake()).issuer
            case "jwks_url":
                return (self.fakes[-1] if self.fakes else await self._fake()).jwks_url
            case "from" | "to" | "soon":
                return self.moment(kind)
            case "own_email":
                return self.emails["owner"]
            case _:
                raise AssertionError(f"nobody knows how to make {kind!r}: say it in tests/security/world.py")

    async def _made_of_ai(self, kind: str, text: str, now: datetime) -> str:
        """Of the organisation's own."""
        id_, change = ordered_id(now, uuid4().bytes[:10]), self.carriers.change
        match kind:
            case "assistant":
                await change(
                    """INSERT INTO assistant (organization_id, id, slug, kind, name, system_message, created_at,
                           updated_at)
                       VALUES (%s, %s, %s, 'template', %s, %s, %s, %s)""",
                    self.id, id_, f"own-{id_.hex}", text, text, now, now,
                )  # fmt: skip
            case "document":
                await change(
                    """INSERT INTO document (organization_id, id, assistant_id, title, created_at)
                       VALUES (%s, %s, %s, %s, %s)""",
                    self.id, id_, UUID(await self.object("assistant")), text, now,
                )  # fmt: skip
            case _:
                await change(
                    """INSERT INTO own_model (organization_id, id, name, protocol, base_url, provider_model_id,
                           context_window, max_output_tokens, created_at, updated_at)
                       VALUES (%s, %s, %s, 'openai', 'http://127.0.0.1:9/v1', %s, 8000, 100, %s, %s)""",
                    self.id, id_, text, text, now, now,
                )  # fmt: skip
        return str(id_)

    def moment(self, which: str) -> str:
        """A time ahead; each has its own, so that no two overlap."""
        if which == "soon":
            return (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        self._slots += 1 if which == "from" else 0
        hours = 2 * self._slots + (0 if which == "from" else 1)
        return (datetime.now(UTC) + timedelta(days=1, hours=hours)).isoformat()

    async def _end_experiments(self) -> None:
        """Of two that run at once about one model there is none."""
        if await self.rows("SELECT 1 FROM experiment WHERE starts_at <= now()"):
            await self.carriers.change("UPDATE experiment SET ends_at = now() WHERE starts_at <= now()")

    async def _fake(self) -> FakeIdp:
        self.fakes.append(await self.stack.enter_async_context(FakeIdp()))
        return self.fakes[-1]

    async def _token(self, email: str) -> str:
        """Of an invitation of organisation A to somebody else."""
        await self.post("/api/invitations", {"email": email})
        found = await self.rows("SELECT body FROM mail WHERE recipient = %s", email)
        match = re.search(r"/invitations/(\S+)", found[0][0])
        assert match is not None
        return match[1]

    async def _request(self, text: str) -> str:
        body = {"model": "sandbox", "messages": [{"role": "user", "content": text}], "max_tokens": 16}
        reply = await self.house.call("POST", "/v1/chat/completions", json=body, headers=dict(self.key))
        assert reply.status == 200, reply.raw
        id_ = reply.headers["x-request-id"]
        async with asyncio.timeout(10):  # what was said is stored after it was answered
            while True:
                if await self.rows("SELECT 1 FROM request_content WHERE request_id = %s AND answer IS NOT NULL", id_):
                    return id_
                await asyncio.sleep(0.02)

    async def _task(self, text: str, *, own: bool) -> str:
        """An export that is done, and its file."""
        now = datetime.now(UTC)
        id_ = ordered_id(now, uuid4().bytes[:10])
        person_id = (await self.rows("SELECT id FROM person WHERE email = %s", self.emails["owner"]))[0][0]
        where = self.id
        if own:
            where = (await self.rows(
                "SELECT o.id FROM organization o JOIN member m ON m.organization_id = o.id "
                "WHERE o.kind = 'personal' AND m.person_id = %s", person_id,
            ))[0][0]  # fmt: skip
        await self.carriers.change(
            """INSERT INTO privacy_task (organization_id, id, kind, subject_kind, subject_id, account, state,
                   steps_done, steps, requested_by, requested_at, finished_at, result, result_until)
               VALUES (%s, %s, 'export', 'person', %s, %s, 'done', 1, 1, 'system', %s, %s, %s, %s)""",
            where, id_, person_id, own, now, now, text.encode(), now + 24 * _HOUR,
        )  # fmt: skip
        return str(id_)

    # ------------------------------------------------------------------------------------------------------------ tools

    async def forget_tries(self) -> None:
        """So that nothing is refused because the one before was sent a moment ago."""
        async with self.carriers.db.worker() as tx:
            await tx.execute("DELETE FROM throttle")

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        sent = dict(headers or self.owner) | {"idempotency-key": str(uuid4())}
        reply = await self.house.call("POST", path, json=body, headers=sent)
        assert reply.status in (200, 201, 202), (path, reply.raw)
        return reply.body

    async def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return await self.house.rows(query, *parameters)


def connection(name: str) -> dict[str, Any]:
    """One that reaches nobody."""
    key = canary("secret") + "-tail"
    return {"provider": "openai", "name": name, "base_url": "http://127.0.0.1:9/v1", "key": key, "enabled": False}


async def make_world(house: House, carriers: Carriers, stack: AsyncExitStack) -> World:
    name = canary("organization")
    world = World(house, carriers, stack, UUID(int=0), name)
    world.id = UUID(await world._organization(name))
    world.owner = await world.person(world.id, "owner", "owner")
    world.key = await world._whole_key(world.id)
    await house.change("UPDATE organization SET stores_content = true, business_type = 'legal' WHERE id = %s", world.id)
    return world
