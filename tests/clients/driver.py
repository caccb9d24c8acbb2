"""What the drivers of the Python clients share: the part they play, read from standard input, and what they tell.

A driver is a program of its own: it puts every case to its client once and prints what a caller of that client gets to
see. It changes nothing about the client beyond what its documentation offers: an address, a key, a model. What the
cases are called and what they must come to stands in `tests.clients.contract`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MODEL = "sandbox"
MOST = 100  # output tokens


@dataclass(frozen=True, slots=True)
class Part:
    """`url` of the server; `texts` by case; `tools` with name, description and parameters; `refusals`: key and model by
    case. `key` may do everything, and so may the one of the organisation that `leaving_key` is of."""

    url: str
    key: str
    leaving_key: str
    texts: dict[str, str]
    tools: list[dict[str, Any]]
    refusals: dict[str, dict[str, str]]

    @property
    def v1(self) -> str:
        return self.url + "/v1"


def part() -> Part:
    return Part(**json.load(sys.stdin))


def tell(told: dict[str, Any]) -> None:
    """All that was seen, as the only thing on standard output."""
    json.dump(told, sys.stdout)


def usage(given: Any, *, input_name: str = "input_tokens", output_name: str = "output_tokens") -> dict[str, Any]:
    """What a client shows of tokens and charge, under the same names for all of them; None for what it does not."""
    found = given if isinstance(given, dict) else given.model_dump()
    return {
        "input": found.get(input_name),
        "output": found.get(output_name),
        "credits": found.get("credits"),
        "cost_usd": found.get("cost_usd"),
    }


def refused(ask: Callable[[str, str], object], part: Part, failure: type[Exception]) -> dict[str, Any]:
    """What the client raises in each case, and how long that takes. `ask` takes a key and a model."""
    told: dict[str, Any] = {}
    for case, who in part.refusals.items():
        began = time.monotonic()
        try:
            ask(who["key"], who["model"])
            told[case] = {"kind": None}
        except failure as error:
            told[case] = failure_of(error) | {"seconds": time.monotonic() - began}
    return told


def failure_of(error: Exception) -> dict[str, Any]:
    """An error of one of the vendors' Python clients: they carry the body of the answer."""
    body = getattr(error, "body", None)
    body = body.get("error", body) if isinstance(body, dict) else {}
    return {
        "kind": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "code": body.get("code"),
        "message": body.get("message"),
        "request_id": getattr(error, "request_id", None),
        "hints": [hint["kind"] for hint in body.get("metadata", {}).get("hints", ())],
    }
