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
from tollhouse.core.routing import Route
from tollhouse.core.vault import Keyring
from tollhouse.flows.connection import Policy
from tollhouse.flows.operation import Admit
from tollhouse.flows.spend import Teller
from tollhouse.gateway.dialect import chat
from tollhouse.gateway.exchange import Chat
from tollhouse.gateway.keeper import Keeper
from tollhouse.gateway.plain import PlainCall
from tollhouse.gateway.providers import Providers
from tollhouse.gateway.pump import Pumps
from tollhouse.gateway.stream import StreamCall
from tollhouse.outside import Provider
from tollhouse.store.db import Database

ESTIMATE = 10  # what the input of each call counts for when the provider does not say
SIZE = Size(10_000, 1_000, ESTIMATE)


class OnlyProvider(Providers):
    """Whoever is asked, it is this one."""

    def __init__(self) -> None:
        super().__init__(Policy(Keyring(b"x" * 48, ()), "test"))
        self.only: Provider | None = None

    def of(self, route: Route) -> Provider:
        return self.only or super().of(route)


@dataclass(frozen=True, slots=True)
class Desk:
    teller: Teller
    pumps: Pumps
    providers: OnlyProvider

    async def start(self, tenant: Tenant, provider: Provider, body: dict[str, Any]) -> PlainCall | StreamCall:
        """Admits the call and sets it going; nobody listens to it yet."""
        self.providers.only = provider
        exchange = Chat(chat.SURFACE, msgspec.json.encode(body), 0)
        ask = Ask(tenant.id, None, tenant.id, "api", CallWant(body["model"], SIZE))
        admitted = await self.teller.admit(Admit(tenant.id, ask, CHAT, exchange.wants_stream))
        kind = StreamCall if exchange.wants_stream else PlainCall
        call = kind(self.pumps, admitted, exchange, SIZE)
        self.pumps.start(call)
        return call


@asynccontextmanager
async def desk(database_url: str) -> AsyncIterator[Desk]:
    def clock() -> datetime:
        return datetime.now(UTC)

    teller, database, providers = Teller(database_url, "test", clock), Database(database_url), OnlyProvider()
    await teller.open()
    await database.open()
    pumps = Pumps(teller, providers, Keeper(database, clock))
    try:
        yield Desk(teller, pumps, providers)
    finally:
        await pumps.close(5)
        await teller.close()
        await database.close()
        await providers.close()
