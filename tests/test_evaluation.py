"""Accuracy by hand-computed examples, through every step from a data set to the table's rows."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vertebra
from colours import COLOURS, colours, encoded
from vertebra.cli import cli
from vertebra.data import datasets, labels
from vertebra.data.datasets import Dataset, Sample
from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import ImageError, InvalidInputError, MeasurementError
from vertebra.measurements import Measurement, wide
from vertebra.measuring import evaluation
from vertebra.measuring.evaluation import evaluate, match, protocol, rows, wilson
from vertebra.measuring.evaluation.statistics import Z, bin_of, paired_difference
from vertebra.measuring.evaluation.tally import Tally
from vertebra.progress import Progress
from vertebra.reading.reports.evaluated import Evaluated, classes_csv
from vertebra.verbs.chart import compared

TINY = Preprocess(input_size=(2, 2), resize=(2, 2), interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))


def dataset(pixels: list[int], truths: list[int], *, classes: tuple[str, ...] | None = None) -> Dataset:
    """One grey picture for each of `pixels`; an even split's name is "test"."""

    def read():
        for number, (pixel, truth) in enumerate(zip(pixels, truths, strict=True)):
            picture = np.full((3, 3, 3), max(pixel, 0), np.uint8)
            yield Sample(b"broken" if pixel < 0 else picture, truth, f"image {number}")

    count = max(truths) + 1 if classes is None else len(classes)
    return Dataset("tiny", "test", "made up", classes, count, len(pixels), "list.txt:9", read)


