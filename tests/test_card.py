"""The answer card: one network beside its limits, how sure and why, its licence, what to type next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from classic_rows import SYSTEM, known, timed
from test_reports import Page
from vertebra.cli import cli
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Table, wide
from vertebra.reading.choice import rule
from vertebra.reading.reports.card import Answer, card_section

COMMAND = "vertebra pick --among table"


def answered(rows: list[Measurement], short: str, next: str | None = None, **limits: str) -> Answer:
    picked = rule.pick(wide(rows), rule.bounds(limits), least_grade="B")
    return Answer(f"Under {short}", short, picked, COMMAND, next)


def shown(*answers: Answer, asked: bool = True) -> str:
    return Page(str(card_section(answers, SYSTEM, asked))).text.strip()


def test_the_card_has_the_network_its_figures_beside_each_limit_and_the_commands() -> None:
    rows = [*known(), *timed()]
    text = shown(answered(rows, "limits", "vertebra export x", latency="80ms", memory="500MB", top1="70%"))
    for told in (
        f"Under limits, batch size 1 on {SYSTEM}.",
        "resnet50_acnet_deploy on onnxruntime",
        "Top-1 accuracy 76.7 % at least 70 % ✓ 6.7 points published",
        "Latency 48.0 ms B 46.6 to 50.4 ms at most 80 ms ✓ 60 % of it measured",
        "Peak memory 243 MB at most 500 MB ✓ 49 % of it measured",
        "The slow end of each interval meets its limit; measured with grade B.",
        "Licence (weights) no licence is stated: ask its authors before use",
        "Next vertebra export x",
        f"Command {COMMAND}",
    ):
        assert told in text
    assert "No limits were given" in shown(answered(rows, "x", fps="30"), asked=False)


def test_an_estimate_is_marked_with_its_interval_and_the_reason() -> None:
    note = "estimated from 11 measured networks"
    rows = [
        replace(row, origin="estimated", grade=None, grade_reasons=(note,))
        if row.metric == "latency"
        else row
        for row in [*known(), *timed()]
    ]
    text = shown(answered(rows, "x", fps="30"))
    assert "Frames per second ~192/s 183 to 198/s at least 30/s ✓ 6.41 times estimated" in text
    assert f"Not measured here yet. Frames per second: {note}." in text
    assert "Latency ~5.20 ms 5.04 to 5.46 ms estimated" in text


def test_an_accuracy_from_float32_s_is_marked_and_says_what_it_is_less() -> None:
    why = "published 70.0 % in float32, less 2.00 points"
    rows = [
        replace(row, origin="derived", grade_reasons=(why,)) if row.metric == "top1" else row
        for row in [*known(), *timed()]
    ]
    text = shown(answered(rows, "x", fps="100"))
    assert "Top-1 accuracy ≥60.1 % from float32's" in text
    assert f"Top-1 accuracy: {why}. The slow end of each interval meets its limit" in text


def test_the_better_ones_are_one_table_with_the_limits_that_each_misses() -> None:
    rows = [*known(), *timed()]
    answers = [answered(rows, f"{fps} fps", fps=fps) for fps in ("100", "60", "15")]
    assert [one.pick.choice.model for one in answers if one.pick.choice] == [
        "squeezenet1_1", "squeezenet1_1", "resnet50_acnet_deploy",
    ]  # fmt: skip
    text = shown(*answers)
    assert text.count("Better, but excluded") == 1
    assert "squeezenet1_0 on onnxruntime borderline: 100 fps 59.6 %" not in text  # worse, so not excluded
    assert "darknet53 on onnxruntime 100 fps, 60 fps, 15 fps 78.0 %" in text
    assert "resnet50_acnet on onnxruntime 100 fps, 60 fps 76.7 %" in text


def test_a_network_that_a_limit_may_exclude_is_called_borderline() -> None:
    rows = [*known(), *timed()]
    text = shown(answered(rows, "20 fps", fps="20"))  # 48.0 ms, and up to 50.4 ms
    assert "resnet50_acnet_deploy on onnxruntime borderline: 20 fps 76.7 %" in text
    assert "1 better network is borderline: measuring could change the answer." in text


def test_a_borderline_estimate_with_next_to_no_chance_changes_nothing() -> None:
    """As `pick` says it: 48.0 ms and 243 MB may be 19.2 ms and 97 MB, but hardly both."""
    rows = [
        replace(row, origin="estimated", grade=None, low=row.value * 0.4, high=row.value * 2.5)
        if row.model == "resnet50_acnet_deploy" and row.metric in ("latency", "memory_total")
        else row
        for row in [*known(), *timed()]
    ]
    told = "No better network has a chance of 5 % or more to change this answer."
    assert told in shown(answered(rows, "x", latency="20ms", memory="110MB"))
    assert "borderline: measuring could" in shown(answered(rows, "x", latency="40ms", memory="200MB"))


def test_without_a_choice_the_nearest_miss_stands_in_its_place() -> None:
    text = shown(answered([*known(), *timed()], "x", top1="76%", latency="45ms"))
    assert "No network certainly meets this. The nearest: resnet50_acnet_deploy on onnxruntime: " in text
    assert "latency 48.0 ms (46.6 ms to 50.4 ms), limit 45.0 ms" in text


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("resnet50.a1_in1k", "Licence (weights) apache-2.0"),
        (
            "convnextv2_base.fcmae_ft_in1k",
            "Licence (weights) cc-by-nc-4.0: non-commercial use only. The best with free weights: "
            "squeezenet1_0 on onnxruntime",
        ),
        ("fastvit_t8.apple_in1k", "fastvit-license: terms of its own: read them before use. The best"),
        (
            "nobody.knows",
            "no licence is stated: ask its authors before use. The best with free weights: squeezenet1_0",
        ),
    ],
)
def test_the_licence_of_the_weights_stands_with_the_best_free_ones(weights: str, told: str) -> None:
    from vertebra.measurements.shipped.licences import licences

    named = {"resnet50_acnet_deploy": weights, "squeezenet1_0": "resnet50.a1_in1k"}
    rows = [replace(row, weights=named.get(row.model)) if row.metric == "top1" else row for row in known()]
    if weights != "nobody.knows":
        assert weights in licences()
    assert told in shown(answered([*rows, *timed()], "x", latency="60ms"))


# ------------------------------------------------------------------ the verb


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Table(tmp_path / "table.sqlite").append([*known(), *timed(), *timed("eager", 1.4)])
    return tmp_path / "table.sqlite"


def page(path: Path, **asked: Any) -> Page:
    pytest.importorskip("vl_convert")
    written = vertebra.report(path.with_name("report.html"), table=path, **asked)
    return Page(written.read_text(encoding="utf-8"))


def test_a_report_answers_under_its_limits_and_its_command_answers_the_same(path: Path) -> None:
    text = page(path, among="table", latency="60ms", memory="400MB").text
    assert f"Latency ≤ 60 ms, peak memory ≤ 400 MB, batch size 1 on {SYSTEM}." in text
    assert "resnet50_acnet_deploy on onnxruntime" in text
    command = f"vertebra pick --among table --table {path} --latency 60ms --memory 400MB"
    assert f"Command {command}" in text
    done = CliRunner().invoke(cli, [*command.split()[1:], "--json"])
    assert '"resnet50_acnet_deploy"' in done.stdout.partition("}")[0]
    assert "Next vertebra export resnet50_acnet_deploy --engine onnxruntime -o resnet50_acnet_deploy" in text


def test_without_limits_a_report_says_which_ones_it_shows(path: Path) -> None:
    text = page(path, among="table").text
    assert "No limits were given, so this is for usual ones: real time: at least 30 frames per second" in text
    assert "Under other limits" in text
    assert "squeezenet1_1 on onnxruntime" in text


def test_the_whole_field_is_shown_where_it_can_be_estimated(path: Path, tmp_path: Path) -> None:
    assert "others estimated" in page(path).text
    few = tmp_path / "few" / "table.sqlite"
    few.parent.mkdir()
    Table(few).append([*known(), *timed()[:2]])
    text = page(few).text
    assert "others estimated" not in text
    assert f"--among table --table {few}" in text


def test_a_report_of_citations_answers_what_it_can(tmp_path: Path) -> None:
    Table(tmp_path / "table.sqlite").append([row for row in known() if row.origin == "published"])
    text = page(tmp_path / "table.sqlite").text
    assert "the most accurate, without a limit, batch size 1." in text
    assert "senet154_vd" in text


def test_a_limit_that_there_is_not_is_refused(path: Path) -> None:
    with pytest.raises(InvalidInputError, match='no limit "beauty"'):
        vertebra.report(table=path, beauty=3)
    with pytest.raises(InvalidInputError, match="--fps can't be combined with --page"):
        vertebra.report(table=path, page=True, fps="30")


def test_a_machine_with_a_card_has_a_report_of_the_device_with_more_rows(path: Path) -> None:
    Table(path).append([row for row in timed("tensorrt", 0.1, device="cuda") if row.model == "vgg16"])
    text = page(path, among="table", latency="60ms").text
    assert f"Command vertebra pick --among table --table {path} --device cpu --latency 60ms" in text
    assert "resnet50_acnet_deploy on onnxruntime" in text


def test_a_probe_on_several_sets_of_images_is_no_answer(path: Path) -> None:
    rows = [
        Measurement(model=model, metric="probe_top1", value=0.8, origin="evaluated", dataset=name,
                    dataset_sha256=name[-4:] * 16, split="5-fold", samples=9, input_size=224, weights="w",
                    precision="float32", protocol="probe")
        for model, name in (("vgg16", "cats@aaaa"), ("vgg19", "dogs@bbbb"))
    ]  # fmt: skip
    Table(path).append(rows)
    with pytest.raises(InvalidInputError, match="2 sets of images were probed: cats@aaaa, dogs@bbbb"):
        vertebra.report(path.with_name("report.html"), table=path, among="table", probe="50%")


def test_a_table_of_several_scenarios_has_a_report(path: Path) -> None:
    rows = [replace(row, scenario="single-stream") for row in timed("openvino")]
    offline = Measurement(model="vgg16", metric="throughput", value=9.0, origin="benched", system=SYSTEM,
                          engine="openvino", device="cpu", precision="float32", batch_size=1, streams=2,
                          input_size=224, scenario="offline")  # fmt: skip
    Table(path).append([*rows, offline])
    assert "--scenario single-stream --fps 30" in page(path, among="table").text
