"""Signing in with an identity provider: in this browser, once, with what the provider says to us and to nobody else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import psycopg
import pytest

from tests.conftest import TEST_SECRET
from tests.fake_idp import FakeIdp, encoded, new_key, query_of, with_query
from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.core.oidc import Identity, SignInRefused, secret_association
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import Keyring, SealBroken
from tollhouse.flows import identity_provider
from tollhouse.flows.connection import Policy
from tollhouse.flows.identity_provider import Change, NewProvider
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.oidc import Finished, Offered, OpenId, redirect_uri
from tollhouse.flows.order import Order
from tollhouse.flows.site import Site
from tollhouse.outside.fetch import Fetcher
from tollhouse.store import identity_provider as store
from tollhouse.store.db import Database
from tollhouse.store.identity_provider import IdentityProvider

KEYRING = Keyring(TEST_SECRET)
POLICY = Policy(KEYRING, "test")
SITE = Site("https://ai.example.com", "test", KEYRING)
COOKIE = re.compile(r"__Host-tollhouse-oidc=([\w-]+); Max-Age=600; Path=/; HttpOnly; SameSite=Lax; Secure")


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Cast:
    db: Database
    url: str
    clock: Clock
    openid: OpenId
    keys: KeySets
    idp: FakeIdp
    provider: IdentityProvider
    http: aiohttp.ClientSession

    async def register(self, idp: FakeIdp, **more: Any) -> IdentityProvider:
        wanted = NewProvider(more.pop("name", "Example"), idp.issuer, idp.client_id, idp.client_secret, **more)
        row = await identity_provider.create(self.db, POLICY, self.keys, Order("system", self.clock()), wanted)
        idp.redirect_uris.add(redirect_uri(SITE, row.id))
        return row

    async def begun(self, provider: IdentityProvider | None = None, **more: Any) -> tuple[str, str]:
        """The address at the provider, and the cookie."""
        started = await self.openid.start((provider or self.provider).id, **more)
        found = COOKIE.fullmatch(started.set_cookie)
        assert found, started.set_cookie
        return started.url, found[1]

    async def at_provider(self, url: str) -> dict[str, str]:
        """What the browser brings back."""
        async with self.http.get(url, allow_redirects=False) as response:
            assert response.status == 302, await response.text()
            return query_of(response.headers["location"])

    async def signed_in(self, provider: IdentityProvider | None = None, **more: Any) -> Finished:
        url, cookie = await self.begun(provider, **more)
        return await self.openid.finish((provider or self.provider).id, await self.at_provider(url), cookie)

    async def refused(self, why: str, provider: IdentityProvider | None = None) -> None:
        with pytest.raises(SignInRefused, match=why):
            await self.signed_in(provider)

    async def order(self, change: Change) -> None:
        order = Order("system", self.clock())
        self.provider = await identity_provider.change(self.db, POLICY, order, self.provider.id, change)


@pytest.fixture
async def cast(database_url: str) -> AsyncIterator[Cast]:
    db, fetcher, clock = Database(database_url), Fetcher(deadline_s=1), Clock()
    await db.open()
    keys = KeySets(fetcher)
    async with FakeIdp() as idp, aiohttp.ClientSession() as http:
        provider: Any = None
        cast = Cast(db, database_url, clock, OpenId(db, SITE, POLICY, keys, clock), keys, idp, provider, http)
        cast.provider = await cast.register(idp)
        yield cast
    await fetcher.close()
    await db.close()


async def test_somebody_signs_in(cast: Cast) -> None:
    cast.idp.person["email_verified"] = True
    assert await cast.openid.offered() == [Offered(cast.provider.id, "Example")]
    done = await cast.signed_in(next_path="/chat?a=b")
    assert done == Finished(
        Identity(cast.provider.id, "u-1", "ada@example.com", True, "Ada"), "/chat?a=b", person_id=None
    )


async def test_the_browser_is_sent_away_with_nothing_of_the_secrets(cast: Cast) -> None:
    url, cookie = await cast.begun()
    asked = query_of(url)
    assert url.startswith(f"{cast.idp.issuer}/authorize?")
    assert asked["redirect_uri"] == f"https://ai.example.com/sign-in/oidc/{cast.provider.id}/callback"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"].split()[0] == "openid"
    again, other = await cast.begun()
    assert all(query_of(again)[name] != asked[name] for name in ("state", "nonce", "code_challenge"))
    assert cookie != other
    assert cast.idp.client_secret is not None and cast.idp.client_secret not in url


@pytest.mark.parametrize("wanted", [None, "https://evil.example", "//evil.example", "/\\evil.example", "/a\r\nb"])
async def test_nobody_is_sent_on_to_elsewhere(cast: Cast, wanted: str | None) -> None:
    assert (await cast.signed_in(next_path=wanted)).next_path == "/"


async def test_an_account_that_asks_for_a_link_is_named_in_the_end(cast: Cast) -> None:
    person_id = uuid4()
    assert (await cast.signed_in(person_id=person_id)).person_id == person_id


@pytest.mark.parametrize("secret", ["s3cret", None])
async def test_public_clients_and_those_with_a_secret_in_the_form(cast: Cast, secret: str | None) -> None:
    async with FakeIdp(client_secret=secret, methods=("client_secret_post",) if secret else ("none",)) as idp:
        provider = await cast.register(idp)
        assert (await cast.signed_in(provider)).identity.provider_id == provider.id


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RS256"), ("RSA", "PS256"), ("OKP", "EdDSA")])
async def test_other_algorithms(cast: Cast, kind: str, algorithm: str) -> None:
    async with FakeIdp(keys=[new_key(kind)], algorithm=algorithm) as idp:
        assert (await cast.signed_in(await cast.register(idp))).identity.subject == "u-1"


async def test_keys_that_are_changed_are_followed(cast: Cast) -> None:
    await cast.signed_in()
    cast.idp.keys[:] = [new_key()]
    cast.clock.ahead = timedelta(minutes=1)
    await cast.signed_in()


# --------------------------------------------------------------------------------------------------------- the callback


async def test_an_answer_counts_once_though_the_provider_would_give_another(cast: Cast) -> None:
    """Code and cookie were copied: whoever comes second is refused before the provider is asked."""
    url, cookie = await cast.begun()
    query = await cast.at_provider(url)
    await cast.openid.finish(cast.provider.id, query, cookie)
    fresh = await cast.at_provider(url)
    asked = cast.idp.count("/token")
    for brought in (query, fresh):
        with pytest.raises(SignInRefused, match="over already"):
            await cast.openid.finish(cast.provider.id, brought, cookie)
    assert cast.idp.count("/token") == asked


async def test_the_code_of_another_browser_is_worth_nothing_here(cast: Cast) -> None:
    """An attacker's own code, brought into the sign-in of a victim: the verifier is another, and so is the nonce."""
    attackers, _ = await cast.begun()
    theirs = await cast.at_provider(attackers)
    url, cookie = await cast.begun()
    with pytest.raises(SignInRefused, match="another sign-in"):
        await cast.openid.finish(cast.provider.id, theirs, cookie)
    with pytest.raises(SignInRefused, match="does not take the code"):
        await cast.openid.finish(cast.provider.id, theirs | {"state": query_of(url)["state"]}, cookie)


