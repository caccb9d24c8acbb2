"""Which model is to answer: what was asked for, the persona's, the person's own default, the assistant's, the system's.

Whether it may answer is decided in core/admission.py, like every call.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tollhouse.core.ask import AUTO
from tollhouse.core.own_model import PREFIX
from tollhouse.core.routing import Model

Source = Literal["asked", "override", "default", "assistant", "system"]


@dataclass(frozen=True, slots=True)
class Selected:
    """`model_id`: of the catalogue, "auto" or "own/<uuid>". `source`: who wanted it; `reason`: why it is not the one
    that was wanted, None when it is."""

    model_id: str
    source: Source
    reason: str | None = None


def select(
    asked: str | None,
    override: str | None,
    default: str | None,
    assistants_model: str | None,
    catalogue_models: Mapping[str, Model],
    system_default: str | None,
) -> Selected:
    """The first that somebody chose: in this message or chat, for this persona, for everything, the assistant's maker,
    the system. In place of one that is switched off or gone the system's default answers; without that, `auto`."""
    wanted: tuple[tuple[Source, str | None], ...] = (
        ("asked", asked),
        ("override", override),
        ("default", default),
        ("assistant", assistants_model),
    )
    for source, model_id in wanted:
        if model_id is None:
            continue
        if is_selectable(model_id, catalogue_models):
            return Selected(model_id, source)
        return Selected(_last(catalogue_models, system_default), "system", _missing(model_id, catalogue_models))
    return Selected(_last(catalogue_models, system_default), "system")


def is_selectable(model_id: str, models: Mapping[str, Model]) -> bool:
    """Whether it may be chosen to chat. Models of one's own are looked up where they are kept."""
    if model_id == AUTO or model_id.startswith(PREFIX):
        return True
    model = models.get(model_id)
    return model is not None and model.enabled and model.selectable and model.kind == "chat"


def _last(models: Mapping[str, Model], system_default: str | None) -> str:
    return system_default if system_default is not None and is_selectable(system_default, models) else AUTO


def _missing(model_id: str, models: Mapping[str, Model]) -> str:
    model = models.get(model_id)
    if model is None or not model.selectable or model.kind != "chat":
        return f"the model {model_id[:80]!r} is not in the catalogue any more"
    return f"{model.display_name} is switched off at the moment"
