"""Acting as somebody else: begun by a superadmin with a reason, ended by a button on every page."""

from uuid import UUID

from starlette.responses import Response

from tollhouse.core.errors import TollhouseError, Unauthenticated
from tollhouse.flows import impersonation, people
from tollhouse.web import forms, language, session
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.operator.frame import ask_for_proof, show
from tollhouse.web.route import SIGNED_IN, SUPERADMIN, page
from tollhouse.web.visit import Visit
from tollhouse.web.wording import within

FIELDS = (Field("organization", most=36), Field("reason", most=600))


async def ask(visit: Visit) -> Response:
    ask_for_proof(visit)
    return await _page(visit, forms.blank(FIELDS))


async def begin(visit: Visit) -> Response:
    form, state = visit.form(*FIELDS), visit.state
    if not form.ok:
        return await _page(visit, form, 422)
    user_agent = visit.request.headers.get("user-agent", "")
    try:
        cookie = await impersonation.begin(
            state.db, state.site, visit.order, visit.who, visit.id("person_id"), form["reason"], user_agent,
            _organization(form),
        )  # fmt: skip
    except TollhouseError as error:
        return await _page(visit, form.refused_by(error), error.status)
    response = visit.go("/")
    session.begin(response, state.site, cookie)
    return response


def _organization(form: Form) -> UUID | None:
    """None: their personal one."""
    try:
        return UUID(form["organization"])
    except ValueError:
        return None


async def _page(visit: Visit, form: Form, status: int = 200) -> Response:
    person, memberships = await people.read(visit.state.db, visit.order, visit.id("person_id"))
    options = [
        (str(one.organization_id), _("%(name)s, as %(role)s", name=one.name, role=within(one.role)))
        for one in memberships
    ]
    return show(
        visit, "operator/people/impersonate.html", status, person=person, base=f"/operator/people/{person.id}",
        options=options, form=form,
    )  # fmt: skip


async def end(visit: Visit) -> Response:
    """Back to where the superadmin began."""
    visit.form()
    person_id, state = visit.who.person_id, visit.state
    try:
        cookie = await impersonation.end(state.db, state.site, visit.order, visit.who)
    except Unauthenticated as error:
        response = visit.go("/sign-in", told=language.refusal(error), category="warning")
        session.end(response, state.site)
        return response
    response = visit.go(f"/operator/people/{person_id}", told=_("You act as yourself again."))
    session.begin(response, state.site, cookie)
    return response


_PATH = "/operator/people/{person_id:uuid}/impersonate"
PAGES = (
    page(_PATH, ask, needs=SUPERADMIN),
    page(_PATH, begin, ("POST",), needs=SUPERADMIN),
    page("/impersonation/end", end, ("POST",), needs=SIGNED_IN),
)
