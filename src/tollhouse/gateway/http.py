"""Reading requests and writing answers as plain ASGI, which is what a call costs least with."""

import os
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog
from starlette.types import Receive, Scope, Send

from tollhouse.core.errors import BadRequest, TollhouseError, Unexpected
from tollhouse.core.key import ordered_id
from tollhouse.gateway.dialect.chat_error import error_headers

log = structlog.get_logger()

Headers = list[tuple[bytes, bytes]]


class ClientLeft(Exception):
    """The client went away before its request was complete."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this name (lower case); None when there is none. BadRequest when it is not text."""
    for found, value in scope["headers"]:
        if found == name:
            try:
                text = str(value.decode("utf-8"))
            except UnicodeDecodeError:
                raise BadRequest(f"The header {name.decode()} is not UTF-8.") from None
            return text
    return None


def request_id(now: datetime) -> tuple[bytes, bytes]:
    """The header of an answer that no reservation stands behind."""
    return b"x-request-id", str(ordered_id(now, os.urandom(10))).encode()


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """The body, or BadRequest with status 413 as soon as it is known to be larger than `most` bytes."""
    too_large = BadRequest(f"The body is larger than {most} bytes. Send a shorter one.", status=413)
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > most:
        raise too_large
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_json(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    length = str(len(body)).encode()
    head: Headers = [(b"content-type", b"application/json"), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def send_refusal(
    send: Send,
    refusal: Callable[[TollhouseError], bytes],
    error: TollhouseError,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """A refusal in the shape of the client's dialect."""
    await send_json(send, error.status, refusal(error), [*headers, *error_headers(error)])


def refusal_of(error: Exception) -> TollhouseError:
    """The refusal itself; what is none is a fault of ours, which goes to the log and to nobody else."""
    if isinstance(error, TollhouseError):
        return error
    log.error("a request failed inside the gateway", exc_info=error)
    return Unexpected("The gateway failed at this request; nothing was taken. Try again, or tell the operator.")
