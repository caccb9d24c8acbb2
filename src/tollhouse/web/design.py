"""All parts of the design in all of their states, to be looked at and tested. In test mode only."""

from uuid import UUID

from starlette.responses import Response

from tollhouse.core.errors import NotFound
from tollhouse.core.session import Impersonator, Signed
from tollhouse.web import forms
from tollhouse.web import sample as samples
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.markdown import render
from tollhouse.web.navigation import Entry, Group
from tollhouse.web.refusal import NOWHERE
from tollhouse.web.route import ANYONE, page
from tollhouse.web.visit import Visit

_FIELDS = (
    Field("name", most=80),
    Field("email"),
    Field("password", secret=True),
    Field("note", required=False, lines=True, most=2000),
    Field("plan"),
    Field("scopes", many=True),
    Field("model", required=False),
    Field("agree", required=False),
)
_MENU = (
    Group(
        "",
        (Entry("/", "Home", "house"), Entry("/design", "Design", "layers"), Entry("/chat", "Chat", "message-square")),
    ),
    Group("Organisation", (Entry("/members", "Members", "users"), Entry("/keys", "Keys", "key-round"))),
)
_TYPED = {"name": "Ada Lovelace", "email": "ada@example", "plan": "pro", "scopes": ("gateway",), "model": "gpt-4o"}


async def design(visit: Visit) -> Response:
    _check_mode(visit)
    filled = forms.blank(_FIELDS, _TYPED)
    wrong = filled.refused("email", "This is not an e-mail address. It looks like name@example.com.").refused(
        "", "Nothing was saved: one field needs another look."
    )
    return _page(visit, 200, filled, wrong)


async def try_out(visit: Visit) -> Response:
    """Takes the form of the page, and says what became of it."""
    _check_mode(visit)
    form = visit.form(*_FIELDS)
    if not form.ok:
        return _page(visit, 422, form, form)
    return visit.go("/design", f"Saved for {form['name']}.")


async def bare(visit: Visit) -> Response:
    _check_mode(visit)
    return visit.page("design/bare.html", form=forms.blank(_FIELDS))


def _page(visit: Visit, status: int, filled: Form, wrong: Form) -> Response:
    sample = _sample(visit)
    blank = forms.blank(_FIELDS)
    return visit.page(
        "design/parts.html",
        status,
        signed=sample,
        navigation=_MENU,
        blank=blank,
        filled=filled,
        wrong=wrong,
        of_nobody=True,
        shelf=samples.shelf(visit.now),
        refusals=samples.refusals(visit.now),
        chart=samples.CHART,
        answer=render(samples.ANSWER),
    )


def _sample(visit: Visit) -> Signed:
    """Somebody to show the frame of the pages with: a superadmin who acts as a member."""
    now, nobody = visit.now, UUID(int=0)
    return Signed(
        id=nobody,
        token="",
        person_id=nobody,
        email="ada@example.com",
        name="Ada Lovelace",
        superadmin=False,
        verified=True,
        organization_id=nobody,
        organization_name="Analytical Engines",
        organization_kind="team",
        organization_suspended=False,
        role="owner",
        permissions=frozenset(),
        clock_offset_micros=0,
        method="password",
        created_at=now,
        expires_at=now,
        proved_at=now,
        has_second_factor=True,
        second_factor=True,
        must_add_second_factor=False,
        impersonator=Impersonator(nobody, "operator@example.com", "to look at the design", nobody),
    )


def _check_mode(visit: Visit) -> None:
    if visit.state.site.mode != "test":
        raise NotFound(_(NOWHERE))


PAGES = (
    page("/design", design, needs=ANYONE),
    page("/design", try_out, ("POST",), needs=ANYONE),
    page("/design/bare", bare, needs=ANYONE),
)
