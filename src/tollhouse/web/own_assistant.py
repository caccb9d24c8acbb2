"""What an organisation's admins decide about assistants, and those of its own."""

import re

from starlette.responses import Response

from tollhouse.core.assistant import Assistant, PlanRequired, Task, TokenPeriod
from tollhouse.core.document import DOCUMENT_MAX
from tollhouse.core.errors import BadRequest, Conflict
from tollhouse.flows import own_assistant as flow
from tollhouse.flows import own_model
from tollhouse.flows.own_assistant import TASKS_MAX, Detailed, Wanted
from tollhouse.store import catalogue
from tollhouse.store import own_model as own_models
from tollhouse.web import forms, language, typed
from tollhouse.web.assistant import PERIODS
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _, ngettext
from tollhouse.web.own_model import NAMES
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

HERE = "/admin/ai"
ICONS = (
    ("sparkles", N_("Sparkles")), ("bot", N_("Robot")), ("briefcase", N_("Briefcase")), ("pencil", N_("Pencil")),
    ("mail", N_("Letter")), ("message-square-text", N_("Conversation")), ("book-open", N_("Book")),
    ("file-text", N_("Document")), ("scale", N_("Scales")), ("languages", N_("Languages")), ("lightbulb", N_("Idea")),
    ("chart-line", N_("Chart")), ("wrench", N_("Wrench")), ("graduation-cap", N_("School")), ("users", N_("People")),
)  # fmt: skip
_WRITTEN = (
    Field("name", most=100),
    Field("description", required=False, most=300),
    Field("role", required=False, most=60),
    Field("system_message", most=20_000, lines=True),
    Field("tasks", required=False, most=8_000, lines=True),
    Field("icon", most=40),
    Field("model", required=False, most=100),
    Field("token_limit", required=False, most=13),
    Field("token_period", most=5),
)
_LIMIT = (Field("token_limit", required=False, most=13),)
_DOCUMENT = (
    Field("title", most=200),
    Field("source", required=False, most=300),
    Field("text", most=DOCUMENT_MAX, lines=True),
)
_ROLE = re.compile(r"[a-z0-9_]*")
_TOKENS_MAX = 10**12


async def index(visit: Visit) -> Response:
    here = visit.who.organization_id
    found = await flow.listed(visit.state.db, here, visit.now)
    async with visit.state.db.tenant(here) as tx:
        models, room = await own_models.of_organization(tx, here), await own_model.room_in(tx, here)
    return visit.page(
        "own_assistant/index.html",
        own=[one for one in found if not one.assistant.of_platform],
        platform=[one for one in found if one.assistant.of_platform],
        models=models,
        room=room,
        periods={code: _(said) for code, said in PERIODS.items()},
        protocols=NAMES,
    )


async def show(visit: Visit) -> Response:
    return await _show(visit, 200)


async def _show(visit: Visit, status: int, **forms_sent: Form) -> Response:
    here = visit.who.organization_id
    found = await flow.detailed(visit.state.db, here, visit.id("assistant_id"), visit.now)
    own = not found.offer.assistant.of_platform
    shown = {"written": _written(found.offer.assistant), "limit": _limit(found), "document": forms.blank(_DOCUMENT)}
    return visit.page(
        "own_assistant/show.html",
        status,
        found=found,
        own=own,
        periods=[(code, _(said)) for code, said in PERIODS.items()],
        icons=[(name, _(said)) for name, said in ICONS],
        models=await _models(visit, found.offer.assistant.model_id) if own else [],
        **(shown | forms_sent),
    )


async def enable(visit: Visit) -> Response:
    visit.form()
    try:
        one = await flow.enable(visit.state.db, visit.order, visit.who.organization_id, visit.id("assistant_id"))
    except PlanRequired as error:
        return visit.go(HERE, language.refusal(error), "error")
    return visit.go(HERE, _("%(name)s is switched on for all members.", name=one.name))


async def disable(visit: Visit) -> Response:
    visit.form()
    one = await flow.disable(visit.state.db, visit.order, visit.who.organization_id, visit.id("assistant_id"))
    return visit.go(HERE, _("%(name)s is switched off.", name=one.name))


async def limit(visit: Visit) -> Response:
    form, id_ = visit.form(*_LIMIT), visit.id("assistant_id")
    if form.ok:
        try:
            tokens = typed.number(form, "token_limit", 1, _TOKENS_MAX)
            one = await flow.set_limit(visit.state.db, visit.order, visit.who.organization_id, id_, tokens)
        except BadRequest as error:
            form = form.refused_by(error)
        else:
            said = _("The limit of %(name)s holds from the next message on.", name=one.name)
            return visit.go(f"{HERE}/{id_}", said)
    return await _show(visit, 422, limit=form)


# -------------------------------------------------------------------------------------------------- of one's own making


async def new(visit: Visit) -> Response:
    return await _new(visit, 200, forms.blank(_WRITTEN, {"icon": "sparkles", "token_period": "month"}))


async def make(visit: Visit) -> Response:
    form = visit.form(*_WRITTEN)
    if form.ok:
        try:
            one = await flow.create(visit.state.db, visit.order, visit.who.organization_id, _wanted(form))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            said = _("%(name)s is there for all members. Give it what it shall know below.", name=one.name)
            return visit.go(f"{HERE}/{one.id}", said)
    return await _new(visit, 422, form)


async def _new(visit: Visit, status: int, form: Form) -> Response:
    return visit.page(
        "own_assistant/new.html",
        status,
        written=form,
        periods=[(code, _(said)) for code, said in PERIODS.items()],
        icons=[(name, _(said)) for name, said in ICONS],
        models=await _models(visit, None),
    )


