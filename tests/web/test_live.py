"""Open pages hear what changes, for as long as their session goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest

from tests.web.serving import Place, Visitor, serving
from tests.web.team import send, signed_in
from tollhouse.flows.live import Live
from tollhouse.web import live as web

OPENED = "retry: 5000"
EVENTS = {"accept": "text/event-stream", "sec-fetch-site": "same-origin"}


@asynccontextmanager
async def following(visitor: Visitor) -> AsyncIterator[aiohttp.ClientResponse]:
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    async with visitor.client.get(visitor.url + "/events", headers=EVENTS | {"cookie": cookies}) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert await said(response) == OPENED
        yield response


async def said(response: aiohttp.ClientResponse) -> str:
    """The next event, without the mark of its end; empty when no more come."""
    try:
        async with asyncio.timeout(15):
            return (await response.content.readuntil(b"\n\n")).decode().strip()
    except aiohttp.ClientError:
        return ""


async def heard(response: aiohttp.ClientResponse, event: str) -> None:
    """Waits for it: at first, everything may have changed."""
    while (await said(response)) != f"event: {event}\ndata: now":
        pass


async def tell(place: Place, visitor: Visitor, mine: bool) -> None:
    signed = await signed_in(place, visitor)
    async with place.db.tenant(signed.organization_id) as tx:
        await Live.tell(tx, signed.organization_id, signed.person_id if mine else None, "usage")


async def test_a_page_hears_of_its_person_and_organisation(database_url: str) -> None:
    async with serving(database_url) as place:
        ada, bob = await place.person("ada@example.com"), await place.person("bob@example.com")
        async with following(ada) as page:
            await heard(page, "usage")
            async with following(bob) as other:  # who comes while the process listens already is told of no beginning
                for mine in (True, False):
                    await tell(place, ada, mine)
                    assert await said(page) == "event: usage\ndata: now"
                await tell(place, bob, True)
                assert await said(other) == "event: usage\ndata: now", "nothing of hers came before it"
    # and the server, told to stop, waits for neither


async def test_the_stream_ends_with_the_session_or_in_another_organisation(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SILENCE_S", 0.02)
    monkeypatch.setattr(web, "LOOKED_AT", timedelta(0))
    async with serving(database_url) as place:
        ada = await place.in_a_team("ada@example.com", "member")
        async with following(ada) as first:
            await heard(first, "usage")
            assert await said(first) == ":", "a comment, for who cuts what is silent"
            signed = await signed_in(place, ada)
            await said(first)
            async with following(ada) as second:
                await place.change("DELETE FROM member WHERE organization_id = %s", signed.organization_id)
                await heard_over(first)
                await heard_over(second)
        async with following(ada) as third:
            assert (await send(ada, "/sign-out")).status == 303
            await heard_over(third)


async def heard_over(response: aiohttp.ClientResponse) -> None:
    while event := await said(response):
        if event.startswith("event: over"):
            assert await said(response) == "", "nothing comes after it"
            return
    raise AssertionError("it ended without saying that it is over")


async def test_only_pages_of_who_is_signed_in_may_listen(database_url: str) -> None:
    async with serving(database_url) as place:
        assert (
            (await place.visitor().get("/events", accept=EVENTS["accept"])).headers["location"].startswith("/sign-in")
        )
        ada = await place.person("ada@example.com")
        assert (await ada.get("/events")).status == 406