async def test_a_browser_that_began_nothing_ends_nothing(cast: Cast) -> None:
    url, cookie = await cast.begun()
    query = await cast.at_provider(url)
    for brought in (None, "", "x", cookie[:-4] + "AAAA"):
        with pytest.raises(SignInRefused, match="begun no sign-in"):
            await cast.openid.finish(cast.provider.id, query, brought)
    assert cast.idp.count("/token") == 0


async def test_a_sign_in_at_one_provider_does_not_end_at_another(cast: Cast) -> None:
    async with FakeIdp() as other:
        second = await cast.register(other)
        url, cookie = await cast.begun()
        query = await cast.at_provider(url)
        with pytest.raises(SignInRefused, match="another sign-in"):
            await cast.openid.finish(second.id, query, cookie)
        with pytest.raises(SignInRefused, match="another identity provider"):
            await cast.openid.finish(cast.provider.id, query | {"iss": other.issuer}, cookie)
        assert "/token" not in cast.idp.calls + other.calls


async def test_ten_minutes_are_enough(cast: Cast) -> None:
    url, cookie = await cast.begun()
    query = await cast.at_provider(url)
    cast.clock.ahead = timedelta(minutes=10)
    with pytest.raises(SignInRefused, match="ten minutes"):
        await cast.openid.finish(cast.provider.id, query, cookie)


async def test_the_provider_sends_nobody_elsewhere(cast: Cast) -> None:
    """The fake is as strict as the standard: another redirect_uri or a weaker challenge is not taken."""
    url, _ = await cast.begun()
    for changes in ({"redirect_uri": "https://evil.example/"}, {"code_challenge_method": "plain"}):
        async with cast.http.get(with_query(url, **changes), allow_redirects=False) as response:
            assert response.status == 400


