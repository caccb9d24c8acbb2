"""Who it is that came with a key, and when it is refused. Tokens and sessions: tests/gateway/test_carriers.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import psycopg
import pytest

from tests.conftest import TEST_POLICY, TEST_SECRET, SeededTemplate
from tollhouse.core.access import of_scopes
from tollhouse.core.ask import Credential
from tollhouse.core.errors import BadRequest, Forbidden, Overloaded, TooManyTries, Unauthenticated
from tollhouse.core.key import Scope, end_user_id, make_key
from tollhouse.core.throttle import GUESS_ADDRESS
from tollhouse.core.vault import Keyring
from tollhouse.flows import auth, govern, key
from tollhouse.flows.auth import Authentication, Caller, Identity, credential_of, require, require_person
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.jwt import Tokens
from tollhouse.flows.key import Manager
from tollhouse.flows.order import MadeKey, NewKey, NewOrganization, Order
from tollhouse.flows.site import Site
from tollhouse.outside.fetch import Fetcher
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database

Kind = Literal["key", "issuer", "person"]
DEMO_ID = UUID(int=1)
KEYRING = Keyring(TEST_SECRET)
NEW = b"the secret that came after it"
ROTATED = Keyring(NEW, (b"one that was long ago", TEST_SECRET))


def http(credential: str | None, address: str = "192.0.2.1") -> dict[str, Any]:
    """A request that brings this key."""
    headers = [] if credential is None else [(b"authorization", b"Bearer " + credential.encode("latin-1"))]
    return {"type": "http", "method": "GET", "headers": headers, "client": (address, 50_000)}


@dataclass
class Cast:
    db: Database
    tokens: Tokens
    order: Order
    organization_id: UUID
    ways_in: dict[tuple[bytes, ...], Authentication] = field(default_factory=dict)

    @property
    def manager(self) -> Manager:
        """An operator, of this organisation's keys."""
        return Manager(self.organization_id, self.order, None)

    async def key(
        self, *scopes: Scope, expires_at: datetime | None = None, keyring: Keyring = KEYRING
    ) -> MadeKey:  # fmt: skip
        wanted = NewKey("a key", scopes or ("gateway",), "test", expires_at)
        return await key.create(self.db, Policy(keyring, "test"), self.manager, wanted)

    async def revoke(self, made: MadeKey) -> None:
        await key.revoke(self.db, self.manager, made.row.id)

    def way_in(self, keyring: Keyring) -> Authentication:
        """The one of an installation with these secrets."""
        site = Site("http://tollhouse.test", "test", keyring)
        return self.ways_in.setdefault(tuple(keyring.secrets), Authentication(self.db, site, self.tokens))

    async def asked(
        self,
        credential: str | None,
        keyring: Keyring = KEYRING,
        now: datetime | None = None,
        address: str = "192.0.2.1",
    ) -> Caller:
        return await self.way_in(keyring).authenticate(http(credential, address), now or self.order.now)

    async def identified(self, credential: str, keyring: Keyring = KEYRING) -> Identity:
        return await self.way_in(keyring).identify(http(credential), self.order.now)


@pytest.fixture
async def cast(database_url: str) -> AsyncIterator[Cast]:
    db, fetcher = Database(database_url), Fetcher()
    await db.open()
    order = Order("system", datetime.now(UTC))
    made = await govern.create_organization(db, order, NewOrganization("Mill", "free"))
    tokens = Tokens(db, KeySets(fetcher), TEST_POLICY, lambda: datetime.now(UTC))
    yield Cast(db, tokens, order, made.result().organization.id)
    await fetcher.close()
    await db.close()


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"x-api-key", b" abc ")], "abc"),
        ([(b"x-api-key", b"abc"), (b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b"abc")], "abc"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"other")], "other"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"x-api-key", b"")], None),
        ([(b"authorization", b"Bearer \xff")], "\xff"),
        ([], None),
    ],
)
def test_a_key_is_found_in_either_header(headers: list[tuple[bytes, bytes]], found: str | None) -> None:
    assert credential_of(headers) == found


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", b"other"), (b"authorization", b"Bearer abc")],
        [(b"authorization", b"Bearer abc"), (b"authorization", b"Bearer other")],
        [(b"x-api-key", b"abc"), (b"x-api-key", b"abcd")],
    ],
)
def test_of_two_keys_that_differ_none_is_believed(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadRequest, match="two different keys"):
        credential_of(headers)


