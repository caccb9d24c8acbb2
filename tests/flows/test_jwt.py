"""Whose token is this? Nobody gets in with one that is not for the organisation, not of its issuer, or not any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import TEST_SECRET
from tests.fake_idp import FakeIdp, encoded, new_key, sign
from tollhouse.core.ask import Credential
from tollhouse.core.errors import TooManyTries, Unauthenticated
from tollhouse.core.issuer import default_audience
from tollhouse.core.key import end_user_id
from tollhouse.core.throttle import GUESS_ADDRESS
from tollhouse.core.vault import Keyring
from tollhouse.flows import govern, issuer
from tollhouse.flows.connection import Policy
from tollhouse.flows.issuer import NewIssuer, Ordered
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.jwt import TokenHolder, Tokens
from tollhouse.flows.order import NewOrganization, Order
from tollhouse.outside.fetch import Fetcher
from tollhouse.store import jwt_issuer as store
from tollhouse.store.db import Database
from tollhouse.store.jwt_issuer import JwtIssuer

POLICY = Policy(Keyring(TEST_SECRET), "test", allow_private=True)


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Cast:
    """`idp` is trusted by the mill for the audience that is its own; `other` by the bakery."""

    db: Database
    url: str
    clock: Clock
    tokens: Tokens
    idp: FakeIdp
    other: FakeIdp
    mill: UUID
    bakery: UUID
    row: JwtIssuer

    async def trust(self, organization_id: UUID, idp: FakeIdp, audience: str | None = None, **more: Any) -> JwtIssuer:
        wanted = NewIssuer("login", idp.issuer, audience, idp.jwks_url, more.pop("claim", "sub"), **more)
        ordered = Ordered(organization_id, Order("system", self.clock()))
        return await issuer.create(self.db, POLICY, self.tokens.key_sets, ordered, wanted)

    def token(self, *, audience: object = None, **about: Any) -> str:
        return self.idp.token(aud=audience or default_audience(self.mill), **about)

    async def change(self, statement: Any, *parameters: object) -> None:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            assert (await connection.execute(statement, parameters)).rowcount == 1

    async def identify(self, token: str, address: str = "192.0.2.1") -> TokenHolder:
        return await self.tokens.identify(token, address)

    async def refused(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as refusal:
            await self.identify(token)
        said = str(refusal.value)
        assert said.startswith("This token is refused: ")
        assert not any(part in said for part in token.split(".") if len(part) > 8), "nothing of the token is told"
        return said


@pytest.fixture
async def cast(database_url: str) -> AsyncIterator[Cast]:
    db, fetcher, clock = Database(database_url), Fetcher(deadline_s=1), Clock()
    await db.open()
    order = Order("system", datetime.now(UTC))
    made = [
        (await govern.create_organization(db, order, NewOrganization(name, "free"))).result().organization.id
        for name in ("Mill", "Bakery")
    ]
    tokens = Tokens(db, KeySets(fetcher), POLICY, clock)
    async with FakeIdp() as idp, FakeIdp() as other:
        row: Any = None
        cast = Cast(db, database_url, clock, tokens, idp, other, made[0], made[1], row)
        cast.row = await cast.trust(cast.mill, idp)
        await cast.trust(cast.bakery, other)
        yield cast
    await fetcher.close()
    await db.close()


async def test_a_token_is_that_of_an_end_user_of_the_organisation(cast: Cast) -> None:
    holder = await cast.identify(cast.token())
    assert holder == TokenHolder(
        cast.mill, cast.row.id, "u-1", end_user_id(cast.mill, "u-1"), holder.expires_at, suspended=False
    )
    assert holder.credential == Credential("issuer", cast.row.id)
    assert abs(holder.expires_at.timestamp() - time.time() - 1800) < 10


async def test_the_claim_that_says_who_it_is_may_be_another(cast: Cast) -> None:
    await cast.trust(cast.mill, cast.idp, "shop", claim="customer")
    assert (await cast.identify(cast.token(audience="shop", customer="c-7"))).external_user == "c-7"
    assert "names no user" in await cast.refused(cast.token(audience="shop"))


async def test_of_several_audiences_one_is_enough(cast: Cast) -> None:
    token = cast.token(audience=["somebody", default_audience(cast.mill)])
    assert (await cast.identify(token)).organization_id == cast.mill


async def test_a_token_for_two_organisations_is_for_none(cast: Cast) -> None:
    await cast.trust(cast.bakery, cast.idp)
    both = [default_audience(cast.mill), default_audience(cast.bakery)]
    assert "several trust its issuer" in await cast.refused(cast.token(audience=both))
    assert (await cast.identify(cast.token(audience=both[1]))).organization_id == cast.bakery


@pytest.mark.parametrize(
    ("header", "claims", "why"),
    [
        ({}, {"iss": "https://elsewhere.example"}, "nobody here trusts"),
        ({}, {"iss": "' OR '1'='1"}, "nobody here trusts"),
        ({}, {"iss": None}, "'iss'"),
        ({}, {"iss": "a\x00"}, "NUL"),
        ({}, {"aud": "tollhouse:" + str(UUID(int=7))}, "nobody here trusts"),
        ({}, {"aud": None}, "'aud'"),
        ({}, {"aud": []}, "'aud'"),
        ({}, {"exp": None}, "no time of expiry"),
        ({}, {"exp": 1}, "expired"),
        ({}, {"exp": 32_000_000_000}, "24 hours"),
        ({}, {"nbf": 32_000_000_000}, "future"),
        ({}, {"sub": None}, "names no user"),
        ({}, {"sub": ""}, "names no user"),
        ({}, {"sub": "u" * 201}, "names no user"),
        ({"kid": "../../keys"}, {}, "not among those"),
        ({"kid": "' OR '1'='1"}, {}, "not among those"),
        ({"kid": "k" * 8000}, {}, "larger than 8192"),
        ({"kid": "k" * 1700}, {}, "too large"),
        ({"jku": "https://evil.example"}, {}, "jku"),
        ({"crit": ["exp"]}, {}, "crit"),
    ],
)
async def test_a_token_that_is_not_right_is_refused_with_the_reason(
    cast: Cast, header: dict[str, Any], claims: dict[str, Any], why: str
) -> None:
    right = {"aud": default_audience(cast.mill)}
    assert why in await cast.refused(cast.idp.token(header, **right | claims))


async def test_a_token_that_is_not_signed_is_refused(cast: Cast) -> None:
    head, body, _ = cast.token().split(".")
    for algorithm in ("none", "HS256", "nOnE"):
        header = encoded({"alg": algorithm, "kid": cast.idp.keys[0].kid})
        for signature in ("", encoded(b"x" * 32)):
            assert "refused" in await cast.refused(f"{header}.{body}.{signature}")
    assert "signature is wrong" in await cast.refused(f"{head}.{body}.{encoded(b'x' * 64)}")


async def test_a_key_that_the_token_brings_is_not_looked_at(cast: Cast) -> None:
    mine = new_key("EC", cast.idp.keys[0].kid)
    assert "jwk" in await cast.refused(cast.token(key=mine, header={"jwk": mine.as_dict(private=False)}))
    assert "signature is wrong" in await cast.refused(cast.token(key=mine))


async def test_the_issuer_of_one_organisation_makes_no_tokens_for_another(cast: Cast) -> None:
    """The bakery's issuer signs what it likes: with its own key, and the mill's issuer's name."""
    key = cast.other.keys[0]
    forged = cast.other.token(iss=cast.idp.issuer, aud=default_audience(cast.mill))
    assert "not among those" in await cast.refused(forged)
    named = cast.other.token({"kid": cast.idp.keys[0].kid}, iss=cast.idp.issuer, aud=default_audience(cast.mill))
    assert "signature is wrong" in await cast.refused(named)
    own = cast.other.token(aud=default_audience(cast.mill))
    assert "nobody here trusts" in await cast.refused(own)
    assert key.kid != cast.idp.keys[0].kid


