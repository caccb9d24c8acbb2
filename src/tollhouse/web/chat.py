"""Chats: saying something and reading what is answered."""

from typing import Any
from uuid import UUID

from starlette.responses import Response

from tollhouse.core.assistant import Assistant
from tollhouse.core.conversation import Attachment, Conversation, Message
from tollhouse.core.errors import BadRequest, NotFound, TollhouseError
from tollhouse.core.own_model import PREFIX
from tollhouse.core.session import check_own
from tollhouse.flows import assistant as offering
from tollhouse.flows import chat as flow
from tollhouse.flows.shelf import shelf
from tollhouse.store import assistant as assistants
from tollhouse.store import message as messages
from tollhouse.web import answer, typed
from tollhouse.web.answer import Spoken
from tollhouse.web.conversation import ASKED, HERE, gone, listed, one_of
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.listing import asked
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

SHOWN = 40
FORM_MAX = 2 * 1024 * 1024  # five files of 100 kB, percent-encoded
_MODEL = Field("model", required=False, most=100)
_SAID = (
    Field("text", required=False, most=flow.TEXT_MAX, lines=True),
    Field("task", required=False, most=flow.TEXT_MAX, lines=True),
    Field("assistant", required=False, most=40),
    Field("file_name", required=False, most=flow.NAME_MAX, many=True),
    Field("file_text", required=False, most=flow.ATTACHMENT_MAX, many=True, lines=True),
    _MODEL,
)
_EDITED = (Field("text", most=flow.TEXT_MAX, lines=True),)
_RATED = (Field("rating", most=2), Field("note", required=False, most=flow.NOTE_MAX))
_BEFORE = Field("before", required=False, most=40)
_NEW = (Field("assistant", required=False, most=63), _MODEL)


# ------------------------------------------------------------------------------------------------------- what is shown


async def new(visit: Visit) -> Response:
    """The beginning of a conversation: `assistant` names whom to talk to, `model` which model answers."""
    check_own(visit.who)
    form = asked(visit.request, *_NEW)
    assistant = await _named(visit, form["assistant"]) if form["assistant"] else None
    return await _room(visit, assistant=assistant, asked_model=form["model"] or None)


async def show(visit: Visit) -> Response:
    """A conversation with its last messages; with `before`, those that stand before this one."""
    one = await one_of(visit)
    form = asked(visit.request, _BEFORE)
    before = typed.id_of(form, "before") if form["before"] else None
    if before is None or not visit.is_htmx:
        return await _room(visit, one, await _assistant(visit, one.assistant_id), before=before)
    shown = await _messages(visit, one, before)
    return visit.piece(
        "chat/_earlier.html", conversation=one, assistant=await _assistant(visit, one.assistant_id), **shown
    )


async def _room(
    visit: Visit,
    conversation: Conversation | None = None,
    assistant: Assistant | None = None,
    *,
    before: UUID | None = None,
    asked_model: str | None = None,
    refusal: TollhouseError | None = None,
    text: str = "",
) -> Response:
    """The page; after a refusal with what was typed."""
    state, who = visit.state, visit.who
    shown = await _messages(visit, conversation, before) if conversation else _nothing()
    offers = [] if conversation or assistant else await offering.offers(state.db, who, visit.now)
    models = await shelf(state.db, state.teller, who, visit.now, assistant.id if assistant else None)
    known = asked_model is not None and (
        asked_model == "auto" or asked_model.startswith(PREFIX) or models.find(asked_model)
    )
    model = getattr(refusal, "model_id", None)
    return visit.page(
        "chat/index.html", 200 if refusal is None else refusal.status, conversation=conversation, assistant=assistant,
        offers=offers, shelf=models, asked_model=asked_model if known else None, refusal=refusal, typed=text,
        refused_name=models.name_of(model) if model else None, autofocus=before is None, rated=False,
        **shown, **await listed(visit, asked(visit.request, *ASKED)),
    )  # fmt: skip


