"""Connections to providers: made, changed, deleted and tested by whom they belong to. Each change is one transaction
with its audit row, and counts from the next call on."""

import asyncio
import os
import typing
from dataclasses import dataclass, field, replace
from typing import assert_never
from uuid import UUID

from tollhouse.core import vault
from tollhouse.core.audit import Detail
from tollhouse.core.connection import (
    OF_AN_ORGANIZATION_MAX,
    OF_THE_PLATFORM_MAX,
    Origin,
    Protocol,
    hint_of,
    may_be_private,
)
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import Mode, ordered_id
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import Keyring, SealBroken, association
from tollhouse.flows import fund
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.outside import Provider, ProviderFault
from tollhouse.outside.address import check_base_url
from tollhouse.outside.anthropic import Anthropic
from tollhouse.outside.google import Google
from tollhouse.outside.openai import OpenAICompatible
from tollhouse.store import connection as store
from tollhouse.store.connection import ConnectionRow, ProviderRow
from tollhouse.store.db import Database, OperatorTx

CHECK_DEADLINE_S = 10.0
_MESSAGE_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for connections in this installation: the secrets that seal keys, and whether addresses of this
    machine and of private networks are allowed to everybody."""

    keyring: Keyring
    mode: Mode
    allow_private: bool = False

    def private_allowed(self, organization_id: UUID) -> bool:
        of_platform = organization_id == PLATFORM_ID
        return may_be_private(of_platform=of_platform, mode=self.mode, allowed=self.allow_private)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose connections they are, and by whose order something is done with them. Those of the platform are every
    organisation's to use; those of an organisation its own."""

    organization_id: UUID
    order: Order

    @property
    def of_platform(self) -> bool:
        return self.organization_id == PLATFORM_ID

    @property
    def origin(self) -> Origin:
        return "operator" if self.of_platform else "organization"

    @property
    def most(self) -> int:
        return OF_THE_PLATFORM_MAX if self.of_platform else OF_AN_ORGANIZATION_MAX


@dataclass(frozen=True, slots=True)
class NewConnection:
    """`base_url` None: the provider's own. `key` None: the server wants none."""

    provider_id: str
    name: str
    base_url: str | None
    key: str | None = field(repr=False)
    enabled: bool
    priority: int


@dataclass(frozen=True, slots=True)
class Rekey:
    """Another key, or none any more."""

    key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What is None stays as it is."""

    name: str | None = None
    base_url: str | None = None
    rekey: Rekey | None = None
    enabled: bool | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """How a test went: `message` is a sentence of ours, never the provider's."""

    ok: bool
    message: str
    duration_ms: int


class Reachable(typing.Protocol):
    """What a client needs to know of a connection."""

    @property
    def organization_id(self) -> UUID: ...
    @property
    def provider_id(self) -> str: ...
    @property
    def protocol(self) -> Protocol: ...
    @property
    def base_url(self) -> str: ...
    @property
    def key_ciphertext(self) -> bytes | None: ...


# -------------------------------------------------------------------------------------------------------------- clients


def client(connection: Reachable, keyring: Keyring, *, allow_private: bool) -> Provider:
    """The client of a connection; it opens no socket before its first call, and is closed by who asked for it. Raises
    SealBroken for a key that cannot be opened, ValueError for an address that is none or is not allowed."""
    key, sealed = None, connection.key_ciphertext
    if sealed is not None:
        key = keyring.open(sealed, association(connection.organization_id, connection.provider_id))
    match connection.protocol:
        case "openai":
            return OpenAICompatible(connection.base_url, key, allow_private=allow_private)
        case "anthropic":
            return Anthropic(connection.base_url, key, allow_private=allow_private)
        case "google":
            return Google(connection.base_url, key, allow_private=allow_private)
        case "sandbox":
            raise ValueError("the sandbox is no server that one connects to")
        case other:
            assert_never(other)


