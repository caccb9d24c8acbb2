"""Which model is to answer."""

from datetime import UTC, datetime
from itertools import product

import pytest

from tollhouse.core.routing import Model
from tollhouse.core.selection import select

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def model(id_: str, *, enabled: bool = True, selectable: bool = True, kind: str = "chat") -> Model:
    return Model(
        id_, "sandbox", id_, id_.title(), enabled, selectable, "free", None, None, 0, 1_000, LONG_AGO,
        kind=kind,  # type: ignore[arg-type]
    )  # fmt: skip


MODELS = {
    one.id: one
    for one in (
        *map(model, ("asked", "override", "default", "assistant", "system")),
        model("off", enabled=False),
        model("hidden", selectable=False),
        model("embedding", kind="embedding"),
    )
}


@pytest.mark.parametrize("given", list(product((True, False), repeat=4)))
def test_the_first_that_somebody_chose_answers(given: tuple[bool, ...]) -> None:
    order = ("asked", "override", "default", "assistant")
    asked, override, default, assistant = (
        name if is_given else None for name, is_given in zip(order, given, strict=True)
    )
    found = select(asked, override, default, assistant, MODELS, "system")
    expected = next((name for name, is_given in zip(order, given, strict=True) if is_given), "system")
    assert (found.model_id, found.source, found.reason) == (expected, expected, None)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    ("gone", "said"), [("off", "Off is switched off"), ("hidden", "hidden"), ("embedding", "embedding"), ("no", "no")]
)
def test_in_place_of_one_that_is_off_or_gone_the_systems_answers_and_says_why(place: int, gone: str, said: str) -> None:
    wanted: list[str | None] = [None, None, None, None]
    wanted[place] = gone
    if place < 3:
        wanted[3] = "assistant"  # what comes after what was wanted is not asked
    asked, override, default, assistant = wanted
    found = select(asked, override, default, assistant, MODELS, "system")
    assert (found.model_id, found.source) == ("system", "system")
    assert found.reason is not None and said in found.reason


@pytest.mark.parametrize("system", [None, "off", "no"])
def test_without_a_system_default_that_answers_auto_chooses(system: str | None) -> None:
    assert select(None, None, None, None, MODELS, system).model_id == "auto"
    found = select("off", None, None, None, MODELS, system)
    assert found.model_id == "auto" and found.reason is not None


@pytest.mark.parametrize("own", ["auto", "own/00000000-0000-0000-0000-000000000007"])
def test_auto_and_models_of_ones_own_are_no_entries_of_the_catalogue(own: str) -> None:
    found = select(own, "override", None, None, MODELS, "system")
    assert (found.model_id, found.source, found.reason) == (own, "asked", None)
