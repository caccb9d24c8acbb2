"""The cases that every client is put through, and a client's turn at them: a process of its own that tells what it saw.

The drivers (`drive_*.py`, `*.mjs`) get their part as JSON on standard input and print JSON, whose names are these:

================ ======================================================================================================
``plain``        ``text`` and ``usage`` (``input``, ``output``, ``credits``, ``cost_usd``; null for what is not shown)
``stream``       the same of the same question, from the pieces
``tools``        ``calls`` (name and arguments) and ``usage``; ``then``: text and usage, with the results sent back
``tools_stream`` ``calls`` and ``usage`` of the same question, put together by the client
``broken``       the ``text`` that came before the answer broke off, and the ``failure`` that the client made of it
``left``         how many pieces it had seen when it went away
``refusals``     a failure for each of `REFUSALS`: ``kind`` of the error, ``status``, ``code``, ``message``, ``hints``,
                 ``request_id``, and after how many ``seconds`` it came
================ ======================================================================================================
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.clients.conftest import LOCKED
from tests.clients.watcher import Asked, Watcher
from tests.house import House, Tenant
from tollhouse.core.key import make_key

ROOT = Path(__file__).parents[2]
DRIVER_S = 60.0
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
TEXTS = {
    "plain": "Why is the sky blue? sandbox:tokens=12",
    "tools": "How is the weather, and how late is it? sandbox:tools=2",
    "broken": "Tell me a story. sandbox:tokens=20 sandbox:fault=error:5",
    "left": "Tell me a long story. sandbox:tokens=60 sandbox:delay=20",
}
BROKEN_AFTER, LEFT_WITH = 5, 60  # output tokens
TOOLS = [
    {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
    {
        "name": "clock",
        "description": "The time of day",
        "parameters": {
            "type": "object",
            "properties": {"hours": {"type": "integer", "enum": [12, 24]}},
            "required": ["hours"],
            "additionalProperties": False,
        },
    },
]
# Status and code of each.
REFUSALS = {
    "wrong_key": (401, "invalid_api_key"),
    "no_credits": (402, "insufficient_credits"),
    "locked": (403, "model_locked"),
    "unknown": (404, "model_not_found"),
    "limit": (429, "rate_limit_exceeded"),
}


@dataclass(frozen=True, slots=True)
class Cast:
    """Who asks: organisations of one client alone. `refused`: key and model by case."""

    tenant: Tenant
    leaving: Tenant
    refused: dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Turn:
    """What a client told, who it was, and every request of its that reached the server, by key."""

    cast: Cast
    told: dict[str, Any]
    asked: dict[str, list[Asked]]


async def cast(house: House) -> Cast:
    limited = await house.organization()
    rule = {"scope": "organization", "meter": "messages", "period": "day", "maximum": 0}
    await house.order("POST", f"/organizations/{limited.id}/limits", rule)
    return Cast(
        await house.organization(),
        await house.organization(),
        {
            "wrong_key": (make_key("test", os.urandom(64)), "sandbox"),
            "no_credits": ((await house.organization("0")).key, "sandbox"),
            "locked": ((await house.organization()).key, LOCKED),
            "unknown": ((await house.organization()).key, "no-such-model"),
            "limit": (limited.key, "sandbox"),
        },
    )


async def take_turn(house: House, watcher: Watcher, words: list[str], folder: Path) -> Turn:
    """Runs one driver, `words` its command line, in `folder`."""
    who = await cast(house)
    part = {
        "url": watcher.url,
        "key": who.tenant.key,
        "leaving_key": who.leaving.key,
        "texts": TEXTS,
        "tools": TOOLS,
        "refusals": {case: {"key": key, "model": model} for case, (key, model) in who.refused.items()},
    }
    told = json.loads(await run(words, folder, json.dumps(part).encode()))
    keys = [who.tenant.key, who.leaving.key, *(key for key, _ in who.refused.values())]
    return Turn(who, told, {key: watcher.by(key) for key in keys})


async def run(words: list[str], folder: Path, given: bytes = b"", settings: Mapping[str, str] = NO_SETTINGS) -> bytes:
    """What a program printed; the test fails, with what it complained of, when it did not end well."""
    status, said, complaint = await attempt(words, folder, given, settings)
    assert status == 0, complaint.decode()
    return said


async def attempt(
    words: list[str], folder: Path, given: bytes = b"", settings: Mapping[str, str] = NO_SETTINGS
) -> tuple[int, bytes, bytes]:
    """Exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env=environment() | dict(settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DRIVER_S):
            said, complaint = await process.communicate(given)
    except TimeoutError:
        process.kill()
        _, complaint = await process.communicate()
        raise AssertionError(f"{words} took longer than {DRIVER_S} s: {complaint.decode()}") from None
    assert process.returncode is not None
    return process.returncode, said, complaint


def python(module: str, *words: str) -> list[str]:
    """The command line of a driver in Python."""
    return [sys.executable, "-m", f"tests.clients.{module}", *words]


def environment() -> dict[str, str]:
    """The machine's, without what is meant for clients or for Tollhouse."""
    foreign = ("OPENAI_", "ANTHROPIC_", "LANGCHAIN_", "LANGSMITH_", "LLM_", "TOLLHOUSE_", "HTTP_", "HTTPS_", "ALL_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    return kept | {"PYTHONPATH": str(ROOT / "src"), "NO_PROXY": "127.0.0.1"}