def answering(table: dict[int, list[float]]):
    """A network that knows a picture by its grey and answers with the logits of `table`."""

    def answer(images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.float32
        greys = np.rint(images[:, 0, 0, 0] * 255).astype(int)
        return np.array([table[grey] for grey in greys], np.float32)

    return answer


def logits(*shares: float) -> list[float]:
    """Logits whose softmax are these shares."""
    return [math.log(share) for share in shares]


#: grey -> answer over six classes, of which the confidences are easily summed
TABLE = {
    0: logits(0.5, 0.1, 0.1, 0.1, 0.1, 0.1),
    1: logits(0.1, 0.5, 0.1, 0.1, 0.1, 0.1),
    2: logits(0.04, 0.8, 0.04, 0.04, 0.04, 0.04),
    3: logits(0.05, 0.15, 0.2, 0.2, 0.2, 0.2),
}


def test_the_figures_of_five_images_are_those_computed_by_hand():
    found = evaluate(dataset([0, 0, 1, 2, 3], [0, 1, 1, 0, 0]), answering(TABLE), TINY, num_classes=6)
    # right: the first and the third. Answers: 0, 0, 1, 1, 2 (the lowest of four equals).
    assert (found.top1.right, found.top1.total) == (2, 5)
    # image 1: class 1 is the first of five equals behind 0, so second; image 3: class 0 likewise;
    # image 4: class 0 is the last of six, so not among five.
    assert found.top5 is not None
    assert found.top5.right == 4
    assert dict(found.confusion) == {(0, 0): 1, (1, 0): 1, (1, 1): 1, (0, 1): 1, (0, 2): 1}
    # confidences 0.5, 0.5, 0.5 (two right of three), 0.8 (wrong), 0.2 (wrong)
    assert found.calibration_error == pytest.approx((abs(2 - 1.5) + 0.8 + 0.2) / 5, abs=1e-6)
    assert [(one.name, one.truth, one.predicted) for one in found.mistakes] == [
        ("image 3", 0, 1), ("image 1", 1, 0), ("image 4", 0, 2),
    ]  # fmt: skip
    assert found.mistakes[0].confidence == pytest.approx(0.8, abs=1e-6)
    assert found.mistakes[0].share == pytest.approx(0.04, abs=1e-6)


def test_the_classes_of_five_images_are_those_computed_by_hand():
    found = evaluate(dataset([0, 0, 1, 2, 3], [0, 1, 1, 0, 0]), answering(TABLE), TINY, num_classes=6)
    first, second = found.classes()
    assert (first.images, first.right, first.top5, first.answers) == (3, 1, 2, 2)
    assert (first.recall, first.precision, first.confused_with) == (1 / 3, 1 / 2, "1")
    assert (second.images, second.right, second.recall, second.precision) == (2, 1, 0.5, 0.5)
    lines = list(csv.DictReader(io.StringIO(classes_csv(found))))
    assert [(line["class"], line["images"], line["precision"]) for line in lines] == [
        ("0", "3", "0.5"), ("1", "2", "0.5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        # R 4: prop.test(81, 263, correct=FALSE); Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_s_interval_is_that_of_newcombe_s_examples(right, total, low, high):
    assert wilson(right, total) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_s_interval_holds_the_share_and_mirrors(pair):
    right, total = pair
    low, high = wilson(right, total)
    assert 0 <= low <= right / total <= high <= 1
    mirrored = wilson(total - right, total)
    assert mirrored == (pytest.approx(1 - high, abs=1e-12), pytest.approx(1 - low, abs=1e-12))


@pytest.mark.parametrize(
    ("only_first", "only_second", "total"),
    [(1, 7, 21), (7, 1, 21), (3, 0, 10), (0, 2, 5), (5, 0, 5), (0, 4, 4), (10, 12, 400)],
)
def test_at_the_ends_of_a_paired_difference_the_score_test_just_rejects(only_first, only_second, total):
    from scipy.optimize import minimize_scalar

    def score(difference: float) -> float:
        """The difference in standard errors, by the most likely shares that differ by `difference`."""

        def unlikely(second: float) -> float:
            shares = (second + difference, second, 1 - 2 * second - difference)
            counts = (only_first, only_second, total - only_first - only_second)
            return -sum(count * math.log(share) for count, share in zip(counts, shares, strict=True) if count)

        bounds = max(0.0, -difference), (1 - difference) / 2
        second = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
        found = only_first - only_second
        return (found - total * difference) / math.sqrt(total * (2 * second + difference - difference**2))

    low, high = paired_difference(only_first, only_second, total)
    if only_second < total:
        assert score(low) == pytest.approx(Z, abs=1e-3)
    if only_first < total:
        assert score(high) == pytest.approx(-Z, abs=1e-3)
    assert (low == -1, high == 1) == (only_second == total, only_first == total)


def test_bins_of_confidence_hold_their_upper_end():
    assert [bin_of(value) for value in (0.0, 0.01, 1 / 15, 0.0667, 0.5, 0.99, 1.0)] == [0, 0, 0, 1, 7, 14, 14]


def test_calibration_is_perfect_where_confidence_is_the_share_that_is_right():
    truths = [1, 0, 0, 0, 0]  # answered with class 1 at 0.2: one of five is right
    table = {0: logits(0.1, 0.2, *[0.0875] * 8)}
    found = evaluate(dataset([0] * 5, truths), answering(table), TINY, num_classes=10)
    assert found.calibration_error == pytest.approx(0, abs=1e-6)


def test_who_is_sure_and_right_has_no_calibration_error_at_all():
    found = evaluate(dataset([0, 0], [0, 0]), answering({0: [1000.0, 0.0]}), TINY, num_classes=2)
    assert found.calibration_error == 0


def test_the_share_of_an_independent_class_is_its_sigmoid():
    tally = Tally(kept=1, independent=True)
    tally.add(list(dataset([0], [0])), [0], np.array([[0.0, math.log(3)]], np.float32))
    [mistake] = tally.mistakes()
    assert (mistake.confidence, mistake.share) == (pytest.approx(0.75), pytest.approx(0.5))


def test_a_class_is_confused_with_its_commonest_wrong_answer():
    found = evaluate(dataset([0, 1, 3, 3, 3], [0] * 5), answering(TABLE), TINY, num_classes=6)
    assert [one.confused_with for one in found.classes()] == ["2"]
    right = evaluate(dataset([0], [0]), answering(TABLE), TINY, num_classes=6)
    assert [one.confused_with for one in right.classes()] == [None]


def test_results_can_not_be_changed():
    found = evaluate(dataset([0, 1], [0, 0]), answering(TABLE), TINY, num_classes=6)
    for one in (found, found.top1, found.classes()[0], found.mistakes[0]):
        with pytest.raises(FrozenInstanceError):
            one.total = 9


def test_of_five_classes_there_is_no_top5():
    found = evaluate(dataset([0], [0]), answering({0: [1, 0, 0, 0, 0]}), TINY, num_classes=5)
    assert found.top5 is None
    assert "top5" not in {row.metric for row in rows(found, {"model": "net"})}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 9), st.integers(1, 9))
def test_neither_order_nor_batches_change_the_results(seed, batch_size, other):
    draw = random.Random(seed)
    pixels = [draw.choice([0, 1, 2, 3, -1]) for _ in range(24)] + [0]
    truths = [draw.randrange(6) for _ in pixels]
    samples = list(dataset(pixels, truths))
    shuffled = draw.sample(samples, len(samples))

    def of(order: list[Sample], size: int) -> evaluation.Evaluation:
        read = Dataset("tiny", None, "made up", None, 6, len(order), "", lambda: iter(order))
        return evaluate(read, answering(TABLE), TINY, num_classes=6, batch_size=size, mistakes=5)

    one, two = of(samples, batch_size), of(shuffled, other)
    for name in ("total", "top1", "top5", "calibration_error", "confusion", "mistakes", "num_unreadable"):
        assert getattr(one, name) == getattr(two, name)


# ------------------------------------------------------------------ what can't be read, and what can't be


def test_an_unreadable_image_is_named_and_counted_and_the_rest_goes_on():
    found = evaluate(dataset([0, -1, 1], [0, 0, 1]), answering(TABLE), TINY, num_classes=6, batch_size=2)
    assert (found.total, found.top1.right, found.num_unreadable) == (2, 2, 1)
    assert found.unreadable[0][0] == "image 1"
    [row] = [row for row in rows(found, {"model": "net"}) if row.metric == "unreadable"]
    assert row.value == 1


def test_strict_ends_at_the_first_unreadable_image():
    with pytest.raises(ImageError, match="image 1: "):
        evaluate(dataset([0, -1, 1], [0, 0, 1]), answering(TABLE), TINY, num_classes=6, strict=True)


def test_a_set_of_which_nothing_can_be_read_is_refused():
    with pytest.raises(InvalidInputError, match="None of the 2 images of tiny can be read"):
        evaluate(dataset([-1, -1], [0, 0]), answering(TABLE), TINY, num_classes=6)


def test_logits_that_are_no_numbers_end_the_run_with_the_image_s_name():
    table = {0: [1.0, 0.0], 1: [math.nan, 0.0]}
    with pytest.raises(MeasurementError, match="image 1 isn't finite"):
        evaluate(dataset([0, 1], [0, 0]), answering(table), TINY, num_classes=2)


def test_a_limited_run_says_so_in_its_split_and_reads_no_further():
    found = evaluate(dataset([0, 1, -1], [0, 1, 0]), answering(TABLE), TINY, num_classes=6, limit=2)
    assert (found.total, found.split, found.num_unreadable) == (2, "test[:2]", 0)
    whole = evaluate(dataset([0, 1], [0, 1]), answering(TABLE), TINY, num_classes=6, limit=9)
    assert whole.split == "test"


def test_progress_has_an_event_for_every_batch():
    seen: list[Progress] = []
    evaluate(
        dataset([0, 1, -1, 2, 3], [0] * 5), answering(TABLE), TINY, num_classes=6, batch_size=2,
        progress=seen.append,
    )  # fmt: skip
    assert [(event.done, event.total, event.unit) for event in seen] == [
        (0, 5, "images"), (2, 5, "images"), (5, 5, "images")
    ]  # fmt: skip
    assert {event.text for event in seen} == {"evaluating on tiny"}


# ------------------------------------------------------------------ classes and outputs

IMAGENET = labels.find("imagenet-1k")


def test_classes_are_matched_by_synset_or_name_and_may_be_fewer():
    pets = dataset([0], [0], classes=("n02123045", "goldfish", "Tinca tinca"))
    assert match(pets, IMAGENET, 1000) == (281, 1, 0)


def test_classes_that_the_network_does_not_have_are_named():
    pets = dataset([0], [0], classes=("n02123045", "unicorn", "dragonfly", "griffin"))
    with pytest.raises(InvalidInputError, match=r'2 of the 4 classes of tiny .*"unicorn", "griffin"'):
        match(pets, IMAGENET, 1000)


def test_only_where_all_strange_classes_are_numbers_the_hint_is_about_numbers():
    for classes, hint in ((("5", "unicorn"), "if their order is the outputs'"), (("5", "7"), "output 5 is")):
        with pytest.raises(InvalidInputError) as refused:
            match(dataset([0], [0], classes=classes), IMAGENET, 1000)
        assert hint in refused.value.hint


def test_two_classes_that_are_one_output_are_refused():
    with pytest.raises(InvalidInputError, match="are both the network's class 281"):
        match(dataset([0], [0], classes=("n02123045", "tabby cat")), IMAGENET, 1000)


def test_a_name_of_two_classes_is_refused():
    with pytest.raises(InvalidInputError, match="crane"):
        match(dataset([0], [0], classes=("crane", "goldfish")), IMAGENET, 1000)


def test_without_names_equal_counts_are_matched_by_place_and_others_refused():
    pets = dataset([0], [0], classes=("cat", "dog"))
    assert match(pets, None, 2) == (0, 1)
    assert match(pets, labels.from_names(["a", "b"]), 2, by_index=True) == (0, 1)
    with pytest.raises(InvalidInputError, match="2 classes; the network has 3"):
        match(pets, None, 3)


def test_a_label_outside_the_outputs_is_refused_with_its_line():
    with pytest.raises(InvalidInputError, match=r"list\.txt:9: the label is 3; .* 0 to 2"):
        match(dataset([0, 0], [1, 3]), None, 3)


# ------------------------------------------------------------------ rows


def test_rows_can_be_read_alone():
    found = evaluate(dataset([0, 1, 2], [0, 1, 0]), answering(TABLE), TINY, num_classes=6)
    conditions = {"model": "net", "weights": "net.mine", "engine": "onnxruntime", "precision": "float32"}
    told = {row.metric: row for row in rows(found, conditions)}
    assert set(told) == {"top1", "top5", "calibration_error", "unreadable"}
    top1 = told["top1"]
    assert (top1.value, (top1.low, top1.high), top1.samples) == (2 / 3, wilson(2, 3), 3)
    assert (top1.dataset, top1.split, top1.input_size) == ("tiny", "test", 2)
    assert (top1.origin, top1.weights, top1.engine) == ("evaluated", "net.mine", "onnxruntime")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (protocols.paddleclas(), "resize 256 opencv-bilinear, crop 224, turned upright"),
        (
            protocols.timm(240, mean=(0.5,) * 3, std=(0.5,) * 3),
            "resize 274 bicubic, crop 240, mean 0.5, std 0.5",
        ),
        (TINY, "resize 2x2 bilinear, crop 2, mean 0, std 1"),
    ],
)
def test_the_protocol_tells_what_makes_two_accuracies_differ(record, words):
    assert protocol(record) == words


