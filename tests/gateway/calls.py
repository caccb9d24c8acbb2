"""Calls without a server around them: a real teller and real pumps, on deadlines that a test can wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from tests.house import CHAT, Tenant
from tollhouse.core.ask import Ask, CallWant, Size
from tollhouse.flows.operation import Admit
from tollhouse.flows.spend import Teller
from tollhouse.gateway.plain import PlainCall
from tollhouse.gateway.pump import Pumps
from tollhouse.gateway.stream import StreamCall
from tollhouse.outside import Provider

ESTIMATE = 10  # what the input of each call counts for when the provider does not say


@dataclass(frozen=True, slots=True)
class Desk:
    teller: Teller
    pumps: Pumps

    async def start(self, tenant: Tenant, provider: Provider, body: dict[str, Any]) -> PlainCall | StreamCall:
        """Admits the call and sets it going; nobody listens to it yet."""
        stream = body.get("stream") is True
        ask = Ask(tenant.id, None, tenant.id, "api", CallWant(body["model"], Size(ESTIMATE, 1_000)))
        admitted = await self.teller.admit(Admit(tenant.id, ask, CHAT, stream))
        wire = msgspec.json.encode(body)
        call: PlainCall | StreamCall
        if stream:
            call = StreamCall(self.pumps, admitted, provider, wire, ESTIMATE, True)
        else:
            call = PlainCall(self.pumps, admitted, provider, wire, ESTIMATE)
        self.pumps.start(call)
        return call


@asynccontextmanager
async def desk(database_url: str) -> AsyncIterator[Desk]:
    teller = Teller(database_url, "test", lambda: datetime.now(UTC))
    await teller.open()
    pumps = Pumps(teller)
    try:
        yield Desk(teller, pumps)
    finally:
        await pumps.close(5)
        await teller.close()
