"""Calls of `/v1` with an idempotency key, and what is heard of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.gateway.surfaces import Heard, Surface
from tests.house import House, Reply, Tenant
from tests.server import Server


async def post(
    house: House, tenant: Tenant, path: str, body: Any, once: str, server: Server | None = None, **headers: Any
) -> Reply:
    """A call with an idempotency key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = tenant.headers | named | {"idempotency-key": once}
    return await house.call("POST", path, server, json=body, headers=sent)


def heard(surface: Surface, reply: Reply, stream: bool) -> Heard:
    """Without the model's name: a stream has the vendor's name of it, told again ours."""
    assert reply.status == 200, reply.raw
    assert reply.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    return replace(surface.stream(reply.raw) if stream else surface.plain(reply.body), model="")


def code(reply: Reply) -> str:
    """Of a refusal in any dialect."""
    found: str = reply.body["error"]["code"]
    return found
