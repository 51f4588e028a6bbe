"""Parity: when two sets of logits count as one network's."""

from __future__ import annotations

import numpy as np
import pytest

from vertebra import parity
from vertebra.errors import InvalidInputError, MeasurementError

REFERENCE = np.array([[1.0, 3.0], [-1.0, 1.0]], dtype=np.float32)  # centred: ±1, so the spread is 1


def test_the_output_error_is_the_largest_difference_over_the_spread() -> None:
    got = REFERENCE + np.array([[0.0, 0.25], [-0.5, 0.0]], dtype=np.float32)
    assert parity.output_error(REFERENCE, got) == 0.5
    assert parity.output_error(REFERENCE * 8, got * 8) == 0.5


def test_an_offset_common_to_all_classes_hides_no_error() -> None:
    got = REFERENCE + np.array([[0.0, 0.5], [0.0, 0.0]], dtype=np.float32)
    assert parity.output_error(REFERENCE + 1024, got + 1024) == 0.5


def test_equal_logits_have_no_error_even_without_spread() -> None:
    for flat in (np.zeros((2, 3)), np.full((2, 1), 5.0)):
        assert parity.output_error(flat, flat) == 0.0
    assert parity.output_error(np.zeros((2, 3)), np.full((2, 3), 0.5)) == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_fail_with_the_reason(bad: float) -> None:
    got = REFERENCE.copy()
    got[1, 1] = bad
    with pytest.raises(MeasurementError, match="not finite"):
        parity.output_error(REFERENCE, got)
    with pytest.raises(MeasurementError, match="reference's own"):
        parity.output_error(got, REFERENCE)


def test_outputs_of_another_shape_fail_with_the_reason() -> None:
    with pytest.raises(MeasurementError, match=r"shape \(2, 1\), but \(2, 2\)"):
        parity.output_error(REFERENCE, REFERENCE[:, :1])


def test_an_error_above_the_limit_fails_and_one_below_is_told() -> None:
    step = np.array([[parity.LIMITS["float32"], 0.0], [0.0, 0.0]])
    assert parity.check_outputs(REFERENCE, REFERENCE + step / 2) == pytest.approx(step.max() / 2)
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        parity.check_outputs(REFERENCE, REFERENCE + step * 2)


def test_classes_in_another_order_fail() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 1000))
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        parity.check_outputs(logits, np.roll(logits, 1, axis=1))


@pytest.mark.parametrize("dropped_bits", [16, 13])  # what bfloat16 and TF32 keep: 7 and 10 bits
def test_logits_of_a_shorter_precision_are_told_from_float32(dropped_bits: int) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    kept = np.uint32((0xFFFFFFFF << dropped_bits) & 0xFFFFFFFF)
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        parity.check_outputs(logits, (logits.view(np.uint32) & kept).view(np.float32))


def test_a_precision_without_a_limit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="int3"):
        parity.check_outputs(REFERENCE, REFERENCE, "int3")


@pytest.mark.parametrize(
    ("precision", "within", "beyond"),
    [
        ("float32", 2.9e-4, 3.1e-4), ("tf32", 0.0149, 0.0151), ("float16", 0.0149, 0.0151),
        ("bfloat16", 0.199, 0.201), ("int8", 1.99, 2.01), ("int8-weights", 0.299, 0.301),
    ],
)  # fmt: skip
def test_each_precision_has_its_own_limit(precision: str, within: float, beyond: float) -> None:
    step = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert parity.check_outputs(
        REFERENCE.astype(float), REFERENCE + within * step, precision
    ) == pytest.approx(within)
    with pytest.raises(MeasurementError, match=f"allowed in {precision}"):
        parity.check_outputs(REFERENCE.astype(float), REFERENCE + beyond * step, precision)


def test_every_limit_is_tested() -> None:
    assert set(parity.LIMITS) == {"float32", "tf32", "float16", "bfloat16", "int8", "int8-weights"}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_logits_with_the_bits_of_eight_bit_floats_are_told_from_sixteen(precision: str) -> None:
    """Three bits of mantissa, as float8 keeps, in each of a thousand logits, and the first two exchanged."""
    logits = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    kept = np.uint32((0xFFFFFFFF << 20) & 0xFFFFFFFF)
    short = (logits.view(np.uint32) & kept).view(np.float32)
    short[:, [0, 1]] = short[:, [1, 0]]
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        parity.check_outputs(logits, short, precision)
