"""Charts: like with like, true areas, labels that don't collide, and files that open."""

from __future__ import annotations

import colorsys
import contextlib
import json
import math
import random
import struct
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from classic_rows import CLASSICS, SYSTEM, known, timed
from test_names import HOSTILE
from vertebra.errors import InvalidInputError, MissingRuntimeError, UnknownNameError
from vertebra.measurements import Measurement, wide
from vertebra.reading import reports
from vertebra.reading.charts import VIEWS, Chart, ball_chart, bar_chart, draw
from vertebra.reading.charts.labels import CENTRE, Ball, Box, Segment, place
from vertebra.reading.charts.points import front, points
from vertebra.reading.charts.scales import fit
from vertebra.reading.charts.style import colours, family, text_width

NAMES = {classic[0] for classic in CLASSICS}


def layers(chart: Chart, mark: str) -> list[dict[str, Any]]:
    return [layer for layer in chart.spec["layer"] if layer["mark"]["type"] == mark]


def ball_layer(chart: Chart) -> dict[str, Any]:
    return next(layer for layer in layers(chart, "point") if "size" in layer["encoding"])


def data_of(layer: dict[str, Any]) -> list[dict[str, Any]]:
    return list(layer["data"]["values"])


def pixels(chart: Chart, datum: dict[str, Any]) -> tuple[float, float]:
    """Where Vega puts a datum, by the domains in the spec; from the top left corner."""
    encoding = ball_layer(chart)["encoding"]
    shares = []
    for channel in ("x", "y"):
        scale, value = encoding[channel]["scale"], datum[channel]
        low, high = scale["domain"]
        if scale["type"] == "log":
            low, high, value = math.log(low), math.log(high), math.log(value)
        shares.append((value - low) / (high - low))
    return shares[0] * chart.spec["width"], (1 - shares[1]) * chart.spec["height"]


def label_boxes(chart: Chart) -> dict[str, Box]:
    boxes = {}
    for datum in data_of(layers(chart, "text")[0]):
        left, middle = pixels(chart, datum)
        boxes[datum["model"]] = Box(left, middle - 6, left + text_width(datum["model"], 12), middle + 6)
    return boxes


@pytest.mark.parametrize("x", ["operations", "latency"])
def test_the_classics_labels_touch_neither_each_other_nor_a_centre(x):
    chart = ball_chart(wide([*known(), *timed()]), x=x)
    boxes = label_boxes(chart)
    centres = {datum["model"]: pixels(chart, datum) for datum in data_of(ball_layer(chart))}
    assert set(boxes) == set(centres) == NAMES
    for model, box in boxes.items():
        assert box.left >= 0
        assert box.right <= chart.spec["width"]
        assert not any(box.overlaps(other) for name, other in boxes.items() if name != model)
        assert all(box.distance(*centre) > 2 for centre in centres.values())


@pytest.mark.parametrize("seed", range(12))
def test_labels_of_random_clusters_touch_neither_each_other_nor_a_centre(seed):
    draw = random.Random(seed)
    balls = []
    for _ in range(draw.randint(2, 6)):
        x, y = draw.uniform(150, 650), draw.uniform(80, 380)
        balls += [
            Ball(x + draw.gauss(0, 25), y + draw.gauss(0, 25), draw.uniform(2, 30), draw.uniform(30, 150), 13)
            for _ in range(draw.randint(1, 9))
        ]
    boxes = place(balls, 800, 460)
    assert boxes is not None
    assert len(boxes) == len(balls)
    for index, box in enumerate(boxes):
        assert box.left >= 0
        assert box.top >= 0
        assert box.right <= 800
        assert box.bottom <= 460
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert all(box.distance(ball.x, ball.y) >= CENTRE for ball in balls)


def test_the_same_balls_give_the_same_places():
    balls = [Ball(100 + 7 * index, 100 + 5 * index, 20, 60, 13) for index in range(8)]
    assert place(balls, 400, 300) == place(balls, 400, 300)


def test_a_lonely_label_stands_right_beside_its_ball():
    assert place([Ball(100, 100, 20, 60, 12)], 400, 300) == [Box(122, 94, 182, 106)]


def test_labels_without_room_are_refused():
    balls = [Ball(50, 50, 3, 60, 13) for _ in range(9)]
    assert place(balls, 100, 100) is None


