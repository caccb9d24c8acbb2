"""What changes while a page is open, told to it as events: the page then asks for its parts again."""

from collections.abc import AsyncIterator
from datetime import timedelta

from starlette.responses import Response, StreamingResponse

from tollhouse.core.errors import BadRequest
from tollhouse.flows.session import goes_on
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

EVENTS = "text/event-stream"
SILENCE_S = 20.0  # after so long without news a comment is sent: proxies cut what is silent
LOOKED_AT = timedelta(minutes=1)  # how often it is asked whether the session still goes on
_COMMENT = b":\n\n"
_OVER = b"event: over\ndata: now\n\n"  # the page is to ask no more


async def events(visit: Visit) -> Response:
    """The topics of flows/live.py as Server-Sent Events, until the browser leaves, the session ends, too many other
    pages of the person ask, or this process goes down; then the browser comes again by itself. BadRequest (406) for
    who asks for anything else."""
    if EVENTS not in visit.request.headers.get("accept", ""):
        raise BadRequest("Pages listen here to what changes; there is nothing to look at.", status=406)
    return StreamingResponse(_told(visit), media_type=EVENTS, headers={"x-accel-buffering": "no"})


async def _told(visit: Visit) -> AsyncIterator[bytes]:
    signed, state = visit.who, visit.state
    looked_at = visit.now
    with state.live.follow(signed.organization_id, signed.person_id) as follower:
        yield b"retry: 5000\n\n"
        while not follower.over:
            topics = await follower.changed(SILENCE_S)
            if (now := state.clock()) >= looked_at + LOOKED_AT:
                looked_at = now
                if not await goes_on(state.db, state.site.keyring, signed, now):
                    yield _OVER
                    return
            yield b"".join(b"event: %s\ndata: now\n\n" % topic.encode() for topic in topics) or _COMMENT
        if not follower.elsewhere:
            yield _OVER


PAGES = (page("/events", events, needs=SIGNED_IN),)
