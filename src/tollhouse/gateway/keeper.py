"""What organisations have chosen to keep: answers to be given again, and prompts and answers to be read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256

import msgspec
import structlog

from tollhouse.core.admission import Candidate
from tollhouse.core.errors import Overloaded
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Admitted
from tollhouse.gateway import kept
from tollhouse.gateway.dialect.neutral import Whole
from tollhouse.gateway.exchange import Chat, Exchange
from tollhouse.store import content, kept_answer
from tollhouse.store.db import Database

log = structlog.get_logger()

# What cannot change an answer: how it is sent, whose it is, and hints to the vendor.
_BESIDE = frozenset({
    "stream", "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention",
})  # fmt: skip


class Keeper:
    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock

    async def find(self, admitted: Admitted, exchange: Exchange) -> kept.Kept | None:
        """The answer that the organisation keeps to an equal request, if it keeps answers and has one. A store that
        does not answer has none."""
        if admitted.keeps.cache_ttl_s is None or not isinstance(exchange, Chat):
            return None
        key = _key(exchange, admitted.admission.terms.model.id)
        try:
            async with self._db.tenant(admitted.organization_id) as tx:
                found = await kept_answer.find(tx, admitted.organization_id, key, self._clock())
        except Overloaded:
            return None
        return None if found is None else kept.read(found.answer)

    async def keep(
        self, admitted: Admitted, candidate: Candidate, exchange: Chat, whole: Callable[[], Whole], usage: Usage
    ) -> None:
        """Keeps what the organisation has chosen to keep. What another model said in the place of the one that was
        asked is not given again."""
        keeps, organization_id = admitted.keeps, admitted.organization_id
        if keeps.cache_ttl_s is None and not keeps.stores_content:
            return
        with _nothing_lost(admitted):
            said = whole()
            await self.keep_content(admitted, exchange, said)
            if keeps.cache_ttl_s is not None and candidate.model.id == admitted.admission.terms.model.id:
                answer = msgspec.to_builtins(kept.Kept(candidate.model.id, exchange.created, usage, whole=said))
                key = _key(exchange, candidate.model.id)
                async with self._db.tenant(organization_id) as tx:
                    now, ttl_s, model_id = self._clock(), keeps.cache_ttl_s, candidate.model.id
                    await kept_answer.keep(tx, organization_id, key, model_id, answer, now, ttl_s, admitted.id)

    async def keep_content(self, admitted: Admitted, exchange: Exchange, whole: Whole | None) -> None:
        """Stores the prompt and the answer, if the organisation wants that."""
        if not admitted.keeps.stores_content or whole is None:
            return
        organization_id = admitted.organization_id
        with _nothing_lost(admitted):
            prompt, answer = msgspec.json.decode(exchange.raw), msgspec.to_builtins(whole)
            async with self._db.tenant(organization_id) as tx:
                await content.keep(tx, organization_id, admitted.id, prompt, answer, self._clock())


@contextmanager
def _nothing_lost(admitted: Admitted) -> Iterator[None]:
    """The call is settled before: whatever fails here is told to the operator, and to nobody else."""
    try:
        yield
    except Exception as error:
        log.warning("an answer was not kept", request=str(admitted.id), error=repr(error))


def _key(exchange: Chat, model_id: str) -> bytes:
    """Equal requests for one model have one key, in whatever order their fields stand."""
    asked = {name: value for name, value in msgspec.json.decode(exchange.raw).items() if name not in _BESIDE}
    head = f"{exchange.surface.name} {model_id} ".encode()
    return sha256(head + msgspec.json.encode(asked, order="sorted")).digest()
