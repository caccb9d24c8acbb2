"""What a new installation begins with: the catalogue, the platform and its first operator key, in test mode a demo
organisation, and the connections that the environment names. Run at every start: only what is missing is added."""

import os
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection

from tollhouse.core import vault
from tollhouse.core.connection import hint_of
from tollhouse.core.fund import first_balance
from tollhouse.core.key import Scope, digest, digests, looks_like_a_key, make_key, ordered_id, shown
from tollhouse.core.membership import Kind
from tollhouse.core.period import months_after
from tollhouse.core.vault import Keyring
from tollhouse.flows import fund
from tollhouse.flows.connection import Policy
from tollhouse.outside.address import check_base_url
from tollhouse.seed import assistants, capabilities, models, plans
from tollhouse.store import catalogue
from tollhouse.store import key as keys
from tollhouse.store import organization as organizations
from tollhouse.store import seed as store
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import OperatorTx
from tollhouse.store.key import ApiKey
from tollhouse.store.organization import Organization
from tollhouse.trouble import Trouble

DEMO_ID = UUID(int=1)
PLATFORM_PLAN = "enterprise"
DEMO_PLAN = "pro"
DEMO_SCOPES: tuple[Scope, ...] = ("gateway", "credits", "act_as")
PARTITION_MONTHS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class VendorConnectionInput:
    """What the environment says about a vendor. Without a base URL it is the vendor's own API."""

    provider_id: str
    base_url: str | None
    key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SeedInput:
    """`policy` has the installation's secrets and mode; `operator_key`, when given, is accepted from now on besides any
    other."""

    policy: Policy
    operator_key: str | None = field(repr=False)
    vendor_connections: tuple[VendorConnectionInput, ...]


@dataclass(frozen=True, slots=True)
class Seeded:
    """The keys that were made just now: nobody can show them again. The demo organisation exists in test mode."""

    operator_key: str | None = field(repr=False)
    demo_key: str | None = field(repr=False)
    demo_organization_id: UUID | None


async def seed(url: str, given: SeedInput, now: datetime) -> Seeded:
    """Seeds the migrated database whose owner `url` names, in one transaction; safe to run any number of times and by
    several processes at once. Raises Trouble for a vendor's connection that cannot work, and then changes nothing."""
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        tx = OperatorTx(connection)  # the owner may do all that an operator may
        async with tx.transaction():
            await store.begin(tx)
            changed = await _catalogue(tx)
            changed |= await _platform(tx, now)
            changed |= await _assistants(tx, now)
            operator_key = await _operator_key(tx, given, now)
            demo_key = await _demo(tx, given, now) if given.policy.mode == "test" else None
            changed |= await _connections(tx, given, now)
            await store.create_usage_partitions(tx, now, months_after(now, PARTITION_MONTHS_AHEAD))
        if changed or operator_key or demo_key:
            await store.analyze(tx)  # after the commit: it locks nothing that others wait for
    return Seeded(operator_key, demo_key, DEMO_ID if given.policy.mode == "test" else None)


async def _catalogue(tx: OperatorTx) -> bool:
    """What hangs on others comes only together with one that is new: what an operator took away stays away."""
    new_plans = await store.insert_plans(tx, plans.PLANS)
    new_packages = await store.insert_topup_packages(tx, plans.TOPUP_PACKAGES)
    new_rates = await store.insert_rate_cards(tx, plans.RATE_CARDS)
    new_providers = await store.insert_providers(tx, models.PROVIDERS)
    new_models = await store.insert_models(tx, models.MODELS)
    new_levels = await store.insert_quality_levels(tx, capabilities.QUALITY_LEVELS)
    new_capabilities = await store.insert_capabilities(tx, capabilities.CAPABILITIES)
    filled = await store.fill_capabilities(tx, capabilities.CAPABILITIES)
    await store.insert_prices(tx, [row for row in models.PRICES if row.model_id in new_models])
    await store.insert_plan_capabilities(
        tx,
        [
            row
            for row in capabilities.PLAN_CAPABILITIES
            if row.plan_id in new_plans or row.capability_id in new_capabilities
        ],
    )
    await store.insert_plan_qualities(
        tx,
        [
            row
            for row in capabilities.PLAN_QUALITIES
            if row.plan_id in new_plans or row.capability_id in new_capabilities or row.quality_id in new_levels
        ],
    )
    await store.insert_plan_models(
        tx,
        [
            row
            for row in capabilities.PLAN_MODELS
            if row.plan_id in new_plans
            or row.capability_id in new_capabilities
            or row.quality_id in new_levels
            or row.model_id in new_models
        ],
    )
    named = new_plans | new_packages | new_providers | new_models | new_levels | new_capabilities
    return bool(named) or new_rates or filled


