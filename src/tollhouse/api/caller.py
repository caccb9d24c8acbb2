"""Who calls a handler, and with which right."""

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
from tollhouse.flows.auth import Caller, authenticate, credential_of, require
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
    call, never from memory."""

    def __init__(self, *any_of: Permission) -> None:
        self.any_of = any_of

    async def __call__(self, request: Request, state: Shared) -> Acting:
        credential = credential_of(request.scope["headers"])
        caller = await authenticate(state.db, state.policy.keyring, credential, state.clock())
        require(caller, *self.any_of)
        return Acting(caller, Order(caller.actor, state.clock()))


async def ordering(acting: Annotated[Acting, Depends(Allowed("platform"))]) -> Order:
    return acting.order


Manager = Annotated[Acting, Depends(Allowed("organization.manage"))]
Operator = Annotated[Order, Depends(ordering)]


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose key it is, from memory: whether it still works and what it may do is decided with the operation, under the
    organisation's lock."""

    organization_id: UUID
    key_id: UUID
    carried: str | None  # the key itself
    on_behalf_of: str | None  # the header X-Tollhouse-User

    def user(self, named: str | None) -> str | None:
        """The end user on whose behalf this is. BadRequest when body and header disagree."""
        if named is not None and self.on_behalf_of not in (None, named):
            raise BadRequest("The body names another user than the header X-Tollhouse-User. Send one of them.", "user")
        return named or self.on_behalf_of

    @property
    def credential(self) -> Credential:
        return Credential("key", self.key_id)

    def needs(self, scope: Scope, user: str | None) -> frozenset[Scope]:
        return frozenset({scope}) if user is None else frozenset({scope, "act_as"})

    def bearer(self, scope: Scope) -> Bearer:
        return Bearer(self.credential, frozenset({scope}))

    async def check(self, state: State, scope: Scope) -> None:
        """For what no operation decides: looked up afresh."""
        require(await authenticate(state.db, state.policy.keyring, self.carried, state.clock()), *SCOPES[scope])


async def holding(
    request: Request,
    state: Shared,
    on_behalf_of: Annotated[EndUser | None, Header(alias="X-Tollhouse-User")] = None,
) -> KeyHolder:
    credential = credential_of(request.scope["headers"])
    identity = await state.identities.identify(credential)
    return KeyHolder(identity.organization_id, identity.key_id, credential, on_behalf_of)


Holder = Annotated[KeyHolder, Depends(holding)]
