"""In which language pages are shown: what somebody chose, kept in their browser and with their account."""

from starlette.responses import Response

from tollhouse.core.errors import BadRequest
from tollhouse.flows import profile
from tollhouse.web import session
from tollhouse.web.forms import Field
from tollhouse.web.language import LANGUAGES, _
from tollhouse.web.route import ANYONE, page
from tollhouse.web.visit import Visit

_LANGUAGE = Field("language", required=False, most=2)


async def choose(visit: Visit) -> Response:
    """Nothing chosen: as the browser asks. Who acts as somebody else changes only how they see the pages themselves."""
    form = visit.form(_LANGUAGE)
    code = form["language"] or None
    if code is not None and code not in LANGUAGES:
        raise BadRequest(_("Choose one of the list."), "language")
    if visit.signed is not None and visit.signed.impersonator is None:
        await profile.choose_language(visit.state.db, visit.signed, code)
    response = visit.go(visit.came_from)
    session.keep_language(response, visit.state.site, code)
    return response


PAGES = (page("/language", choose, ("POST",), needs=ANYONE),)
