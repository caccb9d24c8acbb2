"""Which models answer: the person's default, a model for each assistant, what premium models take, all side by side."""

from typing import Any

from starlette.responses import Response

from tollhouse.core.assistant import Offer
from tollhouse.core.errors import NotFound, TollhouseError
from tollhouse.core.preference import ABOUT_MAX
from tollhouse.core.session import check_own
from tollhouse.core.shelf import ModelState, Shelf
from tollhouse.flows import preference
from tollhouse.flows import shelf as shelves
from tollhouse.flows.assistant import offers
from tollhouse.flows.preference import Change, NewDefault
from tollhouse.web import forms, language
from tollhouse.web.forms import Field
from tollhouse.web.language import N_, _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

HERE = "/settings/ai-models"
COMPARED_MAX = 3
CARDS_MAX = 24  # of free and of premium models each; the rest of a large catalogue stands in lines
_MODEL = (Field("model", required=False, most=80),)
_ABOUT = (Field("about", required=False, most=ABOUT_MAX, lines=True),)
# What the catalogue says of models, in the words of pages; other words are shown as they are.
WORDS = {
    "fastest": N_("Fastest"),
    "fast": N_("Fast"),
    "standard": N_("Standard"),
    "slower": N_("Slower"),
    "good": N_("Good"),
    "excellent": N_("Excellent"),
    "exceptional": N_("Exceptional"),
}


async def index(visit: Visit) -> Response:
    context = await _context(visit)
    if visit.is_htmx:
        return visit.part("model/index.html", "comparison", **context)
    form = forms.blank(_ABOUT, {"about": context["shelf"].preferences.about})
    return visit.page("model/index.html", form=form, **context)


async def set_default(visit: Visit) -> Response:
    chosen = visit.form(*_MODEL)["model"] or None
    return await _save(visit, Change(default=NewDefault(chosen)), _("Your default model is saved."))


async def set_override(visit: Visit) -> Response:
    chosen, slug = visit.form(*_MODEL)["model"] or None, visit.request.path_params["slug"]
    offered = await offers(visit.state.db, visit.who, visit.now)
    assistant = next((one.assistant for one in offered if one.assistant.slug == slug), None)
    if assistant is None:
        raise NotFound(_("There is no such assistant here. Choose one of those on the page."))
    told = _("The model for %(assistant)s is saved.", assistant=assistant.name)
    return await _save(visit, Change(override=(assistant.id, chosen)), told)


async def set_about(visit: Visit) -> Response:
    check_own(visit.who)
    form = visit.form(*_ABOUT)
    if not form.ok:
        return visit.again("model/index.html", form, **await _context(visit))
    await _change(visit, await _shelf(visit), Change(about=form["about"]))
    return visit.go(HERE, _("What assistants are told of you is saved."))


async def unlock(visit: Visit) -> Response:
    """What unlocking brings and takes, and what helps while nothing can be paid for here."""
    one = (await _shelf(visit)).find(visit.request.path_params["model_id"])
    if one is None:
        raise NotFound(_("There is no such model. Choose one of those on the page AI models."))
    return visit.page("model/unlock.html", one=one, word=_word)


async def _save(visit: Visit, wanted: Change, told: str) -> Response:
    """Saves at once. Where it is refused, the page shows what stands, and why."""
    check_own(visit.who)
    before = await _shelf(visit)
    try:
        await _change(visit, before, wanted)
    except TollhouseError as error:
        if not visit.is_htmx:
            return visit.go(HERE, language.refusal(error), "error")
        context = await _context(visit)
        return visit.part("model/saved.html", "saved", error.status, told=(language.refusal(error), "error"), **context)
    if not visit.is_htmx:
        return visit.go(HERE, told)
    return visit.part("model/saved.html", "saved", told=(told, "success"), **await _context(visit))


async def _change(visit: Visit, shelf: Shelf, wanted: Change) -> None:
    await preference.change(visit.state.db, visit.order, shelves.person(visit.who), shelf, wanted)


async def _shelf(visit: Visit) -> Shelf:
    return await shelves.shelf(visit.state.db, visit.state.teller, visit.who, visit.now)


async def _context(visit: Visit) -> dict[str, Any]:
    found, assistants = await _shelf(visit), await offers(visit.state.db, visit.who, visit.now)
    return {
        "shelf": found,
        "personas": _overridable(assistants, found),
        "compared": _compared(visit, found),
        "compared_max": COMPARED_MAX,
        "cards_max": CARDS_MAX,
        "word": _word,
    }


def _overridable(assistants: list[Offer], shelf: Shelf) -> list[Offer]:
    """Those that are open, and those for which a model was chosen while they were; personas first."""
    chosen = shelf.preferences.overrides
    found = [one for one in assistants if one.state == "open" or one.assistant.id in chosen]
    return sorted(found, key=lambda one: one.assistant.kind != "persona")


def _compared(visit: Visit, shelf: Shelf) -> list[ModelState]:
    """Those that the address names, each once and not too many."""
    asked = dict.fromkeys(visit.request.query_params.getlist("compare"))
    return [one for id_ in asked if (one := shelf.find(id_)) is not None][:COMPARED_MAX]


def _word(said: str | None) -> str:
    """A word of the catalogue's in the language of the page."""
    if said is None:
        return "–"
    return _(WORDS[said]) if said in WORDS else said


PAGES = (
    page(HERE, index, needs=SIGNED_IN),
    page("/settings/ai-models/default", set_default, ("POST",), needs=SIGNED_IN),
    page("/settings/ai-models/about", set_about, ("POST",), needs=SIGNED_IN),
    page("/settings/ai-models/assistants/{slug}", set_override, ("POST",), needs=SIGNED_IN),
    page("/settings/ai-models/{model_id}/unlock", unlock, needs=SIGNED_IN),
)
