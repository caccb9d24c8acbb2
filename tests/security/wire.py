"""Requests byte for byte, as no client library would send them, and what may never be seen in an answer."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.house import House

Line = tuple[bytes, bytes]
# What a mistake of ours would show: code, statements, places on the disk.
INSIDES = re.compile(
    rb'Traceback|File "/|site-packages|psycopg|asyncpg|starlette\.|jinja2\.|SELECT .* FROM |INSERT INTO|root:x:0'
)
ELSEWHERE = b"evil.example"
_addresses = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Seen:
    status: int
    headers: tuple[Line, ...]
    body: bytes = field(repr=False)

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)

    @property
    def whole(self) -> bytes:
        return b"\n".join([*(name + b": " + value for name, value in self.headers), self.body])


async def send(
    house: House, target: bytes, headers: Iterable[Line] = (), body: bytes = b"", method: bytes = b"GET"
) -> Seen:
    """One request of a client that nobody has heard of before, so that none is held back for what others guessed. A
    header given here stands in place of the same one that every request has."""
    given = list(headers)
    number = next(_addresses)
    usual = [
        (b"host", b"tollhouse.test"),
        (b"x-forwarded-for", b"198.18.%d.%d" % divmod(number, 256)),
        (b"connection", b"close"),
        *([(b"content-length", b"%d" % len(body))] if body else []),
    ]
    names = {name.lower() for name, _ in given}
    lines = [*(line for line in usual if line[0] not in names), *given]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    return await exchange(house, method + b" " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + body)


async def exchange(house: House, raw: bytes) -> Seen:
    """These bytes, and all that comes until the server closes."""
    reader, writer = await asyncio.open_connection(house.server.host, house.server.port)
    try:
        writer.write(raw)
        said = b""
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):  # it need not read to its end what it has refused
                while part := await reader.read(65_536):
                    said += part
    finally:
        writer.close()
    head, _, rest = said.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first.startswith(b"HTTP/1.1 "), (raw[:200], said[:200])
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return Seen(int(first.split(b" ")[1]), tuple(headers), rest)


def assert_harmless(seen: Seen, asked: object, *canaries: str) -> None:
    """No mistake of ours, nothing of the inside or of anybody else, and no way to another site."""
    assert 200 <= seen.status < 500, (asked, seen.status, seen.body[:300])
    whole = seen.whole
    assert not INSIDES.search(whole), (asked, whole[:500])
    for canary in canaries:
        assert canary.encode() not in whole, (asked, canary)
    location = seen.header(b"location") or seen.header(b"hx-redirect")
    if location is not None:
        assert is_local(location), (asked, location)


def is_local(location: bytes) -> bool:
    """As browsers read it: backslashes are slashes, tabs and line breaks are not there."""
    text = re.sub(r"[\t\r\n]", "", location.decode("latin-1")).strip().replace("\\", "/")
    parts = urlsplit(text)
    return text.startswith("/") and not text.startswith("//") and not parts.netloc and not parts.scheme
