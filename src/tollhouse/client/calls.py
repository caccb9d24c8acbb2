"""The requests, each built once for both clients: what is sent, what its answer is read as, when it may be repeated."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

from tollhouse.client.answers import (
    Access,
    Balance,
    Release,
    Renewal,
    Reservation,
    Run,
    Settlement,
    Transactions,
    Usage,
)

Credits = Decimal | int | str
Id = str | UUID
Answer = TypeVar("Answer")
Answered = TypeVar("Answered", covariant=True)

RESERVATIONS = "/api/credits/reservations"
AWAY = frozenset({502, 503, 504})
"""Nobody was there to answer: Tollhouse itself is full or starts, or what stands before it did not reach it."""
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_DECIMALS = 6


class Wanted(TypedDict, total=False):
    """What a reservation may say beside its capability. With a capability: `quality`, by default the lowest; instead
    of one: `credits`, or `model` with `input_tokens` and perhaps `max_output_tokens`. `user` is your id of the person
    it is for (the key needs the scope act_as). It ends by itself after `ttl_seconds` (5 to 86400, by default 300).
    `metadata` is yours, at most 16 KiB of JSON."""

    quality: str | None
    credits: Credits | None
    model: str | None
    input_tokens: int | None
    max_output_tokens: int | None
    user: str | None
    ttl_seconds: int | None
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Call(Generic[Answered]):
    """Every call is safe to repeat: by what it does, or by its key. `repeat_on` are the statuses after which it is,
    beside no answer at all and a 409 with retry-after, which says that the same call still runs. `slow`: one attempt
    may take all the time there is."""

    method: str
    path: str
    answer: type[Answered]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat_on: frozenset[int] = AWAY
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Charge:
    """What was used: exactly one of the two."""

    credits: Decimal | None = None
    usage: Usage | None = None

    def __str__(self) -> str:
        """As it is written in a call."""
        return f"credits='{self.credits:f}'" if self.credits is not None else f"usage={self.usage!r}"


def read_charge(credits: Credits | None, usage: Usage | None) -> Charge:
    """TypeError unless it is exactly one of the two."""
    if (credits is None) == (usage is None):
        raise TypeError("say what was used as credits=... or as usage=Usage(...): one of the two")
    if usage is not None and not isinstance(usage, Usage):
        raise TypeError(f"usage is a tollhouse.client.Usage, not {type(usage).__name__}")
    return Charge(None if credits is None else read_credits(credits), usage)


def read_credits(value: Credits) -> Decimal:
    """Exact credits, at most six decimals and not below 0; TypeError or ValueError that names the remedy."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise TypeError(f'credits are exact: pass a Decimal, an int or a string such as "12.5", not {value!r}')
    try:
        credits = Decimal(value)
    except ArithmeticError:
        raise ValueError(f'credits are a decimal number such as "12.5", not {value!r}') from None
    if not credits.is_finite() or credits < 0:
        raise ValueError(f"credits are a number that is not below 0, not {value}")
    exponent = credits.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent < -_DECIMALS:
        remedy = 'value.quantize(Decimal("0.000001"), ROUND_CEILING)'
        raise ValueError(f"credits have at most six decimals, {value} has more. Round it up: {remedy}")
    return credits


# ------------------------------------------------------------------------------------------------------------- reading


def balance() -> Call[Balance]:
    return Call("GET", "/api/credits/balance", Balance)


def transactions(
    type: str | None, since: datetime | None, until: datetime | None, limit: int | None, cursor: str | None
) -> Call[Transactions]:
    wanted = {"type": type, "from": _moment(since), "to": _moment(until), "limit": limit, "cursor": cursor}
    query = urlencode(_given(wanted))
    return Call("GET", "/api/credits/transactions" + (f"?{query}" if query else ""), Transactions)