async def test_keys_that_are_changed_are_followed(cast: Cast) -> None:
    await cast.identify(cast.token())
    old, new = cast.idp.keys[0], new_key()
    cast.idp.keys[:] = [new, old]
    cast.clock.ahead += timedelta(minutes=1)
    await cast.identify(cast.token())
    cast.idp.keys[:] = [new]
    cast.clock.ahead += timedelta(minutes=10)
    assert "not among those" in await cast.refused(cast.token(key=old))


async def test_a_token_whose_key_was_withdrawn_ends_though_it_was_believed_before(cast: Cast) -> None:
    token = cast.token()
    await cast.identify(token)
    cast.idp.keys[:] = [new_key()]
    cast.clock.ahead += timedelta(minutes=10)
    await cast.refused(token)


async def test_a_token_ends_when_it_says(cast: Cast) -> None:
    now = int(time.time())
    token = cast.token(exp=now + 2, iat=now)
    await cast.identify(token)
    cast.clock.ahead = timedelta(seconds=58)
    await cast.identify(token)
    cast.clock.ahead = timedelta(seconds=63)
    assert "expired" in await cast.refused(token)


@pytest.mark.parametrize("how", ["disabled", "deleted", "organisation deleted"])
async def test_what_is_switched_off_ends_within_five_seconds(cast: Cast, how: str) -> None:
    token = cast.token()
    await cast.identify(token)
    match how:
        case "disabled":
            await cast.change("UPDATE jwt_issuer SET enabled = false WHERE id = %s", cast.row.id)
        case "deleted":
            await cast.change("DELETE FROM jwt_issuer WHERE id = %s", cast.row.id)
        case _:
            await cast.change("UPDATE organization SET deleted_at = now() WHERE id = %s", cast.mill)
    cast.clock.ahead = timedelta(seconds=5)
    assert "nobody here trusts" in await cast.refused(token)