def test_the_whole_of_imagenet_s_validation_is_known_by_its_names():
    def read():
        return (Sample(b"", 0, f"ILSVRC2012_val_{number:08d}.JPEG") for number in range(1, 50_001))

    whole = Dataset("val", "val", "list", None, 1000, 50_000, "", read)
    part = Dataset("val", "val", "list", None, 1000, 49_999, "", read)
    assert (datasets.is_validation(whole), datasets.is_validation(part)) == (True, False)


def evaluated_row(value: float, **more) -> Measurement:
    told = {"dataset": "imagenet-1k", "split": "val", "precision": "float32", "engine": "onnxruntime"}
    return Measurement(model="alexnet", metric="top1", value=value, origin="evaluated", **(told | more))


def test_accuracy_on_other_images_never_stands_for_imagenet_s(tmp_path):
    table = vertebra.Table(tmp_path / "table.sqlite")
    table.append(
        [evaluated_row(0.9, dataset="pets"), evaluated_row(0.8, split="val[:100]"), evaluated_row(0.5)]
    )
    [row] = compared(table=table)
    assert row.value("top1") == 0.5
    [row] = compared(table=table, dataset="pets")
    assert row.value("top1") == 0.9


def test_an_evaluation_belongs_to_the_engine_and_the_precision_that_it_was_made_with():
    forms = [
        Measurement(
            model="alexnet", metric="latency", value=0.1, origin="benched", engine=engine, device="cpu",
            precision=precision, system="here", batch_size=1, input_size=224,
        )
        for engine, precision in (("onnxruntime", "float32"), ("openvino", "int8"))
    ]  # fmt: skip
    told = wide([*forms, evaluated_row(0.5), evaluated_row(0.4, engine="openvino", precision="int8")])
    assert [(row.conditions["engine"], row.value("top1")) for row in told] == [
        ("onnxruntime", 0.5), ("openvino", 0.4),
    ]  # fmt: skip


