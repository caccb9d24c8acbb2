"""What to do after an attempt: the answer is read, an error is raised, or the call waits and is sent again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic

import msgspec

from tollhouse.client.answers import Hint
from tollhouse.client.calls import Answer, Call
from tollhouse.client.errors import (
    BadRequest,
    CapabilityDenied,
    Conflict,
    FieldError,
    Forbidden,
    InsufficientCredits,
    LimitReached,
    NotFound,
    ProviderFailed,
    TollhouseError,
    Unauthenticated,
    Unavailable,
    UnknownAnswer,
)
from tollhouse.client.settings import Patience

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
LEAST_ATTEMPT_S = 1.0  # the last attempt is a fair one, even when the time is nearly over
SHOWN = 200
_STANDARD = frozenset({"type", "title", "status", "detail", "code", "request_id", "errors", "hints"})
_BY_CODE: dict[str, type[TollhouseError]] = {
    "insufficient_credits": InsufficientCredits,
    "capability_denied": CapabilityDenied,
    "provider_error": ProviderFailed,
    "provider_broke": ProviderFailed,
    "invalid_answer": ProviderFailed,
}
_BY_STATUS: dict[int, type[TollhouseError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: BadRequest,
    415: BadRequest,
    422: BadRequest,
    429: LimitReached,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No whole answer came, so nobody knows what happened."""

    why: Exception


@dataclass(frozen=True, slots=True)
class Done(Generic[Answer]):
    answer: Answer


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


def attempt_s(call: Call[Any], patience: Patience, elapsed_s: float) -> float:
    """How long the next attempt may take."""
    if patience.total_s is None:
        return patience.attempt_s
    left = max(patience.total_s - elapsed_s, LEAST_ATTEMPT_S)
    return left if call.slow else min(patience.attempt_s, left)


def judge(
    call: Call[Answer], outcome: Reply | Lost, tries: int, elapsed_s: float, patience: Patience, chance: float
) -> Done[Answer] | Wait:
    """After `tries` attempts in `elapsed_s`. Raises what is final: a refusal, or the last failure when the time is
    over. `chance` in [0, 1) spreads the waits of many."""
    if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
        return Done(_read(call.answer, outcome))
    error = lost(outcome, tries, elapsed_s) if isinstance(outcome, Lost) else refusal(outcome)
    if not _worth_repeating(call, outcome, error) or patience.total_s is None:
        raise error
    left = patience.total_s - elapsed_s
    if left <= 0:
        raise error
    backoff = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries - 1, 10)) * (0.5 + chance / 2)
    return Wait(min(max(backoff, error.retry_after or 0.0), left))


def _worth_repeating(call: Call[Any], outcome: Reply | Lost, error: TollhouseError) -> bool:
    if isinstance(outcome, Lost):
        return True
    if outcome.headers.get("x-should-retry", "").lower() == "false" or error.code == "model_not_connected":
        return False
    still_runs = outcome.status == 409 and error.retry_after is not None
    return still_runs or outcome.status in call.repeat_on


def lost(outcome: Lost, tries: int, elapsed_s: float) -> Unavailable:
    why = f"{type(outcome.why).__name__}: {outcome.why}".rstrip(": ")
    times = "1 attempt" if tries == 1 else f"{tries} attempts"
    error = Unavailable(f"No answer after {times} in {elapsed_s:.1f} s: {why}", code="no_answer")
    error.__cause__ = outcome.why
    return error


def refusal(reply: Reply) -> TollhouseError:
    """The error that an answer is. What is no problem document is shown as far as it helps to find who wrote it."""
    problem = _problem(reply.body)
    retry_after = _seconds(reply.headers.get("retry-after"))
    request_id = reply.headers.get("x-request-id")
    if problem is None:
        if reply.status >= 500:
            return Unavailable(
                f"{reply.status} from something between here and Tollhouse{_shown(reply)}",
                code="unavailable",
                status=reply.status,
                request_id=request_id,
                retry_after=retry_after,
            )
        return _invalid(reply, "this is no error of Tollhouse's")
    code = str(problem["code"])
    kind = _BY_CODE.get(code) or _BY_STATUS.get(reply.status, TollhouseError)
    return kind(
        str(problem.get("detail") or code),
        code=code,
        status=reply.status,
        request_id=str(problem["request_id"]) if problem.get("request_id") else request_id,
        hints=_each(problem.get("hints"), Hint),
        fields=_each(problem.get("errors"), FieldError),
        details={name: value for name, value in problem.items() if name not in _STANDARD},
        retry_after=retry_after,
    )


def _read(kind: type[Answer], reply: Reply) -> Answer:
    try:
        answer = msgspec.json.decode(reply.body, type=kind)
    except (ValueError, RecursionError) as error:
        raise _invalid(reply, str(error)) from error
    if reply.headers.get("idempotent-replayed") == "true" and "replayed" in kind.__dataclass_fields__:  # type: ignore[attr-defined]
        return replace(answer, replayed=True)  # type: ignore[type-var]
    return answer


def _invalid(reply: Reply, why: str) -> UnknownAnswer:
    towards = f" to {reply.headers['location'][:SHOWN]!r}" if "location" in reply.headers else ""
    return UnknownAnswer(
        f"The answer (status {reply.status}{towards}) is not one of Tollhouse's API: {why}. "
        f"Check base_url and what stands between{_shown(reply)}",
        code="unknown_answer",
        status=reply.status,
        request_id=reply.headers.get("x-request-id"),
    )


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        problem = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return problem if isinstance(problem, dict) and isinstance(problem.get("code"), str) else None


def _each(items: object, kind: type[Any]) -> tuple[Any, ...]:
    """Those of the items that are of the kind."""
    found = []
    for item in items if isinstance(items, list) else ():
        try:
            found.append(msgspec.convert(item, kind))
        except msgspec.ValidationError:
            continue
    return tuple(found)


def _seconds(header: str | None) -> float | None:
    """retry-after in seconds; a date is not read."""
    return float(header) if header and header.isascii() and header.isdigit() else None


def _shown(reply: Reply) -> str:
    start = reply.body[:SHOWN].decode("utf-8", "replace")
    return f". It begins: {start!r}" if start else ", with an empty body."