async def test_the_verifier_of_another_sign_in_redeems_nothing(cast: Cast) -> None:
    """Somebody changes the challenge on the way to the provider."""
    url, cookie = await cast.begun()
    other, _ = await cast.begun()
    query = await cast.at_provider(with_query(url, code_challenge=query_of(other)["code_challenge"]))
    with pytest.raises(SignInRefused, match="does not take the code"):
        await cast.openid.finish(cast.provider.id, query, cookie)


async def test_what_the_provider_says_is_wrong_is_not_repeated(cast: Cast) -> None:
    url, cookie = await cast.begun()
    state = query_of(url)["state"]
    query = {"error": "access_denied", "error_description": "<b>call 555</b>", "state": state, "iss": cast.idp.issuer}
    with pytest.raises(SignInRefused, match="cancelled there") as refusal:
        await cast.openid.finish(cast.provider.id, query, cookie)
    assert "555" not in str(refusal.value)


# --------------------------------------------------------------------------------------------------------- the ID token


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://evil.example"}, "another issuer"), ({"aud": "other"}, "another application"),
        ({"aud": ["tollhouse", "other"]}, "azp"), ({"azp": "other"}, "azp"), ({"nonce": None}, "nonce"),
        ({"nonce": "replayed"}, "nonce"), ({"exp": 1}, "expired"), ({"exp": None}, "expiry"), ({"iat": 1}, "24 hours"),
        ({"sub": None}, "names no user"),
    ],
)  # fmt: skip
async def test_a_token_that_is_not_for_this_sign_in_is_refused(cast: Cast, claims: dict[str, Any], why: str) -> None:
    cast.idp.claims = claims
    await cast.refused(why)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"alg": "none"}, "not signed with"), ({"alg": "HS256"}, "not signed with"), ({"kid": "other"}, "not among"),
        ({"jku": "https://evil.example"}, "jku"), ({"crit": ["x"]}, "crit"),
    ],
)  # fmt: skip
async def test_a_token_that_is_not_signed_right_is_refused(cast: Cast, header: dict[str, Any], why: str) -> None:
    good = cast.idp.token
    cast.idp.token = lambda *_args, **claims: good({}, **claims)  # type: ignore[method-assign]
    text = await _token_with(cast, header)
    cast.idp.token_answer = {"id_token": text}
    await cast.refused(why)


async def _token_with(cast: Cast, header: dict[str, Any]) -> str:
    key = cast.idp.keys[0]
    head = encoded({"alg": "ES256", "kid": key.kid} | header)
    return f"{head}.{encoded({'iss': cast.idp.issuer})}.{encoded(b'x' * 64)}"


async def test_a_token_signed_by_somebody_else_is_refused(cast: Cast) -> None:
    mine = new_key("EC", cast.idp.keys[0].kid)
    cast.idp.token_answer = {"id_token": cast.idp.token(key=mine, aud="tollhouse")}
    await cast.refused("signature is wrong")


@pytest.mark.parametrize("token", [None, 7, "", "x.y.z", "ey" + "a" * 9000 + ".a.a"])
async def test_what_is_no_token_is_refused(cast: Cast, token: object) -> None:
    cast.idp.token_answer = {"id_token": token}
    await cast.refused("no ID token|form of a signed JWT|larger")


# --------------------------------------------------------------------------------------------------------- the provider


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"), ({"issuer": None}, "another issuer"),
        ({"authorization_endpoint": None}, "missing"), ({"authorization_endpoint": "javascript:alert(1)"}, "must look"),
        ({"token_endpoint": "file:///etc/passwd"}, "must look"), ({"token_endpoint": 7}, "missing"),
        ({"token_endpoint": "http://169.254.169.254/"}, "metadata"),
        ({"jwks_uri": "http://[fd00:ec2::254]/"}, "metadata"),
        ({"jwks_uri": None}, "missing"), ({"response_types_supported": ["id_token"]}, "response type"),
        ({"code_challenge_methods_supported": ["plain"]}, "S256"), ({"code_challenge_methods_supported": []}, "S256"),
    ],
)  # fmt: skip
async def test_a_provider_that_describes_itself_wrongly_is_not_saved_and_not_used(
    cast: Cast, description: dict[str, Any], why: str
) -> None:
    async with FakeIdp() as other:
        other.description = description
        with pytest.raises(BadRequest, match=why):
            await cast.register(other)
        other.description = {}
        provider = await cast.register(other)
        other.description = description
        await cast.refused(why, provider)


