"""What may go into a model and what may come out of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_embedding.embedders.protocol import TextRefused, vectors_or_refusal
from memcube_embedding.embedders.validation import InvalidVector, unit_vector, why_refused

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(NUMBERS, min_size=3, max_size=3).filter(any))
def test_any_finite_vector_with_a_direction_becomes_a_float32_unit_vector(numbers: list[float]) -> None:
    vector = unit_vector(numbers, dimensions=3, index=0)
    assert vector.dtype == np.float32
    assert vector.shape == (3,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ([1.0, 2.0], r"vector 7 has shape \(2,\), expected \(3,\)"),
        ([[1.0, 2.0, 3.0]], "shape"),
        ([], "shape"),
        ([1.0, float("nan"), 0.0], "vector 7 holds a number that is not finite"),
        ([1.0, float("inf"), 0.0], "not finite"),
        ([0.0, 0.0, 0.0], "vector 7 is zero"),
    ],
)
def test_an_unusable_vector_is_named_with_its_fault(numbers: list[float], why: str) -> None:
    with pytest.raises(InvalidVector, match=why):
        unit_vector(numbers, dimensions=3, index=7)


@pytest.mark.parametrize("text", ["", " ", "\n\t\u2003", "broken \ud800 half"])
def test_a_text_no_model_can_read_is_refused(text: str) -> None:
    assert why_refused(text) is not None


@pytest.mark.parametrize("text", ["a", "😀", "nul \x00 inside", "x" * 100_000])
def test_any_other_text_may_be_tried(text: str) -> None:
    assert why_refused(text) is None


def test_a_refusal_carries_its_neighbours() -> None:
    vector = unit_vector([1.0, 0.0], dimensions=2, index=0)
    with pytest.raises(TextRefused, match="text 1 cannot be embedded: too odd") as caught:
        vectors_or_refusal([vector, TextRefused(1, "too odd"), TextRefused(2, "odder")])
    assert set(caught.value.others) == {0, 2}
    assert caught.value.others[0] is vector
