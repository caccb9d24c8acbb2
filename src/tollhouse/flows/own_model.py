"""Models of one's own: added, tried, changed and deleted, each change in one transaction with its audit row."""

import os
from dataclasses import dataclass, field, replace
from uuid import UUID

from tollhouse.core import vault
from tollhouse.core.audit import Detail
from tollhouse.core.connection import hint_of
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import ordered_id
from tollhouse.core.own_model import PREFIX, OwnModel, OwnModelGone, Protocol, own_model_id
from tollhouse.core.vault import association
from tollhouse.flows.audit import record
from tollhouse.flows.connection import Policy, Rekey, Tried, check
from tollhouse.flows.order import Order
from tollhouse.outside.address import check_base_url
from tollhouse.store import organization as organizations
from tollhouse.store import own_model as store
from tollhouse.store.db import Database, TenantTx


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose models they are: one person's in an organisation, or with `person_id` None everybody's there."""

    organization_id: UUID
    person_id: UUID | None
    order: Order


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model as somebody describes it. `rekey` None: the key that there is stays, of a new one: there is none."""

    name: str
    protocol: Protocol
    base_url: str
    provider_model_id: str
    system_message: str
    context_window: int
    max_output_tokens: int
    rekey: Rekey | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Room:
    """How many there are in the organisation, and how many its plan allows; None: any number."""

    used: int
    most: int | None

    @property
    def full(self) -> bool:
        return self.most is not None and self.used >= self.most


async def room(db: Database, organization_id: UUID) -> Room:
    async with db.tenant(organization_id) as tx:
        return await room_in(tx, organization_id)


async def room_in(tx: TenantTx, organization_id: UUID) -> Room:
    return Room(await store.count(tx, organization_id), await store.most(tx, organization_id))


async def read(db: Database, owner: Owner, own_model_id: UUID) -> OwnModel:
    """NotFound for one that is somebody else's, or nobody's."""
    async with db.tenant(owner.organization_id) as tx:
        return await _find(tx, owner, own_model_id)


async def called(db: Database, organization_id: UUID, person_id: UUID, model_id: str) -> OwnModel | None:
    """The model of one's own that "own/<uuid>" names, None for any other name. OwnModelGone for one that is neither
    the person's nor the organisation's."""
    if not model_id.startswith(PREFIX):
        return None
    id_ = own_model_id(model_id)
    async with db.tenant(organization_id) as tx:
        row = await store.find(tx, organization_id, id_) if id_ is not None else None
    if row is None or row.person_id not in (None, person_id):
        raise OwnModelGone
    return row


async def create(db: Database, policy: Policy, owner: Owner, wanted: Wanted) -> OwnModel:
    """BadRequest for an address that is none or is not allowed, Conflict for one more than the plan has."""
    async with db.tenant(owner.organization_id) as tx:
        await organizations.lock(tx, owner.organization_id)
        row = _new(policy, owner, wanted)
        left = await room_in(tx, owner.organization_id)
        if left.full:
            raise Conflict(
                f"The plan has {left.most} models of one's own for the whole organisation, and there are {left.used}. "
                "Delete one that is not needed, or upgrade the plan."
            )
        await store.insert(tx, row)
        await _record(tx, owner, "own_model.created", row)
        return row


async def change(db: Database, policy: Policy, owner: Owner, own_model_id: UUID, wanted: Wanted) -> OwnModel:
    """It counts from the next call on. NotFound, BadRequest as for a new one and when a key would go to another address
    than it was entered for."""
    async with db.tenant(owner.organization_id) as tx:
        await organizations.lock(tx, owner.organization_id)
        row = _changed(policy, await _find(tx, owner, own_model_id), owner, wanted)
        await store.update(tx, row)
        await _record(tx, owner, "own_model.changed", row, key_changed=wanted.rekey is not None)
        return row


