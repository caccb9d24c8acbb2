"""Small documents are fetched from where they may be, in time and in size, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.fake_idp import FakeIdp
from tests.outside.test_address import INSIDE, NEVER, PRIVATE, PUBLIC, Names
from tests.outside.wiretap import Wiretap
from tollhouse.outside.address import check_url
from tollhouse.outside.fetch import BODY_BYTES, Fetcher, FetchFailed

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher(deadline_s=0.4)
    yield made
    await made.close()


def url_of(address: str) -> str:
    return f"https://[{address}]/keys" if ":" in address else f"https://{address}/keys"


@pytest.mark.parametrize("address", PRIVATE + NEVER + INSIDE)
def test_no_address_of_the_inside_is_taken(address: str) -> None:
    with pytest.raises(ValueError, match=r"^the address must "):
        check_url(url_of(address), allow_private=False)


@pytest.mark.parametrize("address", NEVER)
def test_some_are_taken_from_nobody(address: str) -> None:
    with pytest.raises(ValueError, match=r"^the address must "):
        check_url(url_of(address), allow_private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_ones_are(address: str) -> None:
    assert check_url(url_of(address), allow_private=False)


@pytest.mark.parametrize(
    "url",
    ["https://id.example/keys/", "https://id.example/a%2Fb?p=x%20y&q=/z?", "https://id.example:8443/", "https://id.example/keys"],
)  # fmt: skip
def test_path_and_query_are_called_as_they_are_written(url: str) -> None:
    assert str(check_url(url, allow_private=False)) == url


@pytest.mark.parametrize(
    "url",
    ["", "keys", "ftp://id.example/keys", "http://id.example/keys", "https://u:p@id.example/keys", "https://id.example/#a",
     "https://id.example/?a#b", "https://id.example/ a", "https://id.example/?a b", "https://id.example\\@127.0.0.1/",
     "https://id.example/?\\", "https:///keys", "https://id.example:0/", "https://127.1/keys", "https://0x7f000001/?a",
     "https://localhost/keys", "file:///etc/passwd", "https://é.example/keys", "https://id.example/" + "a" * 2000],
)  # fmt: skip
def test_what_is_no_such_address_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the address must "):
        check_url(url, allow_private=False)


async def test_a_document_is_read(fetcher: Fetcher) -> None:
    async with FakeIdp() as idp:
        answer = await fetcher.get(idp.jwks_url, allow_private=True)
    assert [key["kid"] for key in answer.document()["keys"]] == [key.kid for key in idp.keys]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"]])
async def test_a_name_that_leads_inside_is_refused_before_a_socket_is_opened(addresses: list[str]) -> None:
    async with Wiretap() as tap:
        fetcher = Fetcher(resolver=Names(addresses))
        with pytest.raises(FetchFailed, match="the name leads to an address that is"):
            await fetcher.get(f"https://id.test:{tap.port}/keys", allow_private=False)
        await fetcher.close()
        assert tap.connections == 0


async def test_a_name_that_leads_elsewhere_the_second_time_is_judged_again(fetcher: Fetcher) -> None:
    names = Names(["169.254.169.254"])
    fetcher = Fetcher(resolver=names)
    for _ in range(2):
        with pytest.raises(FetchFailed, match="link-local"):
            await fetcher.get("http://id.test:9/keys", allow_private=True)
    await fetcher.close()
    assert names.asked == ["id.test", "id.test"]


async def test_what_may_go_inside_lends_its_sockets_to_nobody_else(fetcher: Fetcher) -> None:
    async with FakeIdp() as idp:
        await fetcher.get(idp.jwks_url, allow_private=True)
        with pytest.raises(FetchFailed, match="https"):
            await fetcher.get(idp.jwks_url, allow_private=False)
        assert idp.count("/keys") == 1


async def test_a_redirect_is_not_followed(fetcher: Fetcher) -> None:
    async with FakeIdp() as idp, FakeIdp() as other:
        idp.jwks_location = other.jwks_url
        with pytest.raises(FetchFailed, match="redirects"):
            await fetcher.get(idp.jwks_url, allow_private=True)
        assert other.calls == []


async def test_a_slow_server_is_left_in_time(fetcher: Fetcher) -> None:
    async with FakeIdp(wait_s=30) as idp:
        async with asyncio.timeout(5):
            with pytest.raises(FetchFailed, match=r"within 0\.4 seconds"):
                await fetcher.get(idp.jwks_url, allow_private=True)


async def test_a_server_that_dribbles_is_left_in_time(fetcher: Fetcher) -> None:
    async def dribble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(dribble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(FetchFailed, match="no whole answer"):
        await fetcher.get(f"http://127.0.0.1:{port}/keys", allow_private=True)
    await ended.wait()
    server.close()


async def test_a_large_answer_is_left_whether_announced_or_not(fetcher: Fetcher) -> None:
    for head in (b"Content-Length: 1000000\r\n\r\n", b"Connection: close\r\n\r\n"):
        async with Wiretap(HEAD + head + b"x" * 1_000_000) as tap:
            with pytest.raises(FetchFailed, match=f"larger than {BODY_BYTES}"):
                await fetcher.get(tap.url + "/keys", allow_private=True)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status 500"),
        (b"HTTP/1.1 204 No\r\n\r\n", "status 204"),
        (b"nonsense\r\n\r\n", "broke off"),
        (HEAD + b"Content-Length: 9\r\nConnection: close\r\n\r\n{", "."),
        (HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\n", "broke off"),
    ],
)
async def test_what_is_no_answer_is_said_so(fetcher: Fetcher, answer: bytes, why: str) -> None:
    async with Wiretap(answer) as tap:
        with pytest.raises(FetchFailed, match=why) as failed:
            await fetcher.get(tap.url + "/keys", allow_private=True)
    assert "127.0.0.1" not in str(failed.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xff", b'"text"'])
async def test_what_is_no_document_is_said_so(fetcher: Fetcher, body: bytes) -> None:
    async with Wiretap(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body) as tap:
        answer = await fetcher.get(tap.url, allow_private=True)
    with pytest.raises(FetchFailed, match="JSON"):
        answer.document()


async def test_nothing_listens_there(fetcher: Fetcher) -> None:
    async with Wiretap() as tap:
        url = tap.url
    with pytest.raises(FetchFailed, match="no connection"):
        await fetcher.get(url, allow_private=True)