# ------------------------------------------------------------------ files


def test_what_is_saved_holds_the_matrix_the_classes_and_the_mistakes(tmp_path):
    pytest.importorskip("vl_convert")
    found = evaluate(dataset([0, 0, 1, 2, 3], [0, 1, 1, 0, 0]), answering(TABLE), TINY, num_classes=6)
    done = Evaluated("net", "net.mine", "null", found, rows(found, {"model": "net"}))
    written = {path.name for path in done.save(tmp_path / "out")}
    assert written == {"classes.csv", "confusion.csv", "confusion.svg", "confusion.png", "mistakes.png"}
    with Image.open(tmp_path / "out" / "mistakes.png") as sheet:
        assert min(sheet.size) > 100
    page = done.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64") == 3
    assert "40.0 %" in page
    assert "http" not in page.replace("http://www.w3.org/", "")


@pytest.mark.parametrize(("times", "counted"), [(1, True), (20, False)])
def test_classes_of_few_images_have_their_right_answers_counted(tmp_path, times, counted):
    pytest.importorskip("vl_convert")
    truths = [0] * times + [1] * times + [2]
    found = evaluate(dataset(truths, [0] * times + [0] * times + [2]), answering(TABLE), TINY, num_classes=6)
    done = Evaluated("net", None, "null", found, rows(found, {"model": "net"}))
    page = done.report(tmp_path / "page.html").read_text(encoding="utf-8")
    table = page.partition("The classes, the worst first")[2]
    assert table.count(" of 1</td>") >= 1
    assert ("Precision" in table) is not counted
    assert ("from</button>" in table) is not counted