async def delete(db: Database, owner: Owner, own_model_id: UUID) -> OwnModel:
    """Its key goes with it; conversations stay. NotFound."""
    async with db.tenant(owner.organization_id) as tx:
        await organizations.lock(tx, owner.organization_id)
        row = await _find(tx, owner, own_model_id)
        await store.delete(tx, owner.organization_id, own_model_id)
        await _record(tx, owner, "own_model.deleted", row)
        return row


async def try_draft(db: Database, policy: Policy, owner: Owner, wanted: Wanted) -> Tried:
    """Whether what was typed would work; refused for what `create` refuses, their number excepted."""
    row = _new(policy, owner, wanted)
    async with db.tenant(owner.organization_id) as tx:
        await _record(tx, owner, "own_model.draft_tested", row, id_="draft")
    return await check(row, policy)


async def try_changed(db: Database, policy: Policy, owner: Owner, own_model_id: UUID, wanted: Wanted) -> Tried:
    """Whether it works as it would be after the change."""
    async with db.tenant(owner.organization_id) as tx:
        row = _changed(policy, await _find(tx, owner, own_model_id), owner, wanted)
        await _record(tx, owner, "own_model.tested", row)
    return await check(row, policy)


# ------------------------------------------------------------------------------------------------------------- the row


def _new(policy: Policy, owner: Owner, wanted: Wanted) -> OwnModel:
    now = owner.order.now
    blank = OwnModel(
        owner.organization_id, ordered_id(now, os.urandom(10)), owner.person_id, wanted.name, wanted.protocol,
        _checked(policy, owner, wanted.base_url), wanted.provider_model_id, None, None, wanted.system_message,
        wanted.context_window, wanted.max_output_tokens, now, now,
    )  # fmt: skip
    return blank if wanted.rekey is None else _rekeyed(policy, blank, wanted.rekey)


def _changed(policy: Policy, row: OwnModel, owner: Owner, wanted: Wanted) -> OwnModel:
    base_url = row.base_url
    if wanted.base_url != row.base_url:
        base_url = _checked(policy, owner, wanted.base_url)
    if base_url != row.base_url and row.key_ciphertext is not None and wanted.rekey is None:
        raise BadRequest(
            "The key was entered for another address and goes to no other: type it again for this one.", "key"
        )
    after = replace(
        row, name=wanted.name, protocol=wanted.protocol, base_url=base_url, provider_model_id=wanted.provider_model_id,
        system_message=wanted.system_message, context_window=wanted.context_window,
        max_output_tokens=wanted.max_output_tokens, updated_at=owner.order.now,
    )  # fmt: skip
    return after if wanted.rekey is None else _rekeyed(policy, after, wanted.rekey)


def _rekeyed(policy: Policy, row: OwnModel, rekey: Rekey) -> OwnModel:
    if rekey.key is None:
        return replace(row, key_ciphertext=None, key_hint=None)
    associated = association(row.organization_id, row.provider_id)
    sealed = policy.keyring.seal(rekey.key, associated, os.urandom(vault.NONCE_BYTES))
    return replace(row, key_ciphertext=sealed, key_hint=hint_of(rekey.key))


def _checked(policy: Policy, owner: Owner, address: str) -> str:
    """The address as it is stored."""
    try:
        return str(check_base_url(address, allow_private=policy.private_allowed(owner.organization_id)))
    except ValueError as error:
        raise BadRequest(str(error), "base_url") from error


async def _find(tx: TenantTx, owner: Owner, own_model_id: UUID) -> OwnModel:
    row = await store.find(tx, owner.organization_id, own_model_id)
    if row is None or row.person_id != owner.person_id:
        raise NotFound("There is no such model of your own here.")
    return row


async def _record(
    tx: TenantTx, owner: Owner, action: str, row: OwnModel, id_: str | None = None, **more: Detail
) -> None:
    """All of it but its key and what it is told."""
    details: dict[str, Detail] = {
        "of": "person" if row.person_id is not None else "organization",
        "protocol": row.protocol,
        "base_url": row.base_url,
        "provider_model": row.provider_model_id,
        "has_key": row.key_ciphertext is not None,
    }
    await record(tx, owner.organization_id, owner.order, action, ("own_model", id_ or str(row.id)), details | more)