# ----------------------------------------------------------------------------------------------- organisations and keys


async def _platform(tx: OperatorTx, now: datetime) -> bool:
    if await organizations.find(tx, PLATFORM_ID) is not None:
        return False
    await _found(tx, PLATFORM_ID, "Platform", "platform", PLATFORM_PLAN, now)
    return True


async def _assistants(tx: OperatorTx, now: datetime) -> bool:
    """Each comes with what it knows; one that is there already keeps what operators made of it."""
    missing = await store.missing_assistants(tx, assistants.ASSISTANTS)
    if missing:
        await store.insert_assistants(tx, missing, now)
    for one in missing:
        if documents := list(assistants.knowledge(one)):
            await store.insert_knowledge(tx, one.id, documents, now)
    return bool(missing)


async def _found(tx: OperatorTx, id_: UUID, name: str, kind: Kind, plan_id: str, now: datetime) -> None:
    """A new organisation whose first period begins now, with an empty balance."""
    row = Organization(id_, name, kind, "general", plan_id, None, now, 0, None, now)
    await organizations.insert(tx, row)
    await organizations.insert_balance(tx, first_balance(id_, row.period_anchor, now))


async def _operator_key(tx: OperatorTx, given: SeedInput, now: datetime) -> str | None:
    if given.operator_key is not None:
        if await keys.find(tx, digests(given.policy.keyring.secrets, given.operator_key)) is not None:
            return None
        return await _insert_key(tx, given, given.operator_key, PLATFORM_ID, "Operator", ("operator",), now)
    return await _first_key(tx, given, PLATFORM_ID, "Operator", ("operator",), now)


async def _demo(tx: OperatorTx, given: SeedInput, now: datetime) -> str | None:
    if await organizations.find(tx, DEMO_ID) is None:
        await _found(tx, DEMO_ID, "Demo", "team", DEMO_PLAN, now)
        await fund.begin(tx, DEMO_ID, (await catalogue.load(tx)).plans[DEMO_PLAN], now)
    return await _first_key(tx, given, DEMO_ID, "Demo", DEMO_SCOPES, now)


async def _first_key(
    tx: OperatorTx, given: SeedInput, owner: UUID, name: str, scopes: tuple[Scope, ...], now: datetime
) -> str | None:
    """A new key, when the organisation has none of this mode that works and may do as much."""
    for known in await keys.live(tx, owner, now):
        if known.mode == given.policy.mode and set(scopes) <= set(known.scopes):
            return None
    return await _insert_key(tx, given, make_key(given.policy.mode, os.urandom(64)), owner, name, scopes, now)


