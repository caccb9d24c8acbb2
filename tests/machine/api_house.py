"""The same organisation in a running server, over HTTP: as its operator, and as its owner with an API key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import aiohttp

from tests.house import Reply, micros
from tests.machine import house
from tests.machine.house import BEGIN, HOUR, Answer, Done, Entry, Gift, Plans, Refused, Released, Reserved, Settled
from tollhouse.core.money import format_credits

OPERATOR = "/api/operator/organizations"
PAGE = 200
PATIENCE_S = 60.0


@dataclass
class ApiHouse:
    """The calls are made on the loop on which the server was started, from the thread of the machine."""

    url: str
    operator_key: str
    session: aiohttp.ClientSession
    loop: asyncio.AbstractEventLoop
    organization: str = field(init=False)
    key: str = field(init=False)
    at: datetime = BEGIN
    askings: list[tuple[dict[str, Any], str]] = field(default_factory=list)  # body and idempotency key
    reservations: dict[str, int] = field(default_factory=dict)
    grants: dict[str, int] = field(default_factory=dict)
    ledger: list[Entry] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------------------ steps

    def found(self, plan: str, anchor: datetime) -> None:
        wanted = {"name": "Mill", "plan": plan, "period_anchor": anchor.isoformat()}
        self.organization = _made(self._request("POST", OPERATOR, wanted, self.operator_key))["id"]
        self.key = _made(self._order("POST", "/keys", {"name": "a key", "scopes": ["credits"], "mode": "test"}))["key"]
        assert not isinstance(self.move(BEGIN), Refused)

    def give(self, gift: Gift) -> Answer:
        wanted = {
            "source": gift.source, "credits": format_credits(gift.micros), "note": "a gift",
            "effective_at": self._hours(gift.begins), "expires_at": self._hours(gift.ends), "priority": gift.priority,
            "paid": gift.paid,
        }  # fmt: skip
        return self._done(self._order("POST", "/grants", wanted, **{"idempotency-key": str(uuid4())}))

    def reserve(self, amount: int, ttl_s: int) -> Answer:
        self.askings.append(({"credits": format_credits(amount), "ttl_seconds": ttl_s}, str(uuid4())))
        return self._ask(len(self.askings) - 1)

    def again(self, asking: int) -> Answer:
        return self._ask(asking)

    def _ask(self, asking: int) -> Answer:
        body, key = self.askings[asking]
        reply = self._call("POST", "", body, **{"idempotency-key": key})
        if reply.status != 201:
            return self._refused(reply)
        told = reply.body
        assert (told["status"], told["charged"], told["closed_at"]) == ("pending", None, None), told
        self._read_ledger()
        return Reserved(
            number=self.reservations.setdefault(told["id"], len(self.reservations)),
            micros=micros(told["amount"]),
            parts=tuple((self.grants[part["grant_id"]], micros(part["amount"])) for part in told["parts"]),
            overdraft_micros=micros(told["overdraft"]),
            available_micros=micros(told["balance"]),
            replayed=_replayed(reply),
        )

    def renew(self, reservation: int, ttl_s: int) -> Answer:
        reply = self._on(reservation, "renew", {"ttl_seconds": ttl_s})
        return Done() if reply.status == 200 else self._refused(reply)

    def settle(self, reservation: int, charge: int) -> Answer:
        reply = self._on(reservation, "settle", {"credits": format_credits(charge)})
        if reply.status != 200:
            return self._refused(reply)
        told = reply.body
        assert told["status"] == "settled", told
        charged, variance, available = map(micros, (told["charged"], told["variance"], told["balance"]))
        return Settled(charged, variance, told["late"], available, _replayed(reply))

    def release(self, reservation: int) -> Answer:
        reply = self._on(reservation, "release", {"reason": "it was not needed"})
        if reply.status != 200:
            return self._refused(reply)
        return Released(reply.body["status"], micros(reply.body["balance"]), _replayed(reply))

    def change_plan(self, plan: str) -> Answer:
        return self._done(self._order("POST", "/plan", {"plan": plan}))

    def set_overdraft(self, limit: int) -> Answer:
        return self._done(self._order("PUT", "/overdraft", {"credits": format_credits(limit)}))

    def move(self, to: datetime) -> Answer:
        answer = self._done(self._order("POST", "/clock", {"now": to.isoformat()}))
        if not isinstance(answer, Refused):
            self.at = to
        return answer

    # --------------------------------------------------------------------------------------------------------- what is

    def seen(self) -> house.Seen:
        told = self._get("/api/credits/balance")
        self._read_ledger()
        return house.Seen(
            available_micros=micros(told["available"]),
            spendable_micros=micros(told["spendable"]),
            reserved_micros=micros(told["reserved"]),
            debt_micros=micros(told["debt"]),
            overdraft_limit_micros=micros(told["overdraft_limit"]),
            used_this_period_micros=micros(told["used_this_period"]),
            period_start=datetime.fromisoformat(told["period_start"]),
            period_end=datetime.fromisoformat(told["period_end"]),
            grants=tuple(
                (self.grants[one["id"]], one["source"], micros(one["remaining"]), micros(one["reserved"]))
                for one in told["grants"]
            ),
            ledger=tuple(self.ledger),
        )

    def plans(self) -> Plans:
        told = _made(self._order("GET", ""))
        return Plans(told["plan"], told["pending_plan"])

    def reservation(self, number: int) -> house.Reservation:
        told = self._get(f"/api/credits/reservations/{[*self.reservations][number]}")
        charged = None if told["charged"] is None else micros(told["charged"])
        return house.Reservation(told["status"], micros(told["amount"]), charged)

    # ---------------------------------------------------------------------------------------------------------- inside

    def _read_ledger(self) -> None:
        """What is new in it, from the newest page back to what is known."""
        news: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None and (not news or news[-1]["seq"] > len(self.ledger) + 1):
            page = self._get(f"/api/credits/transactions?limit={PAGE}" + (f"&cursor={cursor}" if cursor else ""))
            news, cursor = news + page["items"], page["next_cursor"]
        for row in reversed(news):
            if row["seq"] <= len(self.ledger):
                continue
            assert row["seq"] == len(self.ledger) + 1, "a hole in the ledger"
            grant = None if row["grant_id"] is None else self.grants.setdefault(row["grant_id"], len(self.grants))
            self.ledger.append(
                Entry(
                    row["type"], micros(row["amount"]), micros(row["balance_after"]), grant,
                    None if row["reservation_id"] is None else self.reservations[row["reservation_id"]],
                    None if row["estimation_variance"] is None else micros(row["estimation_variance"]),
                )
            )  # fmt: skip

    def _order(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        return self._request(method, f"{OPERATOR}/{self.organization}{path}", body, self.operator_key, **headers)

    def _call(self, method: str, path: str, body: Any, **headers: str) -> Reply:
        return self._request(method, "/api/credits/reservations" + path, body, self.key, **headers)

    def _on(self, reservation: int, step: str, body: Any) -> Reply:
        return self._call("POST", f"/{[*self.reservations][reservation]}/{step}", body)

    def _get(self, path: str) -> Any:
        return _made(self._request("GET", path, None, self.key))

    def _done(self, reply: Reply) -> Answer:
        if reply.status not in (200, 201):
            return self._refused(reply)
        told = reply.body.get("balance", reply.body)
        return Done((micros(told["available"]), micros(told["spendable"])))

    def _refused(self, reply: Reply) -> Refused:
        assert 400 <= reply.status < 500, reply.raw
        assert reply.headers["content-type"] == "application/problem+json", reply.raw
        return Refused(reply.body["code"])

    def _hours(self, number: int | None) -> str | None:
        return None if number is None else (self.at + number * HOUR).isoformat()

    def _request(self, method: str, path: str, body: Any, key: str, **headers: str) -> Reply:
        sent = {"authorization": f"Bearer {key}"} | headers
        return asyncio.run_coroutine_threadsafe(self._send(method, path, body, sent), self.loop).result(PATIENCE_S)

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Reply:
        async with self.session.request(method, self.url + path, json=body, headers=headers) as response:
            return Reply(response.status, response.headers, await response.read())


def _made(reply: Reply) -> Any:
    assert reply.status in (200, 201), reply.raw
    return reply.body


def _replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"