def test_a_chart_of_many_networks_grows_until_every_label_fits():
    draw = random.Random(0)
    rows = [
        replace(
            row, model=f"a_network_with_a_long_name_{index:03d}", value=row.value * draw.uniform(0.8, 1.2)
        )
        for index in range(50)
        for row in known()[:5]
    ]
    chart = ball_chart(wide(rows))
    boxes = list(label_boxes(chart).values())
    assert chart.spec["height"] > 460
    assert len(boxes) == 50
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[index + 1 :])


def test_a_box_knows_which_lines_cross_it():
    box = Box(10, 10, 20, 20)
    assert box.crosses(Segment(0, 15, 30, 15))
    assert box.crosses(Segment(12, 12, 13, 13))
    assert not box.crosses(Segment(0, 0, 30, 5))
    assert not box.crosses(Segment(25, 0, 25, 30))


def test_areas_are_in_proportion_to_the_parameters():
    layer = ball_layer(ball_chart(wide(known())))
    scale = layer["encoding"]["size"]["scale"]
    assert scale["type"] == "linear"
    assert scale["domain"][0] == scale["range"][0] == 0  # so Vega's symbol area is a multiple of the value
    sizes = {datum["model"]: datum["size"] for datum in data_of(layer)}
    true = {classic[0]: classic[2] for classic in CLASSICS}
    assert sizes["vgg19"] / sizes["squeezenet1_1"] == pytest.approx(
        true["vgg19"] / true["squeezenet1_1"], 1e-5
    )
    assert scale["domain"][1] == max(sizes.values())


def test_large_balls_are_drawn_below_small_ones():
    sizes = [datum["size"] for datum in data_of(ball_layer(ball_chart(wide(known()))))]
    assert sizes == sorted(sizes, reverse=True)


def test_axes_over_two_decades_are_logarithmic_and_tell_units():
    encoding = ball_layer(ball_chart(wide([*known(), *timed()]), x="latency"))["encoding"]
    assert encoding["x"]["scale"]["type"] == "log"
    assert encoding["x"]["axis"]["title"] == "Latency (ms, log scale)"
    assert (
        encoding["x"]["axis"]["values"]
        == [5, 10, 20, 50, 100, 200, 500][: len(encoding["x"]["axis"]["values"])]
    )
    assert encoding["y"]["scale"]["type"] == "linear"
    assert encoding["y"]["axis"]["title"] == "Top-1 accuracy (%)"
    assert encoding["y"]["axis"]["values"] == [55, 60, 65, 70, 75, 80]


def test_an_axis_holds_every_ball_whole():
    values, radii = [1.0, 2.0, 90.0], [30.0, 5.0, 12.0]
    axis = fit(values, radii, 500)
    for value, radius in zip(values, radii, strict=True):
        assert axis.position(value) - radius >= 9
        assert axis.position(value) + radius <= 491
        assert axis.value(axis.position(value)) == pytest.approx(value)


def test_one_network_alone_has_axes_around_it():
    [classic] = {row.model for row in known()} & {"vgg16"}
    chart = ball_chart(wide(row for row in known() if row.model == classic))
    scale = ball_layer(chart)["encoding"]["x"]["scale"]
    assert scale["domain"][0] < 30.94 < scale["domain"][1]


def test_only_grade_c_is_hollow():
    chart = ball_chart(wide([*known(), *timed()]), x="latency")
    hollow = {datum["model"] for datum in data_of(ball_layer(chart)) if datum["hollow"]}
    assert hollow == {"vgg11", "vgg13", "vgg16", "vgg19"}
    assert ball_layer(chart)["encoding"]["fillOpacity"]["condition"] == {
        "test": "datum.hollow",
        "value": 0.08,
    }
    assert any("Hollow balls" in line for line in chart.spec["title"]["subtitle"])


def test_measured_latency_has_its_interval_drawn():
    chart = ball_chart(wide([*known(), *timed()]), x="latency")
    bars = [datum for layer in layers(chart, "rule") for datum in data_of(layer) if datum["y"] == datum["y2"]]
    assert len(bars) == len(CLASSICS)
    alexnet = next(datum for datum in bars if datum["y"] == 56.7)
    assert (alexnet["x"], alexnet["x2"]) == pytest.approx((0.97 * 12.1, 1.05 * 12.1), 1e-4)


def test_the_front_is_what_no_other_beats():
    found, _ = points(wide(known()), ("operations", "top1", "params"))
    best = [point.model for point in front(found, "operations", "top1")]
    assert best == ["squeezenet1_1", "resnet50_acnet_deploy", "darknet53", "senet154_vd"]
    told = {row["model"] for row in ball_chart(wide(known())).data() if row["on_front"]}
    assert told == set(best)


