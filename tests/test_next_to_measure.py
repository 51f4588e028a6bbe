"""Picks by estimates that become picks by measurements."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import vertebra
from vertebra.errors import InvalidInputError
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, WideRow, shipped, wide
from vertebra.measurements.shipped import published
from vertebra.measurements.statistics import Difference
from vertebra.measuring import estimation
from vertebra.measuring.estimation import Estimator, Field
from vertebra.reading.choice import again, next_to_measure, rule
from vertebra.reading.choice.rule import Limit

_HERE = {
    "engine": "e", "device": "cpu", "precision": "float32", "batch_size": 1, "system": "s", "input_size": 224,
    "scenario": "single-stream",
}  # fmt: skip


def top1(model: str, value: float) -> Measurement:
    return Measurement(
        model=model, metric="top1", value=value, origin="published", dataset="imagenet-1k", split="val",
        source="a page",
    )  # fmt: skip


def latency(model: str, value: float, spread: float | None = None) -> Measurement:
    """Measured to the point, or estimated within a factor of 1 + `spread`."""
    if spread is None:
        return Measurement(model=model, metric="latency", value=value, origin="benched", **_HERE)
    low, high = value / (1 + spread), value * (1 + spread)
    return Measurement(
        model=model, metric="latency", value=value, low=low, high=high, origin="estimated", **_HERE
    )


ACCURACIES = [top1("small", 0.70), top1("middle", 0.75), top1("large", 0.80)]
LIMIT = [Limit("latency", 0.010)]


def question(*told: Measurement) -> str | None:
    found = next_to_measure.open_question(wide([*ACCURACIES, *told]), LIMIT)
    return None if found is None else found.model


def test_the_best_that_may_meet_the_limit_is_asked_for_first() -> None:
    assert question(
        latency("small", 0.002), latency("middle", 0.008, 0.1), latency("large", 0.0105, 0.1)
    ) == "large"  # fmt: skip


def test_what_is_surely_too_slow_is_not_asked_for() -> None:
    assert question(
        latency("small", 0.002), latency("middle", 0.008, 0.1), latency("large", 0.030, 0.1)
    ) == "middle"  # fmt: skip


def test_what_cannot_be_better_than_a_measured_choice_is_not_asked_for() -> None:
    assert question(latency("middle", 0.008), latency("small", 0.002, 0.1)) is None


def test_an_estimate_that_meets_the_limit_is_still_a_question() -> None:
    assert question(latency("small", 0.002), latency("large", 0.001, 0.1)) == "large"


def test_what_meets_each_limit_by_chance_hardly_meets_both() -> None:
    def told(model: str, seconds: float, megabytes: float) -> list[Measurement]:
        timed = latency(model, seconds, 0.2)
        bounds = {"low": megabytes * 1e6 / 1.2, "high": megabytes * 1e6 * 1.2}
        return [timed, replace(timed, metric="memory_total", value=megabytes * 1e6, **bounds)]

    both = [*LIMIT, Limit("memory_total", 100e6)]
    large = wide([*ACCURACIES, *told("large", 0.0115, 112)])
    assert next_to_measure.open_question(large, LIMIT) is not None
    assert next_to_measure.open_question(large, both[1:]) is not None
    assert next_to_measure.open_question(large, both) is None


def test_an_estimated_objective_counts_with_its_favourable_end() -> None:
    told = wide([*ACCURACIES, latency("small", 0.0050), latency("middle", 0.0052, 0.1)])
    found = next_to_measure.open_question(told, objective="latency")
    assert found is not None
    assert found.model == "middle"
    told = wide([*ACCURACIES, latency("small", 0.0050), latency("middle", 0.0090, 0.1)])
    assert next_to_measure.open_question(told, objective="latency") is None


def test_a_network_that_fails_is_asked_for_once() -> None:
    told = [*ACCURACIES, latency("small", 0.002), latency("large", 0.001, 0.1)]
    asked: list[str] = []

    def fail(row: WideRow) -> list[Measurement]:
        asked.append(row.model)
        return []

    found = next_to_measure.settle(lambda: wide(told), fail, LIMIT)
    assert asked == ["large"]
    assert found.measured == ()  # it gave nothing
    assert found.ended == "settled"
    assert found.pick.choice is not None
    assert found.pick.choice.model == "small"


def test_without_time_the_answer_says_that_it_is_not_the_last_word() -> None:
    told = [*ACCURACIES, latency("small", 0.002), latency("large", 0.0099, 0.1)]
    found = next_to_measure.settle(lambda: wide(told), lambda row: [], LIMIT, has_time=lambda: False)
    assert (found.measured, found.ended) == ((), "budget")


#: A table of a processor's latencies, held out and taken for this machine's.
_TABLE, _SAME = "fp32-nchw-pt240-cpu-i7_12700h-dynamo", "i7_12700h"


@cache
def accuracies() -> dict[str, float]:
    """The best published top-1 accuracy of each network at its native size."""
    best: dict[str, float] = {}
    for line in published.printed("imagenet.csv.gz"):
        count = shipped.counts().get(line["model"])
        if line["top1"] and count is not None and int(line["input_size"]) == count.input_size:
            best[count.model] = max(best.get(count.model, 0.0), float(line["top1"]) / 100)
    return best


@cache
def held_out() -> tuple[Field, dict[str, float]]:
    """The light networks of the held-out table with what other machines tell of them; and the truth."""
    whole = estimation.field()
    truth = whole.published[:, whole.tables.index(_TABLE)]
    others = [number for number, name in enumerate(whole.tables) if _SAME not in name]
    light = np.array([shipped.counts()[name].macs <= 1.5e9 and name in accuracies() for name in whole.names])
    kept = np.flatnonzero(light & ~np.isnan(truth) & ~np.isnan(whole.published[:, others]).all(axis=1))
    names = tuple(whole.names[number] for number in kept)
    field = Field(
        names, whole.counts[kept], tuple(whole.families[number] for number in kept),
        whole.published[np.ix_(kept, others)], tuple(whole.tables[number] for number in others),
    )  # fmt: skip
    return field, {name: float(truth[number]) for name, number in zip(names, kept, strict=True)}


@cache
def starting_point() -> tuple[tuple[str, ...], dict[str, Measurement]]:
    """The anchors, and the estimates of all the others."""
    field, truth = held_out()
    estimator = Estimator(field)
    anchors = tuple(estimator.choose())
    found = estimator.estimate({name: truth[name] for name in anchors})
    estimates = {
        name: Measurement(model=name, metric="latency", value=value, low=low, high=high, origin="estimated",
                          **_HERE)
        for name, value, low, high in zip(
            found.names, found.values.tolist(), found.low.tolist(), found.high.tolist(), strict=True
        )
    }  # fmt: skip
    return anchors, estimates


@pytest.mark.parametrize("seed", range(20))
def test_few_measurements_give_the_answer_of_measuring_everything(seed: int) -> None:
    _, truth = held_out()
    anchors, estimates = starting_point()
    published_rows = [top1(name, accuracies()[name]) for name in truth]
    draw = np.random.default_rng(seed)
    limits = [Limit("latency", float(np.quantile(list(truth.values()), draw.uniform(0.03, 0.97))))]
    known = set(anchors)

    def candidates() -> list[WideRow]:
        told = [latency(name, truth[name]) if name in known else estimates[name] for name in truth]
        return wide([*published_rows, *told])

    def measure(row: WideRow) -> list[Measurement]:
        known.add(row.model)
        return []

    found = next_to_measure.settle(candidates, measure, limits)
    everything = wide([*published_rows, *(latency(name, value) for name, value in truth.items())])
    right = rule.pick(everything, limits).choice
    assert right is not None
    assert found.ended == "settled"
    assert found.pick.choice is not None
    assert found.pick.choice.value("top1") == right.value("top1")
    assert len(truth) >= 150
    assert len(found.measured) <= 0.15 * len(truth)


def test_a_pick_among_the_catalogue_prices_what_never_ran_and_writes_nothing(tmp_path: Path) -> None:
    here = system.describe().id
    light = sorted(shipped.counts().values(), key=lambda count: count.macs)[200:1000:100]
    told = [
        replace(latency(count.model, count.macs / 2e10 + 1e-4), input_size=count.input_size, system=here)
        for count in light
    ]
    table = Table(tmp_path / "table.sqlite")
    table.append(told)
    picked = vertebra.pick(table=table, latency="20ms")
    assert picked.choice is not None
    assert picked.choice.figures["latency"].origin == "estimated"
    assert picked.choice.figures["top1"].origin == "published"
    assert len(table.rows()) == len(told)


def test_an_unknown_set_of_candidates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="everything"):
        vertebra.pick(table=tmp_path / "table.sqlite", among="everything")


# ------------------------------------------------------------------ measured again


def wide_one(model: str, value: float, low: float, high: float) -> Measurement:
    return replace(latency(model, value), low=low, high=high)


@pytest.mark.parametrize(
    ("large", "asked"),
    [
        (wide_one("large", 0.030, 0.008, 0.035), "large"),  # disturbed: may be three times as fast
        (wide_one("large", 0.0105, 0.0098, 0.0112), None),  # as narrow as a quick run gets
        (wide_one("large", 0.030, 0.015, 0.060), None),  # surely too slow
        (wide_one("large", 0.005, 0.002, 0.008), None),  # meets the limit, and is the choice
        (latency("large", 0.011, 0.5), None),  # estimated, not measured
    ],
)  # fmt: skip
def test_a_better_network_with_a_wide_interval_around_the_limit_is_measured_again(
    large: Measurement, asked: str | None
) -> None:
    rows = wide([*ACCURACIES, latency("small", 0.002), large])
    found = again.worth_repeating(rows, LIMIT)
    assert (None if found is None else found.model) == asked
    assert again.worth_repeating(rows, LIMIT, repeated=lambda row: again.MOST) is None


def test_what_is_worse_than_the_choice_is_not_measured_again() -> None:
    rows = wide([*ACCURACIES, latency("large", 0.002), wide_one("middle", 0.03, 0.008, 0.035)])
    assert again.worth_repeating(rows, LIMIT) is None


def test_a_disturbed_contender_is_measured_again_and_chosen() -> None:
    known = {"large": wide_one("large", 0.030, 0.008, 0.035)}

    def measure(row: WideRow) -> list[Measurement]:
        known[row.model] = latency(row.model, 0.009)
        return []

    found = next_to_measure.settle(
        lambda: wide([*ACCURACIES, latency("small", 0.002), *known.values()]), measure, LIMIT
    )
    assert found.pick.choice is not None
    assert found.pick.choice.model == "large"
    assert (len(found.measured), found.ended) == (1, "settled")


def test_a_contender_that_stays_disturbed_is_measured_again_only_so_often() -> None:
    asked: list[str] = []

    def measure(row: WideRow) -> list[Measurement]:
        asked.append(row.model)
        return []

    rows = wide([*ACCURACIES, latency("small", 0.002), wide_one("large", 0.03, 0.008, 0.035)])
    found = next_to_measure.settle(lambda: rows, measure, LIMIT)
    assert asked == ["large"] * again.MOST
    assert found.pick.choice is not None
    assert found.pick.choice.model == "small"


# ------------------------------------------------------------------ a choice between two


def on(engine: str, value: float, spread: float, model: str = "large") -> Measurement:
    return replace(
        latency(model, value), engine=engine, low=value / (1 + spread), high=value * (1 + spread)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("other", "objective", "rival"),
    [
        (on("f", 0.0052, 0.1), "top1", "f"),
        (on("f", 0.0080, 0.1), "top1", None),  # surely slower
        (on("f", 0.0052, 0.1, "small"), "top1", None),  # less accurate: the choice is no question of time
        (on("f", 0.0052, 0.1, "small"), "latency", "f"),
        (replace(on("f", 0.0052, 0.1), precision="int8"), "top1", None),
        (replace(on("f", 0.0052, 0.1), origin="estimated"), "top1", None),
    ],
)  # fmt: skip
def test_a_form_as_good_as_the_choice_is_a_rival_where_their_latencies_overlap(
    other: Measurement, objective: str, rival: str | None
) -> None:
    rows = wide([*ACCURACIES, on("e", 0.0050, 0.1), other])
    found = again.close_rival(rule.pick(rows, LIMIT, objective), rows)
    assert (None if found is None else found.conditions["engine"]) == rival


@pytest.mark.parametrize(
    ("ratio", "detected", "engine", "end"),
    [(0.9, True, "f", "so it is the choice"), (1.1, True, "e", "so the choice stays"),
     (0.99, False, "e", "so the choice stays")],
)  # fmt: skip
def test_the_ratio_of_interleaved_blocks_decides_between_two(
    ratio: float, detected: bool, engine: str, end: str
) -> None:
    rows = wide([*ACCURACIES, on("e", 0.0050, 0.1), on("f", 0.0052, 0.1), latency("small", 0.002)])
    picked = rule.pick(rows, LIMIT)
    rival = again.close_rival(picked, rows)
    assert rival is not None
    found = again.decided(picked, rival, Difference(ratio, 0.98 * ratio, 1.02 * ratio, 0.5, detected))
    assert found.choice is not None
    assert found.choice.conditions["engine"] == engine
    assert [row.model for row in found.ranked] == ["large", "small"]
    assert found.notes[-1] == (
        f"Measured in interleaved blocks, large on f takes {ratio:.3g} times ({0.98 * ratio:.3g} to "
        f"{1.02 * ratio:.3g}) as long as large on e, {end}"
    )
