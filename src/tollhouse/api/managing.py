"""Who manages an organisation: whoever has a key of it with the scope `manage`."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends

from tollhouse.api.caller import with_scope
from tollhouse.api.state import Shared
from tollhouse.flows.auth import Caller
from tollhouse.flows.order import Order


@dataclass(frozen=True, slots=True)
class Managing:
    """The organisation that the key belongs to, and what is ordered with it."""

    organization_id: UUID
    order: Order


async def managing(state: Shared, caller: Annotated[Caller, Depends(with_scope("manage"))]) -> Managing:
    return Managing(caller.organization_id, Order(caller.actor, state.clock()))


Manager = Annotated[Managing, Depends(managing)]
