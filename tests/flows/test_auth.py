"""Who a key belongs to, and when it is refused."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from tests.conftest import TEST_SECRET, SeededTemplate
from tollhouse.core.access import of_scopes
from tollhouse.core.ask import Credential
from tollhouse.core.errors import Forbidden, Overloaded, Unauthenticated
from tollhouse.core.key import Scope, make_key
from tollhouse.core.vault import Keyring
from tollhouse.flows import auth, govern
from tollhouse.flows.auth import Caller, Identities, authenticate, credential_of, require
from tollhouse.flows.order import MadeKey, NewKey, NewOrganization, Order
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database

DEMO_ID = UUID(int=1)
KEYRING = Keyring(TEST_SECRET)
NEW = b"the secret that came after it"
ROTATED = Keyring(NEW, (b"one that was long ago", TEST_SECRET))


@dataclass
class Cast:
    db: Database
    order: Order
    organization_id: UUID

    async def key(
        self, *scopes: Scope, expires_at: datetime | None = None, keyring: Keyring = KEYRING
    ) -> MadeKey:  # fmt: skip
        wanted = NewKey("a key", scopes or ("gateway",), "test", expires_at)
        return await govern.create_key(self.db, self.order, keyring, self.organization_id, wanted)


@pytest.fixture
async def cast(database_url: str) -> AsyncIterator[Cast]:
    db = Database(database_url)
    await db.open()
    order = Order("system", datetime.now(UTC))
    made = await govern.create_organization(db, order, NewOrganization("Mill", "free"))
    yield Cast(db, order, made.result().organization.id)
    await db.close()


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"x-api-key", b" abc ")], "abc"),
        ([(b"x-api-key", b"other"), (b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"other")], "other"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"x-api-key", b"")], None),
        ([(b"authorization", b"Bearer \xff")], "\xff"),
        ([], None),
    ],
)
def test_a_key_is_found_in_either_header_the_standard_one_first(
    headers: list[tuple[bytes, bytes]], found: str | None
) -> None:
    assert credential_of(headers) == found


async def test_a_key_leads_to_its_organisation_and_its_scopes(cast: Cast) -> None:
    made = await cast.key("credits", "act_as")
    caller = await authenticate(cast.db, KEYRING, made.key, cast.order.now)
    assert caller == Caller(
        cast.organization_id, Credential("key", made.row.id), frozenset({"credits.use", "act_as"}), "test"
    )
    assert caller.actor == f"key:{made.row.id}"


async def test_who_sends_no_key_or_half_of_one_is_told_what_a_key_looks_like(
    cast: Cast, subtests: pytest.Subtests
) -> None:
    whole = (await cast.key()).key
    for credential in (None, "th_test_short", whole[:-1], whole + "a", whole.swapcase(), "th_live_" + whole[8:]):
        with subtests.test(credential=credential), pytest.raises(Unauthenticated, match=r"th_|no such API key"):
            await authenticate(cast.db, KEYRING, credential, cast.order.now)


async def test_what_is_no_key_of_ours_is_unknown(cast: Cast, subtests: pytest.Subtests) -> None:
    for credential in ("", "sk-other", "\xff" * 44, "a\x00b", "x" * 60_000):
        with subtests.test(credential=credential[:10]), pytest.raises(Unauthenticated, match="no such API key"):
            await authenticate(cast.db, KEYRING, credential, cast.order.now)


async def test_a_well_formed_key_that_was_never_made_is_unknown(cast: Cast) -> None:
    with pytest.raises(Unauthenticated, match="no such API key"):
        await authenticate(cast.db, KEYRING, make_key("test", os.urandom(64)), cast.order.now)


async def test_a_key_is_unknown_under_another_secret(cast: Cast) -> None:
    made = await cast.key()
    with pytest.raises(Unauthenticated, match="no such API key"):
        await authenticate(cast.db, Keyring(b"another secret"), made.key, cast.order.now)


async def test_a_key_lives_through_a_change_of_the_secret_until_the_former_one_is_forgotten(cast: Cast) -> None:
    made = await cast.key("credits")
    before = await authenticate(cast.db, KEYRING, made.key, cast.order.now)
    assert await authenticate(cast.db, ROTATED, made.key, cast.order.now) == before
    with pytest.raises(Unauthenticated, match="no such API key"):
        await authenticate(cast.db, Keyring(NEW), made.key, cast.order.now)


async def test_a_key_that_is_made_after_the_change_needs_the_present_secret_only(cast: Cast) -> None:
    made = await cast.key(keyring=ROTATED)
    for keyring in (ROTATED, Keyring(NEW)):
        assert (await authenticate(cast.db, keyring, made.key, cast.order.now)).credential.id == made.row.id
    with pytest.raises(Unauthenticated, match="no such API key"):
        await authenticate(cast.db, KEYRING, made.key, cast.order.now)


async def test_a_key_of_a_former_secret_that_was_revoked_is_refused(cast: Cast) -> None:
    made = await cast.key()
    await govern.revoke_key(cast.db, cast.order, cast.organization_id, made.row.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticate(cast.db, ROTATED, made.key, cast.order.now)


async def test_what_no_secret_knows_is_unknown(cast: Cast, subtests: pytest.Subtests) -> None:
    await cast.key()
    for credential in (make_key("test", os.urandom(64)), "sk-other", "\xff" * 44):
        with subtests.test(credential=credential):
            with pytest.raises(Unauthenticated, match="no such API key"):
                await authenticate(cast.db, ROTATED, credential, cast.order.now)
            with pytest.raises(Unauthenticated, match="no such API key"):
                await Identities(cast.db, ROTATED).identify(credential)


async def test_a_revoked_key_is_refused_from_the_next_call_on(cast: Cast) -> None:
    made = await cast.key()
    await authenticate(cast.db, KEYRING, made.key, cast.order.now)
    await govern.revoke_key(cast.db, cast.order, cast.organization_id, made.row.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticate(cast.db, KEYRING, made.key, cast.order.now)


async def test_a_key_works_until_its_expiry_and_not_at_it(cast: Cast) -> None:
    ends = cast.order.now + timedelta(hours=1)
    made = await cast.key(expires_at=ends)
    await authenticate(cast.db, KEYRING, made.key, ends - timedelta(microseconds=1))
    with pytest.raises(Unauthenticated, match="expired at"):
        await authenticate(cast.db, KEYRING, made.key, ends)


async def test_a_key_expires_by_the_organisations_own_time(cast: Cast) -> None:
    made = await cast.key(expires_at=cast.order.now + timedelta(days=1))
    await govern.move_clock(cast.db, cast.order, "test", cast.organization_id, cast.order.now + timedelta(days=2))
    with pytest.raises(Unauthenticated, match="expired at"):
        await authenticate(cast.db, KEYRING, made.key, cast.order.now)


async def test_a_suspended_organisation_is_forbidden(cast: Cast, database_url: str) -> None:
    made = await cast.key()
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE organization SET suspended_at = now() WHERE id = %s", (cast.organization_id,))
    with pytest.raises(Forbidden, match="suspended"):
        await authenticate(cast.db, KEYRING, made.key, cast.order.now)


def caller(organization_id: UUID, *scopes: Scope) -> Caller:
    permissions = of_scopes(scopes, platform=organization_id == PLATFORM_ID)
    return Caller(organization_id, Credential("key", UUID(int=9)), permissions, "test")


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(Forbidden, match="'credits' or 'gateway'"):
        require(caller(DEMO_ID, "act_as"), "credits.use", "models.use")


def test_one_of_the_scopes_suffices() -> None:
    require(caller(DEMO_ID, "gateway"), "credits.use", "models.use")


def test_the_scope_operator_counts_on_keys_of_the_platform_only() -> None:
    require(caller(PLATFORM_ID, "operator"), "platform")
    with pytest.raises(Forbidden, match="'operator'"):
        require(caller(DEMO_ID, "operator"), "platform")


async def test_the_seeded_operator_key_is_an_operator(cast: Cast, seeded_template: SeededTemplate) -> None:
    found = await authenticate(cast.db, KEYRING, seeded_template.operator_key, datetime.now(UTC))
    require(found, "platform")


async def test_an_identity_is_known_without_the_database_once_it_was_seen(cast: Cast) -> None:
    identities = Identities(cast.db, KEYRING)
    made, never_seen = await cast.key(), await cast.key()
    first = await identities.identify(made.key)
    await cast.db.close()
    assert await identities.identify(made.key) == first
    assert (first.organization_id, first.key_id) == (cast.organization_id, made.row.id)
    with pytest.raises(Overloaded):
        await identities.identify(never_seen.key)


async def test_the_memory_of_identities_has_a_bound(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "IDENTITIES_MAX", 2)
    identities = Identities(cast.db, KEYRING)
    made = [await cast.key() for _ in range(3)]
    for one in made:
        await identities.identify(one.key)
    await cast.db.close()
    assert [(await identities.identify(one.key)).key_id for one in made[1:]] == [one.row.id for one in made[1:]]
    with pytest.raises(Overloaded):
        await identities.identify(made[0].key)


async def test_an_identity_lives_through_a_change_of_the_secret_and_is_then_known_without_the_database(
    cast: Cast,
) -> None:
    of_former, of_present = await cast.key(), await cast.key(keyring=ROTATED)
    identities = Identities(cast.db, ROTATED)
    for made in (of_former, of_present):
        assert (await identities.identify(made.key)).key_id == made.row.id
    with pytest.raises(Unauthenticated):
        await Identities(cast.db, Keyring(NEW)).identify(of_former.key)
    await cast.db.close()
    assert (await identities.identify(of_former.key)).key_id == of_former.row.id


async def test_unknown_keys_are_not_remembered_so_that_one_made_later_works(cast: Cast) -> None:
    identities = Identities(cast.db, KEYRING)
    with pytest.raises(Unauthenticated):
        await identities.identify(make_key("test", os.urandom(64)))
    made = await cast.key()
    assert (await identities.identify(made.key)).key_id == made.row.id
