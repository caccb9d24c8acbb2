"""One question to up to three models, side by side. Nothing of it is kept."""

from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tollhouse.core.ask import Credential
from tollhouse.core.errors import TollhouseError
from tollhouse.core.session import check_own
from tollhouse.core.shelf import Shelf
from tollhouse.flows.shelf import shelf
from tollhouse.flows.talk import Line, Speech, Wish
from tollhouse.web.forms import Field, Form
from tollhouse.web.markdown import render
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

COLUMNS = 3
PROMPT_MAX, SYSTEM_MAX = 8_000, 4_000
# How long what is written is gathered before the page shows it; of long answers longer, since each time is for all.
SHOWN_EVERY_S, SLOWER_PER_CHARACTER_S = 0.1, 0.00002
_QUESTION = (
    Field("prompt", most=PROMPT_MAX, lines=True),
    Field("system", required=False, most=SYSTEM_MAX, lines=True),
    Field("model", most=200),
)


async def index(visit: Visit) -> Response:
    found = await shelf(visit.state.db, visit.state.teller, visit.who, visit.now)
    return visit.page(
        "playground/index.html", shelf=found, chosen=_chosen(found), prompt_max=PROMPT_MAX, system_max=SYSTEM_MAX,
        costs={one.model.id: one.most_micros for one in found.models} | {one.model_id: 0 for one in found.own},
    )  # fmt: skip


def _chosen(found: Shelf) -> list[str]:
    """What the columns begin with: the person's own choice, and what else would answer now."""
    usable = [one.model.id for one in found.models if one.usable and one.model.id != found.selected.model_id]
    return [found.selected.model_id, *usable][:COLUMNS]


async def run(visit: Visit) -> Response:
    """The answer of one model as it is written, as events `html` (all of it so far) and `done` (the figures), each a
    text as JSON. A refusal is a card with its status. Who stops listening stops the model."""
    check_own(visit.who)
    form = visit.form(*_QUESTION)
    if not form.ok:
        return visit.part("playground/_answer.html", "wrong", 422, form=form)
    try:
        speech = await visit.state.talk(_wish(visit, form))
    except TollhouseError as error:
        return visit.part("playground/_answer.html", "refused", error.status, error=error)
    return Listening(speech, _said(visit, speech))


def _wish(visit: Visit, form: Form) -> Wish:
    who = visit.who
    lines = [Line("system", form["system"])] if form["system"].strip() else []
    lines.append(Line("user", form["prompt"]))
    return Wish(who.organization_id, who.person_id, Credential("person", who.person_id), form["model"], lines)


class Listening(StreamingResponse):
    """Events of a speech, which ends with them: nobody else hears it."""

    def __init__(self, speech: Speech, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._speech = speech

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._speech.stop()


async def _said(visit: Visit, speech: Speech) -> AsyncIterator[bytes]:
    state, who, text, shown_at = visit.state, visit.who, "", visit.state.clock().timestamp() - 1
    async for piece in speech.pieces():
        text += piece
        now = state.clock().timestamp()
        if now - shown_at >= SHOWN_EVERY_S + len(text) * SLOWER_PER_CHARACTER_S:
            shown_at = now
            yield _event("html", render(text))
    yield _event("html", render(text))
    spoken = await speech.end()
    async with state.db.tenant(who.organization_id) as tx:
        await state.live.tell(tx, who.organization_id, who.person_id, "usage")
    yield _event("done", visit.words("playground/_answer.html", "done", speech=speech, spoken=spoken))


def _event(name: str, data: str) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(str(data)))


PAGES = (
    page("/playground", index, needs="models.use"),
    page("/playground/run", run, ("POST",), needs="models.use"),
)
