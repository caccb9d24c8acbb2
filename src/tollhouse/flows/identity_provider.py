"""Identity providers that people may sign in with: made, changed, deleted and tested by operators. What is saved has
been tried: its description and its keys were read once."""

import os
from dataclasses import dataclass, field, replace
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import ordered_id
from tollhouse.core.oidc import secret_association
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import NONCE_BYTES
from tollhouse.flows import fund
from tollhouse.flows.audit import record
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets, KeysMissing, fetch_keys
from tollhouse.flows.order import Order
from tollhouse.outside.address import check_url
from tollhouse.outside.oidc import ProviderUnusable, discover
from tollhouse.store import identity_provider as store
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.identity_provider import IdentityProvider

PROVIDERS_MAX = 20
_SHOWN = ("name", "issuer", "client_id", "enabled")


@dataclass(frozen=True, slots=True)
class NewProvider:
    """`client_secret` None: Tollhouse is a public client there."""

    name: str
    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class NewSecret:
    """Another client secret, or none any more."""

    client_secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What is None stays as it is. The issuer stays whatever is wanted: people have linked what it says they are."""

    name: str | None = None
    client_id: str | None = None
    secret: NewSecret | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """How a test went: `message` is a sentence of ours, never what the provider wrote."""

    ok: bool
    message: str


async def read(db: Database, order: Order) -> list[IdentityProvider]:
    """Leaves a trace, as every look of an operator does."""
    async with db.operator() as tx:
        about = ("organization", str(PLATFORM_ID))
        await record(tx, PLATFORM_ID, order, "identity_provider.read", about, {})
        return await store.every(tx)


async def create(db: Database, policy: Policy, keys: KeySets, order: Order, wanted: NewProvider) -> IdentityProvider:
    """BadRequest for an issuer that people cannot sign in with, Conflict for one that is there already, and for one too
    many."""
    row = _new(policy, order, wanted)
    tried = await _try(policy, keys, row)
    if not tried.ok:
        raise BadRequest(tried.message, "issuer")
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        if len(await store.every(tx)) >= PROVIDERS_MAX:
            raise Conflict(f"There are {PROVIDERS_MAX} identity providers here already. Delete one that is not needed.")
        if not await store.insert(tx, row):
            raise Conflict("There is an identity provider of this issuer already: change that one.")
        await _record(tx, order, "identity_provider.created", row, _all_of(row))
        return row


async def change(db: Database, policy: Policy, order: Order, provider_id: UUID, wanted: Change) -> IdentityProvider:
    """Counts from the next sign-in on. NotFound."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        before = await _find(tx, provider_id)
        given = {name: value for name in _SHOWN if (value := getattr(wanted, name, None)) is not None}
        after = replace(before, **given)
        if wanted.secret is not None:
            sealed = _sealed(policy, provider_id, before.issuer, wanted.secret.client_secret)
            after = replace(after, secret_ciphertext=sealed)
        changes: dict[str, Detail] = {
            name: {"from": getattr(before, name), "to": getattr(after, name)}
            for name in _SHOWN
            if getattr(before, name) != getattr(after, name)
        }
        if wanted.secret is not None:
            changes["has_secret"] = {
                "from": before.secret_ciphertext is not None,
                "to": after.secret_ciphertext is not None,
            }
        if after != before:
            after = replace(after, updated_at=order.now)
        await _record(
            tx, order, "identity_provider.changed", after, changes | {"secret_changed": wanted.secret is not None}
        )
        await store.update(tx, after)
        return after


async def delete(db: Database, order: Order, provider_id: UUID) -> None:
    """The identities that people have linked with it go with it. NotFound."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        row = await _find(tx, provider_id)
        unlinked = await store.delete(tx, provider_id)
        await _record(tx, order, "identity_provider.deleted", row, _all_of(row) | {"identities_unlinked": unlinked})


async def try_stored(db: Database, policy: Policy, keys: KeySets, order: Order, provider_id: UUID) -> Tried:
    """Whether its description and its keys can be read now."""
    async with db.operator() as tx:
        row = await _find(tx, provider_id)
        await _record(tx, order, "identity_provider.tested", row, {"issuer": row.issuer})
    return await _try(policy, keys, row)


async def try_draft(db: Database, policy: Policy, keys: KeySets, order: Order, wanted: NewProvider) -> Tried:
    """Whether a provider would work that is not made yet. It is refused for what `create` refuses."""
    row = _new(policy, order, wanted)
    async with db.operator() as tx:
        await _record(tx, order, "identity_provider.draft_tested", row, _all_of(row), id_="draft")
    return await _try(policy, keys, row)


# ---------------------------------------------------------------------------------------------------------------- parts


def _new(policy: Policy, order: Order, wanted: NewProvider) -> IdentityProvider:
    try:
        check_url(wanted.issuer, allow_private=policy.private_allowed(PLATFORM_ID))
        if "?" in wanted.issuer:
            raise ValueError("the address of an issuer has no query")
    except ValueError as error:
        raise BadRequest(str(error), "issuer") from error
    id_ = ordered_id(order.now, os.urandom(10))
    sealed = _sealed(policy, id_, wanted.issuer, wanted.client_secret)
    return IdentityProvider(
        id_, wanted.name, wanted.issuer, wanted.client_id, sealed, wanted.enabled, order.now, None
    )  # fmt: skip


def _sealed(policy: Policy, provider_id: UUID, issuer: str, secret: str | None) -> bytes | None:
    if secret is None:
        return None
    return policy.keyring.seal(secret, secret_association(provider_id, issuer), os.urandom(NONCE_BYTES))


async def _try(policy: Policy, keys: KeySets, row: IdentityProvider) -> Tried:
    allow_private = policy.private_allowed(PLATFORM_ID)
    try:
        described = await discover(keys.fetcher, row.issuer, allow_private=allow_private)
        await fetch_keys(keys.fetcher, described.jwks_url, allow_private=allow_private)
    except ProviderUnusable as problem:
        return Tried(False, f"People cannot sign in with this issuer: {problem}.")
    except KeysMissing as problem:
        return Tried(False, f"The keys of this issuer cannot be used: {problem}.")
    return Tried(True, "The issuer describes itself, and its keys can be used. Its secret is tried with a sign-in.")


async def _find(tx: OperatorTx, provider_id: UUID) -> IdentityProvider:
    row = await store.one(tx, provider_id)
    if row is None:
        raise NotFound("There is no such identity provider here.")
    return row


def _all_of(row: IdentityProvider) -> dict[str, Detail]:
    return {name: getattr(row, name) for name in _SHOWN} | {"has_secret": row.secret_ciphertext is not None}


async def _record(
    tx: OperatorTx, order: Order, action: str, row: IdentityProvider, details: dict[str, Detail], id_: str | None = None
) -> None:
    await record(tx, PLATFORM_ID, order, action, ("identity_provider", id_ or str(row.id)), details)