def test_the_front_turns_where_more_is_better():
    found, _ = points(wide([*known(), *timed()]), ("fps", "top1"))
    best = [point.model for point in front(found, "fps", "top1")]
    assert best == ["squeezenet1_1", "resnet50_acnet_deploy", "darknet53", "senet154_vd"]


@pytest.mark.parametrize(
    ("column", "value", "hint"),
    [
        ("engine", "eager", "--engine onnxruntime"),
        ("precision", "bfloat16", "--precision float32"),
        ("batch_size", 8, "--batch-size 1"),
        ("threads", 1, "--threads 2"),
        ("system", "box-b", f"--system {SYSTEM}"),
    ],
)
def test_two_forms_in_one_chart_are_refused_with_what_differs(column, value, hint):
    other = [replace(row, **{column: value}) for row in timed()]
    rows = wide([*known(), *timed(), *other])
    with pytest.raises(InvalidInputError, match=rf"{column} is .*{value}") as caught:
        ball_chart(rows, x="latency")
    assert hint in str(caught.value.hint)


def test_the_hint_never_asks_for_a_value_that_nobody_stated():
    mixed = [replace(row, threads=None) if row.model == "alexnet" else row for row in timed()]
    with pytest.raises(InvalidInputError, match="threads is unstated, 2") as caught:
        ball_chart(wide([*known(), *mixed]), x="latency")
    assert "--threads 2" in str(caught.value.hint)


def test_networks_measured_in_different_forms_are_refused():
    mixed = [replace(row, engine="eager") if row.model == "vgg11" else row for row in timed()]
    with pytest.raises(InvalidInputError, match="engine is"):
        ball_chart(wide([*known(), *mixed]), x="latency")


def test_one_network_at_two_sizes_is_refused_but_native_sizes_may_differ():
    ball_chart(wide(known()))  # darknet53 is at 256, the others at 224
    twice = [replace(row, input_size=192) for row in known() if row.metric == "macs" and row.model == "vgg11"]
    timed_twice = [replace(row, input_size=192) for row in timed() if row.model == "vgg11"]
    with pytest.raises(InvalidInputError, match="input_size is"):
        ball_chart(wide([*known(), *twice, *timed(), *timed_twice]), x="latency", y="macs")


def test_counts_by_different_rules_are_refused():
    rows = [row for row in known() if not (row.model == "vgg11" and row.metric == "macs")]
    rows += [
        replace(
            rows[0],
            model="vgg11",
            metric="operations",
            value=15.09e9,
            convention="another rule",
            dataset=None,
            split=None,
        )
    ]
    with pytest.raises(InvalidInputError, match="convention is"):
        ball_chart(wide(rows))


def test_several_engines_do_not_hinder_a_chart_of_counts():
    chart = ball_chart(wide([*known(), *timed(), *timed("eager", 1.3)]))
    assert {row["model"] for row in chart.data()} == NAMES


def test_a_network_without_a_figure_is_left_out_and_named():
    rows = [row for row in known() if not (row.model == "vgg11" and row.metric == "top1")]
    chart = ball_chart(wide(rows))
    assert chart.missing == {"vgg11": "no top-1 accuracy"}
    assert any("Not drawn: vgg11 (no top-1 accuracy)" in line for line in chart.spec["title"]["subtitle"])


def test_nothing_to_draw_is_an_error():
    with pytest.raises(InvalidInputError, match="No network has a figure of latency"):
        ball_chart(wide(known()), x="latency")
    with pytest.raises(UnknownNameError):
        ball_chart(wide(known()), x="latncy")


def test_the_subtitle_names_the_conditions():
    lines = " ".join(ball_chart(wide([*known(), *timed()]), x="latency").spec["title"]["subtitle"])
    for told in (
        SYSTEM,
        "onnxruntime 1.22.0",
        "float32",
        "batch 1",
        "threads 2",
        "input 224 (darknet53 256)",
        "2026-07-01",
        "Top-1 accuracy: published",
        "imagenet-1k val",
    ):
        assert told in lines


def test_the_data_are_a_table_in_base_units():
    rows = ball_chart(wide([*known(), *timed()]), x="latency").data()
    alexnet = next(row for row in rows if row["model"] == "alexnet")
    assert alexnet["latency"] == pytest.approx(0.0121)
    assert alexnet["top1"] == 0.567
    assert alexnet["params"] == 61_100_840
    assert alexnet["engine"] == "onnxruntime"
    assert alexnet["latency_grade"] == "B"
    assert [row["latency"] for row in rows] == sorted(row["latency"] for row in rows)


