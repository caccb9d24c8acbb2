"""The organisations that somebody is in: to choose from, to make, to leave."""

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, Conflict, NotFound, TooManyTries
from tollhouse.core.membership import BUSINESS_TYPES
from tollhouse.flows import member as members
from tollhouse.flows import organization as flow
from tollhouse.flows.organization import Insider
from tollhouse.flows.session import switch_organization
from tollhouse.store import organization as organizations
from tollhouse.web import forms, language, session
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit
from tollhouse.web.wording import word

NAME = Field("name", most=200)
BUSINESS_TYPE = Field("business_type", most=80)
_NEW = (NAME, BUSINESS_TYPE)


def insider(visit: Visit) -> Insider:
    """Who acts in the organisation that is chosen."""
    return Insider(visit.who.organization_id, visit.order, visit.who)


async def index(visit: Visit) -> Response:
    async with visit.state.db.person(visit.who.person_id) as tx:
        rows = await organizations.own(tx)
    return visit.page("organization/index.html", rows=rows)


async def new(visit: Visit) -> Response:
    return _new(visit, 200, forms.blank(_NEW, {"business_type": "general"}))


async def make(visit: Visit) -> Response:
    """Makes it, and goes on in it."""
    form = visit.form(*_NEW)
    if form.ok:
        try:
            keyring = visit.state.site.keyring
            made = await flow.create(
                visit.state.db, keyring, visit.order, visit.who, form["name"], form["business_type"]
            )
        except (BadRequest, Conflict, TooManyTries) as error:
            form = form.refused_by(error)
        else:
            site = visit.state.site
            cookie = await switch_organization(visit.state.db, site, visit.order, visit.who, made.id)
            response = visit.go("/admin", _("%(name)s is made. You are its owner.", name=made.name))
            session.begin(response, site, cookie)
            return response
    return _new(visit, 422, form)


def _new(visit: Visit, status: int, form: Form) -> Response:
    business_types = [(one, word(one)) for one in BUSINESS_TYPES]
    return visit.page("organization/new.html", status, form=form, business_types=business_types)


async def leave(visit: Visit) -> Response:
    visit.form()
    left = Insider(visit.id("organization_id"), visit.order, visit.who)
    async with visit.state.db.person(visit.who.person_id) as tx:
        if left.organization_id not in {row.id for row in await organizations.own(tx)}:
            raise NotFound(_("You are not a member of such an organisation."))
    try:
        await members.leave(visit.state.db, left)
    except Conflict as error:
        return visit.go("/organizations", language.refusal(error), "error")
    return visit.go("/organizations", _("You left the organisation."))


PAGES = (
    page("/organizations", index, needs=SIGNED_IN),
    page("/organizations/new", new, needs=SIGNED_IN),
    page("/organizations/new", make, ("POST",), needs=SIGNED_IN),
    page("/organizations/{organization_id:uuid}/leave", leave, ("POST",), needs=SIGNED_IN),
)