async def test_a_suspended_organisation_is_told_as_such(cast: Cast) -> None:
    await cast.change("UPDATE organization SET suspended_at = now() WHERE id = %s", cast.mill)
    assert (await cast.identify(cast.token())).suspended


async def test_two_tokens_that_begin_alike_are_two(cast: Cast) -> None:
    """The same header and the same first claims: only the whole token tells them apart."""
    mine, hers = cast.token(sub="ada"), cast.token(sub="bob")
    assert mine[:100] == hers[:100]
    assert (await cast.identify(mine)).external_user == "ada"
    assert (await cast.identify(hers)).external_user == "bob"
    head, body, _ = hers.split(".")
    assert "signature is wrong" in await cast.refused(".".join([head, body, mine.split(".")[2]]))


async def test_a_token_is_looked_up_once_in_five_seconds(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    find = store.find

    async def counting(*args: Any) -> Any:
        looked.append(1)
        return await find(*args)

    monkeypatch.setattr(store, "find", counting)
    token = cast.token()
    assert len(set(await asyncio.gather(*(cast.identify(token) for _ in range(100))))) == 1
    assert len(looked) == 1
    cast.clock.ahead = timedelta(seconds=5)
    await cast.identify(token)
    assert len(looked) == 2


async def test_an_issuer_without_keys_is_said_so(cast: Cast) -> None:
    cast.idp.jwks_raw = b"no"
    cast.clock.ahead = timedelta(days=1, minutes=1)
    assert "keys of its issuer cannot be had" in await cast.refused(cast.token(exp=int(time.time()) + 90_000, iat=None))


async def test_a_token_signed_over_another_text_of_the_same_claims_is_refused(cast: Cast) -> None:
    key = cast.idp.keys[0]
    text = sign(key, {"alg": "ES256", "kid": key.kid}, b'{"iss": "a", "iss": "b"}')
    assert "nobody here trusts" in await cast.refused(text) or "'aud'" in await cast.refused(text)


# -------------------------------------------------------------------------------------------------------------- guesses


async def test_an_address_that_guesses_is_held_back_and_its_known_tokens_go_on_working(cast: Cast) -> None:
    known, new = cast.token(), cast.token(sub="u-2")
    await cast.identify(known)
    for number in range(GUESS_ADDRESS.burst):
        forged = cast.token(key=new_key("EC", cast.idp.keys[0].kid), sub=f"u-{number}")
        await cast.refused(forged if number % 2 else cast.token(iss=f"https://{number}.example"))
    with pytest.raises(TooManyTries):
        await cast.identify(new)
    cast.clock.ahead += timedelta(seconds=6)  # it is looked at again
    assert (await cast.identify(known)).external_user == "u-1"
    assert (await cast.identify(new, "192.0.2.9")).external_user == "u-2"


@pytest.mark.parametrize("wrong", [{"exp": 1}, {"sub": ""}, {"aud": []}, {"header": {"kid": "of tomorrow"}}])
async def test_a_token_of_a_trusted_issuer_is_no_guess_however_wrong_it_is(cast: Cast, wrong: dict[str, Any]) -> None:
    header = wrong.pop("header", None)
    for number in range(GUESS_ADDRESS.burst + 1):
        said = {"aud": default_audience(cast.mill), "jti": str(number)} | wrong
        await cast.refused(cast.idp.token(header, **said))
    await cast.identify(cast.token())


async def test_one_wrong_token_that_comes_again_and_again_is_no_guesser_and_costs_one_look_up_a_minute(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    find = store.find

    async def counting(*args: Any) -> Any:
        looked.append(1)
        return await find(*args)

    monkeypatch.setattr(store, "find", counting)
    wrong = cast.token(audience="elsewhere")
    for _ in range(GUESS_ADDRESS.burst * 2):
        await cast.refused(wrong)
    assert len(looked) == 1
    await cast.identify(cast.token())
    cast.clock.ahead = timedelta(minutes=1)
    assert "nobody here trusts" in await cast.refused(wrong)