async def test_a_key_leads_to_its_organisation_and_its_scopes(cast: Cast) -> None:
    made = await cast.key("credits", "act_as")
    caller = await cast.asked(made.key)
    identity = Identity(cast.organization_id, Credential("key", made.row.id), cast.organization_id)
    assert caller == Caller(identity, frozenset({"credits.use", "act_as"}), "test")
    assert caller.actor == f"key:{made.row.id}"
    assert caller.sees is None


async def test_who_sends_no_key_or_half_of_one_is_told_what_a_key_looks_like(
    cast: Cast, subtests: pytest.Subtests
) -> None:
    whole = (await cast.key()).key
    for credential in (None, "th_test_short", whole[:-1], whole + "a", whole.swapcase(), "th_live_" + whole[8:]):
        with subtests.test(credential=credential), pytest.raises(Unauthenticated, match=r"th_|no such API key"):
            await cast.asked(credential)


async def test_what_is_no_key_of_ours_is_unknown(cast: Cast, subtests: pytest.Subtests) -> None:
    for credential in ("sk-other", "\xff" * 44, "a\x00b", "x" * 60_000):
        with subtests.test(credential=credential[:10]), pytest.raises(Unauthenticated, match="no such API key"):
            await cast.asked(credential)


async def test_a_well_formed_key_that_was_never_made_is_unknown(cast: Cast) -> None:
    with pytest.raises(Unauthenticated, match="no such API key"):
        await cast.asked(make_key("test", os.urandom(64)))


async def test_a_key_is_unknown_under_another_secret(cast: Cast) -> None:
    made = await cast.key()
    with pytest.raises(Unauthenticated, match="no such API key"):
        await cast.asked(made.key, Keyring(b"another secret"))


async def test_a_key_lives_through_a_change_of_the_secret_until_the_former_one_is_forgotten(cast: Cast) -> None:
    made = await cast.key("credits")
    assert await cast.asked(made.key, ROTATED) == await cast.asked(made.key)
    with pytest.raises(Unauthenticated, match="no such API key"):
        await cast.asked(made.key, Keyring(NEW))


async def test_a_key_that_is_made_after_the_change_needs_the_present_secret_only(cast: Cast) -> None:
    made = await cast.key(keyring=ROTATED)
    for keyring in (ROTATED, Keyring(NEW)):
        assert (await cast.asked(made.key, keyring)).credential.id == made.row.id
    with pytest.raises(Unauthenticated, match="no such API key"):
        await cast.asked(made.key)


async def test_a_key_of_a_former_secret_that_was_revoked_is_refused(cast: Cast) -> None:
    made = await cast.key()
    await cast.revoke(made)
    with pytest.raises(Unauthenticated, match="revoked"):
        await cast.asked(made.key, ROTATED)


async def test_what_no_secret_knows_is_unknown(cast: Cast, subtests: pytest.Subtests) -> None:
    await cast.key()
    for credential in (make_key("test", os.urandom(64)), "sk-other", "\xff" * 44):
        with subtests.test(credential=credential):
            with pytest.raises(Unauthenticated, match="no such API key"):
                await cast.asked(credential, ROTATED)
            with pytest.raises(Unauthenticated, match="no such API key"):
                await cast.identified(credential, ROTATED)


async def test_a_revoked_key_is_refused_from_the_next_call_on(cast: Cast) -> None:
    made = await cast.key()
    await cast.asked(made.key)
    await cast.revoke(made)
    with pytest.raises(Unauthenticated, match="revoked"):
        await cast.asked(made.key)


async def test_a_key_works_until_its_expiry_and_not_at_it(cast: Cast) -> None:
    ends = cast.order.now + timedelta(hours=1)
    made = await cast.key(expires_at=ends)
    await cast.asked(made.key, now=ends - timedelta(microseconds=1))
    with pytest.raises(Unauthenticated, match="expired at"):
        await cast.asked(made.key, now=ends)


async def test_a_key_expires_by_the_organisations_own_time(cast: Cast) -> None:
    made = await cast.key(expires_at=cast.order.now + timedelta(days=1))
    await govern.move_clock(cast.db, cast.order, "test", cast.organization_id, cast.order.now + timedelta(days=2))
    with pytest.raises(Unauthenticated, match="expired at"):
        await cast.asked(made.key)