def test_the_confusion_chart_draws_the_worst_thirty_of_many_classes():
    from vertebra.reading.charts import confusion_chart

    counts = {(index, index): 10 for index in range(100)} | {(7, 8): 5, (99, 7): 1}
    chart = confusion_chart(counts, lambda index: "crane" if index in (7, 8) else f"class {index}")
    truths = {row["truth"] for row in chart.data()}
    assert len(truths) == 30
    assert {"crane 7", "crane 8", "class 99"} <= truths
    [mixed] = [row for row in chart.data() if (row["truth"], row["answer"]) == ("crane 7", "crane 8")]
    assert (mixed["count"], mixed["share"]) == (5, 5 / 15)


# ------------------------------------------------------------------ end to end


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Two classes of three PNGs of noise, and one file that is no picture."""
    random_pixels = np.random.default_rng(0)
    for name in ("n01440764", "n01443537"):
        folder = tmp_path / "fish" / name
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = random_pixels.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "fish" / "n01440764" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "fish"


def test_the_command_evaluates_prints_and_appends(pictures, tmp_path):
    table = str(tmp_path / "table.sqlite")
    arguments = ["eval", "squeezenet1_1", str(pictures), "--untrained", "--table", table, "--engine", "eager"]
    done = CliRunner().invoke(cli, [*arguments, "--labels", "imagenet-1k", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    told = {row["metric"]: row for row in json.loads(done.stdout)}
    assert (told["top1"]["samples"], told["unreadable"]["value"]) == (6, 1)
    assert told["top1"]["dataset"] == "fish"
    assert "n01440764/broken.jpg" in done.stderr
    assert {row.metric for row in vertebra.Table(table).rows()} == set(told)
    strict = CliRunner().invoke(cli, [*arguments, "--labels", "imagenet-1k", "--strict"])
    assert isinstance(strict.exception, ImageError)


@pytest.mark.parametrize("arguments", [["squeezenet1_1"], ["a", "b", "c"]])
def test_the_command_wants_a_model_and_data(arguments):
    done = CliRunner().invoke(cli, ["eval", *arguments])
    assert done.exit_code == 2
    assert "MODEL and DATA are needed" in done.stderr


FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not FASHION.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")
def test_fashion_mnist_is_evaluated_from_its_package():
    record = Preprocess(
        input_size=(28, 28), resize=(28, 28), interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3
    )
    train, test = datasets.open(FASHION, split="train"), datasets.open(FASHION)
    assert (len(train), len(test), test.num_classes, test.split) == (60_000, 10_000, 10, "test")
    # The nearest class mean: what any reader of these files must find again, if pictures and labels fit.
    sums, counts = np.zeros((10, 3 * 28 * 28)), np.zeros(10)
    for sample in train.first(6_000):
        sums[sample.label] += sample.source.transpose(2, 0, 1).reshape(-1) / 255
        counts[sample.label] += 1
    means = sums / counts[:, None]

    def answer(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1)
        return (2 * flat @ means.T - (means**2).sum(axis=1)).astype(np.float32)

    found = evaluate(test, answer, record, num_classes=10, batch_size=256)
    assert (found.total, found.num_unreadable) == (10_000, 0)
    assert 0.65 < found.top1.value < 0.71
    # what is known of this set: shirts (6) are the hardest, trousers (1) among the easiest
    recalls = {one.index: one.recall for one in found.classes()}
    assert min(recalls, key=recalls.__getitem__) == 6
    assert recalls[1] > 0.85


def fitted_network(path: Path, train: datasets.Dataset) -> str:
    """A convolution with random kernels, and on top of it what least squares fit to 4,000 pictures: an ONNX
    file of 28 × 28 pixels and ten classes."""
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    def network(out: str, *more: Any) -> bytes:
        nodes = [
            onnx.helper.make_node("Conv", ["pixels", "kernels"], ["seen"], strides=[3, 3]),
            onnx.helper.make_node("Relu", ["seen"], ["felt"]),
            onnx.helper.make_node("Flatten", ["felt"], ["features"]),
            onnx.helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"]),
        ]
        value, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            nodes[: 4 if more else 3], "fashion", [value("pixels", number, ["n", 3, 28, 28])],
            [value(out, number, ["n", 10 if more else 1024])],
            [onnx.numpy_helper.from_array(array, name) for array, name in [(kernels, "kernels"), *more]],
        )  # fmt: skip
        version = [onnx.helper.make_opsetid("", 17)]
        made: bytes = onnx.helper.make_model(graph, opset_imports=version, ir_version=9).SerializeToString()
        return made

    random = np.random.default_rng(0)
    kernels = np.repeat(random.normal(size=(16, 1, 5, 5)), 3, axis=1).astype(np.float32) / 3
    samples = list(train.first(4_000))
    images = np.stack([sample.source.transpose(2, 0, 1) for sample in samples]).astype(np.float32) / 255
    session = onnxruntime.InferenceSession(network("features"), providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {"pixels": images})
    features = np.c_[features, np.ones(len(features))].astype(np.float64)
    wanted = np.eye(10)[[sample.label for sample in samples]]
    fit = np.linalg.solve(features.T @ features + 30 * np.eye(features.shape[1]), features.T @ wanted)
    fit = fit.astype(np.float32)
    path.write_bytes(network("logits", (fit[:-1], "weight"), (fit[-1], "bias")))
    return f"onnx:{path}"


@pytest.mark.skipif(not FASHION.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")
def test_fashion_mnist_is_evaluated_by_the_command_with_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    name = fitted_network(tmp_path / "fashion.onnx", datasets.open(FASHION, split="train"))
    record = Preprocess((28, 28), (28, 28), "bilinear", mean=(0,) * 3, std=(1,) * 3)
    (tmp_path / "record.json").write_text(record.to_json())
    table = tmp_path / "t.sqlite"
    arguments = ["eval", name, str(FASHION), "--preprocess", str(tmp_path / "record.json"), "--json"]
    done = CliRunner().invoke(cli, [*arguments, "--batch-size", "250", "--table", str(table)])
    assert done.exit_code == 0, done.output
    told = {row["metric"]: row for row in json.loads(done.stdout)}
    assert (told["top1"]["samples"], told["top1"]["split"]) == (10_000, "test")
    assert 0.78 < told["top1"]["value"] < 0.9 < told["top5"]["value"]
    assert told["top1"]["low"] < told["top1"]["value"] < told["top1"]["high"]
    assert {row.metric for row in vertebra.Table(table).rows()} == set(told)


PROGRAM = """
import resource, sys
import numpy as np
from vertebra import data
from vertebra.measuring.evaluation import evaluate
from vertebra.data.preprocess import Preprocess
record = Preprocess(input_size=(64, 64), resize=(64, 64), interpolation="bilinear")
found = evaluate(data.open(sys.argv[1]), lambda images: images[:, 0, 0, :10].copy(), record, num_classes=10)
print(found.total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    peaks = {}
    for count in (1_000, 10_000):
        root = tmp_path / str(count)
        for number in range(count):
            folder = root / f"class {number % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.png").write_bytes(stream.getvalue())
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(root)], capture_output=True, text=True, check=True
        )
        total, peaks[count] = map(int, run.stdout.split())
        assert total == count
    # 9,000 inputs would take 440 MB, their files 110 MB, their names 1 MB; ru_maxrss is in kB (macOS: bytes)
    assert peaks[10_000] < 1.25 * peaks[1_000]


