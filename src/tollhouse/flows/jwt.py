"""Whose token is this? Tokens of the issuers that organisations trust."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tollhouse.core import jwt
from tollhouse.core.ask import Credential
from tollhouse.core.errors import Unauthenticated
from tollhouse.core.jwt import Token, TokenRefused, TokenUnknown
from tollhouse.core.key import end_user_id
from tollhouse.core.throttle import Guesses
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets, KeysMissing
from tollhouse.store import jwt_issuer as issuers
from tollhouse.store.db import Database
from tollhouse.store.jwt_issuer import IssuerFound

LIFETIME: Final = timedelta(hours=24)
KEPT_FOR: Final = timedelta(seconds=5)
KEPT_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """An end user of the organisation: the same as with the header X-Tollhouse-User, so limits are shared.
    `external_user` is the issuer's own id of them. `suspended` is the organisation."""

    organization_id: UUID
    issuer_id: UUID
    external_user: str
    end_user_id: UUID
    expires_at: datetime
    suspended: bool

    @property
    def credential(self) -> Credential:
        return Credential("issuer", self.issuer_id)


@dataclass(frozen=True, slots=True)
class _Verified:
    holder: TokenHolder
    until: datetime


class Tokens:
    """One for each process. What was found is kept for five seconds, under the SHA-256 of the whole token: then issuer,
    keys and signature are looked at again, so what is switched off or withdrawn ends soon, whatever its tokens say."""

    def __init__(self, db: Database, key_sets: KeySets, policy: Policy, clock: Callable[[], datetime]) -> None:
        self._db = db
        self.key_sets = key_sets
        self._policy = policy
        self._clock = clock
        self._guesses = Guesses()
        self._known: OrderedDict[bytes, _Verified] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Verified]] = {}

    async def identify(self, token: str, address: str) -> TokenHolder:
        """Unauthenticated with the reason, which holds nothing of the token; TooManyTries for an address from which
        many came that no trusted issuer had signed. Tokens that were believed before go on working from there."""
        if len(token) > jwt.TOKEN_BYTES:
            raise _refusal(f"it is larger than {jwt.TOKEN_BYTES} bytes")
        digested = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digested)
        if known is not None and self._clock() < known.until:
            return known.holder
        asking = self._asking.get(digested)
        if asking is None:  # hundreds may bring the same new token at once
            asking = self._asking[digested] = asyncio.create_task(self._learn(digested, token, address))
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return (await asyncio.shield(asking)).holder

    async def _learn(self, digested: bytes, text: str, address: str) -> _Verified:
        try:
            token = jwt.read(text)
            if not self._guesses.worth_asking(address, digested, self._clock()):
                raise TokenRefused("it was refused a moment ago, and is looked at again in a minute")
            found = await self._verify(token)
        except TokenRefused as reason:
            self._known.pop(digested, None)
            if isinstance(reason, TokenUnknown):
                self._guesses.failed(address, digested, self._clock())
            raise _refusal(str(reason)) from None
        finally:
            del self._asking[digested]
        self._guesses.found(digested)
        self._known[digested] = found
        self._known.move_to_end(digested)
        if len(self._known) > KEPT_MAX:
            self._known.popitem(last=False)
        return found

    async def _verify(self, token: Token) -> _Verified:
        row = await self._trusted(jwt.issuer(token.claims), jwt.audiences(token.claims))
        allow_private = self._policy.private_allowed(row.organization_id)
        try:
            keys = await self.key_sets.get(row.jwks_url, token.kid, self._clock(), allow_private=allow_private)
        except KeysMissing as problem:
            raise TokenRefused(f"the keys of its issuer cannot be had: {problem}") from None
        keys.verify(token)
        now = self._clock()
        ends = jwt.check_times(token.claims, now, LIFETIME)
        user = jwt.user(token.claims, row.user_claim)
        holder = TokenHolder(
            row.organization_id, row.id, user, end_user_id(row.organization_id, user), ends,
            row.suspended_at is not None,
        )  # fmt: skip
        return _Verified(holder, min(now + KEPT_FOR, ends + jwt.LEEWAY))

    async def _trusted(self, issuer: str, audiences: list[str]) -> IssuerFound:
        async with self._db.nobody() as tx:
            found = await issuers.find(tx, issuer, audiences)
        if len(found) > 1:
            raise TokenRefused("several trust its issuer for what it says in 'aud': have it issued for one of them")
        if not found or not found[0].enabled:
            raise TokenUnknown("nobody here trusts its issuer ('iss') for what it says in 'aud'")
        return found[0]


def _refusal(reason: str) -> Unauthenticated:
    return Unauthenticated(f"This token is refused: {reason}. Bring a new one, or an API key.")