async def change(visit: Visit) -> Response:
    form, id_ = visit.form(*_WRITTEN), visit.id("assistant_id")
    if form.ok:
        try:
            one = await flow.change(visit.state.db, visit.order, visit.who.organization_id, id_, _wanted(form))
        except BadRequest as error:
            form = form.refused_by(error)
        else:
            return visit.go(f"{HERE}/{id_}", _("%(name)s is changed, from the next message on.", name=one.name))
    return await _show(visit, 422, written=form)


async def delete(visit: Visit) -> Response:
    visit.form()
    one = await flow.delete(visit.state.db, visit.order, visit.who.organization_id, visit.id("assistant_id"))
    return visit.go(HERE, _("%(name)s is deleted. Conversations with it stay.", name=one.name))


async def add_document(visit: Visit) -> Response:
    form, id_ = visit.form(*_DOCUMENT), visit.id("assistant_id")
    if form.ok:
        try:
            count = await flow.add_document(
                visit.state.db, visit.order, visit.who.organization_id, id_, form["title"], form["source"], form["text"]
            )
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            said = ngettext("It knows %(num)s passage more.", "It knows %(num)s passages more.", count)
            return visit.go(f"{HERE}/{id_}", said)
    return await _show(visit, 422, document=form)


async def remove_document(visit: Visit) -> Response:
    visit.form()
    id_ = visit.id("assistant_id")
    await flow.remove_document(
        visit.state.db, visit.order, visit.who.organization_id, id_, visit.id("document_id")
    )  # fmt: skip
    return visit.go(f"{HERE}/{id_}", _("The document is deleted. It is cited no more."))


# ---------------------------------------------------------------------------------------------------------------- forms


async def _models(visit: Visit, chosen: str | None) -> list[tuple[str, str]]:
    """Models that may be chosen, and the one that was."""
    async with visit.state.db.nobody() as tx:
        found = await catalogue.models(tx)
    return [("", _("The person’s default"))] + [
        (one.id, one.display_name)
        for one in found
        if one.id == chosen or (one.enabled and one.selectable and one.kind == "chat")
    ]


def _limit(found: Detailed) -> Form:
    tokens = found.setting.token_limit if found.setting is not None else None
    return forms.blank(_LIMIT, {"token_limit": "" if tokens is None else str(tokens)})


def _written(one: Assistant) -> Form:
    given = {
        "name": one.name, "description": one.description, "role": one.role, "system_message": one.system_message,
        "tasks": "\n".join(f"{task.name}: {task.prompt}" for task in one.tasks), "icon": one.icon,
        "model": one.model_id or "", "token_limit": "" if one.token_limit is None else str(one.token_limit),
        "token_period": one.token_period or "month",
    }  # fmt: skip
    return forms.blank(_WRITTEN, given)


def _wanted(form: Form) -> Wanted:
    limit_ = typed.number(form, "token_limit", 1, _TOKENS_MAX)
    period: TokenPeriod | None = next((code for code in PERIODS if code == form["token_period"]), None)
    if period is None:
        raise BadRequest(_("Choose one of the list."), "token_period")
    if form["icon"] not in dict(ICONS):
        raise BadRequest(_("Choose one of the list."), "icon")
    if not _ROLE.fullmatch(form["role"]):
        raise BadRequest(_("A role has small letters, digits and underscores, such as tax_clerk."), "role")
    return Wanted(
        form["name"], form["description"], form["role"], form["system_message"], _tasks(form), form["icon"],
        form["model"] or None, limit_, period if limit_ is not None else None,
    )  # fmt: skip


def _tasks(form: Form) -> tuple[Task, ...]:
    """A task on each line: what its button says, a colon, and what is then said."""
    lines = [line.strip() for line in form["tasks"].split("\n") if line.strip()]
    if len(lines) > TASKS_MAX:
        raise BadRequest(_("There are at most %(most)s tasks.", most=TASKS_MAX), "tasks")
    found = []
    for line in lines:
        name, colon, prompt = (part.strip() for part in line.partition(":"))
        if not name or not colon or not prompt or len(name) > 60:
            raise BadRequest(_("Write a task on each line: a short name, a colon, and what is then said."), "tasks")
        found.append(Task(name, prompt))
    return tuple(found)


PAGES = (
    page("/admin/ai", index, needs="organization.manage"),
    page("/admin/ai/new", new, needs="organization.manage"),
    page("/admin/ai/new", make, ("POST",), needs="organization.manage"),
    page("/admin/ai/{assistant_id:uuid}", show, needs="organization.manage"),
    page("/admin/ai/{assistant_id:uuid}", change, ("POST",), needs="organization.manage"),
    page("/admin/ai/{assistant_id:uuid}/enable", enable, ("POST",), needs="organization.manage"),
    page("/admin/ai/{assistant_id:uuid}/disable", disable, ("POST",), needs="organization.manage"),
    page("/admin/ai/{assistant_id:uuid}/limit", limit, ("POST",), needs="organization.manage"),
    page("/admin/ai/{assistant_id:uuid}/delete", delete, ("POST",), needs="organization.manage"),
    page("/admin/ai/{assistant_id:uuid}/documents", add_document, ("POST",), needs="organization.manage"),
    page(
        "/admin/ai/{assistant_id:uuid}/documents/{document_id:uuid}/delete",
        remove_document,
        ("POST",),
        needs="organization.manage",
    ),
)