# ------------------------------------------------------------------ what it was of


def test_mistakes_of_equal_names_and_confidences_have_one_order():
    samples = [Sample(np.zeros((2, 2, 3), np.uint8), truth, "same") for truth in (0, 1, 0, 1, 2)]
    orders = []
    for order in (samples, samples[::-1]):
        tally = Tally(3)
        for sample in order:
            tally.add([sample], [sample.label], np.array([[0, 0, 0, 9]], np.float32))
        orders.append([(one.truth, one.predicted) for one in tally.mistakes()])
    assert orders == [[(0, 3), (0, 3), (1, 3)]] * 2


def test_an_evaluation_says_what_it_was_of():
    found = evaluate(
        replace(dataset([0, -1, 1], [0, 2, 1], classes=("cat", "dog", "emu")), left_out={"hidden": 2}),
        answering({0: [1, 0, 0], 1: [0, 1, 0]}), TINY, num_classes=3, by_index=True,
    )  # fmt: skip
    assert found.pictures is not None
    assert list(found.pictures.lines()) == [
        "Data: 2 images of 2 of 3 classes, as numbered in the data: cat, dog, emu; "
        "the first class is the first output, and so on.",
        "Left out: 2 hidden, 1 unreadable.",
        "No image could be read of 1 class: emu.",
    ]
    assert json.loads(json.dumps(found.pictures.record()))["left_out"] == {"hidden": 2, "unreadable": 1}