async def _insert_key(
    tx: OperatorTx, given: SeedInput, key: str, owner: UUID, name: str, scopes: tuple[Scope, ...], now: datetime
) -> str:
    """Of a key that somebody thought up, at most a quarter is stored to recognise it by."""
    start = shown(key) if looks_like_a_key(key) else shown(key)[: len(key) // 4]
    row = ApiKey(owner, ordered_id(now, os.urandom(10)), name, start, list(scopes), given.policy.mode, None, None, now)
    await keys.insert(tx, row, digest(given.policy.keyring.current, key))
    return key


# ---------------------------------------------------------------------------------------------------------- connections


async def _connections(tx: OperatorTx, given: SeedInput, now: datetime) -> bool:
    """The platform's connections of the environment become what the environment says now; those of operators are not
    touched. A connection whose vendor the environment names no longer is disabled."""
    own_addresses = await store.base_urls(tx)
    there = {row.provider_id: row for row in await store.environment_connections(tx, PLATFORM_ID)}
    keyring, changed = given.policy.keyring, False
    for wanted in given.vendor_connections:
        if not wanted.key and not wanted.base_url:
            continue
        base_url = wanted.base_url or own_addresses.get(wanted.provider_id)
        _check_vendor(wanted, base_url, own_addresses)
        assert base_url is not None
        _check_address(wanted, base_url, allow_private=given.policy.private_allowed(PLATFORM_ID))
        row = there.pop(wanted.provider_id, None)
        if row is not None and row.enabled and row.base_url == base_url and _same_key(keyring, wanted, row):
            continue
        id_ = row.id if row is not None else ordered_id(now, os.urandom(10))
        hint = hint_of(wanted.key or "")
        written = store.ConnectionRow(
            id_, wanted.provider_id, base_url, _sealed(keyring, wanted), hint, enabled=True
        )  # fmt: skip
        await store.write_environment_connection(tx, PLATFORM_ID, written, now)
        changed = True
    gone = [row.id for row in there.values() if row.enabled]
    if gone:
        await store.disable_connections(tx, PLATFORM_ID, gone)
    return changed or bool(gone)


def _check_vendor(wanted: VendorConnectionInput, base_url: str | None, known: dict[str, str | None]) -> None:
    vendor = wanted.provider_id
    if vendor not in known:
        raise Trouble(f"There is no provider {vendor!r} to connect to. These can be: {', '.join(sorted(known))}.")
    if base_url is None:
        raise Trouble(
            f"{vendor!r} has no address that everybody shares: set {vendor.upper()}_BASE_URL to that of your server."
        )
    if wanted.key and not (wanted.key.isascii() and wanted.key.isprintable()):
        raise Trouble(
            f"The key of {vendor!r} holds a line break or a letter that no provider's key has: "
            f"copy it again into {vendor.upper()}_API_KEY."
        )


def _check_address(wanted: VendorConnectionInput, base_url: str, *, allow_private: bool) -> None:
    name = f"{wanted.provider_id.upper()}_BASE_URL"
    try:
        check_base_url(base_url, allow_private=True)
    except ValueError as error:
        raise Trouble(f"{name} is of no use: {error}.") from error
    try:
        check_base_url(base_url, allow_private=allow_private)
    except ValueError as error:
        raise Trouble(
            f"{name} leads to this machine or a private network, or begins with http://, and in live mode that must be "
            "allowed: set TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS=true (docs/providers.md says what else it allows), or "
            "give the server an https address that is public."
        ) from error


def _same_key(keyring: Keyring, wanted: VendorConnectionInput, row: store.ConnectionRow) -> bool:
    """Whether the row holds this key under the current secret, with its hint."""
    if row.key_ciphertext is None or not wanted.key:
        return row.key_ciphertext is None and not wanted.key
    if row.key_hint != hint_of(wanted.key):
        return False
    try:
        return vault.open_sealed(keyring.current, row.key_ciphertext, _association(wanted)) == wanted.key
    except vault.SealBroken:  # the installation has another secret now: seal it anew
        return False


def _sealed(keyring: Keyring, wanted: VendorConnectionInput) -> bytes | None:
    if not wanted.key:
        return None
    return keyring.seal(wanted.key, _association(wanted), os.urandom(vault.NONCE_BYTES))


def _association(wanted: VendorConnectionInput) -> bytes:
    return vault.association(PLATFORM_ID, wanted.provider_id)
