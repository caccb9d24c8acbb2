"""People as operators see them: found, looked at, suspended, signed out, made superadmins, exported and erased."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.flows import people, privacy
from tollhouse.flows.people import Search
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.web import forms
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _
from tollhouse.web.operator.frame import PER_PAGE, REASON, address, ask_for_proof, choice, show, word
from tollhouse.web.route import SUPERADMIN, Page, page
from tollhouse.web.visit import Visit

PATH = "/operator/people"
STATES = {
    "superadmin": N_("Superadmins"),
    "suspended": N_("Suspended"),
    "unverified": N_("Address not verified"),
    "erased": N_("Erased"),
}
TASKS_SHOWN = 10
_EMAIL = Field("email", most=254)


async def index(visit: Visit) -> Response:
    search, state = word(visit, "search"), choice(visit, "state", STATES)
    wanted = Search(search, PER_PAGE, word(visit, "cursor") or None, state=state)
    found = await people.search(visit.state.db, visit.order, wanted)
    following = found.next_cursor and address(PATH, search=search, state=state, cursor=found.next_cursor)
    return show(
        visit, "operator/people/index.html", items=found.items, following=following, search=search, state=state,
        states=STATES, paged=bool(wanted.cursor),
    )  # fmt: skip


async def detail(visit: Visit) -> Response:
    id_ = visit.id("person_id")
    person, memberships = await people.read(visit.state.db, visit.order, id_)
    tasks = await privacy.any_tasks(visit.state.db, visit.order, PLATFORM_ID, id_, None, TASKS_SHOWN)
    return show(
        visit, "operator/people/detail.html", person=person, memberships=memberships, tasks=tasks, base=f"{PATH}/{id_}"
    )


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to a person, after a page that says what it means. `asks_why`: for a reason, which stays
    in the audit log; `asks_whom`: for the person's address, typed again. `do` gives what is told then."""

    name: str
    title: str
    meaning: str
    button: str
    do: Callable[[Visit, Form], Awaitable[str]]
    asks_why: bool = False
    asks_whom: bool = False
    grave: bool = True

    async def ask(self, visit: Visit) -> Response:
        ask_for_proof(visit)
        return await self._page(visit, forms.blank(self._fields))

    async def send(self, visit: Visit) -> Response:
        form = visit.form(*self._fields)
        if not form.ok:
            return await self._page(visit, form, 422)
        try:
            told = await self.do(visit, form)
        except TollhouseError as error:
            return await self._page(visit, form.refused_by(error), error.status)
        return visit.go(f"{PATH}/{visit.id('person_id')}", told=told)

    @property
    def _fields(self) -> tuple[forms.Field, ...]:
        return (*((REASON,) if self.asks_why else ()), *((_EMAIL,) if self.asks_whom else ()))

    async def _page(self, visit: Visit, form: Form, status: int = 200) -> Response:
        person, _memberships = await people.read(visit.state.db, visit.order, visit.id("person_id"))
        return show(
            visit, "operator/people/act.html", status, person=person, base=f"{PATH}/{person.id}", act=self, form=form
        )

    @property
    def pages(self) -> tuple[Page, Page]:
        path = f"{PATH}/{{person_id:uuid}}/{self.name}"
        return page(path, self.ask, needs=SUPERADMIN), page(path, self.send, ("POST",), needs=SUPERADMIN)


async def _suspend(visit: Visit, form: Form) -> str:
    await people.suspend(visit.state.db, visit.order, visit.id("person_id"), form["reason"])
    return _("The person is suspended: from now on they may do nothing.")


async def _unsuspend(visit: Visit, form: Form) -> str:
    await people.unsuspend(visit.state.db, visit.order, visit.id("person_id"), form["reason"])
    return _("The person may sign in again.")


async def _sign_out(visit: Visit, form: Form) -> str:
    ended = await people.sign_out(visit.state.db, visit.order, visit.id("person_id"), form["reason"])
    return _("Sessions ended: %(ended)s.", ended=ended)


async def _remove_second_factor(visit: Visit, form: Form) -> str:
    state = visit.state
    await people.remove_second_factor(state.db, state.site, visit.order, visit.id("person_id"), form["reason"])
    return _("The second factor is gone. The person was told by mail, and signs in without a code.")


async def _promote(visit: Visit, form: Form) -> str:
    await people.set_superadmin(visit.state.db, visit.order, visit.id("person_id"), True)
    return _("The person is a superadmin, once they have signed in again.")


async def _demote(visit: Visit, form: Form) -> str:
    await people.set_superadmin(visit.state.db, visit.order, visit.id("person_id"), False)
    return _("The person is no superadmin any more.")


async def _export(visit: Visit, form: Form) -> str:
    await privacy.order_account(visit.state.db, visit.order, "export", visit.id("person_id"))
    return _("The export was ordered. Its file is here in a few minutes.")


async def _erase(visit: Visit, form: Form) -> str:
    person, _memberships = await people.read(visit.state.db, visit.order, visit.id("person_id"))
    if form["email"].lower() != person.email:
        raise BadRequest(_("This is not the person's address. Type it as it stands above."), "email")
    await privacy.order_account(visit.state.db, visit.order, "erasure", visit.id("person_id"))
    return _("The erasure was ordered. It is done in a few minutes.")


ACTS = (
    Act(
        "suspend",
        N_("Suspend"),
        N_(
            "Nothing works for this person any more, in no organisation, from the next call on. Their data "
            "stays, and so does what others have."
        ),
        N_("Suspend"),
        _suspend,
        asks_why=True,
    ),
    Act(
        "unsuspend",
        N_("Let in again"),
        N_("The person may sign in and do what their roles allow."),
        N_("Let in again"),
        _unsuspend,
        asks_why=True,
        grave=False,
    ),
    Act(
        "sign-out",
        N_("Sign out everywhere"),
        N_("All of the person's sessions end at once. They may sign in again."),
        N_("End all sessions"),
        _sign_out,
        asks_why=True,
    ),
    Act(
        "remove-second-factor",
        N_("Remove the second factor"),
        N_(
            "For somebody who lost their app and their recovery codes, and has proved to you who they are. Their "
            "sessions end, and they sign in without a code."
        ),
        N_("Remove the second factor"),
        _remove_second_factor,
        asks_why=True,
    ),
    Act(
        "promote",
        N_("Make a superadmin"),
        N_(
            "A superadmin sees every organisation, gives credits and acts as others. Their sessions end: it "
            "counts once they have signed in again, in live mode with a second factor."
        ),
        N_("Make a superadmin"),
        _promote,
    ),
    Act(
        "demote",
        N_("Take the operators' area away"),
        N_("The person stays a member of their organisations and sees this area no more. Their sessions end."),
        N_("Take it away"),
        _demote,
    ),
    Act(
        "export",
        N_("Export the account"),
        N_(
            "A zip file with all that is known of the person is made. Whoever opens this page can download it "
            "for seven days; each download is recorded."
        ),
        N_("Order the export"),
        _export,
        grave=False,
    ),
    Act(
        "erase",
        N_("Erase the account"),
        N_(
            "Name, address, sign-in, prompts and answers are gone for good, and so is the person's own "
            "organisation. The ledger keeps its sums under a pseudonym. Nobody can undo this."
        ),
        N_("Erase for good"),
        _erase,
        asks_whom=True,
    ),
)

PAGES = (
    page(PATH, index, needs=SUPERADMIN),
    page(PATH + "/{person_id:uuid}", detail, needs=SUPERADMIN),
    *(one for act in ACTS for one in act.pages),
)
