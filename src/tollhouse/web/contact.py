"""Whom to tell about a hole of this installation, for programs that look for it (RFC 9116)."""

from datetime import timedelta

from starlette.responses import PlainTextResponse, Response

from tollhouse.core.errors import NotFound
from tollhouse.web.language import _
from tollhouse.web.refusal import NOWHERE
from tollhouse.web.route import ANYONE, page
from tollhouse.web.visit import Visit

PATH = "/.well-known/security.txt"
# The address is the present setting: whoever has kept it for longer than this looks again.
GOOD_FOR = timedelta(days=30)


async def security_txt(visit: Visit) -> Response:
    """NotFound when nobody is named."""
    site = visit.state.site
    if not site.security_contact:
        raise NotFound(_(NOWHERE))
    ends = (visit.now + GOOD_FOR).strftime("%Y-%m-%dT%H:%M:%SZ")
    return PlainTextResponse(f"Contact: {site.security_contact}\nExpires: {ends}\nCanonical: {site.url(PATH)}\n")


PAGES = (page(PATH, security_txt, needs=ANYONE),)
