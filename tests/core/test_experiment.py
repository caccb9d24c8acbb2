"""Who gets which model of an experiment: the same one every time, in the shares that were set."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import DAY, NOON
from tollhouse.core.experiment import Arm, Experiment, running

arms = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 10_000), min_size=1, max_size=5)


def experiment(*shares: Arm, number: int = 1) -> Experiment:
    return Experiment(UUID(int=number), "trial", "small", None, None, NOON, NOON + DAY, shares)


@given(arms, st.uuids(), st.randoms(use_true_random=False))
def test_a_subject_gets_the_same_arm_however_the_arms_are_ordered(
    shares: dict[str, int], subject: UUID, any_: object
) -> None:
    listed = [Arm(*one) for one in shares.items()]
    drawn = experiment(*listed).model_for(subject)
    assert drawn in shares
    assert experiment(*reversed(listed)).model_for(subject) == drawn


def test_the_shares_are_those_of_the_weights() -> None:
    one = experiment(Arm("a", 1), Arm("b", 2), Arm("c", 7))
    found = Counter(one.model_for(UUID(int=number)) for number in range(10_000))
    assert abs(found["a"] - 1_000) < 150
    assert abs(found["b"] - 2_000) < 200
    assert abs(found["c"] - 7_000) < 250


def test_who_gets_what_in_one_experiment_says_nothing_about_another() -> None:
    shares = (Arm("a", 1), Arm("b", 1))
    one, two = experiment(*shares), experiment(*shares, number=2)
    same = sum(one.model_for(UUID(int=number)) == two.model_for(UUID(int=number)) for number in range(10_000))
    assert abs(same - 5_000) < 300


def test_the_draw_is_the_one_that_was_always_made() -> None:
    """Another would move everybody in the middle of an experiment."""
    one = experiment(Arm("a", 1), Arm("b", 1), Arm("c", 2))
    assert "".join(one.model_for(UUID(int=number)) for number in range(24)) == "cbabccbaacacccbccabacbbc"


def test_it_is_active_from_its_begin_to_before_its_end() -> None:
    one, instant = experiment(Arm("a", 1)), timedelta(microseconds=1)
    about = ("small", None, None)
    found = [running((one,), about, at) for at in (NOON - instant, NOON, NOON + DAY - instant, NOON + DAY)]
    assert found == [None, one, one, None]


def test_of_several_about_the_same_the_first_that_is_active_counts() -> None:
    ended = Experiment(UUID(int=5), "old", "small", None, None, NOON - DAY, NOON, (Arm("a", 1),))
    one, two = experiment(Arm("a", 1)), experiment(Arm("b", 1), number=2)
    assert running((ended, one, two), ("small", None, None), NOON) == one
    assert running((ended, one, two), ("large", None, None), NOON) is None
