"""Who calls a handler, and with which right. Each route names its policy here, as a dependency."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request

from tollhouse.api.body import EndUser
from tollhouse.api.state import Shared, State
from tollhouse.core.access import SCOPES, Permission
from tollhouse.core.ask import Credential
from tollhouse.core.errors import BadRequest
from tollhouse.core.key import Scope
from tollhouse.core.origin import READS
from tollhouse.core.session import check_proved
from tollhouse.flows.auth import Caller, HttpScope, Identity, require, require_person
from tollhouse.flows.operation import Bearer
from tollhouse.flows.order import Order


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts in which organisation, and what is ordered with it."""

    caller: Caller
    order: Order

    @property
    def organization_id(self) -> UUID:
        return self.caller.organization_id


class Allowed:
    """The policy of a route, as a dependency: the caller has one of these permissions. Looked up afresh with every
    call, never from memory. What a superadmin changes on the platform, they have proved a moment ago who they are."""

    def __init__(self, *any_of: Permission) -> None:
        self.any_of = any_of

    async def __call__(self, request: Request, state: Shared) -> Acting:
        now = state.clock()
        caller = await state.authentication.authenticate(request.scope, now)
        self.check(caller)
        if caller.signed is not None and "platform" in self.any_of and request.method not in READS:
            check_proved(caller.signed, now)
        return Acting(caller, Order(caller.actor, now, request.client.host if request.client else None))

    def check(self, caller: Caller) -> None:
        require(caller, *self.any_of)


class InPerson(Allowed):
    """The policy of a route that is for people who are signed in: with one of these permissions, or, when none is
    named, whoever they are."""

    def check(self, caller: Caller) -> None:
        require_person(caller)
        if self.any_of:
            super().check(caller)


async def ordering(acting: Annotated[Acting, Depends(Allowed("platform"))]) -> Order:
    return acting.order


Manager = Annotated[Acting, Depends(Allowed("organization.manage"))]
Operator = Annotated[Order, Depends(ordering)]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who it is, from memory: whether what they came with still counts and what they may do is decided with the
    operation, under the organisation's lock, where `scope` is asked for."""

    identity: Identity
    scope: Scope
    request: HttpScope
    named: str | None  # the header X-Tollhouse-User

    @property
    def organization_id(self) -> UUID:
        return self.identity.organization_id

    @property
    def credential(self) -> Credential:
        return self.identity.credential

    def user(self, named: str | None) -> str | None:
        """The end user on whose behalf this is. BadRequest when body and header disagree, Forbidden when the caller is
        none who may act for others."""
        if named is not None and self.named not in (None, named):
            raise BadRequest("The body names another user than the header X-Tollhouse-User. Send one of them.", "user")
        return self.identity.on_behalf_of(named or self.named)

    def needs(self, user: str | None) -> frozenset[Scope]:
        return self.identity.needs(self.scope, user)

    @property
    def bearer(self) -> Bearer:
        return Bearer(self.credential, frozenset({self.scope}))

    async def check(self, state: State) -> Caller:
        """For what no operation decides: looked up afresh."""
        caller = await state.authentication.authenticate(self.request, state.clock())
        require(caller, *SCOPES[self.scope])
        return caller


class Holding:
    """The policy of a route whose right the teller decides: the scope that an operation of it needs."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(
        self,
        request: Request,
        state: Shared,
        on_behalf_of: Annotated[EndUser | None, Header(alias="X-Tollhouse-User")] = None,
    ) -> Holder:
        identity = await state.authentication.identify(request.scope, state.clock())
        return Holder(identity, self.scope, request.scope, on_behalf_of)


CreditsHolder = Annotated[Holder, Depends(Holding("credits"))]
