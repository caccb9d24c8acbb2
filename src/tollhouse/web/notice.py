"""What somebody is told of the credits of their organisation: the bell, the list, and whether it is mailed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from starlette.responses import Response

from tollhouse.core.errors import BadRequest
from tollhouse.core.session import check_own
from tollhouse.store import notice as store
from tollhouse.store import preference
from tollhouse.store.notice import Shown
from tollhouse.web import forms
from tollhouse.web.forms import Field
from tollhouse.web.language import _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

HERE, SETTINGS = "/notices", "/settings/notifications"
SHOWN_FOR, SHOWN_MAX = timedelta(days=90), 100
_AWAY = (Field("kind", required=False, most=20), Field("day", required=False, most=10))
_MAIL = (Field("mail", required=False, most=3),)


async def index(visit: Visit) -> Response:
    """Newest first; those of the last ninety days."""
    return visit.page("notice/index.html", notices=await _shown(visit))


async def bell(visit: Visit) -> Response:
    """The count on every page, for htmx."""
    here, count = visit.who.organization_id, 0
    if visit.may("credits.use"):
        async with visit.state.db.member(here, visit.who.person_id) as tx:
            count = await store.count_unread(tx, here, visit.now - SHOWN_FOR)
    return visit.part("notice/_bell.html", "unread", unread=count)


async def put_away(visit: Visit) -> Response:
    """One, or all."""
    form, here, person = visit.form(*_AWAY), visit.who.organization_id, visit.who.person_id
    try:
        one = (form["kind"], date.fromisoformat(form["day"])) if form["kind"] else None
    except ValueError:
        raise BadRequest(_("There is no such notice. Load the page again."), "day") from None
    if visit.may("credits.use"):
        async with visit.state.db.member(here, person) as tx:
            await store.put_away(tx, here, person, visit.now, one)
            await visit.state.live.tell(tx, here, person, "notice")
    return visit.go(HERE)


async def _shown(visit: Visit) -> Sequence[Shown]:
    here = visit.who.organization_id
    if not visit.may("credits.use"):
        return ()
    async with visit.state.db.member(here, visit.who.person_id) as tx:
        return await store.shown(tx, here, visit.now - SHOWN_FOR, SHOWN_MAX)


async def settings(visit: Visit) -> Response:
    check_own(visit.who)
    async with visit.state.db.tenant(visit.who.organization_id) as tx:
        found = await preference.read(tx, visit.who.organization_id, visit.who.person_id)
    chosen = {"mail": "yes"} if found.mail_notices else {}
    return visit.page("notice/settings.html", form=forms.blank(_MAIL, chosen))


async def choose(visit: Visit) -> Response:
    check_own(visit.who)
    form, here, person = visit.form(*_MAIL), visit.who.organization_id, visit.who.person_id
    async with visit.state.db.tenant(here) as tx:
        before = await preference.lock(tx, here, person, visit.now)
        wanted = replace(before, mail_notices=form.chosen("mail", "yes"))
        await preference.write(tx, here, person, wanted, visit.now)
    return visit.go(SETTINGS, _("Saved."))


PAGES = (
    page("/notices", index, needs=SIGNED_IN),
    page("/notices", put_away, ("POST",), needs=SIGNED_IN),
    page("/notices/count", bell, needs=SIGNED_IN),
    page("/settings/notifications", settings, needs=SIGNED_IN),
    page("/settings/notifications", choose, ("POST",), needs=SIGNED_IN),
)