def test_a_limited_evaluation_says_how_many_classes_it_covers():
    pictures = dataset([0] * 5 + [1] * 5, [0] * 5 + [1] * 5, classes=("cat", "dog"))
    called = labels.from_names(["dog", "cat"])
    found = evaluate(pictures, answering({0: [1, 0]}), TINY, num_classes=2, labels=called, limit=4)
    assert found.pictures is not None
    first, second = found.pictures.lines()
    assert "4 images of 1 of 2 classes" in first
    assert "matched to the outputs by name (labels)" in first
    assert second == "Left out: 6 after the limit."


@pytest.mark.parametrize(
    ("word", "output"),
    [("tabby_cat", 281), ("great_white_shark", 2), ("n02085620-Chihuahua", 151), ("n01440764_tench", 0)],
)
def test_classes_are_matched_as_keras_and_stanford_write_them(word, output):
    assert match(dataset([0], [0], classes=(word,)), labels.find("imagenet-1k"), 1000) == (output,)


def test_folders_called_by_numbers_with_gaps_get_a_name_as_the_hint():
    with pytest.raises(InvalidInputError, match="2 of the 2 classes") as error:
        match(dataset([0], [0], classes=("243", "559")), labels.find("imagenet-1k"), 1000)
    assert "output 243 is n02108422 or bull mastiff" in (error.value.hint or "")


