"""Passwords off the event loop, few at once: each takes 64 MiB and a tenth of a second."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from tollhouse.core import password as rules
from tollhouse.core.errors import Overloaded

AT_ONCE = 2
WAITING_MAX = 64
# Answers that must not tell whether there is an account leave on the next of these beats, whatever was to do.
BEAT_S = 0.25

Result = TypeVar("Result")


class _Hasher:
    """So many threads of their own; who would wait too long is told to come back."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._waiting = 0

    async def run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= WAITING_MAX:
            raise Overloaded("Too many people sign in at this moment. Try again shortly.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


_hasher = _Hasher()


async def hashed(password: str, *about: str) -> str:
    """The hash of a new password. BadRequest when it is too easy to guess; `about`: the person's name and address."""

    def work() -> str:
        rules.check(password, about)
        return rules.hashed(password, os.urandom(rules.SALT_BYTES))

    return await _hasher.run(work)


async def fits(password: str, stored: str | None) -> bool:
    """Whether this is the password of the hash; as slow where there is none."""
    return await _hasher.run(lambda: rules.fits(password, stored))


async def rehashed(password: str, stored: str) -> str | None:
    """The password that fits this hash, hashed as it is done now; None when it is already."""
    if not rules.is_outdated(stored):
        return None
    return await _hasher.run(lambda: rules.hashed(password, os.urandom(rules.SALT_BYTES)))


@asynccontextmanager
async def on_the_beat() -> AsyncIterator[None]:
    """What ends in here, well or badly, ends a multiple of 250 ms after it began: how long it took does not tell what
    was found."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        yield
    finally:
        await asyncio.sleep((began - loop.time()) % BEAT_S)
