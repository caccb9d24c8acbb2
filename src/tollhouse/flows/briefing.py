"""What an answer is made from: the assistant, the model that is to answer, what it is told."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core.ask import Credential
from tollhouse.core.assistant import Offer, Passage, check_open
from tollhouse.core.conversation import Conversation, Message
from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.core.own_model import own_model_id
from tollhouse.core.preference import Preferences
from tollhouse.core.prompt import Line, Talker, instructions, lines
from tollhouse.core.selection import Selected, select
from tollhouse.core.session import Signed
from tollhouse.flows.assistant import offers_in, rule_of
from tollhouse.flows.talk import Wish
from tollhouse.store import catalogue, model, own_model, passage, preference
from tollhouse.store.db import TenantTx


@dataclass(frozen=True, slots=True)
class Brief:
    """`passages` are those that the model is told, in their order; `reason`: why this model is asked, where it is not
    the one that was chosen."""

    wish: Wish
    assistant_id: UUID | None
    passages: tuple[Passage, ...]
    reason: str | None


async def brief(
    tx: TenantTx, signed: Signed, about: Conversation, history: list[Message], question: Message, now: datetime
) -> Brief:
    """For the next answer in this conversation. NotFound, PlanRequired or NotEnabled when its assistant may not be
    used, BadRequest when the question is longer than the model can read."""
    offer = await _offer(tx, signed, about.assistant_id, now)
    chosen = await preference.read(tx, signed.organization_id, signed.person_id)
    selected = await _select(tx, about, offer, chosen)
    passages = tuple(await passage.search(tx, offer.assistant, question.content)) if offer else ()
    system = instructions(
        offer.assistant if offer else None,
        Talker(signed.name, chosen.about),
        (now + timedelta(microseconds=signed.clock_offset_micros)).date(),
        passages,
    )
    told = lines(system, history, question, await _window(tx, signed, selected.model_id))
    if told is None:
        raise BadRequest("This is longer than the model can read at once. Send less of it.", "text")
    return Brief(_wish(signed, selected, told, offer), about.assistant_id, passages, selected.reason)


async def _offer(tx: TenantTx, signed: Signed, assistant_id: UUID | None, now: datetime) -> Offer | None:
    if assistant_id is None:
        return None
    offer = next((one for one in await offers_in(tx, signed, now) if one.assistant.id == assistant_id), None)
    if offer is None:
        raise NotFound("The assistant of this chat is not there any more. Begin a new chat with another one.")
    check_open(offer)
    return offer


async def _select(tx: TenantTx, about: Conversation, offer: Offer | None, chosen: Preferences) -> Selected:
    models = {one.id: one for one in await catalogue.models(tx)}
    default = next((one.id for one in models.values() if one.is_default), None)
    override = chosen.overrides.get(offer.assistant.id) if offer else None
    assistants = offer.assistant.model_id if offer else None
    return select(about.model_choice, override, chosen.default_model_id, assistants, models, default)


async def _window(tx: TenantTx, signed: Signed, model_id: str) -> int:
    """The tokens that the model can read and write at once."""
    if own_model_id(model_id) is not None:
        for one in await own_model.usable(tx, signed.organization_id, signed.person_id):
            if one.model_id == model_id:
                return one.context_window
    return await model.context_window(tx, model_id)


def _wish(signed: Signed, selected: Selected, told: list[Line], offer: Offer | None) -> Wish:
    rule = rule_of(offer) if offer else None
    return Wish(
        organization_id=signed.organization_id,
        person_id=signed.person_id,
        credential=Credential("person", signed.person_id),
        model=selected.model_id,
        lines=told,
        max_output_tokens=offer.assistant.max_output_tokens if offer else None,
        rules=(rule,) if rule else (),
        free=offer.assistant.is_free if offer else False,
    )
