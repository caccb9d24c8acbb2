"""The list of a person's conversations, and what is done with one as a whole: renamed, pinned, deleted, taken along."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from markupsafe import Markup
from starlette.responses import Response

from tollhouse.core.conversation import Conversation, Message
from tollhouse.core.cursor import cursor_of, place_in
from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.core.session import check_own
from tollhouse.store import assistant as assistants
from tollhouse.store import conversation as store
from tollhouse.store import message as messages
from tollhouse.store.conversation import Place
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.listing import address, asked
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

HERE = "/chat"
LIST = "/chat/list"
ASKED = (Field("q", required=False, most=100), Field("cursor", required=False, most=100))
TAKEN_MAX = 100_000
_MODES = ("rename", "delete")
_CURRENT = re.compile(r"/chat/([0-9a-f-]{36})")
_MARK = re.compile("\ue000(.*?)\ue001", re.DOTALL)
_NOT_A_NAME = re.compile(r"[^0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation of the list. `snippet`: where the words that were looked for stand; `mode`: rename or delete while
    it is asked about that."""

    conversation: Conversation
    pinned: bool
    snippet: Markup | None = None
    mode: str = ""


async def listed(visit: Visit, form: Form) -> dict[str, Any]:
    """What the template of the list is given."""
    here, person, words = visit.who.organization_id, visit.who.person_id, form["q"]
    after = _place(form["cursor"])
    async with visit.state.db.member(here, person) as tx:
        if words:
            hits = await store.search(tx, here, person, words)
            rows = [Row(hit.conversation, False, _snippet(hit.snippet)) for hit in hits]
            return {"rows": rows, "asked": words, "first": True, "following": None, "current": current(visit)}
        found = await store.page(tx, here, person, after, store.PAGE + 1)
    rows = [Row(one, one.pinned_at is not None) for one in found]
    following, rows = _following(rows)
    return {"rows": rows, "asked": "", "first": after is None, "following": following, "current": current(visit)}


def _following(rows: Sequence[Row]) -> tuple[str | None, list[Row]]:
    """The address of the next part, and the rows of this one."""
    pinned, others = [one for one in rows if one.pinned], [one for one in rows if not one.pinned]
    if len(others) <= store.PAGE:
        return None, [*pinned, *others]
    last = others[store.PAGE - 1].conversation
    cursor = cursor_of("chat", f"{last.updated_at.isoformat()} {last.id}")
    return address(LIST, cursor=cursor), [*pinned, *others[: store.PAGE]]


def _place(cursor: str) -> Place | None:
    if not cursor:
        return None
    moment, _blank, id_ = place_in("chat", cursor).partition(" ")
    try:
        return Place(datetime.fromisoformat(moment), UUID(id_))
    except ValueError:
        raise BadRequest(_("This list has changed. Load the page again."), "cursor") from None


def _snippet(text: str | None) -> Markup | None:
    if text is None:
        return None
    parts = _MARK.split(text)
    return Markup("").join(Markup("<mark>{}</mark>").format(part) if at % 2 else part for at, part in enumerate(parts))


def current(visit: Visit) -> UUID | None:
    """The conversation that is open in the page, which may be asking for a part of itself."""
    path = urlsplit(visit.request.headers.get("hx-current-url", "")).path if visit.is_htmx else visit.request.url.path
    found = _CURRENT.match(path)
    try:
        return UUID(found.group(1)) if found else None
    except ValueError:
        return None


async def index(visit: Visit) -> Response:
    check_own(visit.who)
    form = asked(visit.request, *ASKED)
    if not visit.is_htmx:
        return visit.go(address(HERE, q=form["q"]))
    return visit.piece("chat/_list.html", **await listed(visit, form))


async def row(visit: Visit) -> Response:
    """A row of the list; with `mode` as a form."""
    one, form = await one_of(visit), asked(visit.request, Field("mode", required=False, most=10))
    mode = form["mode"] if form["mode"] in _MODES else ""
    return _row(visit, one, mode)


def _row(visit: Visit, one: Conversation, mode: str = "") -> Response:
    shown = Row(one, one.pinned_at is not None, mode=mode)
    return visit.piece("chat/_row.html", row=shown, current=current(visit))


async def one_of(visit: Visit) -> Conversation:
    """The conversation of the path. NotFound for anybody else's."""
    check_own(visit.who)
    here = visit.who.organization_id
    async with visit.state.db.member(here, visit.who.person_id) as tx:
        found = await store.find(tx, here, visit.id("conversation_id"))
    if found is None:
        raise gone()
    return found


