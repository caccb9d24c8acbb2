"""What the pages share: the parts of the process, made once by the app."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tollhouse.flows.chat import Parts
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.live import Live
from tollhouse.flows.oidc import OpenId
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.flows.talk import Talk
from tollhouse.store.db import Database


@dataclass(frozen=True, slots=True)
class State:
    """`clock` gives the real time, in UTC; `policy` and `key_sets` are for what is asked of other servers;
    `talk` has a model say something, `chat` are the parts of conversations."""

    db: Database
    teller: Teller
    site: Site
    clock: Callable[[], datetime]
    policy: Policy
    key_sets: KeySets
    open_id: OpenId
    live: Live
    talk: Talk
    chat: Parts
