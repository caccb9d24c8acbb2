"""Who calls a handler, and with which right."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from tollhouse.api.state import Shared
from tollhouse.core.key import Scope
from tollhouse.flows.auth import Caller, authenticate, credential_of, require
from tollhouse.flows.order import Order

# For the documentation: the headers are read by `credential_of`, the same for every carrier.
_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False, scheme_name="bearer"))]
_Header = Annotated[str | None, Security(APIKeyHeader(name="x-api-key", auto_error=False, scheme_name="x-api-key"))]


def with_scope(*any_of: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, whose key has one of the scopes. Looked up afresh with every call, never from
    memory."""

    async def calling(request: Request, state: Shared, _bearer: _Bearer, _header: _Header) -> Caller:
        caller = await authenticate(state.db, state.secret, credential_of(request.scope["headers"]), state.clock())
        require(caller, *any_of)
        return caller

    return calling


async def ordering(state: Shared, caller: Annotated[Caller, Depends(with_scope("operator"))]) -> Order:
    return Order(caller.actor, state.clock())


Operator = Annotated[Order, Depends(ordering)]
