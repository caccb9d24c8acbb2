"""The issuers whose tokens an organisation trusts: made, changed, deleted and tested by it. What is saved has been
tried: its keys were fetched once."""

import os
from dataclasses import dataclass, replace
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound
from tollhouse.core.issuer import OF_AN_ORGANIZATION_MAX, check_audience, check_issuer, default_audience
from tollhouse.core.key import ordered_id
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.flows import fund
from tollhouse.flows.audit import record
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets, KeysMissing, fetch_keys
from tollhouse.flows.order import Order
from tollhouse.outside.address import check_url
from tollhouse.store import jwt_issuer as store
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.jwt_issuer import JwtIssuer

_CHANGEABLE = ("name", "jwks_url", "user_claim", "enabled")


@dataclass(frozen=True, slots=True)
class Ordered:
    """Whose issuers they are, and by whose order something is done with them."""

    organization_id: UUID
    order: Order

    def __post_init__(self) -> None:
        if self.organization_id == PLATFORM_ID:
            raise Forbidden(
                "The platform has no end users, so it trusts no issuer: register it for an organisation, with a key of "
                "that. Identity providers for sign-in are at /api/operator/identity-providers."
            )


@dataclass(frozen=True, slots=True)
class NewIssuer:
    """`audience` None: the organisation's own."""

    name: str
    issuer: str
    audience: str | None
    jwks_url: str
    user_claim: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """What is None stays as it is. Issuer and audience stay whatever is wanted: tokens of another issuer are of other
    people."""

    name: str | None = None
    jwks_url: str | None = None
    user_claim: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """How a test went: `message` is a sentence of ours, never what the issuer wrote."""

    ok: bool
    message: str


async def read(db: Database, organization_id: UUID) -> list[JwtIssuer]:
    async with db.tenant(organization_id) as tx:
        return await store.of(tx, organization_id)


async def create(db: Database, policy: Policy, keys: KeySets, ordered: Ordered, wanted: NewIssuer) -> JwtIssuer:
    """BadRequest for what cannot be an issuer, an audience or an address, and when no usable keys are there; Conflict
    for an issuer and audience that are registered already, and for one issuer too many."""
    row = _new(policy, ordered, wanted)
    await _check_keys(policy, keys, row)
    async with db.operator() as tx:
        await fund.lock_one(tx, ordered.organization_id)
        present = await store.of(tx, ordered.organization_id)
        if any((one.issuer, one.audience) == (row.issuer, row.audience) for one in present):
            raise Conflict("This issuer is trusted for this audience already: change that entry, or delete it first.")
        if len(present) >= OF_AN_ORGANIZATION_MAX:
            raise Conflict(f"There are {len(present)} issuers here already. Delete one that is not needed.")
        if not await store.insert(tx, row):
            own = default_audience(row.organization_id)
            raise Conflict(
                "Another organisation has this issuer with this audience, and a token can be for one only. Have your "
                f"issuer issue tokens for the audience {own!r}, which nobody else can have."
            )
        await _record(tx, ordered, "issuer.created", row, _all_of(row))
        return row


async def change(
    db: Database, policy: Policy, keys: KeySets, ordered: Ordered, issuer_id: UUID, wanted: Change
) -> JwtIssuer:  # fmt: skip
    """NotFound, BadRequest as for a new one. Counts within five seconds, everywhere."""
    async with db.tenant(ordered.organization_id) as tenant:
        before = await store.one(tenant, ordered.organization_id, issuer_id)
    draft = _changed(policy, _found(before), wanted)
    if before is not None and draft.jwks_url != before.jwks_url:
        await _check_keys(policy, keys, draft)
    async with db.operator() as tx:
        await fund.lock_one(tx, ordered.organization_id)
        before = _found(await store.one(tx, ordered.organization_id, issuer_id))
        after = _changed(policy, before, wanted)
        if after != before:
            after = replace(after, updated_at=ordered.order.now)
            await store.update(tx, after)
        changes: dict[str, Detail] = {
            name: {"from": getattr(before, name), "to": getattr(after, name)}
            for name in _CHANGEABLE
            if getattr(before, name) != getattr(after, name)
        }
        await _record(tx, ordered, "issuer.changed", after, changes)
        return after