def test_families_have_colours_of_their_own_until_the_palette_ends():
    encoding = ball_layer(ball_chart(wide(known())))["encoding"]
    scale = encoding["color"]["scale"]
    assert len(set(scale["range"])) == len(scale["domain"]) == 6
    more = [replace(row, model=f"{letter}net") for letter in "bcdfg" for row in known()[:5]]
    chart = ball_chart(wide([*known(), *more]))
    assert ball_layer(chart)["encoding"]["color"]["scale"]["domain"][-1] == "other families"


def test_bars_are_sorted_the_best_first():
    chart = bar_chart(wide(known()), metric="accuracy_density")
    assert chart.data()[0]["model"] == "squeezenet1_1"
    assert bar_chart(wide(known())).data()[0]["model"] == "senet154_vd"
    assert bar_chart(wide(known()), metric="params").data()[0]["model"] == "squeezenet1_1"
    assert ElementTree.fromstring(chart.svg()).tag.endswith("svg")


def test_svg_png_and_json_are_real_files(tmp_path):
    chart = ball_chart(wide(known()), title="A <title> & more")
    picture = ElementTree.fromstring(chart.save(tmp_path / "chart.svg").read_text(encoding="utf-8"))
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert texts >= NAMES | {"A <title> & more", "Top-1 accuracy (%)", "Operations (G, log scale)"}
    png = chart.save(tmp_path / "chart.PNG").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == pytest.approx(
        (2 * float(picture.attrib["width"]), 2 * float(picture.attrib["height"])), abs=2
    )
    assert json.loads(chart.save(tmp_path / "chart.json").read_text(encoding="utf-8")) == chart.spec
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.PNG", "chart.json", "chart.svg"]


def test_vega_draws_the_balls_where_the_labels_expect_them():
    chart = ball_chart(wide(known()))
    drawn = chart.svg()
    for datum in data_of(ball_layer(chart)):
        x, y = pixels(chart, datum)
        mark = drawn.split(f'aria-label="{datum["model"]}: ')[1].split("transform=")[1]
        placed = [float(number) for number in mark.split('"translate(')[1].split(")")[0].split(",")]
        assert placed == pytest.approx([x, y], abs=0.01)


def test_another_suffix_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        ball_chart(wide(known())).save(tmp_path / "chart.gif")
    assert ".png, .svg, .pdf, .json" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path):
    with pytest.raises(InvalidInputError, match="Can't write"):
        ball_chart(wide(known())).save(tmp_path / "nowhere" / "chart.json")


def test_without_vl_convert_the_spec_works_and_drawing_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    chart = ball_chart(wide(known()))
    chart.save(tmp_path / "chart.json")
    with pytest.raises(MissingRuntimeError) as caught:
        chart.svg()
    assert "vertebra[charts]" in str(caught.value.hint)


def named(names: Sequence[str], batches: Sequence[int] = (1, 8)) -> list[Measurement]:
    """The classics' rows, over and over, under other names, as an older table may hold them."""
    rows = []
    for number, name in enumerate(names):
        old = CLASSICS[number % len(CLASSICS)][0]
        runs = [row for batch in batches for row in timed(batch_size=batch)]
        runs += [
            replace(row, metric="power", value=20.0, low=None, high=None)
            for row in runs
            if row.metric == "latency"
        ]
        own = [row for row in [*known(), *runs] if row.model == old]
        rows += [Measurement.restored({**vars(row), "model": name}) for row in own]
    return rows


