"""Cursors of lists: what a page gave leads on, and nothing else does."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.cursor import cursor_of, id_in, number_in, place_in
from tollhouse.core.errors import BadRequest

Words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)


@given(Words, st.text(min_size=1))
def test_a_cursor_leads_back_to_its_place(kind: str, place: str) -> None:
    assert place_in(kind, cursor_of(kind, place)) == place


@given(Words, Words, st.uuids())
def test_the_cursor_of_one_list_is_none_of_another(kind: str, other: str, id_: UUID) -> None:
    cursor = cursor_of(kind, str(id_))
    assert id_in(kind, cursor) == id_
    if kind != other:
        with pytest.raises(BadRequest):
            id_in(other, cursor)


@given(st.text(max_size=100))
def test_whatever_is_sent_is_refused_by_its_name(cursor: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        id_in("members", cursor)
    assert refusal.value.field == "cursor"


def test_the_first_page_has_no_cursor() -> None:
    assert id_in("members", None) is None
    assert number_in("audit", None) is None


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(BadRequest):
        id_in("members", cursor_of("members", f"{uuid4()}0"))


@given(st.integers(0, 10**18 - 1))
def test_a_number_comes_back(number: int) -> None:
    assert number_in("audit", cursor_of("audit", str(number))) == number


@pytest.mark.parametrize("place", ["-1", "1" * 19, "1.5", "\u0662", " 1"])
def test_a_number_that_no_row_has_is_refused(place: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        number_in("audit", cursor_of("audit", place))
    assert refusal.value.field == "cursor"
