"""The frame of the operators' pages: their own menu, what stands in their addresses, and forms that are sent once."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from tollhouse.core.errors import BadRequest
from tollhouse.core.session import check_proved
from tollhouse.web.figure import credits
from tollhouse.web.forms import Field
from tollhouse.web.language import N_, _
from tollhouse.web.navigation import Entry, Group
from tollhouse.web.visit import Visit

PER_PAGE = 50
WORD_MAX = 200
REASON = Field("reason", most=500)
_TENANTS = Group(
    N_("Tenants"),
    (
        Entry("/operator/organizations", "Organisations", "building-2"),
        Entry("/operator/people", "People", "users"),
        Entry("/operator/privacy", "Exports and erasures", "shield-check"),
    ),
)
_PLATFORM = (
    Entry("/operator/identity-providers", "Identity providers", "log-in"),
    Entry("/operator/audit", "Audit log", "history"),
)
_OUTBOX = Entry("/operator/outbox", "Outbox", "mail")


def show(visit: Visit, template: str, status: int = 200, **context: Any) -> Response:
    """A page of the operators' area."""
    platform = (*_PLATFORM, _OUTBOX) if visit.state.site.mode == "test" else _PLATFORM
    menu = (
        Group("", (Entry("/operator", "Overview", "gauge", exact=True),)),
        _TENANTS,
        Group(N_("Platform"), platform),
        Group(N_("Elsewhere"), (Entry("/", "Back to my pages", "arrow-left"),)),
    )
    return visit.page(template, status, navigation=menu, amount=credits, **context)


def ask_for_proof(visit: Visit) -> None:
    """Before a form that changes something: whoever fills it in has proved who they are, and is not asked when they
    send it."""
    check_proved(visit.who, visit.now)


def word(visit: Visit, name: str) -> str:
    """What the page's address says of this name; "" when nothing. BadRequest for what nobody types."""
    value = visit.request.query_params.get(name, "").strip()
    if len(value) > WORD_MAX or not value.isprintable():
        raise BadRequest(
            _("%(name)s in the address of this page cannot be read. Go back and type it again.", name=repr(name)), name
        )
    return value


def choice(visit: Visit, name: str, choices: Mapping[str, str]) -> str | None:
    """One of the choices; None for everything else."""
    value = word(visit, name)
    return value if value in choices else None


def day(visit: Visit, name: str) -> datetime | None:
    """A day as a date field sends it, its begin in UTC. BadRequest for what is none."""
    value = word(visit, name)
    if not value:
        return None
    try:
        return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise BadRequest(_("%(value)s is no day. Choose one, such as 2026-02-28.", value=repr(value)), name) from None


def end_of(begin: datetime | None) -> datetime | None:
    """The end of the day that begins then."""
    return None if begin is None else begin + timedelta(days=1)


def address(path: str, **query: str | None) -> str:
    """A path of ours with its query; what is empty is left out."""
    said = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


def new_once() -> str:
    """What a form carries that is to count once, however often it is sent."""
    return secrets.token_urlsafe(16)
