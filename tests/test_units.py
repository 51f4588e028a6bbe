"""Units as typed and as shown."""

from __future__ import annotations

from decimal import Decimal

import pytest

from vertebra import units


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
