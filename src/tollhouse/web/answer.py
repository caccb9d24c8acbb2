"""Messages as they are shown, and answers as they come: Server-Sent Events, each of one JSON object.

chat      of a new conversation: url, title, the bar at the top (head) and the dialogs
articles  html of what begins; `replaces` is the element that goes, with all after it, null when none does
text      so much more text
html      the text so far as HTML, in place of what stands there
done      html of the finished article; the picker, in which trials and limits have changed
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from markupsafe import Markup
from starlette.responses import Response, StreamingResponse

from tollhouse.core.assistant import Assistant
from tollhouse.core.conversation import Conversation, Message
from tollhouse.core.shelf import Shelf
from tollhouse.flows import chat as flow
from tollhouse.flows.shelf import shelf
from tollhouse.web import markdown
from tollhouse.web.visit import Visit

EVENTS = "text/event-stream"
# What is written is shown as HTML so often; less often when it takes long to make.
RENDERED_EVERY_S = 0.15
RENDERING_SHARE = 10
SILENCE_S = 15.0  # after so long without news a comment is sent: proxies cut what is silent
_COMMENT = b":\n\n"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """A message with what it says as HTML. `writing`: where the rest of it is told; None when it is complete."""

    message: Message
    html: Markup
    writing: str | None


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was begun: in which conversation, who answers. `replaces`: the message that goes, with all after it."""

    conversation: Conversation
    assistant: Assistant | None
    messages: Sequence[Message]
    replaces: UUID | None = None
    begins: bool = False

    @property
    def answer(self) -> Message:
        return self.messages[-1]


def wants_events(visit: Visit) -> bool:
    return EVENTS in visit.request.headers.get("accept", "")


async def shown(messages: Sequence[Message]) -> list[Shown]:
    """In a thread: a long answer takes a while."""
    return await asyncio.to_thread(lambda: [_shown(one) for one in messages])


def _shown(one: Message) -> Shown:
    if one.author == "person":
        return Shown(one, Markup(), None)
    at = f"/chat/{one.conversation_id}/messages/{one.id}/events" if one.state == "writing" else None
    return Shown(one, _html(one, one.content), at)


def _html(one: Message, text: str) -> Markup:
    return markdown.render(text, [source.number for source in one.citations], f"c-{one.id}")


# ------------------------------------------------------------------------------------------------------- as events


def told(visit: Visit, spoken: Spoken) -> Response:
    """The answer as it comes, until its end or until the browser leaves; then it goes on without anybody looking."""
    return StreamingResponse(_told(visit, spoken), media_type=EVENTS, headers={"x-accel-buffering": "no"})


async def _told(visit: Visit, spoken: Spoken) -> AsyncIterator[bytes]:
    if spoken.begins:
        yield _event("chat", **await _place(visit, spoken))
    if len(spoken.messages) > 1 or spoken.replaces is not None:
        articles = [article(visit, spoken, one) for one in await shown(spoken.messages)]
        replaces = None if spoken.replaces is None else f"m-{spoken.replaces}"
        yield _event("articles", html="".join(articles), replaces=replaces)
    async for part in _unbroken(_answered(visit, spoken)):
        yield _COMMENT if part is None else part


async def _place(visit: Visit, spoken: Spoken) -> dict[str, Any]:
    context = {"conversation": spoken.conversation, "assistant": spoken.assistant, "shelf": await _shelf(visit, spoken)}
    return {
        "url": f"/chat/{spoken.conversation.id}",
        "title": f"{spoken.conversation.title} · {visit.state.site.name}",
        "head": visit.rendered("chat/_head.html", **context),
        "dialogs": visit.rendered("chat/_dialogs.html", **context),
    }


async def _answered(visit: Visit, spoken: Spoken) -> AsyncIterator[bytes]:
    text, due = "", 0.0
    async for event in flow.follow(visit.state.chat, visit.who, spoken.conversation.id, spoken.answer.id):
        match event:
            case flow.Piece(text=more):
                text += more
                yield _event("text", text=more)
                begun = monotonic()
                if begun >= due:
                    html = await asyncio.to_thread(_html, spoken.answer, text)
                    yield _event("html", html=str(html))
                    due = monotonic() + max(RENDERED_EVERY_S, RENDERING_SHARE * (monotonic() - begun))
            case flow.Ended(message=message):
                [one] = await shown([message])
                yield _event("done", html=article(visit, spoken, one), picker=await _picker(visit, spoken))


def article(visit: Visit, spoken: Spoken, one: Shown) -> str:
    return visit.rendered(
        "chat/_message.html", one=one, assistant=spoken.assistant, text_max=flow.TEXT_MAX, rated=False
    )


async def _picker(visit: Visit, spoken: Spoken) -> str:
    return visit.rendered(
        "chat/_picked.html", shelf=await _shelf(visit, spoken), conversation=spoken.conversation, asked_model=None
    )


async def _shelf(visit: Visit, spoken: Spoken) -> Shelf:
    assistant_id = spoken.assistant.id if spoken.assistant else None
    return await shelf(visit.state.db, visit.state.teller, visit.who, visit.now, assistant_id)


def _event(name: str, **data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


async def _unbroken(source: AsyncIterator[T]) -> AsyncIterator[T | None]:
    """The same, with None whenever nothing came for SILENCE_S."""
    waiting: asyncio.Future[T] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait({waiting}, timeout=SILENCE_S)
            if not done:
                yield None
                continue
            taken, waiting = waiting, None
            try:
                yield taken.result()
            except StopAsyncIteration:
                return
    finally:
        if waiting is not None:
            waiting.cancel()
