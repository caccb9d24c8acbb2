"""The audit log of the organisation: to look through, to take along, to check."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from starlette.responses import Response, StreamingResponse

from tollhouse.core.audit import Detail, Row
from tollhouse.core.cursor import cursor_of, number_in
from tollhouse.flows import audit as flow
from tollhouse.flows.audit import Format, Range
from tollhouse.store import actor, member
from tollhouse.store import key as keys
from tollhouse.store.audit import Filter
from tollhouse.web import typed
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.listing import CURSOR, LENGTH, Ways, asked
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

HERE = "/admin/audit"
CHOICES_MAX = 200
_FILTERS = (
    Field("actor", required=False),
    Field("action", required=False, most=80),
    Field("object_type", required=False, most=80),
    Field("object_id", required=False),
    Field("since", required=False, most=10),
    Field("until", required=False, most=10),
)
_EXPORT = (Field("format", required=False, most=10), Field("since", required=False, most=10),
           Field("until", required=False, most=10))  # fmt: skip
_MEDIA_TYPES: dict[Format, str] = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


async def index(visit: Visit) -> Response:
    """Newest first, narrowed by what the address says. `check` has the whole chain computed anew."""
    here, form = visit.who.organization_id, asked(visit.request, *_FILTERS, Field("check", required=False), CURSOR)
    before = number_in("audit", form["cursor"] or None)
    db = visit.state.db
    found = await flow.page(db, visit.order, here, _filter(form), LENGTH + 1, before, outside=False)
    rows = found[:LENGTH]
    more = cursor_of("audit", str(rows[-1].seq)) if len(found) > LENGTH else None
    async with db.tenant(here) as tx:
        actors = await _actors(visit, form["actor"])
        names = await actor.names(tx, here, [who for row in rows for who in (row.actor, _about(row))])
    chain = await flow.check(db, here) if form["check"] else None
    return visit.page(
        "audit/index.html", rows=rows, names=names, about=_about, changes=changes, actors=actors, form=form,
        chain=chain, ways=Ways.of(HERE, form, more), narrowed=any(form[one.name] for one in _FILTERS),
    )  # fmt: skip


async def _actors(visit: Visit, chosen: str) -> list[tuple[str, str]]:
    """Who can be chosen: members and keys that work, and whoever is chosen already."""
    here = visit.who.organization_id
    async with visit.state.db.tenant(here) as tx:
        members = await member.page(tx, here, None, CHOICES_MAX)
        live = await keys.page(tx, here, visit.now, CHOICES_MAX, None, ended=False)
    found = [("", _("Everybody")), ("system", _("The installation itself"))]
    found += [(f"person:{one.person_id}", one.name or one.email) for one in members]
    found += [(f"key:{one.id}", _("Key %(name)s", name=one.name)) for one in live]
    return found if chosen in dict(found) else [*found, (chosen, chosen)]


def _filter(form: Form) -> Filter:
    return Filter(
        form["actor"] or None, form["action"] or None, form["object_type"] or None, form["object_id"] or None,
        typed.day_of(form, "since"), typed.end_of_day(form, "until"),
    )  # fmt: skip


def _about(row: Row) -> str:
    return f"{row.object_type}:{row.object_id}" if row.object_type in ("person", "key", "issuer") else ""


def changes(details: Mapping[str, Detail]) -> list[tuple[str, str]]:
    """What the row tells, in words: of a change, from what to what."""
    found = []
    for name, value in details.items():
        is_change = isinstance(value, Mapping) and set(value) == {"from", "to"}
        said = f"{_said(value['from'])} → {_said(value['to'])}" if is_change else _said(value)  # type: ignore[call-overload, index]
        found.append((name.replace("_", " "), said))
    return found


def _said(value: Detail) -> str:
    match value:
        case None:
            return _("none")
        case bool():
            return _("yes") if value else _("no")
        case str() | int():
            return str(value) or _("none")
        case Mapping():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return ", ".join(map(_said, value)) or _("none")


async def export(visit: Visit) -> Response:
    form = asked(visit.request, *_EXPORT)
    format_: Format = "csv" if form["format"] == "csv" else "jsonl"
    here, until = visit.who.organization_id, typed.end_of_day(form, "until")
    over = Range.of(typed.day_of(form, "since"), _not_ahead(until, visit.now), visit.now)
    lines = await flow.export(visit.state.db, visit.order, here, over, format_)
    name = f"audit-{over.since:%Y%m%d}-{over.until - timedelta(microseconds=1):%Y%m%d}.{format_}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type=_MEDIA_TYPES[format_], headers=headers)


def _not_ahead(until: datetime | None, now: datetime) -> datetime | None:
    return None if until is None else min(until, now)


PAGES = (
    page("/admin/audit", index, needs="audit.read"),
    page("/admin/audit/export", export, needs="audit.read"),
)
