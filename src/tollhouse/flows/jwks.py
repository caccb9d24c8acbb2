"""The keys that issuers publish, kept for a while: no call waits for them, and an issuer that is away for a day locks
nobody out."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tollhouse.core.jwt import KeySet, KeysUnusable, read_keys
from tollhouse.outside.fetch import Fetcher, FetchFailed

FRESH: Final = timedelta(minutes=10)
STALE: Final = timedelta(hours=24)
AGAIN: Final = timedelta(minutes=1)  # no issuer is asked more often, whatever tokens say
AGAIN_WITHOUT: Final = timedelta(seconds=5)  # ... or than this while it has given no keys yet
ISSUERS_MAX: Final = 1000


class KeysMissing(Exception):
    """The keys of an issuer cannot be had; the message says why, begins in lower case and repeats no address."""


@dataclass(slots=True)
class _Kept:
    keys: KeySet | None = None
    fetched_at: datetime | None = None
    asked_at: datetime | None = None
    problem: str = ""


class KeySets:
    """One for each process. Kept by address, and by whether it may be a private one."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self._kept: OrderedDict[tuple[str, bool], _Kept] = OrderedDict()
        self._asking: dict[tuple[str, bool], asyncio.Task[None]] = {}

    async def get(self, url: str, kid: str | None, now: datetime, *, allow_private: bool) -> KeySet:
        """The keys at the address, asked for again when they are old or do not have the one that is wanted. Keys of
        the last 24 hours stand in for those that cannot be had. Raises `KeysMissing`."""
        at = (url, allow_private)
        kept = self._kept.setdefault(at, _Kept())
        self._kept.move_to_end(at)
        if len(self._kept) > ISSUERS_MAX:
            self._kept.popitem(last=False)
        if _wants_asking(kept, kid, now):
            asking = self._asking.get(at)
            if asking is None:
                asking = self._asking[at] = asyncio.create_task(self._ask(at, kept, now))
                asking.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.shield(asking)
        if kept.keys is None or kept.fetched_at is None or now - kept.fetched_at >= STALE:
            raise KeysMissing(kept.problem or "the keys are too old")
        return kept.keys

    async def _ask(self, at: tuple[str, bool], kept: _Kept, now: datetime) -> None:
        kept.asked_at = now
        try:
            kept.keys, kept.fetched_at = await fetch_keys(self.fetcher, at[0], allow_private=at[1]), now
        except KeysMissing as problem:
            kept.problem = str(problem)
        finally:
            del self._asking[at]


async def fetch_keys(fetcher: Fetcher, url: str, *, allow_private: bool) -> KeySet:
    """The keys that are published there now. Raises `KeysMissing`."""
    try:
        return read_keys((await fetcher.get(url, allow_private=allow_private)).body)
    except (FetchFailed, KeysUnusable) as problem:
        raise KeysMissing(str(problem)) from None


def _wants_asking(kept: _Kept, kid: str | None, now: datetime) -> bool:
    if kept.keys is None or kept.fetched_at is None:
        return kept.asked_at is None or now - kept.asked_at >= AGAIN_WITHOUT
    wanted = now - kept.fetched_at >= FRESH or not kept.keys.knows(kid)
    return wanted and (kept.asked_at is None or now - kept.asked_at >= AGAIN)
