"""What the pages share: the parts of the process, made once by the app."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.store.db import Database


@dataclass(frozen=True, slots=True)
class State:
    """`clock` gives the real time, in UTC."""

    db: Database
    teller: Teller
    site: Site
    clock: Callable[[], datetime]
