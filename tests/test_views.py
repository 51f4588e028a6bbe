"""Views of rows, against answers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vertebra.measurements import Measurement, latest, wide

HERE = {
    "system": "box-1",
    "engine": "eager",
    "device": "cpu",
    "precision": "float32",
    "batch_size": 1,
    "input_size": 224,
}


def latency(model: str, value: float, **columns: Any) -> Measurement:
    return Measurement(
        **({"model": model, "metric": "latency", "value": value, "origin": "benched"} | HERE | columns)
    )


def figure(model: str, metric: str, value: float, origin: str = "profiled", **columns: Any) -> Measurement:
    return Measurement(**({"model": model, "metric": metric, "value": value, "origin": origin} | columns))


# ------------------------------------------------------------------ latest


def test_the_later_date_wins_wherever_it_stands() -> None:
    newer, older = latency("a", 1, measured_at="2026-02-01"), latency("a", 2, measured_at="2026-01-31")
    assert latest([newer, older]) == [newer]
    assert latest([older, newer]) == [newer]


def test_of_two_with_one_date_the_later_row_wins() -> None:
    rows = [latency("a", 1, measured_at="2026-02-01"), latency("a", 2, measured_at="2026-02-01")]
    assert latest(rows) == rows[1:]
    assert latest([figure("a", "params", 1), figure("a", "params", 2)]) == [figure("a", "params", 2)]


def test_versions_and_runs_do_not_make_another_figure() -> None:
    rows = [
        latency("a", 1, versions={"torch": "2.8"}, run="x"),
        latency("a", 2, versions={"torch": "2.9"}, run="y"),
    ]
    assert latest(rows) == rows[1:]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "b"},
        {"weights": "w"},
        {"system": "box-2"},
        {"engine": "onnxruntime"},
        {"batch_size": 8},
        {"threads": 2},
        {"precision": "int8"},
        {"origin": "published"},
        {"source": "elsewhere"},
        {"convention": "macs"},
        {"metric": "load_time"},
    ],
)
def test_what_differs_in_subject_condition_or_provenance_is_another_figure(other: dict[str, Any]) -> None:
    first = latency("a", 1)
    second = latency(**({"model": "a", "value": 2} | other))
    assert latest([first, second]) == [first, second]


# ------------------------------------------------------------------ wide


def test_each_model_and_way_of_running_it_is_one_row_with_its_own_figures_only() -> None:
    rows = wide(
        [
            figure("a", "params", 4e6),
            latency("a", 0.010),
            latency("a", 0.080, batch_size=8),
            figure("b", "params", 2e6),
        ]
    )
    told = [
        (row.model, row.conditions.get("batch_size"), row.value("latency"), row.value("params"))
        for row in rows
    ]
    assert told == [("a", 1, 0.010, 4e6), ("a", 8, 0.080, 4e6), ("b", None, None, 2e6)]


def test_derived_figures_are_computed_and_keep_the_interval() -> None:
    (row,) = wide(
        [
            figure("a", "params", 5e6),
            figure("a", "macs", 3e9, input_size=224),
            figure("a", "top1", 0.75, "published", low=0.74, high=0.76),
            latency("a", 0.020, low=0.016, high=0.025),
        ]
    )
    assert row.value("operations") == 6e9
    assert row.value("accuracy_density") == pytest.approx(0.15)
    fps = row.figures["fps"]
    assert (fps.value, fps.low, fps.high) == pytest.approx((50.0, 40.0, 62.5))


def test_frames_per_second_are_told_at_batch_size_one_only() -> None:
    (row,) = wide([latency("a", 0.080, batch_size=8)])
    assert row.value("fps") is None


def test_a_figure_of_another_input_size_is_not_shown_beside_a_latency() -> None:
    (row,) = wide(
        [
            figure("a", "macs", 1e9, input_size=224),
            figure("a", "macs", 2e9, input_size=320),
            latency("a", 0.01, input_size=320),
        ]
    )
    assert row.value("macs") == 2e9
    assert not row.conflicts


def test_a_count_of_our_own_is_believed_before_a_published_one_and_that_before_an_estimate() -> None:
    estimated, published, profiled = (
        figure("a", "params", value, origin)
        for value, origin in ((3, "estimated"), (2, "published"), (1, "profiled"))
    )
    assert wide([estimated, published, profiled])[0].figures["params"] == profiled
    assert wide([estimated, published])[0].figures["params"] == published


def test_sources_that_disagree_are_told_as_a_conflict_and_never_averaged() -> None:
    one, two, three = (
        figure("a", "top1", value, "published", source=source)
        for value, source in ((0.70, "x"), (0.71, "y"), (0.70, "z"))
    )
    (row,) = wide([one, two, three])
    assert row.value("top1") == 0.70
    assert row.conflicts == {"top1": (two,)}


def test_a_top5_is_of_the_same_weights_and_page_as_the_top1_beside_it() -> None:
    rows = [
        figure("a", "top1", 0.80, "published", weights="new", dataset="imagenet-1k", source="page"),
        figure("a", "top5", 0.91, "published", weights="old", dataset="imagenet-1k", source="page"),
        figure("a", "top5", 0.92, "published", weights="new", dataset="imagenet-1k", source="other page"),
        figure("a", "top5", 0.95, "published", weights="new", dataset="imagenet-1k", source="page"),
    ]
    (row,) = wide(rows)
    assert (row.value("top1"), row.value("top5")) == (0.80, 0.95)
    (without,) = wide(rows[:3])
    assert (without.value("top1"), without.value("top5")) == (0.80, None)


def test_wide_takes_the_newest_row_of_each_figure() -> None:
    (row,) = wide(
        [latency("a", 0.02, measured_at="2026-01-01"), latency("a", 0.01, measured_at="2026-01-02")]
    )
    assert row.value("latency") == 0.01
    assert not row.conflicts


def test_of_nothing_there_is_no_view() -> None:
    assert latest([]) == []
    assert wide([]) == []


def test_of_several_published_weights_the_best_accuracy_is_shown() -> None:
    rows = [
        figure("a", "top1", value, "published", weights=weights, dataset="imagenet-1k", source="page")
        for value, weights in ((0.76, "V1"), (0.81, "V2"), (0.79, "V3"))
    ]
    (row,) = wide(rows)
    assert (row.value("top1"), row.figures["top1"].weights) == (0.81, "V2")
    own = figure("a", "top1", 0.74, "evaluated", weights="V1", dataset="imagenet-1k", split="val")
    assert wide([*rows, own])[0].value("top1") == 0.74
