"""The pick under limits, on rows whose answer can be seen by eye."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from vertebra import metrics, units
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, WideRow, wide
from vertebra.reading.choice.rule import LIMITS, Demand, Limit, bounds, fallen, pick, sentences

HERE = {"system": "here", "device": "cpu", "precision": "float32", "batch_size": 1, "input_size": 224}


def network(
    model: str, top1: float, latency_ms: float, *, spread_ms: float = 0.0, **more: object
) -> list[Measurement]:
    where = {**HERE, "engine": "onnxruntime", **more}
    span = (
        {"low": (latency_ms - spread_ms) / 1e3, "high": (latency_ms + spread_ms) / 1e3} if spread_ms else {}
    )
    return [
        Measurement(
            model=model, metric="top1", value=top1, origin="published", dataset="imagenet-1k", split="val"
        ),
        Measurement(model=model, metric="latency", value=latency_ms / 1e3, origin="benched", **span, **where),
    ]


def candidates(*networks: list[Measurement]) -> list[WideRow]:
    return wide(row for rows in networks for row in rows)


SMALL, MIDDLE, LARGE = network("small", 0.60, 5), network("middle", 0.70, 20), network("large", 0.80, 100)


def test_without_limits_the_most_accurate_wins():
    assert pick(candidates(SMALL, LARGE, MIDDLE)).choice.model == "large"


def test_a_limit_keeps_out_what_is_better_and_says_why():
    picked = pick(candidates(SMALL, MIDDLE, LARGE), [Limit("latency", 0.05)])
    assert [row.model for row in picked.ranked] == ["middle", "small"]
    assert picked.runner_up.model == "small"
    (excluded,) = picked.excluded
    assert excluded.row.model == "large"
    assert excluded.reasons == ("latency 100 ms, limit 50.0 ms",)
    assert not excluded.borderline


def test_a_network_is_borderline_and_not_chosen_if_the_limit_lies_within_its_interval():
    borderline = network("large", 0.80, 49, spread_ms=2)
    picked = pick(candidates(SMALL, borderline), [Limit("latency", 0.05)])
    assert picked.choice.model == "small"
    assert picked.excluded[0].why == "borderline: latency 49.0 ms (47.0 ms to 51.0 ms), limit 50.0 ms"
    assert [item.borderline for item in picked.excluded] == [True]


def test_the_slow_end_of_the_interval_must_meet_a_frame_rate():
    rows = candidates(network("a", 0.7, 32, spread_ms=2))
    assert Limit("fps", 30).verdict(rows[0]) == "borderline"
    assert Limit("fps", 29).verdict(rows[0]) == "met"
    assert Limit("fps", 34).verdict(rows[0]) == "broken"


#: One value for every limit; a network that has exactly that meets it, whichever way it bounds.
EXACT = {
    "latency": 0.0333, "fps": 30.3, "memory_total": 2e8, "weight_bytes": 4.96e6, "params": 1_235_496,
    "macs": 4.1e9, "operations": 8.2e9, "top1": 0.814, "top5": 0.907, "probe_top1": 0.567,
}  # fmt: skip


@pytest.mark.parametrize("metric", sorted(LIMITS.values()))
def test_a_network_that_equals_a_limit_meets_it_and_one_just_beyond_does_not(metric: str):
    bound = EXACT[metric]
    worse = 1 + 1e-6 if Limit(metric, bound).is_ceiling else 1 - 1e-6
    for value, verdict in ((bound, "met"), (bound / worse, "met"), (bound * worse, "broken")):
        figure = Measurement(model="a", metric=metric, value=value, origin="published")
        assert Limit(metric, bound).verdict(WideRow("a", {}, {metric: figure})) == verdict


@pytest.mark.parametrize("typed", ["40.7%", "56.7%", "70%", "81.4%"])
def test_a_limit_as_typed_is_met_by_the_figure_that_reads_so(typed: str):
    (limit,) = bounds({"top1": typed})
    row = candidates(network("a", float(typed[:-1] + "e-2"), 5))[0]
    assert limit.verdict(row) == "met"


def test_the_nearest_to_a_floor_is_the_one_that_misses_it_least():
    picked = pick(candidates(SMALL, LARGE, MIDDLE), [Limit("top1", 0.9)])
    assert [item.row.model for item in picked.excluded] == ["large", "middle", "small"]
    picked = pick(candidates(SMALL, LARGE, MIDDLE), [Limit("fps", 1000)])
    assert [item.row.model for item in picked.excluded] == ["small", "middle", "large"]


@pytest.mark.parametrize(
    ("metric", "bound", "value", "miss"),
    [("latency", 0.01, 0.03, 3.0), ("latency", 0.03, 0.01, 1 / 3), ("top1", 0.8, 0.4, 2.0),
     ("top1", 0.4, 0.8, 0.5), ("fps", 30, 10, 3.0)],
)  # fmt: skip
def test_a_miss_is_how_many_times_over_the_limit(metric: str, bound: float, value: float, miss: float):
    figure = Measurement(model="a", metric=metric, value=value, origin="published")
    assert Limit(metric, bound).miss(WideRow("a", {}, {metric: figure})) == pytest.approx(miss)


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "needed"),
    [("latency", 0.012345, None, None, 0.0124), ("latency", 0.0201, None, 0.0202, 0.0202),
     ("latency", 0.02, 0.01, 0.020202, 0.0203), ("top1", 0.81499, None, None, 0.814),
     ("top1", 0.8149, 0.8101, 0.82, 0.81), ("top1", 0.0, None, None, 0.0), ("fps", 123.45, None, None, 123.0),
     ("params", 25_557_032.0, None, None, 25_600_000.0)],
)  # fmt: skip
def test_the_bound_that_a_network_needs_is_its_bad_end_rounded_away_to_three_digits(
    metric: str, value: float, low: float | None, high: float | None, needed: float
):
    figure = Measurement(model="a", metric=metric, value=value, low=low, high=high, origin="published")
    assert Limit(metric, 1).needed(WideRow("a", {}, {metric: figure})) == needed


def test_no_relaxation_promises_a_network_that_grade_c_keeps_out():
    rows = candidates(SMALL, doubted(MIDDLE), LARGE)
    picked = pick(rows, [Limit("latency", 0.010)])
    assert [(one.to, one.row.model) for one in picked.relaxations] == [(0.100, "large")]
    allowed = pick(rows, [Limit("latency", 0.010)], least_grade="C")
    assert [one.row.model for one in allowed.relaxations] == ["middle", "large"]


@pytest.mark.parametrize(("grade", "least", "chosen"), [
    ("A", "A", True), ("B", "A", False), ("C", "A", False), ("A", "B", True), ("B", "B", True),
    ("C", "B", False), ("A", "C", True), ("B", "C", True), ("C", "C", True),
])  # fmt: skip
def test_a_grade_is_trusted_if_it_is_as_good_as_the_least_one(grade: str, least: str, chosen: bool):
    rows = candidates([replace(row, grade=grade) if row.metric == "latency" else row for row in LARGE])
    assert (pick(rows, [Limit("latency", 1.0)], least_grade=least).choice is not None) == chosen


def test_each_network_stands_once_in_its_best_form():
    slow = network("middle", 0.70, 60, engine="eager")
    picked = pick(candidates(MIDDLE, slow, SMALL))
    assert [(row.model, row.conditions["engine"]) for row in picked.ranked] == [
        ("middle", "onnxruntime"),
        ("small", "onnxruntime"),
    ]


def test_equal_accuracy_goes_to_the_faster():
    assert pick(candidates(network("a", 0.7, 9), network("b", 0.7, 8))).choice.model == "b"


def test_what_was_not_measured_is_excluded_with_that_reason():
    unknown = [row for row in LARGE if row.metric == "top1"]
    picked = pick(candidates(SMALL, unknown), [Limit("latency", 0.05)])
    assert picked.choice.model == "small"
    assert picked.excluded[0].reasons == ("latency is not known",)


def test_limits_that_nothing_meets_name_the_nearest_miss_first():
    picked = pick(candidates(LARGE, SMALL, MIDDLE), [Limit("latency", 0.001)])
    assert picked.choice is None
    assert [item.row.model for item in picked.excluded] == ["small", "middle", "large"]


def test_another_objective_ranks_by_its_own_direction():
    assert pick(candidates(SMALL, MIDDLE, LARGE), objective="latency").choice.model == "small"
    assert pick(candidates(SMALL, MIDDLE, LARGE), objective="fps").choice.model == "small"


@pytest.mark.parametrize(
    ("condition", "value"), [("system", "there"), ("batch_size", 8), ("scenario", "offline")]
)
def test_rows_of_different_loads_are_refused_by_name(condition, value):
    other = network("other", 0.9, 1, **{"scenario": "single-stream", condition: value})
    same = network("same", 0.9, 1, scenario="single-stream")
    with pytest.raises(InvalidInputError, match=condition):
        pick(candidates(same, other))


def test_an_objective_without_direction_or_rows_is_refused():
    with pytest.raises(InvalidInputError, match="no better direction"):
        pick(candidates(SMALL), objective="model_stat_params")
    with pytest.raises(InvalidInputError, match="No network has a figure of top-5"):
        pick(candidates(SMALL), objective="top5")
    with pytest.raises(UnknownNameError, match="top9"):
        pick(candidates(SMALL), objective="top9")


def doubted(rows: list[Measurement], reason: str = "no interval") -> list[Measurement]:
    return [replace(row, grade="C", grade_reasons=(reason,)) if row.metric == "latency" else row
            for row in rows]  # fmt: skip


@pytest.mark.parametrize(("bound_ms", "trust", "chosen"), [
    (101, None, "large"), (99, None, None), (1000, "B", None), (101, "C", "large"),
])  # fmt: skip
def test_the_interval_alone_decides_a_limit_and_a_grade_only_where_one_is_asked_for(
    bound_ms: float, trust: str | None, chosen: str | None
):
    rows = candidates(doubted(network("large", 0.8, 100, spread_ms=1)))
    choice = pick(rows, [Limit("latency", bound_ms / 1e3)], least_grade=trust).choice
    assert (None if choice is None else choice.model) == chosen


def test_of_equal_objective_and_latency_the_better_grade_comes_first():
    rows = candidates(*(
        [replace(row, grade=grade) if row.metric == "latency" else row
         for row in network(model, 0.7, 20, spread_ms=1)]
        for model, grade in (("a", "C"), ("b", "B"), ("c", "A"))
    ))  # fmt: skip
    assert [row.model for row in pick(rows, [Limit("latency", 0.05)]).ranked] == ["c", "b", "a"]


def test_a_network_is_not_chosen_by_a_figure_of_grade_c_without_an_interval_and_the_defect_is_named():
    rows = candidates(SMALL, doubted(LARGE, "two modes 20 % apart"))
    picked = pick(rows, [Limit("latency", 1.0)])
    assert picked.choice.model == "small"
    (excluded,) = picked.excluded
    assert excluded.reasons == ("latency is graded C: two modes 20 % apart",)
    assert not excluded.borderline


def test_grade_c_is_taken_where_that_is_asked_for():
    rows = candidates(SMALL, doubted(LARGE))
    assert pick(rows, [Limit("latency", 1.0)], least_grade="C").choice.model == "large"


@pytest.mark.parametrize(
    ("large_ms", "told"),
    [(20, None), (200, "large: latency 200 ms, limit 50.0 ms"), (None, "large: latency is not known")],
)  # fmt: skip
def test_a_sure_answer_that_became_worse_is_explained(large_ms: float | None, told: str | None):
    limits = [Limit("latency", 0.05)]
    before = pick(candidates(SMALL, network("large", 0.80, 20)), limits).choice
    large = network("large", 0.80, 20 if large_ms is None else large_ms)
    if large_ms is None:
        large = [replace(large[1], metric="memory_total", value=1.0), large[0]]
    rows = candidates(SMALL, large)
    found = fallen(before, rows, pick(rows, limits))
    if told is None:
        assert found is None
    else:
        assert found == (
            "The sure answer is worse than before measuring: it was large on onnxruntime (top-1 accuracy "
            f"80.0 %), now small on onnxruntime (top-1 accuracy 60.0 %). Why: {told}."
        )


def test_no_sure_answer_before_is_no_worse_one_after():
    rows = candidates(SMALL)
    assert fallen(None, rows, pick(rows, [Limit("latency", 0.001)])) is None


def test_a_figure_that_was_not_asked_for_may_have_any_grade():
    assert pick(candidates(SMALL, doubted(LARGE))).choice.model == "large"


def test_where_every_figure_is_of_grade_c_nothing_is_chosen():
    picked = pick(candidates(doubted(SMALL), doubted(LARGE)), [Limit("latency", 1.0)])
    assert picked.choice is None
    assert {item.row.model for item in picked.excluded} == {"small", "large"}


def test_what_breaks_a_limit_anyway_needs_no_second_reason():
    picked = pick(candidates(SMALL, doubted(LARGE)), [Limit("latency", 0.05)])
    (excluded,) = picked.excluded
    assert excluded.reasons == ("latency 100 ms, limit 50.0 ms",)


def test_relaxing_a_limit_shows_the_smallest_step_that_helps_and_the_one_that_helps_most():
    picked = pick(candidates(SMALL, MIDDLE, LARGE), [Limit("latency", 0.010)])
    steps = [(one.to, one.row.model, round(one.gain, 6)) for one in picked.relaxations]
    assert steps == [(0.020, "middle", 0.1), (0.100, "large", 0.2)]


def test_what_relaxing_would_buy_must_meet_the_other_limits():
    limits = [Limit("latency", 0.010), Limit("top1", 0.65)]
    picked = pick(candidates(SMALL, MIDDLE, LARGE), limits)
    assert picked.choice is None
    assert [(one.limit.metric, one.to, one.row.model, one.gain) for one in picked.relaxations] == [
        ("latency", 0.020, "middle", None),
        ("latency", 0.100, "large", None),
        ("top1", 0.6, "small", None),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_relaxed_as_printed_makes_the_promised_network_the_choice(seed):
    draw = np.random.default_rng(seed)
    rows = candidates(
        *(
            network(f"n{number}", float(draw.uniform(0.5, 0.9)), float(draw.uniform(1, 99)), spread_ms=0.3)
            for number in range(30)
        )
    )
    limits = [
        Limit("latency", float(draw.uniform(0.002, 0.09))),
        Limit("top1", float(draw.uniform(0.5, 0.9))),
    ]
    for one in pick(rows, limits).relaxations:
        metric = metrics.find(one.limit.metric)
        typed = units.parse(units.show(one.to, metric.unit).replace(" ", ""), metric.unit)
        relaxed = [replace(limit, bound=typed) if limit is one.limit else limit for limit in limits]
        assert pick(rows, relaxed).choice.model == one.row.model


def colour(row: WideRow) -> str | None:
    return {"small": "red", "middle": "blue"}.get(row.model)


def test_a_network_that_is_not_what_is_wanted_is_excluded_with_that_reason_and_so_is_an_unknown_one():
    picked = pick(candidates(SMALL, MIDDLE, LARGE), demands=[Demand("colour", ("red", "green"), colour)])
    assert picked.choice.model == "small"
    assert {item.row.model: item.reasons for item in picked.excluded} == {
        "large": ("colour is not known",),
        "middle": ("colour blue, wanted: red or green",),
    }
    (one,) = picked.relaxations
    assert (one.to, one.row.model) == ("blue", "middle")


def test_the_nearest_miss_is_of_the_kind_that_is_wanted():
    picked = pick(
        candidates(SMALL, MIDDLE), [Limit("latency", 0.001)], demands=[Demand("colour", ("blue",), colour)]
    )
    assert picked.excluded[0].row.model == "middle"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"latency": float("nan")}, "The limit latency: nan can't be a limit"),
        ({"latency": None}, "None can't be a limit"),
        ({"latency": True}, "True can't be a limit"),
        ({"latency": -1}, "can't be a limit of latency"),
        ({"latency": 0}, "can't be a limit of latency"),
        ({"latency": "0ms"}, "can't be a limit of latency"),
        ({"fps": float("inf")}, "inf can't be a limit"),
        ({"params": 10**400}, "can't be a limit"),
        ({"memory": [1]}, "can't be a limit"),
        ({"top1": 75}, r"75 is 7500 %: did you mean 0.75 or '75%'\?"),
        ({"top1": 1.5}, r"did you mean 0.015 or '1.5%'"),
        ({"top5": 101}, "more than 100 %"),
        ({"top1": -0.1}, "can't be a limit of top-1"),
    ],
)
def test_what_can_be_no_limit_is_refused(limits, message):
    with pytest.raises(InvalidInputError, match=message):
        bounds(limits)


def test_an_option_of_another_name_is_named():
    with pytest.raises(InvalidInputError) as caught:
        bounds({"by": "latency"})
    assert "objective=" in caught.value.hint


def test_any_share_may_be_asked_for():
    assert [limit.bound for limit in bounds({"top1": 0, "top5": 1})] == [0.0, 1.0]


def test_the_front_holds_what_no_other_beats_in_both():
    beaten = network("beaten", 0.65, 30)
    picked = pick(candidates(SMALL, beaten, MIDDLE, LARGE))
    assert [row.model for row in picked.front] == ["large", "middle", "small"]


def test_the_front_leaves_out_a_worse_network_that_is_as_slow():
    picked = pick(candidates(network("worse", 0.65, 20), MIDDLE, LARGE))
    assert [row.model for row in picked.front] == ["large", "middle"]


@pytest.mark.parametrize(
    ("objective", "limited", "against"),
    [("top1", (), "latency"), ("top1", ("fps",), "latency"), ("top1", ("params", "latency"), "params"),
     ("params", ("params", "weight_bytes"), "weight_bytes")],
)  # fmt: skip
def test_the_other_axis_of_the_front_is_the_first_upper_limit_that_is_not_the_objective(
    objective: str, limited: tuple[str, ...], against: str
):
    rows = [Measurement(model="a", metric=name, value=1.0, origin="published")
            for name in {objective, *limited}]  # fmt: skip
    typed = "".join(list(objective))  # equal to the metric's name, as text that is read, not the same object
    assert pick(wide(rows), [Limit(name, 1) for name in limited], typed).against == against


def test_the_answer_in_words():
    rows = candidates(SMALL, MIDDLE, LARGE)
    assert sentences(pick(rows, [Limit("latency", 0.05)])) == [
        "Choice: middle on onnxruntime (top-1 accuracy 70.0 %, latency 20.0 ms).",
        "Runner-up: small on onnxruntime (top-1 accuracy 60.0 %, latency 5.00 ms).",
        "Better, but excluded: large on onnxruntime: latency 100 ms, limit 50.0 ms.",
    ]
    assert sentences(pick(rows, [Limit("latency", 0.01)]))[1:] == [
        "Better, but excluded: large on onnxruntime: latency 100 ms, limit 10.0 ms; "
        "middle on onnxruntime: latency 20.0 ms, limit 10.0 ms."
    ]
    assert sentences(pick(rows, [Limit("latency", 0.001)])) == [
        "No network certainly meets this. The nearest: small on onnxruntime: latency 5.00 ms, limit 1.00 ms."
    ]


def test_the_summary_has_the_choice_s_figures_and_how_many_meet_the_limits():
    rows = candidates(SMALL, MIDDLE, LARGE)
    assert pick(rows, [Limit("latency", 0.05)]).summary() == (
        "middle on onnxruntime: top-1 accuracy 70.0 %, latency 20.0 ms (2 networks meet latency ≤ 50 ms)"
    )
    assert pick(rows, [Limit("latency", 0.01)]).summary() == (
        "small on onnxruntime: top-1 accuracy 60.0 %, latency 5.00 ms (1 network meets latency ≤ 10 ms)"
    )
    assert pick(rows, [Limit("latency", 0.001)]).summary() == "no network surely meets latency ≤ 1 ms"


def test_an_answer_can_not_be_changed():
    picked = pick(candidates(SMALL, LARGE), [Limit("latency", 0.05)])
    for one in (picked, picked.limits[0], picked.excluded[0], picked.relaxations[0]):
        with pytest.raises(FrozenInstanceError):
            one.row = None


def test_a_limit_that_can_not_be_read_is_named_with_what_was_understood():
    with pytest.raises(
        InvalidInputError, match=r'limit size: .* the number is 20, but "M" is not a known unit'
    ):
        bounds({"size": "20M"})
    with pytest.raises(InvalidInputError, match='no limit "speed"'):
        bounds({"speed": "1"})


def test_a_float_network_s_accuracy_and_size_are_never_used_for_int8():
    static = [
        Measurement(model="a", metric="top1", value=0.7, origin="published", dataset="imagenet-1k"),
        Measurement(model="a", metric="weight_bytes", value=4e6, origin="profiled", precision="float32"),
        Measurement(model="a", metric="top1", value=0.68, origin="evaluated", dataset="imagenet-1k",
                    split="val", precision="int8", engine="onnxruntime"),
    ]  # fmt: skip
    run = [
        Measurement(model="a", metric="latency", value=0.01, origin="benched", engine=engine,
                    **(HERE | {"precision": precision}))
        for engine, precision in [("onnxruntime", "float32"), ("onnxruntime", "int8"), ("openvino", "int8"),
                                  ("openvino", "bfloat16")]
    ]  # fmt: skip
    found = {
        (row.conditions["engine"], row.conditions["precision"]): (
            row.value("top1"),
            row.value("weight_bytes"),
        )
        for row in wide([*static, *run])
    }
    assert found == {
        ("onnxruntime", "float32"): (0.7, 4e6),
        ("onnxruntime", "int8"): (0.68, None),
        ("openvino", "int8"): (None, None),
        ("openvino", "bfloat16"): (0.7, 4e6),
    }