def _nothing() -> dict[str, Any]:
    return {"messages": (), "earlier": None, "text_max": flow.TEXT_MAX}


async def _messages(visit: Visit, one: Conversation, before: UUID | None) -> dict[str, Any]:
    here = visit.who.organization_id
    async with visit.state.db.member(here, visit.who.person_id) as tx:
        found = await messages.of(tx, here, one.id, before, SHOWN + 1)
    earlier = found[-SHOWN].id if len(found) > SHOWN else None
    return {"messages": await answer.shown(found[-SHOWN:]), "earlier": earlier, "text_max": flow.TEXT_MAX}


async def _assistant(visit: Visit, assistant_id: UUID | None) -> Assistant | None:
    """Whoever answers; None for the bare model, and for one that was deleted."""
    if assistant_id is None:
        return None
    async with visit.state.db.member(visit.who.organization_id, visit.who.person_id) as tx:
        return await assistants.find(tx, visit.who.organization_id, assistant_id)


async def _named(visit: Visit, slug: str) -> Assistant:
    here, person = visit.who.organization_id, visit.who.person_id
    async with visit.state.db.member(here, person) as tx:
        found = await assistants.by_slug(tx, here, person, slug)
    if found is None:
        raise NotFound(_("There is no such assistant here. Choose one on the page Models."))
    return found


# -------------------------------------------------------------------------------------------------------- what is said


async def begin(visit: Visit) -> Response:
    check_own(visit.who)
    form = visit.form(*_SAID)
    assistant_id = typed.id_of(form, "assistant") if form["assistant"] else None
    assistant = await _assistant(visit, assistant_id)
    try:
        started = await flow.begin(visit.state.chat, visit.who, _said(form, assistant_id))
    except TollhouseError as error:
        return await _refused(visit, error, form, None, assistant)
    return await _begun(visit, started, assistant, (started.question, started.answer), begins=True)


async def say(visit: Visit) -> Response:
    form, one = visit.form(*_SAID), await one_of(visit)
    assistant = await _assistant(visit, one.assistant_id)
    try:
        started = await flow.say(visit.state.chat, visit.who, one.id, _said(form, None))
    except TollhouseError as error:
        return await _refused(visit, error, form, one, assistant)
    return await _begun(visit, started, assistant, (started.question, started.answer))


async def regenerate(visit: Visit) -> Response:
    form, one, message_id = visit.form(_MODEL), await one_of(visit), visit.id("message_id")
    assistant = await _assistant(visit, one.assistant_id)
    try:
        started = await flow.regenerate(visit.state.chat, visit.who, one.id, message_id, form["model"] or None)
    except TollhouseError as error:
        return await _refused(visit, error, form, one, assistant)
    return await _begun(visit, started, assistant, (started.answer,), message_id)


async def edit(visit: Visit) -> Response:
    form, one, message_id = visit.form(*_EDITED), await one_of(visit), visit.id("message_id")
    assistant = await _assistant(visit, one.assistant_id)
    try:
        if not form.ok:
            raise BadRequest(form.errors["text"], "text")
        started = await flow.edit(visit.state.chat, visit.who, one.id, message_id, form["text"])
    except TollhouseError as error:
        return await _refused(visit, error, form, one, assistant)
    return await _begun(visit, started, assistant, (started.question, started.answer), message_id)


def _said(form: Form, assistant_id: UUID | None) -> flow.Said:
    """BadRequest for what cannot be said. A task is said where nothing was typed."""
    if not form.ok:
        name, problem = next(iter(form.errors.items()))
        raise BadRequest(problem, name)
    names, texts = form.all("file_name"), form.all("file_text")
    if len(names) != len(texts):
        raise BadRequest(_("The attached files did not come whole. Attach them again."), "file_text")
    files = tuple(Attachment(name, text) for name, text in zip(names, texts, strict=True))
    model = form["model"] if "model" in form.values else None  # empty: by preference, also where one was chosen before
    return flow.Said(form["text"] or form["task"], files, model, assistant_id)


