"""Waiting until others leave the processors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vertebra.measuring.benchmarking import quiet


@pytest.mark.parametrize(
    ("seen", "said", "waited", "told"),
    [
        ([0.05], 0, 1, ""),
        ([None], 0, 1, ""),
        ([0.45, 0.3, 0.08], 1, 3, "Others used 45 % of the processors: 3 s of waiting until they used 8 %"),
        (
            [0.9] * 10, 1, 5,
            "Others used 90 % of the processors: 5 s of waiting, and they still used 90 %. Latencies "
            "measured then have wider intervals",
        ),
    ],
)  # fmt: skip
def test_others_are_waited_for_and_what_it_cost_is_said(
    seen: list[float | None], said: int, waited: int, told: str
):
    now, heard, looks = [0.0], list[str](), iter(seen)

    def look() -> float | None:
        now[0] += 1
        return next(looks)

    found = quiet.wait(5.0, heard.append, look=look, clock=lambda: now[0])
    assert now[0] == waited
    assert len(heard) == said
    assert str(found) == told
    assert found.is_busy is (told != "" and "still" in told)


def test_the_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    readings: Iterator[quiet.surroundings.Reading] = iter(
        [quiet.surroundings.Reading(at_s=0.0, busy_s=0.0, total_s=0.0, own_s=0.0),
         quiet.surroundings.Reading(at_s=1.0, busy_s=1.0, total_s=2.0, own_s=0.5)]
    )  # fmt: skip
    monkeypatch.setattr(quiet.surroundings, "snapshot", lambda: next(readings))
    assert quiet.others_now(0.0) == 0.25
