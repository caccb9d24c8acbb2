"""What no text may hold."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.text import holds_nul

clean = st.text(st.characters(blacklist_characters="\0"), max_size=10)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
documents = st.recursive(
    scalars | clean,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(clean, inner, max_size=4),
    max_leaves=12,
)


@given(documents)
def test_a_document_without_a_nul_holds_none_whatever_its_shape(document: object) -> None:
    assert not holds_nul(document)


@given(documents, clean, clean, st.lists(st.sampled_from(["item", "value", "name"]), min_size=1, max_size=6))
def test_a_nul_is_found_in_any_text_however_deep_and_in_the_names_of_fields(
    beside: object, before: str, after: str, path: list[str]
) -> None:
    document: Any = before + "\0" + after
    for step in path:
        match step:
            case "item":
                document = [beside, document, beside]
            case "value":
                document = {"first": beside, "field": document, "last": beside}
            case "name":
                name = document if isinstance(document, str) else "\0"
                document = {"first": beside, name: beside}
    assert holds_nul(document)


@pytest.mark.parametrize("document", ["\0", "a\0b", ["\0"], {"a": "\0"}, {"\0": 1}, [[], [{}, {"a": [1, "b", "\0"]}]]])
def test_a_nul_is_found(document: object) -> None:
    assert holds_nul(document)


@pytest.mark.parametrize("document", ["", "0", "\\0", "\\u0000", "\1", 0, None, [], {}, {"0": 0}])
def test_what_only_looks_like_a_nul_is_none(document: object) -> None:
    assert not holds_nul(document)