def access_check(
    capability: str | None,
    quality: str | None,
    model: str | None,
    input_tokens: int | None,
    max_output_tokens: int | None,
    assistant: str | None,
    user: str | None,
) -> Call[Access]:
    wanted = {
        "capability": capability,
        "quality": quality,
        "model": model,
        "input_tokens": input_tokens,
        "max_output_tokens": max_output_tokens,
        "assistant": assistant,
        "user": user,
    }
    return _post("/api/ai/access-check", Access, _given(wanted))


def reservation(id: Id) -> Call[Reservation]:
    return Call("GET", _path(id), Reservation)


# ------------------------------------------------------------------------------------------------------------ spending


def reserve(capability: str | None, idempotency_key: str | None, wanted: Wanted) -> Call[Reservation]:
    """TypeError unless it says in exactly one way what for."""
    unknown = set(wanted) - set(Wanted.__annotations__)
    if unknown:
        raise TypeError(f"unknown: {', '.join(sorted(unknown))}. Known are {', '.join(Wanted.__annotations__)}.")
    ways = {"credits": wanted.get("credits"), "capability": capability, "model": wanted.get("model")}
    if len(_given(ways)) != 1:
        raise TypeError("say what to reserve for in one way: a capability, model=..., or credits=...")
    body = _given({"capability": capability, **wanted})
    if "credits" in body:
        body["credits"] = _text(read_credits(body["credits"]))
    headers = {"idempotency-key": _key(idempotency_key)}
    return _post(RESERVATIONS, Reservation, body, headers=headers)


def settle(id: Id, charge: Charge) -> Call[Settlement]:
    body: dict[str, Any]
    if charge.credits is not None:
        body = {"credits": _text(charge.credits)}
    else:
        assert charge.usage is not None
        usage = charge.usage
        body = {"usage": _given({name: getattr(usage, name) for name in Usage.__dataclass_fields__})}
    return _post(_path(id, "/settle"), Settlement, body, repeat_on=AWAY | {500})


def release(id: Id, reason: str) -> Call[Release]:
    return _post(_path(id, "/release"), Release, {"reason": reason}, repeat_on=AWAY | {500})


def renew(id: Id, ttl_seconds: int) -> Call[Renewal]:
    return _post(_path(id, "/renew"), Renewal, {"ttl_seconds": ttl_seconds}, repeat_on=AWAY | {500})


def run(
    capability: str, input: Mapping[str, Any], quality: str | None, user: str | None, idempotency_key: str | None
) -> Call[Run]:
    """502 and 504 are the provider's, and final."""
    body = _given({"quality": quality, "input": dict(input), "user": user})
    headers = {"idempotency-key": _key(idempotency_key)}
    path = f"/api/capabilities/{_segment(capability)}/run"
    return _post(path, Run, body, headers=headers, repeat_on=frozenset({503}), slow=True)


# --------------------------------------------------------------------------------------------------------------- parts


def _post(path: str, answer: type[Answer], body: Mapping[str, Any], **more: Any) -> Call[Answer]:
    """ValueError and TypeError when the body holds what JSON has not."""
    headers = {"content-type": "application/json", **more.pop("headers", {})}
    return Call("POST", path, answer, json.dumps(body, allow_nan=False).encode(), headers, **more)


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _path(id: Id, action: str = "") -> str:
    return f"{RESERVATIONS}/{_segment(str(id))}{action}"


def _segment(name: str) -> str:
    if not name.strip("."):
        raise ValueError(f"{name!r} is no id and no name")
    return quote(name, safe="")


def _key(key: str | None) -> str:
    if key is None:
        return str(uuid4())
    if not _KEY.fullmatch(key):
        raise ValueError("idempotency_key is 1 to 255 visible ASCII characters, for example a UUID")
    return key


def _text(credits: Decimal) -> str:
    """Digits, never an exponent; no more zeros than needed."""
    text = f"{credits:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone: pass an aware datetime, for example datetime.now(UTC)")
    return moment.isoformat()