@pytest.mark.parametrize("view", VIEWS)
def test_names_of_any_kind_are_drawn(view):
    batches = (1, 8) if VIEWS[view].batches else (1,)
    chart = draw(view, wide(named(HOSTILE, batches)))
    drawn = ElementTree.fromstring(chart.svg())
    labels = {text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert any("net.onnx" in label for label in labels)
    assert max(map(len, labels)) < 200
    assert json.loads(chart.json().encode())
    if view == "accuracy":
        assert (
            len(chart.spec["data"]["values"])
            == len(HOSTILE)
            == len(chart.spec["encoding"]["y"]["scale"]["domain"])
        )


@pytest.mark.parametrize("length", [0, 1, 60, 61, 124, 126, 128, 150, 5000])
def test_a_name_of_any_length_ends_and_keeps_its_whole_name_in_the_figures(length):
    name = "@" * length  # the widest letter
    chart = ball_chart(wide(named([name, "alexnet", "vgg16"], (1,))))
    assert len(label_boxes(chart)) == 3
    assert any(datum["description"].startswith(f"{name}: ") for datum in data_of(ball_layer(chart)))
    assert name in {row["model"] for row in chart.data()}


def test_labels_that_no_plot_holds_are_left_away_and_the_drawing_ends():
    rows = named([f"{'@' * 90}{number}" for number in range(60)], (1,))  # all balls in eleven places
    chart = ball_chart(wide(rows))
    assert len(data_of(ball_layer(chart))) == 60
    assert chart.spec["height"] < 6000


@pytest.mark.parametrize("value", [0.0, -1.0, 5e-324, 1e300, 1.7e308])
@pytest.mark.parametrize("metric", ["top1", "params", "macs", "weight_bytes", "latency", "memory_total"])
@pytest.mark.parametrize("several", [False, True])
def test_impossible_figures_are_left_out_or_drawn_and_nothing_breaks(metric, value, several):
    bad = [
        Measurement.restored({**vars(row), "value": value, "low": None, "high": None})
        if row.metric == metric and (several or row.model == "vgg16") else row
        for batch in (1, 8) for row in [*known(), *timed(batch_size=batch)]
    ]  # fmt: skip
    for view in VIEWS.values():
        rows = bad if view.batches else [row for row in bad if row.batch_size in (None, 1)]
        with contextlib.suppress(InvalidInputError):
            chart = draw(view.name, wide(rows))
            json.dumps(chart.spec, allow_nan=False)
    assert reports.html(bad).encode()


def test_a_network_with_an_impossible_figure_is_named_with_it():
    rows = [replace(row, value=0.0) if (row.metric, row.model) == ("macs", "vgg16") else row
            for row in [*known(), *timed()]]  # fmt: skip
    assert draw("operations-latency", wide(rows)).missing == {"vgg16": "impossible: operations of 0"}
    assert "vgg16" in {row["model"] for row in draw("accuracy-operations", wide(rows)).data()}


def test_subtitles_take_at_most_three_lines():
    system = "a-machine-with-a-very-long-name-" * 20
    rows = [replace(row, system=system) for row in timed()] + known()[:-5]
    for view in ("accuracy-latency", "operations-latency", "memory-size", "accuracy", "grid"):
        lines = draw(view, wide(rows)).spec["title"]["subtitle"]
        assert 1 <= len(lines) <= 3
        assert all(text_width(line, 12) <= 920 for line in lines)


def test_a_pdf_is_one(tmp_path):
    path = ball_chart(wide(known())).save(tmp_path / "chart.pdf")
    assert path.read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("timm:tf_efficientnet_b0", "efficientnet"), ("timm:tf_efficientnetv2_s", "efficientnetv2"),
        ("timm:mobilenetv3_large_100", "mobilenetv3"), ("mobilenet_v3_small", "mobilenetv3"),
        ("timm:mobilenetv4_conv_small", "mobilenetv4"), ("timm:swinv2_base", "swinv2"),
        ("resnetv2_50x1", "resnetv2"), ("timm:resnet50", "resnet"), ("resnet18_vd", "resnet"),
        ("senet154_vd", "senet"), ("darknet53", "darknet"), ("inception_v3", "inceptionv3"),
        ("timm:gluon_resnet50_v1b", "resnet"), ("timm:legacy_seresnet18", "seresnet"),
        ("squeezenet1_1", "squeezenet"), ("timm:vit_base", "vit"), ("timm:levit_128", "levit"), ("tf_", "tf"),
        ("onnx:/home/me/net7.onnx", "net"), ("50net", "50net"), ("", "(no name)"),
    ],
)  # fmt: skip
def test_families_have_their_true_names(model, expected):
    assert family(model) == expected


def test_no_two_of_the_palettes_colours_are_of_one_hue():
    shades = list(colours("abcdef").values())
    hues = [
        colorsys.rgb_to_hls(*(int(shade[at : at + 2], 16) / 255 for at in (1, 3, 5)))[0] for shade in shades
    ]
    for index, hue in enumerate(hues):
        for other in hues[:index]:
            assert min(abs(hue - other), 1 - abs(hue - other)) > 0.02
    assert family("alexnet") != family("vgg16")
