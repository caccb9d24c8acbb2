"""Signing in with an identity provider: away to it, and back with who it is. What then becomes of the identity (an
account, a link, a refusal) is decided by who asked for it."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tollhouse.core import jwt, oidc
from tollhouse.core.errors import NotFound
from tollhouse.core.jwt import TokenRefused
from tollhouse.core.oidc import Identity, Pending, SignInRefused
from tollhouse.core.path import local_path
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import NONCE_BYTES, SealBroken
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets, KeysMissing
from tollhouse.flows.site import Site
from tollhouse.outside.oidc import Client, Discovered, ProviderUnusable, discover, redeem
from tollhouse.store import identity_provider as providers
from tollhouse.store.db import Database
from tollhouse.store.identity_provider import IdentityProvider

DESCRIBED_FOR: Final = timedelta(minutes=10)
DESCRIBED_AGAIN: Final = timedelta(seconds=5)  # one that is away is not asked with every visitor
DESCRIBED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Offered:
    """A provider that people may sign in with; its button says `name`."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Started:
    """`url` is at the provider: the browser is sent there (303) with the header `set-cookie: <set_cookie>`."""

    url: str = field(repr=False)
    set_cookie: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """`next_path` is a path here. `person_id`: the account that asked to have the identity linked, which must be the
    one that is signed in; None: somebody signs in."""

    identity: Identity
    next_path: str
    person_id: UUID | None


class OpenId:
    """One for each process. Its cookie is for one sign-in of one browser at one provider, for ten minutes and once."""

    def __init__(
        self, db: Database, site: Site, policy: Policy, key_sets: KeySets, clock: Callable[[], datetime]
    ) -> None:
        self._db = db
        self._site = site
        self._key_sets = key_sets
        self._clock = clock
        self._allow_private = policy.private_allowed(PLATFORM_ID)
        self._described: dict[tuple[UUID, str], tuple[Discovered | ProviderUnusable, datetime]] = {}

    @property
    def cookie_name(self) -> str:
        return "__Host-tollhouse-oidc" if self._site.secure else "tollhouse-oidc"

    @property
    def forget_cookie(self) -> str:
        """The `set-cookie` of every answer to the callback, whether it succeeded or not."""
        return self._cookie("", 0)

    async def offered(self) -> list[Offered]:
        async with self._db.nobody() as tx:
            return [Offered(row.id, row.name) for row in await providers.every(tx) if row.enabled]

    async def start(self, provider_id: UUID, next_path: str | None = None, person_id: UUID | None = None) -> Started:
        """`next_path`: where to go in the end; what is no path here becomes "/". NotFound for a provider that is not
        offered, SignInRefused when it cannot be used."""
        provider = await self._provider(provider_id)
        described = await self._describe(provider)
        randomness = os.urandom(oidc.SECRET_BYTES), os.urandom(oidc.SECRET_BYTES), os.urandom(oidc.SECRET_BYTES)
        pending = oidc.begin(provider_id, local_path(next_path), person_id, self._clock(), randomness)
        url = oidc.authorization_url(
            described.authorization_endpoint, provider.client_id, redirect_uri(self._site, provider_id), pending
        )
        sealed = oidc.seal(pending, self._site.keyring, os.urandom(NONCE_BYTES))
        return Started(url, self._cookie(sealed, round(oidc.PENDING_FOR.total_seconds())))

    async def finish(self, provider_id: UUID, query: Mapping[str, str], cookie: str | None) -> Finished:
        """What the provider answers (`query`, of the callback's address) to what this browser began (`cookie`).
        NotFound and SignInRefused, which say what to do."""
        provider = await self._provider(provider_id)
        pending = oidc.opened(cookie, self._site.keyring)
        described = await self._describe(provider)
        code = oidc.check_callback(
            pending, provider_id, provider.issuer, query, self._clock(), says_issuer=described.says_issuer
        )
        await self._use(pending)
        try:
            identity = await self._redeem(provider, described, pending, code)
        except (ProviderUnusable, KeysMissing, TokenRefused) as problem:
            raise SignInRefused(
                f"{provider.name} could not be believed: {problem}. Try again, or sign in in another way."
            ) from None
        return Finished(identity, pending.next_path, pending.person_id)

    async def _redeem(self, provider: IdentityProvider, described: Discovered, pending: Pending, code: str) -> Identity:
        client = Client(provider.client_id, self._secret(provider), redirect_uri(self._site, provider.id))
        text = await redeem(
            self._key_sets.fetcher, described, client, code, pending.verifier, allow_private=self._allow_private
        )
        token = jwt.read(text)
        keys = await self._key_sets.get(described.jwks_url, token.kid, self._clock(), allow_private=self._allow_private)
        keys.verify(token)
        return oidc.identity(
            token.claims, provider.id, provider.issuer, provider.client_id, pending.nonce, self._clock()
        )

    async def _provider(self, provider_id: UUID) -> IdentityProvider:
        async with self._db.nobody() as tx:
            found = await providers.one(tx, provider_id)
        if found is None or not found.enabled:
            raise NotFound("There is no such way to sign in here. Begin again at the sign-in page.")
        return found

    async def _describe(self, provider: IdentityProvider) -> Discovered:
        """What the provider says of itself, kept for ten minutes; that it says nothing, for five seconds."""
        now = self._clock()
        found, since = self._described.get((provider.id, provider.issuer), (None, now))
        if found is None or now - since >= (DESCRIBED_FOR if isinstance(found, Discovered) else DESCRIBED_AGAIN):
            try:
                found = await discover(self._key_sets.fetcher, provider.issuer, allow_private=self._allow_private)
            except ProviderUnusable as problem:
                found = problem
            if len(self._described) >= DESCRIBED_MAX:
                self._described.clear()
            self._described[provider.id, provider.issuer] = found, now
        if isinstance(found, Discovered):
            return found
        raise SignInRefused(
            f"{provider.name} cannot be used at the moment: {found}. Try again later, or sign in in another way."
        )

    async def _use(self, pending: Pending) -> None:
        digest = hashlib.sha256(b"sign-in:" + pending.state.encode()).digest()
        async with self._db.nobody() as tx:
            first = await providers.use_once(tx, digest, pending.expires_at)
        if not first:
            raise SignInRefused("This sign-in is over already. Begin again at the sign-in page.")

    def _secret(self, provider: IdentityProvider) -> str | None:
        if provider.secret_ciphertext is None:
            return None
        try:
            return self._site.keyring.open(
                provider.secret_ciphertext, oidc.secret_association(provider.id, provider.issuer)
            )
        except SealBroken:
            raise ProviderUnusable("its client secret cannot be opened; an operator can enter it again") from None

    def _cookie(self, value: str, max_age: int) -> str:
        secure = "; Secure" if self._site.secure else ""
        return f"{self.cookie_name}={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Lax{secure}"


def redirect_uri(site: Site, provider_id: UUID) -> str:
    """Where the provider sends browsers back to; it must be registered there exactly so."""
    return site.url(f"/sign-in/oidc/{provider_id}/callback")
