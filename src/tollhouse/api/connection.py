"""Connections to providers: the platform's, as operators manage them, and an organisation's own. The calls are the same
for both; no answer holds a key."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from tollhouse.api.body import Body, StrictRoute, Word, without_default
from tollhouse.api.caller import Acting, Allowed, Operator
from tollhouse.api.state import Shared
from tollhouse.core.connection import Health, Origin
from tollhouse.core.errors import Forbidden
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.flows import connection as flow
from tollhouse.flows.connection import Owner
from tollhouse.store.connection import ConnectionRow

_KEY = re.compile(r"[!-~]{1,1000}")


def _key(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError("must be 1 to 1000 visible ASCII characters without spaces: copy the provider's key again")
    return value


ConnectionName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
BaseUrl = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Key = Annotated[str, AfterValidator(_key)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]


class NewConnectionBody(Body):
    """`base_url`: where the provider's API is; without it, the vendor's own. `key`: without it the server is asked with
    none. Of several connections to one provider the one with the lowest `priority` is asked first."""

    provider: Word
    name: ConnectionName = ""
    base_url: BaseUrl | None = None
    key: Key | None = None
    enabled: bool = True
    priority: Priority = 0

    def wanted(self) -> flow.NewConnection:
        return flow.NewConnection(self.provider, self.name, self.base_url, self.key, self.enabled, self.priority)


class ConnectionChangeBody(Body):
    """What is left out stays as it is. Another `base_url` needs the key again: a key goes to no address but that which
    it was entered for. `key` null takes the key away."""

    name: ConnectionName = Field(default="", json_schema_extra=without_default)
    base_url: BaseUrl = Field(default="", json_schema_extra=without_default)
    key: Key | None = Field(default=None, json_schema_extra=without_default)
    enabled: bool = Field(default=True, json_schema_extra=without_default)
    priority: Priority = Field(default=0, json_schema_extra=without_default)

    def wanted(self) -> flow.Change:
        given = self.model_dump(exclude_unset=True)
        rekey = flow.Rekey(given.pop("key")) if "key" in given else None
        return flow.Change(rekey=rekey, **given)


class HealthView(BaseModel):
    """`ok` is false after three checks in a row that failed; `error` is what the last check found, null when the
    provider answered. Nothing is switched off by it."""

    checked_at: datetime
    ok: bool
    error: str | None

    @classmethod
    def of(cls, health: Health) -> Self:
        return cls(checked_at=health.checked_at, ok=health.ok, error=health.error)


class ConnectionView(BaseModel):
    """`key_hint`: the end of the key, to tell keys apart; null when there is none, or one too short to show any
    of it. `origin` environment: brought by the settings of the installation. `health` null: not checked yet."""

    id: UUID
    provider: str
    protocol: str
    name: str
    base_url: str
    has_key: bool
    key_hint: str | None
    enabled: bool
    priority: int
    origin: Origin
    created_at: datetime
    updated_at: datetime | None
    health: HealthView | None

    @classmethod
    def of(cls, row: ConnectionRow) -> Self:
        return cls(
            id=row.id, provider=row.provider_id, protocol=row.protocol, name=row.name, base_url=row.base_url,
            has_key=row.key_ciphertext is not None, key_hint=row.key_hint, enabled=row.enabled, priority=row.priority,
            origin=row.origin, created_at=row.created_at, updated_at=row.updated_at,
            health=HealthView.of(row.health) if row.health else None,
        )  # fmt: skip


class ConnectionsView(BaseModel):
    """Those of a provider in the order in which they are asked."""

    items: list[ConnectionView]


class TriedView(BaseModel):
    """How the test went; `message` is never what the provider wrote."""

    ok: bool
    message: str
    duration_ms: int


async def of_platform(order: Operator) -> Owner:
    return Owner(PLATFORM_ID, order)


async def of_organization(manager: Annotated[Acting, Depends(Allowed("connections.manage"))]) -> Owner:
    if manager.organization_id == PLATFORM_ID:
        raise Forbidden(
            "The platform's connections are every organisation's to use: manage them at /api/operator/connections, "
            "with a key that has the scope 'operator'."
        )
    return Owner(manager.organization_id, manager.order)


def _router(prefix: str, tag: str, whose: Callable[..., Awaitable[Owner]]) -> APIRouter:
    router = APIRouter(prefix=prefix, tags=[tag], route_class=StrictRoute)

    @router.get("", summary="The connections to providers, and whether they work")
    async def read_connections(state: Shared, owner: Annotated[Owner, Depends(whose)]) -> ConnectionsView:
        return ConnectionsView(items=[ConnectionView.of(row) for row in await flow.read(state.db, owner)])

    @router.post("", status_code=201, summary="Connect to a provider, from the next call on")
    async def create_connection(
        state: Shared, owner: Annotated[Owner, Depends(whose)], body: NewConnectionBody
    ) -> ConnectionView:
        return ConnectionView.of(await flow.create(state.db, state.policy, owner, body.wanted()))

    @router.post("/test", summary="Test a connection before it is made")
    async def test_draft(state: Shared, owner: Annotated[Owner, Depends(whose)], body: NewConnectionBody) -> TriedView:
        return _tried(await flow.try_draft(state.db, state.policy, owner, body.wanted()))

    @router.patch("/{connection_id}", summary="Change a connection, from the next call on")
    async def change_connection(
        state: Shared,
        owner: Annotated[Owner, Depends(whose)],
        connection_id: UUID,
        body: ConnectionChangeBody,
    ) -> ConnectionView:
        return ConnectionView.of(await flow.change(state.db, state.policy, owner, connection_id, body.wanted()))

    @router.delete("/{connection_id}", status_code=204, summary="Delete a connection and its key")
    async def delete_connection(
        state: Shared, owner: Annotated[Owner, Depends(whose)], connection_id: UUID
    ) -> None:  # fmt: skip
        await flow.delete(state.db, owner, connection_id)

    @router.post("/{connection_id}/test", summary="Test a connection now")
    async def test_connection(state: Shared, owner: Annotated[Owner, Depends(whose)], connection_id: UUID) -> TriedView:
        return _tried(await flow.try_stored(state.db, state.policy, owner, connection_id))

    return router


def _tried(tried: flow.Tried) -> TriedView:
    return TriedView(ok=tried.ok, message=tried.message, duration_ms=tried.duration_ms)


operator_router = _router("/api/operator/connections", "operator", of_platform)
organization_router = _router("/api/connections", "connections", of_organization)
