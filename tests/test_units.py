"""Quantities in and out of text: what people type, and what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest

from vertebra import units
from vertebra.errors import InvalidInputError


@pytest.mark.parametrize(
    ("unit", "suffix", "scale"),
    [("fraction", "%", "0.01"), ("s", "ms", "0.001"), ("count", "G", "1e9"), ("count", "M", "1e6"),
     ("B", "MB", "1e6"), ("B", "GB", "1e9")],
)  # fmt: skip
def test_what_is_typed_with_one_or_two_digits_is_the_nearest_number_and_not_its_neighbour(
    unit: str, suffix: str, scale: str
) -> None:
    for number in range(1, 1001):
        for digits in (Decimal(number) / 10, Decimal(number) / 100):
            assert units.parse(f"{digits}{suffix}", unit) == float(digits * Decimal(scale))


def test_56_7_percent_is_0_567() -> None:
    assert units.parse("56.7%", "fraction") == 0.567
    assert 56.7 * 0.01 != 0.567


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("10μs", "s", 1e-5), ("10µs", "s", 1e-5), ("10us", "s", 1e-5), ("5.ms", "s", 0.005),
        (".5ms", "s", 0.0005), ("10\u00a0ms", "s", 0.01), ("700 MB", "B", 7e8),
        ("512MiB", "B", 512 * 2.0**20), ("30 img/s", "1/s", 30.0), ("30images/s", "1/s", 30.0),
        ("30 imgs/sec", "1/s", 30.0), ("30 FPS", "1/s", 30.0), ("30 frames/s", "1/s", 30.0),
        ("30 1/s", "1/s", 30.0), ("30/s", "1/s", 30.0), ("30 Hz", "1/s", 30.0), ("75.%", "fraction", 0.75),
    ],
)  # fmt: skip
def test_what_people_write_is_read(text: str, unit: str, value: float) -> None:
    assert units.parse(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit"),
    [(".ms", "s"), ("5..ms", "s"), ("-5ms", "s"), ("nan", "1/s"), ("1,5ms", "s"), ("5", "s"), ("200", "B"),
     ("700M", "B"), ("30 img", "1/s"), ("75", "fraction"), ("7 m b", "B"), ("10Ms/s", "B")],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_with_an_example(text: str, unit: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        units.parse(text, unit)
    assert "write it like" in str(caught.value.hint)


def test_a_size_without_its_b_is_asked_about() -> None:
    with pytest.raises(InvalidInputError) as caught:
        units.parse("700M", "B")
    assert str(caught.value.hint).startswith("did you mean 700MB? ")


def test_small_counts_are_whole() -> None:
    shown = {value: units.show(value, "count") for value in (0, 1.0, 5.0, 42.0, 0.5, 1234.0)}
    assert shown == {0: "0", 1.0: "1", 5.0: "5", 42.0: "42", 0.5: "0.500", 1234.0: "1.23 k"}