async def test_in_live_mode_a_provider_is_reached_over_tls_and_outside_only(cast: Cast) -> None:
    live = Policy(KEYRING, "live")
    wanted = NewProvider("Example", cast.idp.issuer, "tollhouse", None)
    with pytest.raises(BadRequest, match="https"):
        await identity_provider.create(cast.db, live, cast.keys, Order("system", cast.clock()), wanted)
    before = len(cast.idp.calls)
    openid = OpenId(cast.db, SITE, live, cast.keys, cast.clock)
    with pytest.raises(SignInRefused, match="https"):
        await openid.start(cast.provider.id)
    assert len(cast.idp.calls) == before


async def test_a_provider_that_is_away_is_said_so_and_one_that_was_here_is_used(cast: Cast) -> None:
    await cast.signed_in()
    cast.idp.description = {"issuer": None}
    await cast.signed_in()
    cast.clock.ahead = timedelta(minutes=10)
    asked = len(cast.idp.calls)
    for _ in range(3):
        await cast.refused("cannot be used at the moment")
    assert len(cast.idp.calls) == asked + 1
    cast.idp.description = {}
    cast.clock.ahead += timedelta(seconds=5)
    await cast.signed_in()


async def test_a_provider_that_is_switched_off_or_was_never_there_is_the_same(cast: Cast) -> None:
    url, cookie = await cast.begun()
    query = await cast.at_provider(url)
    await cast.order(Change(enabled=False))
    assert await cast.openid.offered() == []
    said = []
    for id_ in (cast.provider.id, uuid4()):
        with pytest.raises(NotFound) as refusal:
            await cast.openid.start(id_)
        said.append(str(refusal.value))
        with pytest.raises(NotFound):
            await cast.openid.finish(id_, query, cookie)
    assert said[0] == said[1]


async def test_a_secret_that_is_wrong_is_said_so(cast: Cast) -> None:
    cast.idp.client_secret = "another"
    await cast.refused("not with this secret")


async def test_a_secret_is_sealed_for_its_provider_and_is_sealed_anew(cast: Cast) -> None:
    row = cast.provider
    assert row.secret_ciphertext is not None and cast.idp.client_secret is not None
    assert cast.idp.client_secret.encode() not in row.secret_ciphertext
    with pytest.raises(SealBroken):
        KEYRING.open(row.secret_ciphertext, secret_association(uuid4(), row.issuer))
    new = Keyring(b"the secret that came after it", (TEST_SECRET,))
    async with cast.db.operator() as tx:
        (sealed,) = await store.sealed(tx)
        renewed = new.renewed(sealed.secret_ciphertext, secret_association(sealed.id, sealed.issuer), b"1" * 12)
        assert renewed is not None
        assert await store.renew(tx, sealed.id, sealed.secret_ciphertext, renewed)
        assert not await store.renew(tx, sealed.id, sealed.secret_ciphertext, b"what was entered meanwhile stays")
    site = Site(SITE.origin, "test", Keyring(b"the secret that came after it"))
    cast.openid = OpenId(cast.db, site, POLICY, cast.keys, cast.clock)
    await cast.signed_in()
    cast.openid = OpenId(cast.db, SITE, POLICY, cast.keys, cast.clock)
    await cast.refused("client secret cannot be opened")


async def test_without_tls_the_cookie_has_no_prefix_that_browsers_would_refuse(cast: Cast) -> None:
    plain = OpenId(cast.db, Site("http://127.0.0.1:8400", "test", KEYRING), POLICY, cast.keys, cast.clock)
    started = await plain.start(cast.provider.id)
    assert re.fullmatch(r"tollhouse-oidc=[\w-]+; Max-Age=600; Path=/; HttpOnly; SameSite=Lax", started.set_cookie)
    assert plain.forget_cookie == "tollhouse-oidc=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"


async def test_deleting_a_provider_unlinks_what_people_linked_and_says_how_many(cast: Cast) -> None:
    async with await psycopg.AsyncConnection.connect(cast.url) as connection:
        person_id = UUID(int=77)
        await connection.execute(
            "INSERT INTO person (id, email, name, created_at) VALUES (%s, 'p@example.com', 'P', now())", (person_id,)
        )
        await connection.execute(
            "INSERT INTO linked_identity (person_id, provider_id, subject, linked_at) VALUES (%s, %s, 'u-1', now())",
            (person_id, cast.provider.id),
        )
    await identity_provider.delete(cast.db, Order("system", cast.clock()), cast.provider.id)
    async with await psycopg.AsyncConnection.connect(cast.url) as connection:
        left = await connection.execute("SELECT count(*) FROM linked_identity")
        assert await left.fetchone() == (0,)
        told = await connection.execute(
            "SELECT details FROM audit WHERE organization_id = %s AND action = 'identity_provider.deleted'",
            (PLATFORM_ID,),
        )
        row = await told.fetchone()
    assert row is not None and row[0]["identities_unlinked"] == 1
