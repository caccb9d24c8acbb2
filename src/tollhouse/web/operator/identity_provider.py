"""Identity providers that people may sign in with: made, tested, changed, deleted."""

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, NotFound, TollhouseError
from tollhouse.flows import identity_provider as flow
from tollhouse.flows.identity_provider import Change, NewProvider, NewSecret
from tollhouse.flows.oidc import redirect_uri
from tollhouse.store.identity_provider import IdentityProvider
from tollhouse.web import forms
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.operator.frame import ask_for_proof, show
from tollhouse.web.route import SUPERADMIN, page
from tollhouse.web.visit import Visit

PATH = "/operator/identity-providers"
_SECRET = Field("client_secret", required=False, most=1000, secret=True)
NEW = (
    Field("name", most=100), Field("issuer", most=1000), Field("client_id", most=1000), _SECRET,
    Field("enabled", required=False), Field("act"),
)  # fmt: skip
CHANGED = (
    Field("name", most=100), Field("client_id", most=1000), _SECRET, Field("public", required=False),
    Field("enabled", required=False),
)  # fmt: skip


async def index(visit: Visit) -> Response:
    found = await flow.read(visit.state.db, visit.order)
    addresses = {one.id: redirect_uri(visit.state.site, one.id) for one in found}
    return show(visit, "operator/identity_provider/index.html", items=found, addresses=addresses)


async def ask_new(visit: Visit) -> Response:
    ask_for_proof(visit)
    return _new_page(visit, forms.blank(NEW, {"enabled": "yes"}))


async def create(visit: Visit) -> Response:
    """Makes it, or only tries it, by the button that was pressed."""
    form, state = visit.form(*NEW), visit.state
    if not form.ok:
        return _new_page(visit, form, 422)
    try:
        wanted = NewProvider(
            form["name"], _visible(form, "issuer"), _visible(form, "client_id"),
            _visible(form, "client_secret") or None, form["enabled"] == "yes",
        )  # fmt: skip
        if form["act"] == "test":
            tried = await flow.try_draft(state.db, state.policy, state.key_sets, visit.order, wanted)
            return _new_page(visit, form, tried=tried)
        row = await flow.create(state.db, state.policy, state.key_sets, visit.order, wanted)
    except TollhouseError as error:
        return _new_page(visit, form.refused_by(error), error.status)
    return visit.go(
        f"{PATH}/{row.id}",
        told=_("People can sign in with %(name)s once its redirect address is known.", name=row.name),
    )


async def detail(visit: Visit) -> Response:
    row = await _find(visit)
    given = {"name": row.name, "client_id": row.client_id, "enabled": "yes" if row.enabled else ""}
    return _page(visit, row, forms.blank(CHANGED, given))


async def change(visit: Visit) -> Response:
    form, row = visit.form(*CHANGED), await _find(visit)
    if not form.ok:
        return _page(visit, row, form, 422)
    try:
        wanted = Change(form["name"], _visible(form, "client_id"), _secret(form), form["enabled"] == "yes")
        await flow.change(visit.state.db, visit.state.policy, visit.order, row.id, wanted)
    except TollhouseError as error:
        return _page(visit, row, form.refused_by(error), error.status)
    return visit.go(f"{PATH}/{row.id}", told=_("Saved. It counts from the next sign-in on."))


async def test(visit: Visit) -> Response:
    visit.form()
    state, id_ = visit.state, visit.id("provider_id")
    tried = await flow.try_stored(state.db, state.policy, state.key_sets, visit.order, id_)
    return visit.go(f"{PATH}/{id_}", told=tried.message, category="success" if tried.ok else "error")


async def ask_delete(visit: Visit) -> Response:
    ask_for_proof(visit)
    return show(visit, "operator/identity_provider/delete.html", row=await _find(visit), base=PATH)


async def delete(visit: Visit) -> Response:
    visit.form()
    await flow.delete(visit.state.db, visit.order, visit.id("provider_id"))
    return visit.go(PATH, told=_("The identity provider is deleted. Nobody signs in with it any more."))


def _secret(form: Form) -> NewSecret | None:
    """None: it stays as it is."""
    if form["public"] == "yes":
        return NewSecret(None)
    return NewSecret(_visible(form, "client_secret")) if form["client_secret"] else None


def _visible(form: Form, name: str) -> str:
    """BadRequest for what was copied with spaces or line ends."""
    value = form[name].strip()
    if any(not "!" <= character <= "~" for character in value):
        raise BadRequest(_("This has spaces or characters that it cannot have. Copy it again."), name)
    return value


async def _find(visit: Visit) -> IdentityProvider:
    id_ = visit.id("provider_id")
    found = {one.id: one for one in await flow.read(visit.state.db, visit.order)}
    if id_ not in found:
        raise NotFound(_("There is no such identity provider here."))
    return found[id_]


def _new_page(visit: Visit, form: Form, status: int = 200, tried: flow.Tried | None = None) -> Response:
    return show(visit, "operator/identity_provider/new.html", status, form=form, tried=tried)


def _page(visit: Visit, row: IdentityProvider, form: Form, status: int = 200) -> Response:
    address = redirect_uri(visit.state.site, row.id)
    return show(
        visit, "operator/identity_provider/detail.html", status, row=row, form=form, address=address,
        base=f"{PATH}/{row.id}",
    )  # fmt: skip


_ONE = PATH + "/{provider_id:uuid}"
PAGES = (
    page(PATH, index, needs=SUPERADMIN),
    page(f"{PATH}/new", ask_new, needs=SUPERADMIN),
    page(f"{PATH}/new", create, ("POST",), needs=SUPERADMIN),
    page(_ONE, detail, needs=SUPERADMIN),
    page(_ONE, change, ("POST",), needs=SUPERADMIN),
    page(f"{_ONE}/test", test, ("POST",), needs=SUPERADMIN),
    page(f"{_ONE}/delete", ask_delete, needs=SUPERADMIN),
    page(f"{_ONE}/delete", delete, ("POST",), needs=SUPERADMIN),
)