def gone() -> NotFound:
    return NotFound(_("There is no such chat. It may have been deleted."))


# ------------------------------------------------------------------------------------------------------- what is done


async def rename(visit: Visit) -> Response:
    form = visit.form(Field("title", most=200))
    one, here = await one_of(visit), visit.who.organization_id
    if not form.ok:
        return _row(visit, one, "rename") if visit.is_htmx else visit.go(_at(one), form.errors["title"], "error")
    async with visit.state.db.member(here, visit.who.person_id) as tx:
        if not await store.rename(tx, here, one.id, form["title"]):
            raise gone()
    return _row(visit, await one_of(visit)) if visit.is_htmx else visit.go(_at(one))


async def pin(visit: Visit) -> Response:
    """`pinned` yes or no."""
    form = visit.form(Field("pinned", most=3))
    one, here, person = await one_of(visit), visit.who.organization_id, visit.who.person_id
    async with visit.state.db.member(here, person) as tx:
        if form["pinned"] != "yes":
            done = await store.unpin(tx, here, one.id)
        else:
            done = await store.pin(tx, here, person, one.id, visit.now)
    if visit.is_htmx:
        return visit.piece("chat/_list.html", **await listed(visit, asked(visit.request, *ASKED)))
    full = _("%(count)s chats are pinned already. Unpin one of them first.", count=store.PINNED_MAX)
    return visit.go(_at(one)) if done else visit.go(_at(one), full, "warning")


async def delete(visit: Visit) -> Response:
    visit.form()
    one, here = await one_of(visit), visit.who.organization_id
    async with visit.state.db.member(here, visit.who.person_id) as tx:
        await store.delete(tx, here, one.id)
    if visit.is_htmx and current(visit) != one.id:
        return Response()
    return visit.go(HERE, _("The chat is deleted."))


def _at(one: Conversation) -> str:
    return f"{HERE}/{one.id}"


# -------------------------------------------------------------------------------------------------------- taken along


async def export(visit: Visit) -> Response:
    """The whole conversation as a file: Markdown to read, JSON to go on with."""
    one, here = await one_of(visit), visit.who.organization_id
    form = asked(visit.request, Field("as", most=10))
    async with visit.state.db.member(here, visit.who.person_id) as tx:
        said = await messages.of(tx, here, one.id, limit=TAKEN_MAX)
        assistant = await assistants.find(tx, here, one.assistant_id) if one.assistant_id else None
    name = assistant.name if assistant else None
    stem = _NOT_A_NAME.sub("-", one.title).strip("-").lower()[:60] or "chat"
    if form["as"] == "json":
        return _file(f"{stem}.json", "application/json", as_json(one, said, name))
    return _file(f"{stem}.md", "text/markdown; charset=utf-8", as_markdown(one, said, name).encode())


def _file(name: str, kind: str, content: bytes) -> Response:
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


def as_markdown(one: Conversation, said: Iterable[Message], assistant: str | None) -> str:
    parts = [f"# {one.title}\n"]
    for message in said:
        who = _("You") if message.author == "person" else assistant or message.model_name or _("Answer")
        parts.append(f"## {who}, {message.created_at:%Y-%m-%d %H:%M} UTC\n\n{message.content}\n")
        parts += [f"{_('Attached file')}: {file.name}\n" for file in message.attachments]
        parts += [
            f"[{source.number}] {source.heading}. {source.title}. {source.source}\n" for source in message.citations
        ]
        if message.error is not None:
            parts.append(f"> {message.error.message}\n")
    return "\n".join(parts)


def as_json(one: Conversation, said: Iterable[Message], assistant: str | None) -> bytes:
    """Every field of every message but those that are ours to know."""
    left_out = {"conversation_id", "written_at"}
    told = [{name: getattr(it, name) for name in it.__slots__ if name not in left_out} for it in said]
    whole = {"id": one.id, "title": one.title, "assistant": assistant, "created_at": one.created_at,
             "updated_at": one.updated_at, "messages": told}  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(whole), indent=2)


PAGES = (
    page(LIST, index, needs=SIGNED_IN),
    page("/chat/{conversation_id:uuid}/row", row, needs=SIGNED_IN),
    page("/chat/{conversation_id:uuid}/rename", rename, ("POST",), needs=SIGNED_IN),
    page("/chat/{conversation_id:uuid}/pin", pin, ("POST",), needs=SIGNED_IN),
    page("/chat/{conversation_id:uuid}/delete", delete, ("POST",), needs=SIGNED_IN),
    page("/chat/{conversation_id:uuid}/export", export, needs=SIGNED_IN),
)
