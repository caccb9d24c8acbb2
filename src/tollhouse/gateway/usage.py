"""`GET /v1/usage`: what the organisation used, by day, model or end user; people and end users are told of
their own."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

from starlette.requests import Request

from tollhouse.core.errors import BadRequest
from tollhouse.core.money import format_credits, format_usd
from tollhouse.core.period import start_of
from tollhouse.core.text import holds_nul
from tollhouse.flows.auth import Caller
from tollhouse.gateway.lookup import page_size, parameters
from tollhouse.gateway.state import State
from tollhouse.store import usage
from tollhouse.store.usage import Grouping, Used

LONGEST = timedelta(days=92)
USUALLY = timedelta(days=30)
PAGE, PAGE_MAX = 100, 1000
NAME_MAX = 200  # of a model or an end user
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

_PARAMETERS = ("from", "to", "group_by", "limit", "cursor")
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """[since, until) in real time. `after` is the name with which the page before ended."""

    since: datetime
    until: datetime
    by: Grouping
    limit: int
    after: str | None


class Usage:
    def __init__(self, state: State) -> None:
        self._state = state

    async def look(self, request: Request, caller: Caller) -> object:
        """As `gateway.lookup.Look`."""
        wanted = read(parameters(request, _PARAMETERS), self._state.clock())
        async with self._state.db.tenant(caller.organization_id) as tx:
            rows, total = await usage.used(
                tx,
                caller.organization_id,
                wanted.since,
                wanted.until,
                wanted.by,
                wanted.limit + 1,
                wanted.after,
                caller.sees,
            )
        page, more = rows[: wanted.limit], len(rows) > wanted.limit
        return {
            "object": "list",
            "from": wanted.since,
            "to": wanted.until,
            "group_by": wanted.by,
            "data": [{wanted.by: used.name or None, **_figures(used)} for used in page],
            "total": _figures(total),
            "has_more": more,
            "next_cursor": _cursor(wanted.by, page[-1].name) if more else None,
        }


def read(given: Mapping[str, str], now: datetime) -> Wanted:
    """Without `to` it is what was used until now, without `from` that of 30 days and the day's beginning. BadRequest
    names the parameter that is wrong."""
    by = given.get("group_by", "day")
    if by not in get_args(Grouping):
        raise BadRequest(f"'group_by' must be one of {', '.join(get_args(Grouping))}.", "group_by")
    grouping = cast(Grouping, by)
    until = _moment("to", given["to"]) if "to" in given else now
    since = _moment("from", given["from"]) if "from" in given else start_of("day", until - USUALLY)
    if since >= until:
        raise BadRequest("'from' must lie before 'to', which itself is not included.", "from")
    if until - since > LONGEST:
        raise BadRequest(f"At most {LONGEST.days} days can be asked for at once. Ask for them in parts.", "from")
    after = _name_of(given["cursor"], grouping) if "cursor" in given else None
    return Wanted(since, until, grouping, page_size(given.get("limit"), PAGE, PAGE_MAX), after)


def _moment(name: str, text: str) -> datetime:
    remedy = f"'{name}' must be a UTC day such as 2026-01-31, or a time in RFC 3339 such as 2026-01-31T12:00:00Z"
    if not _MOMENT.fullmatch(text):
        raise BadRequest(f"{remedy} (in an address + is written %2B).", name)
    try:
        moment = datetime.fromisoformat(text.upper())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(f"{remedy}; there is no such day or hour.", name) from None
    if not EARLIEST <= moment <= LATEST:
        raise BadRequest(f"'{name}' must lie in the years 2000 to 2099.", name)
    return moment


def _figures(used: Used) -> dict[str, Any]:
    return {
        "requests": used.requests,
        "input_tokens": used.input_tokens,
        "cached_input_tokens": used.cached_input_tokens,
        "output_tokens": used.output_tokens,
        "reasoning_tokens": used.reasoning_tokens,
        "credits": format_credits(used.charged_micros),
        "cost_usd": format_usd(used.cost_nanos),
    }


def _cursor(by: Grouping, name: str) -> str:
    return base64.urlsafe_b64encode(f"{by}:{name}".encode()).rstrip(b"=").decode()


def _name_of(cursor: str, by: Grouping) -> str:
    try:
        kind, _, name = (
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode().partition(":")
        )
        if kind == by and len(name) <= NAME_MAX and not holds_nul(name):
            return name
    except (binascii.Error, ValueError):
        pass
    raise BadRequest(f"This cursor is none that a page by {by} gave. Begin again without one.", "cursor")