async def test_a_suspended_organisation_is_forbidden(cast: Cast, database_url: str) -> None:
    made = await cast.key()
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE organization SET suspended_at = now() WHERE id = %s", (cast.organization_id,))
    with pytest.raises(Forbidden, match="suspended"):
        await cast.asked(made.key)


# ------------------------------------------------------------------------------------------------------ what is missing


def caller(organization_id: UUID, *scopes: Scope, kind: Kind = "key") -> Caller:
    permissions = of_scopes(scopes, platform=organization_id == PLATFORM_ID)
    return Caller(Identity(organization_id, Credential(kind, UUID(int=9)), UUID(int=9)), permissions, "test")


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(Forbidden, match="'credits' or 'gateway'"):
        require(caller(DEMO_ID, "act_as"), "credits.use", "models.use")


def test_what_no_key_may_do_is_said_to_take_a_person() -> None:
    with pytest.raises(Forbidden, match="signed-in person with the role 'owner'"):
        require(caller(DEMO_ID, "manage"), "organization.own")


def test_a_token_is_told_which_key_would_do() -> None:
    with pytest.raises(Forbidden, match=r"end user .* an API key with the scope 'manage'"):
        require(caller(DEMO_ID, "gateway", "credits", kind="issuer"), "keys.manage")


def test_a_person_is_told_which_roles_would_do() -> None:
    with pytest.raises(Forbidden, match="the role 'admin' or 'owner'"):
        require(caller(DEMO_ID, "gateway", kind="person"), "keys.manage")
    with pytest.raises(Forbidden, match="operators of the platform"):
        require(caller(DEMO_ID, "gateway", kind="person"), "platform")


def test_one_of_the_scopes_suffices() -> None:
    require(caller(DEMO_ID, "gateway"), "credits.use", "models.use")


def test_the_scope_operator_counts_on_keys_of_the_platform_only() -> None:
    require(caller(PLATFORM_ID, "operator"), "platform")
    with pytest.raises(Forbidden, match="'operator'"):
        require(caller(DEMO_ID, "operator"), "platform")


async def test_the_seeded_operator_key_is_an_operator(cast: Cast, seeded_template: SeededTemplate) -> None:
    require(await cast.asked(seeded_template.operator_key), "platform")


@pytest.mark.parametrize("kind", ["key", "issuer"])
def test_what_a_person_does_is_done_by_nobody_else(kind: Kind) -> None:
    with pytest.raises(Forbidden, match="signed in"):
        require_person(caller(DEMO_ID, "manage", kind=kind))


# ----------------------------------------------------------------------------------------------- on whose behalf it is


OF_KEY = Identity(DEMO_ID, Credential("key", UUID(int=5)), DEMO_ID)
OF_TOKEN = Identity(DEMO_ID, Credential("issuer", UUID(int=6)), end_user_id(DEMO_ID, "ada"), "ada")
OF_PERSON = Identity(DEMO_ID, Credential("person", UUID(int=7)), UUID(int=7))


def test_a_key_names_an_end_user_and_needs_the_right_to() -> None:
    assert OF_KEY.on_behalf_of("ada") == "ada"
    assert OF_KEY.subject_of("ada") == end_user_id(DEMO_ID, "ada")
    assert OF_KEY.needs("gateway", "ada") == {"gateway", "act_as"}
    assert (OF_KEY.on_behalf_of(None), OF_KEY.subject_of(None)) == (None, DEMO_ID)
    assert OF_KEY.needs("gateway", None) == {"gateway"}


def test_a_token_is_always_of_its_own_end_user_who_is_the_one_that_keys_name() -> None:
    for named in (None, "ada"):
        user = OF_TOKEN.on_behalf_of(named)
        assert (user, OF_TOKEN.subject_of(user)) == ("ada", OF_KEY.subject_of("ada"))
        assert OF_TOKEN.needs("credits", user) == {"credits"}
    with pytest.raises(Forbidden, match="another end user"):
        OF_TOKEN.on_behalf_of("bob")


def test_a_person_acts_for_nobody_else() -> None:
    assert OF_PERSON.subject_of(OF_PERSON.on_behalf_of(None)) == UUID(int=7)
    for named in ("ada", str(UUID(int=7))):
        with pytest.raises(Forbidden, match="for nobody else"):
            OF_PERSON.on_behalf_of(named)


