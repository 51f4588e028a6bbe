"""Views of rows, against answers worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
    row = {"model": model, "metric": metric, "value": value, "origin": origin} | columns
    return Measurement(**{name: copied(one) for name, one in row.items()})


def copied(value: Any) -> Any:
    """As from a file, where equal values aren't the same object."""
    return type(value)("".join([*str(value)])) if isinstance(value, str | float) else value


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
        {"dataset_sha256": "a" * 64},
    ],
)
def test_what_differs_in_subject_condition_or_provenance_is_another_figure(other: dict[str, Any]) -> None:
    first = latency("a", 1)
    second = latency(**({"model": "a", "value": 2} | other))
    assert latest([first, second]) == [first, second]


def test_a_probes_accuracy_is_one_figure_with_and_without_its_datasets_digest() -> None:
    rows = [
        figure(
            "a",
            "probe_top1",
            value,
            "evaluated",
            dataset="pets",
            split="val",
            dataset_sha256=digest,
        )
        for value, digest in ((0.8, None), (0.9, "b" * 64))
    ]
    assert latest(rows) == rows[1:]


def test_a_date_may_be_ahead_by_a_day_as_in_another_zone() -> None:
    for ahead, wins in ((-0.01, 1.0), (0.9, 1.0), (1.1, 2.0)):
        date = (datetime.now(UTC) + timedelta(days=ahead)).isoformat()
        rows = [latency("a", 1.0, measured_at=date), latency("a", 2.0, measured_at="2026-01-01")]
        assert [row.value for row in latest(rows)] == [wins]


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        ("2026-01-02", "2026-01-01", 1.0),
        ("2026-01-01", "2999-01-01", 2.0),  # of a clock that was wrong: no older than what stands before it
        ("2999-01-01", "2026-01-01", 2.0),
        (None, "2026-01-01", 2.0),
        ("2026-01-01", None, 1.0),
    ],
)
def test_of_dates_that_cant_be_the_order_counts(first: str | None, second: str | None, wins: float) -> None:
    rows = [latency("a", 1.0, measured_at=first), latency("a", 2.0, measured_at=second)]
    assert [row.value for row in latest(rows)] == [wins]


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


def test_rates_under_two_bounds_are_two_rows() -> None:
    both = [
        figure("served:m", "served_rate", rate, "benched", system="box", engine="made", batch_size=1,
               scenario="server", protocol=f"p99 within {bound} ms, FP32 over HTTP")
        for rate, bound in ((40.0, 30), (60.0, 100))
    ]  # fmt: skip
    assert [(row.value("served_rate"), row.conditions["protocol"]) for row in wide(both)] == [
        (40.0, "p99 within 30 ms, FP32 over HTTP"), (60.0, "p99 within 100 ms, FP32 over HTTP"),
    ]  # fmt: skip


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


@pytest.mark.parametrize(
    ("columns", "form", "shown"),
    [
        # an evaluated accuracy is of its engine and its precision
        ({"origin": "evaluated", "engine": "openvino"}, {}, None),
        ({"origin": "evaluated", "precision": "float16"}, {}, None),
        ({"origin": "evaluated", "engine": "eager", "precision": "float32"}, {}, 0.8),
        # a published one is of every engine, and of all floats or of int8
        ({"origin": "published", "precision": "float16"}, {}, 0.8),
        ({"origin": "published", "precision": "float32"}, {"precision": "int8"}, None),
        ({"origin": "published"}, {"precision": "int8"}, None),
        ({"origin": "published", "precision": "int8"}, {"precision": "int8"}, 0.8),
        ({"origin": "published", "precision": "int8"}, {}, None),
        ({"origin": "published", "input_size": 320}, {}, None),
    ],
)
def test_an_accuracy_stands_beside_the_latencies_that_it_belongs_to(
    columns: dict[str, Any], form: dict[str, Any], shown: float | None
) -> None:
    accuracy = figure("a", "top1", 0.8, **({"dataset": "imagenet-1k", "split": "val"} | columns))
    row = wide([accuracy, latency("a", 0.01, **form)])[0]
    assert (row.value("latency"), row.value("top1")) == (0.01, shown)


def test_a_network_that_never_ran_is_shown_at_one_size_that_of_our_count_where_an_accuracy_is_known() -> None:
    accuracies = [
        figure("a", "top1", value, "published", input_size=size, dataset="imagenet-1k", source="page")
        for value, size in ((0.75, 224), (0.8, 320))
    ]
    (row,) = wide(accuracies)
    assert (row.value("top1"), row.conditions, row.conflicts) == (0.75, {}, {})
    (row,) = wide([*accuracies, figure("a", "macs", 1e9, input_size=320)])
    assert (row.value("top1"), row.value("macs")) == (0.8, 1e9)


def test_a_network_without_parameters_has_no_density_of_accuracy() -> None:
    (row,) = wide([figure("a", "params", 0), figure("a", "top1", 0.1, "published", dataset="imagenet-1k")])
    assert (row.value("params"), row.value("accuracy_density")) == (0, None)


def test_figures_of_the_machine_belong_to_no_network() -> None:
    machine = figure("machine", "latency", 1e-6, "benched", **HERE)
    rows = wide([latency("zfnet", 0.01), machine, latency("alexnet", 0.02)])
    assert [row.model for row in rows] == ["zfnet", "alexnet"]


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


def test_origins_of_our_own_are_believed_alike() -> None:
    rows = [figure("a", "params", 1 + place, origin) for place, origin in enumerate(("profiled", "benched"))]
    for one, other in (rows, rows[::-1]):
        (row,) = wide([one, other])
        assert (row.figures["params"], row.conflicts) == (one, {"params": (other,)})


def test_figures_of_the_best_weights_stand_in_the_order_given_whatever_page_they_are_from() -> None:
    rows = [
        figure("a", "top1", value, "published", weights=weights, source=source, dataset="imagenet-1k")
        for value, weights, source in (
            (0.7, "V1", "x"),
            (0.8, "V2", "x"),
            (0.79, "V2", "y"),
            (0.8, "V2", "z"),
        )
    ]
    (row,) = wide(rows)
    assert (row.figures["top1"], row.conflicts) == (rows[1], {"top1": (rows[2],)})
    (row,) = wide([rows[0], rows[2], rows[1]])
    assert (row.figures["top1"], row.conflicts) == (rows[2], {"top1": (rows[1],)})


def test_a_top5_is_of_the_same_weights_and_page_as_the_top1_beside_it() -> None:
    rows = [
        figure("a", "top1", 0.80, "published", weights="new", dataset="imagenet-1k", source="page"),
        figure("a", "top5", 0.91, "published", weights="old", dataset="imagenet-1k", source="page"),
        figure("a", "top5", 0.92, "published", weights="new", dataset="imagenet-1k", source="other page"),
        figure("a", "top5", 0.95, "published", weights="new", dataset="imagenet-1k", source="page"),
    ]
    (row,) = wide(rows)
    assert (row.value("top1"), row.value("top5")) == (0.80, 0.95)
    (backwards,) = wide([*rows[1:], rows[0]])
    assert (backwards.value("top1"), backwards.value("top5")) == (0.80, 0.95)
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
