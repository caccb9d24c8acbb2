"""The providers this process talks to: one client, with its pool of sockets, per connection."""

from uuid import UUID

import structlog

from tollhouse.core.routing import Connection, Route
from tollhouse.core.vault import SealBroken, association, open_sealed
from tollhouse.outside import Provider, ProviderUnreachable, Reply
from tollhouse.outside.openai import OpenAICompatible
from tollhouse.outside.sandbox import Sandbox
from tollhouse.store.catalogue import PLATFORM_ID

log = structlog.get_logger()


class Unusable:
    """A connection whose stored key cannot be opened, or whose address is none: every call fails before it is made."""

    async def chat(self, body: bytes, *, stream: bool) -> Reply:
        raise ProviderUnreachable("the connection to this provider is set up wrongly")

    async def close(self) -> None:
        """There is nothing to close."""


class Providers:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sandbox = Sandbox()
        self._clients: dict[UUID, tuple[Connection, Provider]] = {}
        self._retired: list[Provider] = []

    def of(self, route: Route) -> Provider:
        """The client for this route. A connection whose address or key was changed gets a new one; calls that still run
        on the old one finish there."""
        connection = route.connection
        if connection is None:
            return self._sandbox
        known = self._clients.get(connection.id)
        if known is not None and known[0] == connection:
            return known[1]
        if known is not None:
            self._retired.append(known[1])
        client: Provider
        try:
            client = OpenAICompatible(connection.base_url, self._key(connection))
        except (SealBroken, ValueError) as error:
            log.error("a connection cannot be used", provider=connection.provider_id, error=str(error))
            client = Unusable()
        self._clients[connection.id] = (connection, client)
        return client

    async def close(self) -> None:
        for provider in [self._sandbox, *self._retired, *(client for _, client in self._clients.values())]:
            await provider.close()

    def _key(self, connection: Connection) -> str | None:
        if connection.key_ciphertext is None:
            return None
        return open_sealed(self._secret, connection.key_ciphertext, association(PLATFORM_ID, connection.provider_id))