async def check(connection: Reachable, policy: Policy) -> Tried:
    """Asks the provider for something that costs nothing and needs the key, and waits ten seconds at most."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    error = await _error_of(connection, policy)
    duration_ms = round((loop.time() - began) * 1000)
    if error is not None:
        return Tried(False, error[:_MESSAGE_LENGTH], duration_ms)
    return Tried(
        True, "The provider answers" + (" and takes the key." if connection.key_ciphertext else "."), duration_ms
    )


async def _error_of(connection: Reachable, policy: Policy) -> str | None:
    allow_private = policy.private_allowed(connection.organization_id)
    try:
        provider = client(connection, policy.keyring, allow_private=allow_private)
    except (SealBroken, ValueError) as error:
        return str(error)
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            await provider.check()
    except TimeoutError:
        return f"the provider did not answer within {CHECK_DEADLINE_S:g} seconds"
    except ProviderFault as fault:
        return str(fault)
    finally:
        await provider.close()
    return None


# -------------------------------------------------------------------------------------------------------------- changes


async def read(db: Database, owner: Owner) -> list[ConnectionRow]:
    """The owner's connections, those of a provider in the order in which they are asked. An operator's look leaves a
    trace."""
    if not owner.of_platform:
        async with db.tenant(owner.organization_id) as tenant:
            return await store.of(tenant, owner.organization_id)
    async with db.operator() as tx:
        about = ("organization", str(owner.organization_id))
        await record(tx, owner.organization_id, owner.order, "connection.read", about, {})
        return await store.of(tx, owner.organization_id)


async def create(db: Database, policy: Policy, owner: Owner, wanted: NewConnection) -> ConnectionRow:
    """BadRequest for an unknown provider and for an address that is none or is not allowed, Conflict for one connection
    too many."""
    async with db.operator() as tx:
        await fund.lock_one(tx, owner.organization_id)
        row = _new(policy, owner, wanted, await store.providers(tx))
        if len(await store.of(tx, owner.organization_id)) >= owner.most:
            raise Conflict(f"There are {owner.most} connections here already. Delete one that is not needed.")
        await store.insert(tx, row)
        await _record(tx, owner, "connection.created", row)
        return row


async def change(
    db: Database, policy: Policy, owner: Owner, connection_id: UUID, wanted: Change
) -> ConnectionRow:  # fmt: skip
    """What changes nothing is recorded too, but writes nothing that every process would read anew. NotFound, BadRequest
    as for a new one and when a key would go to another address than it was entered for, Conflict for what the
    environment decides."""
    async with db.operator() as tx:
        await fund.lock_one(tx, owner.organization_id)
        before = await _find(tx, owner, connection_id)
        after = _changed(policy, before, wanted)
        if before.origin == "environment":
            _check_left_to_environment(before, after)
        if after != before:
            after = replace(after, updated_at=owner.order.now)
            await store.update(tx, after)
        await _record(tx, owner, "connection.changed", after, key_changed=wanted.rekey is not None)
        return after


async def delete(db: Database, owner: Owner, connection_id: UUID) -> None:
    """Calls that run over it end as they would have. NotFound, Conflict for one that the environment brings."""
    async with db.operator() as tx:
        await fund.lock_one(tx, owner.organization_id)
        row = await _find(tx, owner, connection_id)
        if row.origin == "environment":
            raise _left_to_environment(row)
        await store.delete(tx, owner.organization_id, connection_id)
        await _record(tx, owner, "connection.deleted", row)


async def try_stored(db: Database, policy: Policy, owner: Owner, connection_id: UUID) -> Tried:
    """Whether the connection works now; its health is left to the job that checks it."""
    async with db.operator() as tx:
        row = await _find(tx, owner, connection_id)
        await _record(tx, owner, "connection.tested", row)
    return await check(row, policy)


async def try_draft(db: Database, policy: Policy, owner: Owner, wanted: NewConnection) -> Tried:
    """Whether a connection would work that is not made yet. It is refused for what `create` refuses; the limit of
    their number excepted."""
    async with db.operator() as tx:
        row = _new(policy, owner, wanted, await store.providers(tx))
        await _record(tx, owner, "connection.draft_tested", row, id_="draft")
    return await check(row, policy)


def _new(policy: Policy, owner: Owner, wanted: NewConnection, known: dict[str, ProviderRow]) -> ConnectionRow:
    provider = known.get(wanted.provider_id)
    if provider is None:
        raise BadRequest(f"There is no provider {wanted.provider_id!r}. There are: {', '.join(known)}.", "provider")
    address = wanted.base_url or provider.base_url
    if address is None:
        raise BadRequest(f"{provider.id!r} has no address that everybody shares: send that of your server.", "base_url")
    base_url = _checked(policy, owner.organization_id, address)
    sealed = _sealed(policy, owner.organization_id, provider.id, wanted.key)
    now = owner.order.now
    return ConnectionRow(
        owner.organization_id, ordered_id(now, os.urandom(10)), provider.id, provider.protocol, wanted.name, base_url,
        sealed, hint_of(wanted.key or ""), owner.origin, wanted.enabled, wanted.priority, now, None,
    )  # fmt: skip


def _changed(policy: Policy, row: ConnectionRow, wanted: Change) -> ConnectionRow:
    base_url = row.base_url
    if wanted.base_url is not None and wanted.base_url != row.base_url:
        base_url = _checked(policy, row.organization_id, wanted.base_url)
    if base_url != row.base_url and row.key_ciphertext is not None and wanted.rekey is None:
        raise BadRequest(
            "The key was entered for another address and goes to no other: send it again with this one.", "key"
        )
    after = replace(
        row,
        name=row.name if wanted.name is None else wanted.name,
        base_url=base_url,
        enabled=row.enabled if wanted.enabled is None else wanted.enabled,
        priority=row.priority if wanted.priority is None else wanted.priority,
    )
    if wanted.rekey is None:
        return after
    key = wanted.rekey.key
    sealed = _sealed(policy, row.organization_id, row.provider_id, key)
    return replace(after, key_ciphertext=sealed, key_hint=hint_of(key or ""))


def _checked(policy: Policy, organization_id: UUID, address: str) -> str:
    """The address as it is stored."""
    try:
        return str(check_base_url(address, allow_private=policy.private_allowed(organization_id)))
    except ValueError as error:
        raise BadRequest(str(error), "base_url") from error


def _sealed(policy: Policy, organization_id: UUID, provider_id: str, key: str | None) -> bytes | None:
    if key is None:
        return None
    return policy.keyring.seal(key, association(organization_id, provider_id), os.urandom(vault.NONCE_BYTES))


def _check_left_to_environment(before: ConnectionRow, after: ConnectionRow) -> None:
    """A name and a priority may be given to what the environment brings."""
    if replace(before, name=after.name, priority=after.priority) != after:
        raise _left_to_environment(before)


def _left_to_environment(row: ConnectionRow) -> Conflict:
    vendor = row.provider_id.upper()
    return Conflict(
        f"This connection comes from {vendor}_API_KEY or {vendor}_BASE_URL, which every start reads anew: change it "
        "there. Or make one of your own: with the same priority it is asked first."
    )


async def _find(tx: OperatorTx, owner: Owner, connection_id: UUID) -> ConnectionRow:
    row = await store.one(tx, owner.organization_id, connection_id)
    if row is None:
        raise NotFound("There is no such connection here.")
    return row


async def _record(
    tx: OperatorTx, owner: Owner, action: str, row: ConnectionRow, id_: str | None = None, **more: Detail
) -> None:
    """All of the connection but its key, of which not even the hint is told."""
    details: dict[str, Detail] = {
        "provider": row.provider_id,
        "name": row.name,
        "base_url": row.base_url,
        "has_key": row.key_ciphertext is not None,
        "enabled": row.enabled,
        "priority": row.priority,
    }
    about = ("connection", id_ or str(row.id))
    await record(tx, owner.organization_id, owner.order, action, about, details | more)