async def delete(db: Database, ordered: Ordered, issuer_id: UUID) -> None:
    """Its tokens are worth nothing within five seconds, everywhere. NotFound."""
    async with db.operator() as tx:
        await fund.lock_one(tx, ordered.organization_id)
        row = _found(await store.one(tx, ordered.organization_id, issuer_id))
        await store.delete(tx, ordered.organization_id, issuer_id)
        await _record(tx, ordered, "issuer.deleted", row, _all_of(row))


async def try_stored(db: Database, policy: Policy, keys: KeySets, ordered: Ordered, issuer_id: UUID) -> Tried:
    """Whether its keys can be had now."""
    async with db.operator() as tx:
        row = _found(await store.one(tx, ordered.organization_id, issuer_id))
        await _record(tx, ordered, "issuer.tested", row, {"jwks_url": row.jwks_url})
    return await _try(policy, keys, row)


async def try_draft(db: Database, policy: Policy, keys: KeySets, ordered: Ordered, wanted: NewIssuer) -> Tried:
    """Whether an issuer would work that is not made yet. It is refused for what `create` refuses."""
    row = _new(policy, ordered, wanted)
    async with db.operator() as tx:
        await _record(tx, ordered, "issuer.draft_tested", row, _all_of(row), id_="draft")
    return await _try(policy, keys, row)


# ---------------------------------------------------------------------------------------------------------------- parts


def _new(policy: Policy, ordered: Ordered, wanted: NewIssuer) -> JwtIssuer:
    owner, now = ordered.organization_id, ordered.order.now
    audience = default_audience(owner) if wanted.audience is None else check_audience(owner, wanted.audience)
    return JwtIssuer(
        owner, ordered_id(now, os.urandom(10)), wanted.name, check_issuer(wanted.issuer), audience,
        _address(policy, owner, wanted.jwks_url), wanted.user_claim, wanted.enabled, now, None,
    )  # fmt: skip


def _changed(policy: Policy, row: JwtIssuer, wanted: Change) -> JwtIssuer:
    given = {name: value for name in _CHANGEABLE if (value := getattr(wanted, name)) is not None}
    if "jwks_url" in given:
        given["jwks_url"] = _address(policy, row.organization_id, given["jwks_url"])
    return replace(row, **given)


def _address(policy: Policy, organization_id: UUID, url: str) -> str:
    try:
        return str(check_url(url, allow_private=policy.private_allowed(organization_id)))
    except ValueError as error:
        raise BadRequest(f"{error}", "jwks_url") from error


async def _check_keys(policy: Policy, keys: KeySets, row: JwtIssuer) -> None:
    tried = await _try(policy, keys, row)
    if not tried.ok:
        raise BadRequest(tried.message, "jwks_url")


async def _try(policy: Policy, keys: KeySets, row: JwtIssuer) -> Tried:
    try:
        allow_private = policy.private_allowed(row.organization_id)
        found = await fetch_keys(keys.fetcher, row.jwks_url, allow_private=allow_private)
    except KeysMissing as problem:
        return Tried(False, f"The keys at this address cannot be used: {problem}.")
    return Tried(True, f"The issuer publishes {len(found)} usable key{'s' if len(found) > 1 else ''}.")


def _found(row: JwtIssuer | None) -> JwtIssuer:
    if row is None:
        raise NotFound("There is no such issuer here.")
    return row


def _all_of(row: JwtIssuer) -> dict[str, Detail]:
    return {name: getattr(row, name) for name in ("issuer", "audience", *_CHANGEABLE)}


async def _record(
    tx: OperatorTx, ordered: Ordered, action: str, row: JwtIssuer, details: dict[str, Detail], id_: str | None = None
) -> None:
    about = ("issuer", id_ or str(row.id))
    await record(tx, ordered.organization_id, ordered.order, action, about, details)
