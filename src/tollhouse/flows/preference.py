"""Choosing which models answer, and what assistants are told."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from tollhouse.core.errors import BadRequest
from tollhouse.core.preference import ABOUT_MAX, Preferences
from tollhouse.core.refusals import ModelLocked
from tollhouse.core.shelf import Shelf
from tollhouse.flows.order import Order
from tollhouse.flows.shelf import Viewer
from tollhouse.store import preference as store
from tollhouse.store.db import Database

OVERRIDES_MAX = 500


@dataclass(frozen=True, slots=True)
class NewDefault:
    """Which model answers where nothing else is chosen; None: the system's."""

    model_id: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What is None stays as it is. `overrides` stand in place of all those before, `override` in place of the one of
    this assistant: None in it lets the default answer again."""

    default: NewDefault | None = None
    overrides: Mapping[UUID, str] | None = None
    override: tuple[UUID, str | None] | None = None
    about: str | None = None


async def change(db: Database, order: Order, viewer: Viewer, shelf: Shelf, wanted: Change) -> Preferences:
    """What is chosen for oneself, so nothing of it is audited. `shelf` is the viewer's, read a moment ago. BadRequest
    with the field for a model that may not be chosen, ModelLocked for one that is not unlocked: also while its trial
    goes on, which would end in the middle of a chat."""
    if wanted.default is not None and wanted.default.model_id is not None:
        check_lasting(shelf, wanted.default.model_id, "default_model_id")
    for model_id in (wanted.overrides or {}).values():
        check_lasting(shelf, model_id, "persona_overrides")
    if wanted.override is not None and wanted.override[1] is not None:
        check_lasting(shelf, wanted.override[1], "persona_overrides")
    if len(wanted.overrides or ()) > OVERRIDES_MAX:
        raise BadRequest(f"At most {OVERRIDES_MAX} assistants can have a model of their own.", "persona_overrides")
    if wanted.about is not None and len(wanted.about) > ABOUT_MAX:
        raise BadRequest(f"This is longer than {ABOUT_MAX} characters. Shorten it.", "about")
    async with db.tenant(viewer.organization_id) as tx:
        before = await store.lock(tx, viewer.organization_id, viewer.subject_id, order.now)
        after = _changed(before, wanted)
        if after != before:
            await store.write(tx, viewer.organization_id, viewer.subject_id, after, order.now)
    return after


def check_lasting(shelf: Shelf, model_id: str, field: str) -> None:
    """BadRequest for a model that is not on the shelf, ModelLocked for one that is not unlocked."""
    one = shelf.find(model_id)
    if one is None:
        known = ", ".join(one.model.id for one in shelf.models if one.lasting)
        raise BadRequest(
            f"There is no model {model_id[:80]!r} to choose: it is unknown or switched off. There are: "
            f"{known or 'none'}.",
            field,
        )
    if not one.lasting:
        raise ModelLocked(model_id, one.price_cents)


def _changed(before: Preferences, wanted: Change) -> Preferences:
    overrides = dict(before.overrides if wanted.overrides is None else wanted.overrides)
    match wanted.override:
        case (assistant_id, None):
            overrides.pop(assistant_id, None)
        case (assistant_id, model_id):
            overrides[assistant_id] = model_id
    return replace(
        before,
        default_model_id=before.default_model_id if wanted.default is None else wanted.default.model_id,
        overrides=overrides,
        about=before.about if wanted.about is None else wanted.about,
    )