def test_the_idempotency_keys_of_people_are_their_own_and_those_of_keys_the_organisations() -> None:
    another_key = Identity(DEMO_ID, Credential("key", UUID(int=8)), DEMO_ID)
    assert OF_KEY.once_at("POST /x") == another_key.once_at("POST /x") == "POST /x"
    another_user = Identity(DEMO_ID, OF_TOKEN.credential, end_user_id(DEMO_ID, "bob"), "bob")
    assert len({one.once_at("POST /x") for one in (OF_KEY, OF_TOKEN, another_user, OF_PERSON)}) == 4


# -------------------------------------------------------------------------------------------------------- from memory


async def test_an_identity_is_known_without_the_database_once_it_was_seen(cast: Cast) -> None:
    made, never_seen = await cast.key(), await cast.key()
    first = await cast.identified(made.key)
    await cast.db.close()
    assert await cast.identified(made.key) == first
    assert (first.organization_id, first.credential.id) == (cast.organization_id, made.row.id)
    with pytest.raises(Overloaded):
        await cast.identified(never_seen.key)


async def test_the_memory_of_identities_has_a_bound(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "IDENTITIES_MAX", 2)
    made = [await cast.key() for _ in range(3)]
    for one in made:
        await cast.identified(one.key)
    await cast.db.close()
    assert [(await cast.identified(one.key)).credential.id for one in made[1:]] == [one.row.id for one in made[1:]]
    with pytest.raises(Overloaded):
        await cast.identified(made[0].key)


async def test_an_identity_lives_through_a_change_of_the_secret_and_is_then_known_without_the_database(
    cast: Cast,
) -> None:
    of_former, of_present = await cast.key(), await cast.key(keyring=ROTATED)
    for made in (of_former, of_present):
        assert (await cast.identified(made.key, ROTATED)).credential.id == made.row.id
    with pytest.raises(Unauthenticated):
        await cast.identified(of_former.key, Keyring(NEW))
    await cast.db.close()
    assert (await cast.identified(of_former.key, ROTATED)).credential.id == of_former.row.id


async def test_unknown_keys_are_not_remembered_so_that_one_made_later_works(cast: Cast) -> None:
    with pytest.raises(Unauthenticated):
        await cast.identified(make_key("test", os.urandom(64)))
    made = await cast.key()
    assert (await cast.identified(made.key)).credential.id == made.row.id


async def test_of_many_who_bring_a_new_key_at_once_all_are_told_the_same(cast: Cast) -> None:
    made, unknown = await cast.key(), make_key("test", os.urandom(64))
    found = await asyncio.gather(*(cast.identified(made.key) for _ in range(50)))
    assert {one.credential.id for one in found} == {made.row.id}
    refusals = await asyncio.gather(*(cast.identified(unknown) for _ in range(50)), return_exceptions=True)
    assert {type(one) for one in refusals} == {Unauthenticated}


async def test_an_address_that_guesses_is_held_back_and_its_known_keys_go_on_working(cast: Cast) -> None:
    made, new = await cast.key(), await cast.key()
    await cast.identified(made.key)
    for _ in range(GUESS_ADDRESS.burst):
        with pytest.raises(Unauthenticated):
            await cast.asked(make_key("test", os.urandom(64)))
    for ask in (cast.asked, cast.identified):
        with pytest.raises(TooManyTries):
            await ask(make_key("test", os.urandom(64)))
        with pytest.raises(TooManyTries):
            await ask(new.key)
        assert (await ask(made.key)).credential.id == made.row.id
    assert (await cast.asked(new.key, address="192.0.2.9")).credential.id == new.row.id


async def test_every_key_that_is_recognised_is_told(cast: Cast) -> None:
    made, used = await cast.key(), list[tuple[UUID, datetime]]()
    way_in = Authentication(
        cast.db, Site("http://tollhouse.test", "test", KEYRING), cast.tokens,
        used=lambda identity, now: used.append((identity.credential.id, now)),
    )  # fmt: skip
    await way_in.identify(http(made.key), cast.order.now)
    await way_in.authenticate(http(made.key), cast.order.now)
    with pytest.raises(Unauthenticated):
        await way_in.identify(http(make_key("test", os.urandom(64))), cast.order.now)
    assert used == [(made.row.id, cast.order.now)] * 2
