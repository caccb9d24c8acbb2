"""Small documents of other companies' servers: keys of issuers, what an identity provider says of itself, its tokens.

The addresses are entered by organisations and operators, so each is judged as a provider's is (`outside.address`): the
socket goes to the address that was judged, no redirect is followed, and no proxy of the environment applies. Five
seconds and 256 kB are the most that one answer may take.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from tollhouse.outside.address import AddressRefused, GuardedResolver, check_url

DEADLINE_S: Final = 5.0
BODY_BYTES: Final = 256 * 1024
_HEADER_BYTES: Final = 8190


class FetchFailed(Exception):
    """There is no document. The message says why, in words of ours, begins in lower case and repeats no address."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The JSON object that it is. Raises `FetchFailed`."""
        try:
            found = msgspec.json.decode(self.body)
        except (ValueError, msgspec.DecodeError, RecursionError):
            raise FetchFailed("the answer is not JSON") from None
        if not isinstance(found, dict):
            raise FetchFailed("the answer is no JSON object")
        return found


class Fetcher:
    """Each call says with `allow_private` whether it may go to this machine and its network, and over plain http; each
    of the two has sockets of its own. Names are looked up with `resolver`, the system's when None."""

    def __init__(self, deadline_s: float = DEADLINE_S, resolver: AbstractResolver | None = None) -> None:
        self._deadline_s = deadline_s
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._resolvers: list[GuardedResolver] = []

    async def get(self, url: str, *, allow_private: bool) -> Answer:
        """The document, which came with status 200. Raises `FetchFailed`."""
        answer = await self._call("GET", url, {}, None, allow_private)
        if answer.status != 200:
            raise FetchFailed(_status(answer.status))
        return answer

    async def post(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str], *, allow_private: bool
    ) -> Answer:
        """The answer to a form, whatever its status. Raises `FetchFailed`."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        return await self._call("POST", url, sent, urlencode(form).encode(), allow_private)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        for resolver in self._resolvers:
            await resolver.close()
        self._sessions.clear()
        self._resolvers.clear()

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None, allow_private: bool
    ) -> Answer:
        try:
            address = check_url(url, allow_private=allow_private)
        except ValueError as error:
            raise FetchFailed(str(error)) from None
        session = self._sessions.get(allow_private) or self._open(allow_private)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await _exchange(session, method, address, headers, data)
        except TimeoutError:
            raise FetchFailed(f"there was no whole answer within {self._deadline_s:g} seconds") from None
        except AddressRefused as refused:
            raise FetchFailed(f"the name leads to an address that is {refused.objection}") from None
        except aiohttp.ClientConnectorDNSError:
            raise FetchFailed("the name cannot be resolved") from None
        except aiohttp.ClientSSLError:
            raise FetchFailed("no secure connection can be made; look at the certificate") from None
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError):
            raise FetchFailed("no connection can be made, or it broke off") from None

    def _open(self, allow_private: bool) -> aiohttp.ClientSession:
        resolver = GuardedResolver(self._resolver or aiohttp.DefaultResolver(), allow_private=allow_private)
        self._resolvers.append(resolver)
        session = self._sessions[allow_private] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=8, resolver=resolver),  # no host holds up another
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "tollhouse"},
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        return session


async def _exchange(
    session: aiohttp.ClientSession, method: str, address: URL, headers: Mapping[str, str], data: bytes | None
) -> Answer:
    async with session.request(method, address, headers=headers, data=data, allow_redirects=False) as response:
        body = bytearray()
        async for segment in response.content.iter_any():
            body += segment
            if len(body) > BODY_BYTES:
                raise FetchFailed(f"the answer is larger than {BODY_BYTES} bytes")
        return Answer(response.status, bytes(body))


def _status(status: int) -> str:
    if 300 <= status < 400:
        return f"the server redirects (status {status}), which is never followed: enter the address it leads to"
    return f"the server answers with status {status}"
