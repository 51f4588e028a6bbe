"""The named views: each one's numbers against numbers reckoned here, by hand or another way."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from classic_rows import CLASSICS, known, timed
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, Table, WideRow, wide
from vertebra.reading import charts
from vertebra.reading.charts import VIEWS, Chart, Settings
from vertebra.reading.charts.fits import fit, upper_bound
from vertebra.reading.charts.grid import classes, grid, grid_chart
from vertebra.reading.charts.lines import _spaced
from vertebra.verbs.chart import fastest

ROOT = Path(__file__).resolve().parents[1]
BATCHES = (1, 2, 4, 8)


def at_batches() -> list[Measurement]:
    """Latency grows with the batch to the power 0.9, memory by 10 MB an image."""
    rows = known()
    for batch in BATCHES:
        for row in timed(batch_size=batch):
            value = row.value * batch**0.9 if row.metric == "latency" else row.value + 1e7 * (batch - 1)
            ends = {} if row.low is None else {"low": 0.9 * value, "high": 1.2 * value}
            rows.append(replace(row, value=value, **ends))
    return rows


def powered() -> list[Measurement]:
    """20 W, and a tenth of a watt for each G of operations."""
    latencies = [row for row in timed() if row.metric == "latency"]
    macs = {classic[0]: classic[3] for classic in CLASSICS}
    return [
        replace(row, metric="power", value=20 + 0.1 * 2 * macs[row.model] / 1e9, low=None, high=None)
        for row in latencies
    ]


def draw(view: str, rows: list[Measurement] | None = None, **settings: Any) -> Chart:
    return charts.draw(view, wide(at_one() if rows is None else rows), Settings(**settings))


def at_one() -> list[Measurement]:
    return [*known(), *timed()]


def of(chart: Chart, model: str, **where: Any) -> dict[str, Any]:
    [row] = [
        row
        for row in chart.data()
        if row["model"] == model and all(row[name] == value for name, value in where.items())
    ]
    return row


def test_there_are_the_fourteen_views_of_the_papers():
    assert len(VIEWS) == 14
    with pytest.raises(UnknownNameError, match="accuracy-latncy"):
        charts.draw("accuracy-latncy", [])


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_opens_as_svg_and_reads_as_a_table(view):
    pytest.importorskip("vl_convert")
    chart = draw(view, at_batches() if VIEWS[view].batches else [*at_one(), *powered()])
    tree = ElementTree.fromstring(chart.svg())
    words = "".join(tree.itertext())
    for model in {row["model"] for row in chart.data()}:
        assert model in words
    assert json.loads(json.dumps(chart.data())) == chart.data()


def test_a_power_law_is_found_again_and_its_error_is_of_the_networks_left_out():
    xs = [1.0, 2.0, 4.0, 8.0, 16.0]
    exact = fit("power", xs, [3 * x**0.5 for x in xs])
    assert exact is not None
    assert (exact.slope, math.exp(exact.intercept)) == pytest.approx((0.5, 3))
    assert (exact.r_squared, exact.spearman) == pytest.approx((1, 1))
    assert exact.median_error == pytest.approx(0, abs=1e-9)
    ys = [3.0, 5.0, 5.5, 9.0, 11.0]
    rough = fit("power", xs, ys)
    errors = []
    for index, (x, y) in enumerate(zip(xs, ys, strict=True)):
        others = fit("power", xs[:index] + xs[index + 1 :], ys[:index] + ys[index + 1 :])
        assert others is not None
        errors.append(abs(others.value(x) / y - 1))
    assert rough is not None
    assert rough.median_error == pytest.approx(median(errors))


def test_a_straight_line_by_hand():
    # means 2.5 and 5.5: Sxx = 5, Sxy = 10, Syy = 29; one pair of neighbouring ranks is swapped
    line = fit("linear", [1, 2, 3, 4], [3, 5, 4, 10])
    assert line is not None
    assert (line.slope, line.intercept) == pytest.approx((2.0, 0.5))
    assert line.r_squared == pytest.approx(100 / (5 * 29))
    assert line.spearman == pytest.approx(0.8)


@pytest.mark.parametrize(("xs", "ys"), [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4])])
def test_points_that_make_no_line_give_none(xs, ys):
    assert fit("linear", xs, ys) is None
    assert fit("power", xs, ys) is None


def test_a_single_different_network_has_no_error_of_its_own():
    line = fit("linear", [1, 1, 5], [2, 4, 9])
    assert line is not None
    assert line.median_error == pytest.approx(median([abs(4 / 2 - 1), abs(2 / 4 - 1)]))


def test_the_upper_bound_touches_two_networks_and_is_below_none():
    xs, ys = [1.0, 3.0, 4.0, 10.0], [80.0, 78.0, 70.0, 60.0]
    bound = upper_bound(xs, ys)
    assert bound is not None
    assert bound.value(3) == pytest.approx(78)  # of the edges 1-3 and 3-10, the mean 4.5 is under the second
    assert bound.value(10) == pytest.approx(60)
    assert all(bound.value(x) >= y - 1e-9 for x, y in zip(xs, ys, strict=True))
    assert upper_bound([1.0], [2.0]) is None


def test_operations_against_latency_is_fitted_by_a_power_law_on_logarithmic_axes():
    rows = [
        replace(row, value=2 * classic[3] * 1e-11, low=None, high=None)
        for row in timed()
        for classic in CLASSICS
        if row.metric == "latency" and row.model == classic[0]
    ]
    chart = draw("operations-latency", [*known(), *rows])
    assert chart.notes == (
        "Latency per image grows with operations to the power 1.00: R² 1.000 of the logarithms, "
        "Spearman 1.000, median error 0.0% predicting each network from the others, 11 networks.",
    )
    [layer] = [layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "line"]
    assert {layer["encoding"][axis]["scale"]["type"] for axis in "xy"} == {"log"}
    for corner in layer["data"]["values"]:  # in G of operations and ms, or in s
        assert corner["y"] == pytest.approx(corner["x"] * 10, rel=1e-3)
    vgg16 = of(chart, "vgg16")
    assert vgg16["latency_per_image_fitted"] == pytest.approx(vgg16["latency_per_image"])


def test_memory_against_size_describes_its_line():
    chart = draw("memory-size")  # 6 bytes a parameter and 90 MB, and 4 bytes a parameter of weights
    [note] = chart.notes
    assert note.startswith("Peak memory is 90.0 MB and 1.5 times the size of the weights: R² 1.000")
    assert of(chart, "alexnet")["memory_total_fitted"] == pytest.approx(9e7 + 6 * 61_100_840)


def test_power_is_drawn_only_if_there_are_figures():
    [note] = draw("operations-power", [*at_one(), *powered()]).notes
    assert note.startswith("Power is 20.0 W and 100.0 mW for each G of operations: R² 1.000")
    some = [row for row in powered() if not row.model.startswith("vgg")]
    chart = draw("operations-power", [*at_one(), *some])
    assert len(chart.data()) == 7
    assert set(chart.missing) == {"vgg11", "vgg13", "vgg16", "vgg19"}
    with pytest.raises(InvalidInputError, match="No network has a figure of power"):
        draw("operations-power")


def test_two_networks_have_no_line_and_the_chart_says_so():
    rows = [row for row in at_one() if row.model in ("alexnet", "vgg16")]
    chart = draw("operations-latency", rows)
    assert chart.notes == ("Too few different networks for a fitted power law.",)
    assert not [layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "line"]


def test_accuracy_against_speed_has_stairs_or_the_straight_bound():
    stairs, straight = draw("accuracy-fps"), draw("accuracy-fps", bound="line")
    assert stairs.data() == straight.data()
    assert stairs.notes == ()
    lines = [
        [(one["x"], one["y"]) for one in layer["data"]["values"]]
        for chart in (stairs, straight)
        for layer in chart.spec["layer"]
        if layer["mark"]["type"] == "line"
    ]
    assert all(one[0] == two[0] or one[1] == two[1] for one, two in pairwise(lines[0]))
    slopes = [(two[1] - one[1]) / (two[0] - one[0]) for one, two in pairwise(lines[1])]
    # through senet154_vd, 81.4 % at 1 / 0.402 s, and squeezenet1_1, 60.1 % at 1 / 0.0052 s
    true = (60.1 - 81.4) / (1 / 0.0052 - 1 / 0.402)
    assert slopes == pytest.approx([true] * len(slopes), rel=1e-2)
    assert straight.notes == (f"Upper bound: no network is above 81.7 % minus {-true:.3g} % for each 1/s.",)


def test_latency_per_image_divides_by_the_batch_with_its_interval():
    chart = draw("latency-batch", at_batches())
    assert len(chart.data()) == 11 * len(BATCHES)
    told = of(chart, "alexnet", batch_size=4)
    value = 0.0121 * 4**0.9 / 4
    assert told["latency_per_image"] == pytest.approx(value)
    assert told["latency_per_image_low"] == pytest.approx(0.9 * value)
    assert told["latency_per_image_high"] == pytest.approx(1.2 * value)
    line = chart.spec["layer"][0]
    assert line["encoding"]["x"]["scale"] == {"type": "log", "base": 2, "domain": [1, 8], "nice": False}
    assert line["encoding"]["detail"] == {"field": "model"}
    bars = chart.spec["layer"][1]["data"]["values"]
    assert len(bars) == len(chart.data())


def test_a_published_throughput_is_a_latency_per_image():
    form = {"system": "a-card", "batch_size": 256, "precision": "float16", "origin": "published"}
    rows = [
        Measurement(model="vgg16", metric="throughput", value=400.0, **form),
        Measurement(model="alexnet", metric="latency", value=0.5, low=0.4, high=1.0, **form),
    ]
    vgg16, alexnet = (charts.per_image(row) for row in wide(rows))
    assert vgg16.value("latency_per_image") == 1 / 400
    assert alexnet.value("latency_per_image") == 0.5 / 256
    throughput = alexnet.figures["throughput"]
    assert (throughput.low, throughput.value, throughput.high) == (256.0, 512.0, 640.0)


def test_memory_against_batch_has_a_point_each():
    chart = draw("memory-batch", at_batches())
    assert of(chart, "vgg19", batch_size=8)["memory_total"] == pytest.approx(6 * 143_661_736 + 9e7 + 7e7)


def test_views_of_batches_refuse_anything_else_that_differs_and_a_single_batch():
    with pytest.raises(InvalidInputError, match="engine is onnxruntime, eager"):
        draw("latency-batch", [*at_batches(), *timed("eager", batch_size=16)])
    with pytest.raises(InvalidInputError, match="at batch size 1") as caught:
        draw("memory-table")
    assert "--batch-size" in str(caught.value.hint)
    with pytest.raises(InvalidInputError, match="batch_size is 1, 2, 4, 8"):
        draw("operations-latency", at_batches())


def test_a_figure_whose_batch_nobody_states_has_no_place_along_the_batches():
    unstated = Measurement(model="odd", metric="memory_total", value=1e9, origin="published", system="a-card")
    chart = draw("memory-batch", [*at_batches(), unstated])
    assert "odd" not in {row["model"] for row in chart.data()}


def test_names_at_the_ends_of_lines_stand_apart_inside_the_plot():
    places = _spaced([0, 1, 2, 99, 100, 100], 100)
    assert all(two - one >= 14 for one, two in pairwise(places))
    assert places[-1] <= 100
    assert _spaced([10, 50], 100) == [10, 50]


def test_the_latency_table_has_the_class_of_each_cell():
    chart = draw("latency-table", at_batches())
    assert [row["model"] for row in chart.data()][:: len(BATCHES)] == sorted(
        (classic[0] for classic in CLASSICS),
        key=lambda name: next(one[6] for one in CLASSICS if one[0] == name),
    )
    assert of(chart, "squeezenet1_1", batch_size=1)["class"] == "at least 60 images/s"
    assert of(chart, "resnet50_acnet_deploy", batch_size=1)["class"] == "at least 15 images/s"  # 48 ms
    assert of(chart, "resnet50_acnet", batch_size=1)["class"] == "below 15 images/s"  # 71 ms
    assert of(chart, "resnet50_acnet", batch_size=2)["class"] == "at least 15 images/s"  # 66.2 ms
    own = draw("latency-table", at_batches(), fps_classes=(100.0,))
    assert {row["class"] for row in own.data()} == {"at least 100 images/s", "below 100 images/s"}
    assert {row["model"] for row in own.data() if row["class"].startswith("at least")} == {
        "squeezenet1_1", "squeezenet1_0", "alexnet",
    }  # fmt: skip


def test_the_memory_table_has_classes_of_memory_and_leaves_blank_what_nobody_ran():
    rows = [row for row in at_batches() if not (row.model == "vgg19" and row.batch_size == 8)]
    chart = draw("memory-table", rows)
    assert len(chart.data()) == 11 * len(BATCHES) - 1
    assert of(chart, "alexnet", batch_size=1)["class"] == "at most 700 MB"  # 457 MB
    assert of(chart, "vgg16", batch_size=1)["class"] == "at most 1.00 GB"  # 920 MB
    with pytest.raises(InvalidInputError, match="classes of memory"):
        draw("memory-table", rows, memory_classes=())


def estimated(rows: list[Measurement], model: str) -> list[Measurement]:
    return [replace(row, origin="estimated") if row.model == model else row for row in rows]


def test_estimates_are_dashed_and_grade_c_is_hollow():
    rows = [*known(), *estimated(timed(), "alexnet")]
    for view in ("accuracy-latency", "operations-latency"):
        chart = draw(view, rows)
        [data] = [
            layer["data"]["values"]
            for layer in chart.spec["layer"]
            if layer["mark"]["type"] == "point" and "size" in layer["encoding"]
        ]
        assert [one["model"] for one in data if one["estimated"]] == ["alexnet"]
        assert sum(one["hollow"] for one in data) == 4
        assert any("Dashed balls" in line for line in chart.spec["title"]["subtitle"])
    bars = charts.bar_chart(wide(rows), metric="latency").spec
    assert [one["model"] for one in bars["data"]["values"] if one["estimated"]] == ["alexnet"]
    alexnet = next(one for one in bars["data"]["values"] if one["model"] == "alexnet")
    assert (alexnet["low"], alexnet["high"]) == pytest.approx((0.97 * 12.1, 1.05 * 12.1))


def candidates(**fps: tuple[float, float, float, float, str]) -> list[WideRow]:
    """Networks by name: top-1, frames per second with its interval, and the grade; 500 MB each."""
    rows = []
    for model, (top1, low, rate, high, grade) in fps.items():
        form = {"system": "box", "engine": "eager", "device": "cpu", "precision": "float32", "batch_size": 1,
                "input_size": 224, "origin": "benched"}  # fmt: skip
        rows += [
            Measurement(model=model, metric="top1", value=top1, origin="published"),
            Measurement(model=model, metric="latency", value=1 / rate, low=1 / high, high=1 / low,
                        grade=grade, **form),
            Measurement(model=model, metric="memory_total", value=5e8, **form),
        ]  # fmt: skip
    return wide(rows)


def test_a_cell_of_the_grid_lists_the_best_that_certainly_meet_it_and_the_borderline_ones():
    rows = candidates(
        near=(0.9, 28, 31, 33, "A"), doubted=(0.85, 39, 40, 41, "C"), slow=(0.95, 9, 10, 11, "A"),
        first=(0.8, 49, 50, 51, "A"), second=(0.7, 99, 100, 101, "B"), third=(0.6, 199, 200, 201, "A"),
        late=(0.5, 29, 31, 33, "A"),
    )  # fmt: skip
    [cell] = grid(rows, memory_classes=[5e8], fps_classes=[30], best=2, least_grade="B")
    assert [(one.row.model, one.place, one.verdict) for one in cell.entries] == [
        ("near", None, "borderline"), ("doubted", None, "doubted"), ("first", 1, "met"), ("second", 2, "met"),
    ]  # fmt: skip
    assert "limit 30" in cell.entries[0].reasons[0]
    for trust in ("C", None):
        [trusting] = grid(rows, memory_classes=[5e8], fps_classes=[30], best=2, least_grade=trust)
        assert [one.row.model for one in trusting.entries if one.place] == ["doubted", "first"]
    [tight] = grid(rows, memory_classes=[4.9e8], fps_classes=[1])
    assert tight.entries == ()


def test_the_grid_has_nine_cells_and_a_row_for_an_empty_one():
    chart = draw("grid", memory_classes=(0.7e9, 1.0e9, 1.4e9))
    cells = {(row["memory_total_limit"], row["fps_limit"]) for row in chart.data()}
    assert cells == {(memory, fps) for memory in (0.7e9, 1.0e9, 1.4e9) for fps in (15, 30, 60)}
    assert [(row["place"], row["model"]) for row in chart.data()][:4] == [
        (1, "resnet50_acnet_deploy"), (2, "squeezenet1_1"), (3, "squeezenet1_0"), (4, "alexnet"),
    ]  # fmt: skip
    empty = draw("grid", fps_classes=(1000.0,), memory_classes=(1e9,)).data()
    assert empty == [{"memory_total_limit": 1e9, "fps_limit": 1000.0, "verdict": "none"}]
    with pytest.raises(InvalidInputError, match="above 0"):
        draw("grid", fps_classes=(0.0,))


def at_memory(*megabytes: float) -> list[WideRow]:
    form = {"system": "box", "engine": "eager", "device": "cpu", "precision": "float32", "batch_size": 1,
            "input_size": 224, "origin": "benched"}  # fmt: skip
    rows = []
    for number, one in enumerate(megabytes):
        rows += [
            Measurement(model=f"net{number}", metric="top1", value=0.7, origin="published"),
            Measurement(model=f"net{number}", metric="latency", value=1 / (20 + 20 * number), **form),
            Measurement(model=f"net{number}", metric="memory_total", value=one * 1e6, **form),
        ]
    return wide(rows)


@pytest.mark.parametrize(
    ("megabytes", "expected"),
    [
        ((500, 900, 1300), (0.7e9, 1.0e9, 1.4e9)),  # the paper's divide them
        ((100, 150, 210, 230, 340, 390), (200e6, 300e6, 400e6)),
        ((97, 128, 140, 300, 480, 900, 950), (200e6, 500e6, 1e9)),
        ((101, 102, 103), (101e6, 102e6, 103e6)),
        ((100, 100, 100), (0.7e9, 1.0e9, 1.4e9)),  # nothing to divide
    ],
)
def test_the_grids_classes_come_from_the_data_where_the_papers_do_not_divide_it(megabytes, expected):
    rows = at_memory(*megabytes)
    assert classes(rows, "memory_total") == pytest.approx(expected)
    cells = grid(rows)
    assert {cell.limits[0].bound for cell in cells} == set(classes(rows, "memory_total"))
    assert len(cells) == 9
    assert classes(rows, "fps") == (15.0, 30.0, 60.0)


def test_rates_that_no_network_reaches_give_way_to_reached_ones():
    slow = wide([*known(), *timed(pace=40)])  # none above 5 a second
    assert classes(slow, "fps") == (0.06, 0.2, 0.5)


def test_what_has_a_place_stands_first_in_the_picture_of_a_cell():
    rows = candidates(doubted=(0.9, 39, 40, 41, "C"), first=(0.8, 49, 50, 51, "A"))
    chart = grid_chart(grid(rows, memory_classes=[5e8], fps_classes=[30], least_grade="B"))
    texts = [layer["data"]["values"][0]["text"] for layer in chart.spec["layer"][1:]]
    assert texts == ["1. first 80.0 %", "(doubted 90.0 %)"]
    assert [row["model"] for row in chart.data()] == ["doubted", "first"]  # the place that it would have had


def test_the_papers_claims_are_tested_in_sentences():
    told = charts.claims(wide([*at_one(), *powered()]))
    assert len(told) == 5
    time, memory, power, density, speed = told
    slower = sum(
        (one[3] < two[3]) == (one[6] < two[6])
        for index, one in enumerate(CLASSICS)
        for two in CLASSICS[index + 1 :]
    )
    assert f"in {slower / 55:.1%} of 55 pairs" in time
    assert "1.50 bytes for each byte of weights" in memory
    assert "less than 97.4 MB (squeezenet1_1)" in memory  # 6 bytes x 1.235 M and 90 MB
    assert "between 20.1 W and 24.9 W" in power
    assert "squeezenet1_1 has the highest accuracy density, 48.6 % per million" in density
    assert "4 of 11 networks are on the front" in speed
    assert "(senet154_vd after darknet53) take 4.37 times the time" in speed  # 402 / 92 ms
    assert charts.claims(wide(known())) == [density]


def test_a_chart_of_very_many_networks_names_the_front_alone():
    rows = [
        replace(
            row,
            model=f"net{index:03d}",
            value=0.5 + index * 37 % 150 / 400 if row.metric == "top1" else row.value * (1 + index / 300),
        )
        for index in range(150)
        for row in known()[:5]
        if row.metric != "top5" and (row.metric != "top1" or index % 2)
    ]
    chart = draw("accuracy-operations", rows)
    named = {
        datum["model"]
        for layer in chart.spec["layer"]
        if layer["mark"]["type"] == "text"
        for datum in layer["data"]["values"]
    }
    assert len(chart.data()) == 75
    assert 1 < len(named) < 20
    assert named == {row["model"] for row in chart.data() if row["on_front"]}
    assert any(
        "Not drawn: 75 networks (no top-1 accuracy)" in line for line in chart.spec["title"]["subtitle"]
    )


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def started(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vertebra", "chart", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    return started


def test_all_views_at_once_are_drawn_into_a_folder_and_the_rest_explained(run, tmp_path):
    pytest.importorskip("vl_convert")
    table = Table(tmp_path / "table.sqlite")
    table.append([*known(), *timed()])
    done = run("--all", "-o", "figures", "--system", "box-2-cores-1f2e3d4c", "--table", str(table.path))
    assert done.returncode == 0
    missing = {line.partition(":")[0] for line in done.stderr.splitlines()[:-1]}
    assert missing == {"latency-batch", "memory-batch", "operations-power", "latency-table", "memory-table"}
    assert done.stderr.endswith("9 of 14 views drawn into figures\n")
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == set(VIEWS) - missing
    for name in drawn:
        assert ElementTree.parse(tmp_path / "figures" / f"{name}.svg").getroot().tag.endswith("svg")
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    densest = (tmp_path / "figures" / "density.csv").read_text(encoding="utf-8").splitlines()
    assert densest[0].startswith("model,")
    assert densest[1].startswith("squeezenet1_1,")


@pytest.mark.parametrize(
    "arguments", [("--all",), ("grid", "--all", "-o", "f"), ("--all", "-o", "f", "--x", "params")]
)
def test_all_views_at_once_need_a_folder_and_take_no_single_one(run, tmp_path, arguments):
    done = run(*arguments, "--table", str(tmp_path / "table.sqlite"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "vertebra chart --all -o figures" in done.stderr
    assert not (tmp_path / "f").exists()


def test_the_command_prints_views_of_a_table_and_writes_them(run, tmp_path):
    table = Table(tmp_path / "table.sqlite")
    table.append([row for row in at_batches() if row.origin == "published"])
    table.append([row for row in at_batches() if row.origin == "profiled"])
    table.append([row for row in at_batches() if row.origin == "benched"])
    own = ("--table", str(table.path))
    text = run("latency-table", *own).stdout.splitlines()
    assert text[0].split() == ["model", "1", "2", "4", "8"]
    assert text[2].split() == ["squeezenet1_1", "5.20", "ms", "4.85", "ms", "4.53", "ms", "4.22", "ms"]
    cells = run("grid", "--memory-classes", "700MB", "--fps-classes", "15,60", "--best", "1", *own).stdout
    assert (
        "At most 700 MB, at least 60.0/s:\n  1. squeezenet1_1 on onnxruntime (top-1 accuracy 60.1 %" in cells
    )
    told = json.loads(run("operations-latency", "--batch-size", "4", "--json", *own).stdout)
    assert {row["batch_size"] for row in told} == {4}
    alexnet = next(row for row in told if row["model"] == "alexnet")
    assert alexnet["latency_per_image"] == pytest.approx(0.0121 * 4**0.9 / 4)
    refused = run("memory-size", "--x", "latency", *own)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--x can't be" in refused.stderr
    assert "accuracy-fps" in run("memory-size", "--bound", "line", *own).stderr
    assert '"grid"' in run("gird", *own).stderr


def test_the_command_draws_what_a_paper_published_without_a_table(run):
    told = json.loads(run("accuracy-operations", "--source", "bianco2018", "--json").stdout)
    assert len(told) > 40
    assert {row["top1_origin"] for row in told} == {"published"}
    alone = run("operations-latency", "--source", "bianco2018")
    assert alone.returncode == 1
    assert "latency per image" in alone.stderr


def test_every_view_stands_in_the_page_of_charts():
    page = (ROOT / "docs" / "charts.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in VIEWS)


def test_all_views_are_of_the_fastest_engine_and_say_so(run, tmp_path):
    pytest.importorskip("vl_convert")
    table = Table(tmp_path / "table.sqlite")
    table.append([*known(), *timed("eager", 2.0), *timed("onnxruntime"), *timed("openvino", 1.5)])
    done = run("--all", "-o", "figures", "--system", "box-2-cores-1f2e3d4c", "--table", str(table.path))
    assert done.stderr.splitlines()[0] == (
        "drawn for onnxruntime, the fastest engine of eager, onnxruntime, openvino; another: --engine NAME"
    )
    assert done.stderr.endswith("9 of 14 views drawn into figures\n")
    written = (tmp_path / "figures" / "accuracy-latency.csv").read_text(encoding="utf-8")
    assert "onnxruntime" in written
    assert "eager" not in written


def test_the_fastest_engine_is_one_that_runs_the_most_networks(tmp_path):
    table = Table(tmp_path / "table.sqlite")
    few = [row for row in timed("openvino", 0.1) if row.model == "alexnet"]
    table.append([*known(), *timed("eager", 2.0), *timed("onnxruntime"), *few])
    chosen, engines = fastest(table=table, system="box-2-cores-1f2e3d4c")
    assert chosen["engine"] == engines[0] == "onnxruntime"
    assert fastest(table=table, system="box-2-cores-1f2e3d4c", engine="eager") == ({}, [])