async def _begun(
    visit: Visit,
    started: flow.Started,
    assistant: Assistant | None,
    shown: tuple[Message, ...],
    replaces: UUID | None = None,
    begins: bool = False,
) -> Response:
    if answer.wants_events(visit):
        return answer.told(visit, Spoken(started.conversation, assistant, shown, replaces, begins))
    return visit.go(f"{HERE}/{started.conversation.id}#m-{started.answer.id}")


async def _refused(
    visit: Visit, error: TollhouseError, form: Form, one: Conversation | None, assistant: Assistant | None
) -> Response:
    """As a card in the place of the answer; without scripts on the page, with what was typed."""
    if answer.wants_events(visit):
        models = await shelf(visit.state.db, visit.state.teller, visit.who, visit.now)
        model = getattr(error, "model_id", None)
        name = models.name_of(model) if model else None
        response = visit.piece("chat/_refused.html", error.status, refusal=error, refused_name=name)
    else:
        response = await _room(
            visit, one, assistant, refusal=error, text=form["text"], asked_model=form["model"] or None
        )
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


# ---------------------------------------------------------------------------------------------------------- an answer


async def events(visit: Visit) -> Response:
    """What comes of an answer: for whoever loads the page while it is written. BadRequest (406) for who asks for
    anything else."""
    one, found = await one_of(visit), await _message(visit)
    if not answer.wants_events(visit):
        raise BadRequest(_("Pages listen here to an answer; there is nothing to look at."), status=406)
    return answer.told(visit, Spoken(one, await _assistant(visit, one.assistant_id), (found,)))


async def _message(visit: Visit) -> Message:
    here = visit.who.organization_id
    async with visit.state.db.member(here, visit.who.person_id) as tx:
        found = await messages.find(tx, here, visit.id("conversation_id"), visit.id("message_id"))
    if found is None or found.author != "assistant":
        raise gone()
    return found


async def stop(visit: Visit) -> Response:
    visit.form()
    one = await one_of(visit)
    await flow.stop(visit.state.chat, visit.who, one.id, visit.id("message_id"))
    return Response(status_code=204) if answer.wants_events(visit) else visit.go(f"{HERE}/{one.id}")


async def rate(visit: Visit) -> Response:
    """`rating` 1 or -1, 0 to take it back."""
    form, one = visit.form(*_RATED), await one_of(visit)
    rating = typed.number(form, "rating", -1, 1)
    found = await flow.rate(
        visit.state.chat, visit.who, one.id, visit.id("message_id"), rating or None, form["note"]
    )  # fmt: skip
    if not visit.is_htmx:
        return visit.go(f"{HERE}/{one.id}#m-{found.id}")
    at = f"{HERE}/{one.id}/messages/{found.id}"
    return visit.piece("chat/_rating.html", message=found, at=at, rated=not form["note"])


_MESSAGE = "/chat/{conversation_id:uuid}/messages/{message_id:uuid}"
PAGES = (
    page("/chat", new, needs=SIGNED_IN),
    page("/chat", begin, ("POST",), needs=SIGNED_IN, form_max=FORM_MAX),
    page("/chat/{conversation_id:uuid}", show, needs=SIGNED_IN),
    page("/chat/{conversation_id:uuid}", say, ("POST",), needs=SIGNED_IN, form_max=FORM_MAX),
    page(f"{_MESSAGE}/regenerate", regenerate, ("POST",), needs=SIGNED_IN),
    page(f"{_MESSAGE}/edit", edit, ("POST",), needs=SIGNED_IN, form_max=FORM_MAX),
    page(f"{_MESSAGE}/events", events, needs=SIGNED_IN),
    page(f"{_MESSAGE}/stop", stop, ("POST",), needs=SIGNED_IN),
    page(f"{_MESSAGE}/rate", rate, ("POST",), needs=SIGNED_IN),
)
