"""What the handlers share: the parts of the process, made once by the app."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from tollhouse.flows.auth import Authentication
from tollhouse.flows.capability import Complete
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwt import Tokens
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.store.db import Database


@dataclass(frozen=True, slots=True)
class State:
    """`policy` has the installation's mode and secrets; `clock` gives the real time, in UTC; `complete` has a model do
    a task."""

    db: Database
    teller: Teller
    authentication: Authentication
    policy: Policy
    clock: Callable[[], datetime]
    complete: Complete
    tokens: Tokens
    site: Site


async def state_of(request: Request) -> State:
    state = request.app.state.tollhouse
    assert isinstance(state, State)
    return state


Shared = Annotated[State, Depends(state_of)]