@pytest.fixture
def painted(tmp_path, monkeypatch) -> Path:
    """Pictures of three colours, and a network that knows them."""
    network = colours(batch_size=2)
    monkeypatch.setattr("vertebra.inference.loading.load", lambda *_, **__: network)
    monkeypatch.setattr(
        "vertebra.verbs.evaluate._conditions", lambda *_: {"model": "colours", "engine": "null"}
    )
    for name in COLOURS:
        for number in range(2):
            (tmp_path / "paints" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "paints" / name / f"{number}.png").write_bytes(encoded(name))
    return tmp_path / "paints"


def test_the_command_prints_classes_their_order_and_what_was_left_out(painted, tmp_path):
    (painted / "red" / "._0.png").write_bytes(b"?")
    arguments = ["eval", "colours", str(painted), "--table", str(tmp_path / "t.sqlite")]
    text = CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout
    assert "Data: 6 images of 3 classes, in alphabetical order: blue, green, red; matched" in text
    assert "Left out: 1 hidden." in text
    told = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)[0]
    assert (told["metric"], told["value"], told["data"]["first"]) == ("top1", 1.0, ["blue", "green", "red"])
    assert "6 images of 3 classes" in CliRunner().invoke(cli, [*arguments, "--csv"]).stderr


def test_names_that_are_not_utf_8_are_saved_and_reported(painted, tmp_path):
    pytest.importorskip("vl_convert")
    (painted / "blue").rename(Path(os.fsdecode(os.fsencode(painted) + b"/bl\xfce")))
    (painted / "red" / os.fsdecode(b"x\xe9.jpg")).write_bytes(b"no picture")
    (painted / "red" / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded("green"))
    done = vertebra.evaluate("colours", painted, labels="index", table=tmp_path / "t.sqlite")
    done.save(tmp_path / "out")
    page = done.report(tmp_path / "out.html").read_text(encoding="utf-8")
    assert "red/x\\udce9.jpg" in (tmp_path / "out" / "unreadable.csv").read_text(encoding="utf-8")
    assert "bl\\udcfce" in page
    assert "red/caf\\udce9.png" in page
