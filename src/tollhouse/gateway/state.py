"""What the gateway's handlers share in one process."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tollhouse.core.key import Mode
from tollhouse.flows.auth import Authentication
from tollhouse.flows.spend import Teller
from tollhouse.gateway.providers import Providers
from tollhouse.gateway.pump import Pumps
from tollhouse.store.db import Database


@dataclass(frozen=True, slots=True)
class State:
    db: Database
    teller: Teller
    pumps: Pumps
    providers: Providers
    authentication: Authentication
    mode: Mode
    clock: Callable[[], datetime]
    body_max_bytes: int
