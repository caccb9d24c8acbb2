"""Both clients behind one face, so that every test holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.client.counter import Counter
from tollhouse.client import AsyncClient, Client
from tollhouse.client.operation import BaseOperation

KEY = "th_test_of_the_tests"


class Face:
    """A client of either kind. What the threads' client does is done in a thread."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def do(self, method: str, *arguments: Any, **named: Any) -> Any:
        called = getattr(self.client, method)
        if isinstance(self.client, AsyncClient):
            return await called(*arguments, **named)
        return await asyncio.to_thread(called, *arguments, **named)

    @asynccontextmanager
    async def operation(self, *arguments: Any, **named: Any) -> AsyncIterator[BaseOperation]:
        made: Any = self.client.operation(*arguments, **named)
        if isinstance(self.client, AsyncClient):
            async with made as op:
                yield op
            return
        op = await asyncio.to_thread(made.__enter__)
        try:
            yield op
        except BaseException as problem:
            await asyncio.to_thread(made.__exit__, type(problem), problem, problem.__traceback__)
            raise
        else:
            await asyncio.to_thread(made.__exit__, None, None, None)


Connect = Callable[..., Face]


@asynccontextmanager
async def connecting(kind: type[Client] | type[AsyncClient]) -> AsyncIterator[Connect]:
    """Makes clients of the kind, and closes them."""
    async with AsyncExitStack() as stack:

        def make(url: str, key: str = KEY, **settings: float) -> Face:
            face = Face(kind(key, url, **settings))
            stack.push_async_callback(face.do, "close")
            return face

        yield make


@pytest.fixture(params=[Client, AsyncClient], ids=["threads", "asyncio"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    async with connecting(request.param) as make:
        yield make


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    async with Counter() as running:
        yield running


@pytest.fixture
def face(connect: Connect, counter: Counter) -> Face:
    return connect(counter.url)
