"""A request for access: what is meant when nothing is said, and how its size is reckoned."""

import pytest

from tests.core.cast import ORGANIZATION
from tollhouse.core.ask import Ask, CallWant, CapabilityWant, CreditsWant, Size


@pytest.mark.parametrize(("input_tokens", "estimate"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (4_001, 1_001)])
def test_input_of_another_provider_is_reckoned_at_four_bytes_a_token_rounded_up(
    input_tokens: int, estimate: int
) -> None:
    assert Size(input_tokens, None).input_estimate == estimate


@pytest.mark.parametrize("sandbox_tokens", [0, 7])
def test_input_that_the_sandbox_counts_is_known(sandbox_tokens: int) -> None:
    assert Size(4_001, None, sandbox_tokens).input_estimate == sandbox_tokens


def test_a_call_is_for_one_answer_and_a_use_for_the_lowest_quality_if_nothing_else_is_said() -> None:
    assert CallWant("small", Size(1, None)).answers == 1
    assert (CapabilityWant("drawing").quality_id, CapabilityWant("drawing").size) == (None, None)


def test_a_call_is_made_here_and_needs_no_scope_if_nothing_else_is_said() -> None:
    asked = Ask(ORGANIZATION, None, ORGANIZATION, "api", CreditsWant(5))
    assert (asked.here, asked.needs) == (True, frozenset())
