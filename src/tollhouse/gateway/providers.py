"""The providers this process talks to: one client, with its pool of sockets, and one breaker per connection."""

from uuid import UUID

import structlog

from tollhouse.core.breaker import Breaker
from tollhouse.core.routing import Connection, Route
from tollhouse.core.vault import SealBroken
from tollhouse.flows.connection import Policy, client
from tollhouse.outside import Operation, Provider, ProviderUnreachable, Reply
from tollhouse.outside.sandbox import Sandbox

log = structlog.get_logger()


class Unusable:
    """A connection whose stored key cannot be opened, or whose address is none: every call fails before it is made."""

    async def send(self, operation: Operation, model: str, body: bytes, *, stream: bool) -> Reply:
        raise ProviderUnreachable("the connection to this provider is set up wrongly")

    async def check(self) -> None:
        raise ProviderUnreachable("the connection to this provider is set up wrongly")

    async def close(self) -> None:
        """There is nothing to close."""


class Providers:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._sandbox = Sandbox()
        self._clients: dict[UUID, tuple[Connection, Provider, Breaker]] = {}
        self._retired: list[Provider] = []

    def of(self, route: Route) -> Provider:
        """The client for this route."""
        return self._sandbox if route.connection is None else self._known(route.connection)[1]

    def breaker(self, route: Route) -> Breaker | None:
        """Whether the connection is asked at all at the moment; the sandbox always is."""
        return None if route.connection is None else self._known(route.connection)[2]

    async def close(self) -> None:
        for provider in [self._sandbox, *self._retired, *(known[1] for known in self._clients.values())]:
            await provider.close()

    def _known(self, connection: Connection) -> tuple[Connection, Provider, Breaker]:
        """A connection whose address or key was changed gets a new client and a new start; calls that still run on the
        old one finish there."""
        known = self._clients.get(connection.id)
        if known is not None and known[0] is connection:
            return known
        if known is not None and known[0] == connection:
            known = self._clients[connection.id] = (connection, *known[1:])  # read anew, and found unchanged
            return known
        if known is not None:
            self._retired.append(known[1])
        known = self._clients[connection.id] = (connection, self._make(connection), Breaker())
        return known

    def _make(self, connection: Connection) -> Provider:
        private = self._policy.private_allowed(connection.organization_id)
        try:
            return client(connection, self._policy.keyring, allow_private=private)
        except (SealBroken, ValueError) as error:
            log.error("a connection cannot be used", provider=connection.provider_id, error=str(error))
            return Unusable()
