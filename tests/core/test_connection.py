"""What is shown of a key, where connections may lead, and when they count as unhealthy."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.connection import Health, hint_of, may_be_private
from tollhouse.core.key import Mode

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200))
def test_a_hint_is_the_end_of_the_key_and_never_more_than_a_quarter_of_it(key: str) -> None:
    hint = hint_of(key) or ""
    assert key.endswith(hint)
    assert len(hint) <= 4 and 4 * len(hint) <= len(key)


def test_of_a_usual_key_the_last_four_characters_are_shown_and_of_a_short_one_nothing() -> None:
    assert hint_of("sk-proj-0123456789abcdef") == "cdef"
    assert hint_of("key") is None
    assert hint_of("") is None


@pytest.mark.parametrize(
    ("of_platform", "mode", "allowed", "may"),
    [
        (False, "live", False, False),
        (False, "test", False, False),
        (True, "live", False, False),
        (True, "test", False, True),
        (False, "live", True, True),
        (False, "test", True, True),
        (True, "live", True, True),
    ],
)
def test_an_organisations_connection_leads_inside_only_when_the_operator_allows_it(
    of_platform: bool, mode: Mode, allowed: bool, may: bool
) -> None:
    assert may_be_private(of_platform=of_platform, mode=mode, allowed=allowed) is may


@pytest.mark.parametrize(("failures", "ok"), [(0, True), (1, True), (2, True), (3, False), (40, False)])
def test_three_failures_in_a_row_are_unhealthy(failures: int, ok: bool) -> None:
    assert Health(NOON, "the provider cannot be reached" if failures else None, failures).ok is ok
