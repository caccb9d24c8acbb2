"""What one customer and the operator do, a request at a time, each sent again as a client would when its answer was
lost: with the same Idempotency-Key where the API takes one, as a new call where it does not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp

from tests.fake_provider import FakeProvider
from tests.gateway.answers import answer_of, completion, usage
from tests.house import CHAT, SCOPES, Reply, Tenant, charge, chunks, events, micros

MODEL = "gpt-4o-mini"  # connected to the fake provider
TOKENS = 7  # of each answer
QUESTIONS = {"questions": [{"text": f"Why {number}?", "why": "because"} for number in range(3)]}
PATIENCE = aiohttp.ClientTimeout(total=20)


class Unanswered(Exception):
    """The connection broke before the whole answer had come."""


@dataclass(slots=True)
class Customer:
    """`url` is the server asked at the moment. `seen` are the charges of the calls whose whole answer came, by id;
    `ran` those of runs of a capability; `held` the reservations by what they are called here."""

    session: aiohttp.ClientSession
    operator_key: str
    provider: FakeProvider
    url: str = ""
    tenant: Tenant | None = None
    period_end: datetime | None = None
    seen: dict[UUID, int] = field(default_factory=dict)
    ran: dict[UUID, int] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)

    async def post(self, path: str, body: object, key: str, once: str | None = None, **headers: str) -> Reply:
        sent = headers | {"authorization": f"Bearer {key}"} | ({"idempotency-key": once} if once else {})
        try:
            async with self.session.post(self.url + path, json=body, headers=sent, timeout=PATIENCE) as response:
                return Reply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Unanswered(str(error)) from error

    async def order(self, path: str, body: object, once: str | None = None) -> Any:
        reply = await self.post("/api/operator" + path, body, self.operator_key, once)
        assert reply.status in (200, 201), reply.raw
        return reply.body

    async def ours(self, path: str, body: object, status: int = 200, once: str | None = None) -> Any:
        """A call with the customer's key."""
        assert self.tenant is not None
        reply = await self.post("/api/credits/reservations" + path, body, self.tenant.key, once)
        assert reply.status == status, reply.raw
        return reply.body

    @property
    def _path(self) -> str:
        assert self.tenant is not None
        return f"/organizations/{self.tenant.id}"

    # ------------------------------------------------------------------------------------------------------- the steps

    async def begins(self) -> None:
        made = await self.order("/organizations", {"name": "Mill", "plan": "starter"}, "begin")
        key = self.tenant.key if self.tenant else ""
        self.tenant = Tenant(UUID(made["id"]), key)
        self.period_end = datetime.fromisoformat(made["balance"]["period_end"])

    async def gets_a_key(self) -> None:
        """Not to be repeated safely: a key that nobody read is of no use, and does no harm."""
        made = await self.order(self._path + "/keys", {"name": "a key", "scopes": list(SCOPES), "mode": "test"})
        assert self.tenant is not None
        self.tenant = Tenant(self.tenant.id, made["key"])

    async def is_given_credits(self) -> None:
        await self.order(self._path + "/grants", {"source": "topup", "credits": "20", "note": "a present"}, "present")

    async def calls(self, **more: Any) -> Reply:
        assert self.tenant is not None
        words = f"sandbox:tokens={TOKENS} sandbox:delay=0"
        body = {"model": MODEL, "messages": [{"role": "user", "content": words}], "max_tokens": 50, **more}
        reply = await self.post(CHAT, body, self.tenant.key, **{"x-tollhouse-user": "somebody new"})
        assert reply.status == 200, reply.raw
        return reply

    async def calls_plain(self) -> None:
        reply = await self.calls()
        self.seen[UUID(reply.headers["x-request-id"])] = micros(reply.headers["x-credits-used"])

    async def calls_for_a_stream(self) -> None:
        reply = await self.calls(stream=True, stream_options={"include_usage": True})
        if not reply.raw.endswith(b"data: [DONE]\n\n"):
            raise Unanswered("the stream broke off")
        assert events(reply.raw)[-1] == b"[DONE]"
        self.seen[UUID(reply.headers["x-request-id"])] = micros(chunks(reply.raw)[-1]["usage"]["credits"])

    async def calls_a_provider_that_fails(self) -> None:
        """The same call, and its provider answers with status 500."""
        assert self.tenant is not None
        body = {"model": MODEL, "messages": [{"role": "user", "content": "sandbox:fault=status:500"}]}
        reply = await self.post(CHAT, body, self.tenant.key)
        assert reply.status == 502, reply.raw

    async def runs_a_capability(self) -> None:
        """While the first request may still run, and when its answer was lost with its process, a new key is taken."""
        reply = await self._runs("run")
        if reply.status == 409:
            reply = await self._runs("run again")
        assert reply.status == 200 and reply.body["answer"] == QUESTIONS, reply.raw
        self.ran[UUID(reply.body["id"])] = micros(reply.body["credits_used"])

    async def _runs(self, once: str) -> Reply:
        assert self.tenant is not None
        message = {"role": "assistant", "content": json.dumps(QUESTIONS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.provider.raw_answers.append(answer_of(completion() | {"choices": [choice], "usage": usage(300, 40)}))
        try:
            wanted = {"product": {"name": "Flour", "description": "ground wheat"}}
            return await self.post("/api/ai/suggest-questions", wanted, self.tenant.key, once)
        finally:
            self.provider.raw_answers.clear()

    async def reserves(self) -> None:
        made = await self.ours("", {"credits": "3", "user": "another", "metadata": {"order": 1}}, 201, "first")
        assert (made["status"], made["amount"]) == ("pending", "3")
        assert self.held.setdefault("first", made["id"]) == made["id"]

    async def renews(self) -> None:
        await self.ours(f"/{self.held['first']}/renew", {"ttl_seconds": 600})

    async def settles(self) -> None:
        """Above what was reserved."""
        done = await self.ours(f"/{self.held['first']}/settle", {"credits": "3.5"})
        assert (done["status"], done["charged"], done["variance"], done["late"]) == ("settled", "3.5", "0.5", False)

    async def reserves_for_a_model(self) -> None:
        body = {"model": MODEL, "input_tokens": 1000, "max_output_tokens": 500, "ttl_seconds": 120}
        made = await self.ours("", body, 201, "second")
        assert micros(made["amount"]) == charge(MODEL, 1000, 500)
        self.held["second"] = made["id"]

    async def releases(self) -> None:
        done = await self.ours(f"/{self.held['second']}/release", {"reason": "changed our mind"})
        assert done["status"] == "released"

    async def reserves_for_too_long(self) -> None:
        made = await self.ours("", {"model": MODEL, "input_tokens": 1000, "max_output_tokens": 500}, 201, "third")
        self.held["third"] = made["id"]

    async def upgrades(self) -> None:
        now = await self.order(self._path + "/plan", {"plan": "basic"})
        assert now["plan"] == "basic"

    async def comes_to_a_new_period(self) -> None:
        """A clock that has been moved already says so; then it is moved a little further."""
        assert self.period_end is not None
        await self._moves_the_clock(self.period_end + timedelta(hours=1))

    async def settles_late(self) -> None:
        body = {"usage": {"input_tokens": 900, "output_tokens": 100}}
        done = await self.ours(f"/{self.held['third']}/settle", body)
        assert micros(done["charged"]) == charge(MODEL, 900, 100) and done["late"] is True

    async def waits_for_the_reaper(self) -> None:
        """Whatever a killed process left open has outlived its lease, and is closed."""
        assert self.period_end is not None
        await self._moves_the_clock(self.period_end + timedelta(hours=2))

    async def _moves_the_clock(self, to: datetime) -> None:
        path = f"/api/operator{self._path}/clock"
        reply = await self.post(path, {"now": to.isoformat()}, self.operator_key)
        if reply.status == 409:
            later = to + timedelta(minutes=5)
            reply = await self.post(path, {"now": later.isoformat()}, self.operator_key)
        assert reply.status == 200, reply.raw


Step = Callable[[Customer], Awaitable[None]]
