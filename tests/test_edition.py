"""This machine's edition of the published page: what was printed in its place, ours beside it, gaps named."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

import vertebra
from classic_rows import SYSTEM, known, timed
from test_reports import Page
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, Table
from vertebra.measurements.shipped import published
from vertebra.reading.reports.edition import edition
from vertebra.zoo import names

PRINTED = list(published.printed("paddleclas.csv"))


def at(
    batch_size: int, precision: str = "float32", engine: str = "onnxruntime", pace: float = 1.0
) -> list[Measurement]:
    more: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "scenario": "single-stream"}
    return [row for row in timed(engine, pace * batch_size, **more) if row.metric == "latency"]


def tables(markdown: str) -> list[list[dict[str, str]]]:
    """Each table's lines as cells by heading."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE):
        heads, _, *lines = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in block.splitlines())
        found.append([dict(zip(heads, line, strict=True)) for line in lines])
    return found


def test_every_figure_that_the_page_printed_stands_in_its_place_digit_for_digit():
    accuracy, float32, half = tables(edition(known(), SYSTEM).markdown())
    heads = {
        "top1": "Top1", "top5": "Top5", "reference_top1": "Reference top1",
        "reference_top5": "Reference top5", "flops": "FLOPs (G): printed",
        "params": "Parameters (M): printed", "resize_short": "Resize short size",
    }  # fmt: skip
    places = {"FP32": float32, "FP16": half}
    seen = set()
    for line in PRINTED:
        if line["metric"] == "latency":
            device = (line["device"] or "V100 GPU").removesuffix(" GPU")
            maker = ", TensorRT" if device == "V100" and line["engine"] else ""
            head = f"{device}{maker} {line['precision']}, printed (ms): Batch {line['batch_size']}"
            table = places[line["precision"]]
        else:
            head = heads[line["metric"]]
            table = float32 if line["metric"] == "resize_short" else accuracy
        [found] = [one for one in table if one["Models"] == line["model"]]
        assert found[head] == line["printed"]
        seen.add((line["model"], line["precision"], head))
    shown = [
        cell
        for table, heading in ((accuracy, heads.values()), (float32, ("Resize short size",)), (half, ()))
        for line in table
        for head, cell in line.items()
        if cell and (head in heading or "printed (ms)" in head)
    ]
    assert len(shown) == len(seen)  # and nothing that wasn't printed


def test_counts_stand_beside_the_printed_ones_and_are_the_true_ones():
    accuracy, float32, _ = tables(edition([], None).markdown())
    [vgg16] = [line for line in accuracy if line["Models"] == "VGG16"]
    assert (vgg16["FLOPs (G): true"], vgg16["Parameters (M): true"]) == ("30.941", "138.353")
    [alexnet] = [line for line in float32 if line["Models"] == "AlexNet"]
    assert alexnet["Storage (MB)"] == "244.403"  # 61,100,840 parameters of 4 bytes
    assert len(accuracy) == len(float32) == 11


def test_latencies_carry_their_interval_and_grade_and_doubts_their_reasons():
    text = edition([*known(), *at(1), *at(8, "bfloat16", "openvino")], SYSTEM).markdown()
    _, float32, half = tables(text)
    here = "This machine, float32, onnxruntime (ms): Batch 1"
    assert [line[here] for line in float32 if line["Models"] == "AlexNet"] == ["12.1 (11.7 to 12.7) B"]
    there = "This machine, bfloat16, openvino (ms): Batch 8"
    assert [line[there] for line in half if line["Models"] == "SqueezeNet1_1"] == ["41.6 (40.4 to 43.7) B"]
    assert "- VGG16, float32, batch 1: grade C: 23 samples of 64: budget spent." in text


def test_a_missing_figure_names_the_command_that_fills_it_and_a_measured_one_none():
    rows = [
        *known(),
        *(row for batch in (1, 4, 8) for row in at(batch) if (row.model, batch) != ("vgg13", 4)),
    ]
    text = edition(rows, SYSTEM).markdown()
    _, float32, _ = tables(text)
    here = "This machine, float32, onnxruntime (ms): Batch"
    assert {line["Models"] for line in float32 if "run" in line[f"{here} 4"]} == {"VGG13"}
    assert not any("run" in line[f"{here} {batch}"] for line in float32 for batch in (1, 8))
    assert "- run 1: `vertebra bench vgg13 --engine onnxruntime --threads 2 --batch-size 4`" in text
    assert "`vertebra eval vgg13 imagenet/val`" in text
    assert "`vertebra profile vgg13`" in text


def test_the_commands_that_fill_gaps_are_ones_that_the_command_line_takes():
    text = edition(known(), SYSTEM).markdown()
    commands = re.findall(r"`vertebra (\S+) (.*)`", text)
    assert {verb for verb, _ in commands} == {"bench", "eval", "profile"}
    for verb, rest in commands:
        command = cli.get_command(None, verb)
        context = command.make_context(verb, rest.split(), resilient_parsing=False)
        told = context.params.get("models") or [context.params.get("model") or rest.split()[0]]
        assert all(names.find(model) for model in told)


def test_one_table_is_of_one_engine_and_one_setting():
    more = [replace(row, threads=1, value=row.value / 9, low=None, high=None) for row in at(1)[:4]]
    rows = [*known(), *at(1), *more, *at(1, engine="eager", pace=2.0), *at(4, engine="eager", pace=2.0)]
    _, chosen, _ = tables(edition(rows, SYSTEM).markdown())
    assert chosen[0]["This machine, float32, eager (ms): Batch 1"].startswith("24.2 ")  # eager tells most
    _, asked, _ = tables(edition(rows, SYSTEM, engine="onnxruntime").markdown())
    assert asked[0]["This machine, float32, onnxruntime (ms): Batch 1"].startswith("12.1 ")


def test_rows_of_another_machine_or_size_have_no_place():
    elsewhere = [replace(row, system="elsewhere-4-cores-00000000") for row in at(1)]
    small = [replace(row, input_size=64) for row in at(4)]
    assert "Nothing has been measured in float32 yet." in edition([*elsewhere, *small], SYSTEM).markdown()


def test_an_evaluation_stands_beside_the_printed_accuracy():
    row = Measurement(model="alexnet", metric="top1", value=0.5662, low=0.5619, high=0.5705, samples=50_000,
                      origin="evaluated", dataset="imagenet-1k", split="val", input_size=224,
                      precision="float32", engine="eager")  # fmt: skip
    accuracy, *_ = tables(edition([row], None).markdown())
    assert accuracy[0]["Evaluated here: Top1"] == "0.566 (0.562 to 0.571)"
    assert accuracy[0]["Evaluated here: Top5"].startswith("run ")


def test_the_page_is_one_whole_document_that_asks_nobody():
    page = Page(edition([*known(), *at(1)], SYSTEM, made_at="2026-07-01").html())
    assert (page.faults, page.open) == ([], [])
    assert not any(entry.get("src") or entry.get("href", "#")[0] != "#" for _, entry in page.elements)
    assert {"overview", "accuracy", "speed", "sources"} <= {entry.get("id") for entry in page.all("section")}
    assert "vertebra bench" in page.text
    assert "12.1 (11.7 to 12.7) B" in page.text


def test_the_command_writes_html_or_markdown_by_the_names_end(tmp_path):
    table = Table(tmp_path / "table.sqlite")
    table.append([*known(), *at(1)])
    for name, start in (("page.html", "<!DOCTYPE html>"), ("page.md", "# The classic networks")):
        written = vertebra.report(tmp_path / name, page=True, system=SYSTEM, table=table)
        assert written.read_text(encoding="utf-8").startswith(start)
    with pytest.raises(InvalidInputError, match=r"page\.pdf"):
        vertebra.report(tmp_path / "page.pdf", page=True, table=table)
    with pytest.raises(UnknownNameError, match="onnxrun"):
        vertebra.report(tmp_path / "other.html", page=True, engine="onnxrun", table=table)
    assert {path.name for path in tmp_path.glob("*.*")} >= {"page.html", "page.md"}
    assert not list(tmp_path.glob("other*"))


def test_the_page_shows_the_runs_of_a_form_pooled_as_an_answer_does(tmp_path):
    table = Table(tmp_path / "table.sqlite")
    table.append(known())
    (first,) = [row for row in at(1) if row.model == "vgg16"]
    for day, factor in ((1, 1.0), (2, 1.04)):
        value = first.value * factor
        told = {"value": value, "low": 0.999 * value, "high": 1.001 * value, "grade": "B"}
        table.append([replace(first, measured_at=f"2026-11-0{day}T12:00:00+00:00", **told)])
    written = vertebra.report(tmp_path / "page.md", page=True, system=SYSTEM, table=table).read_text()
    *_, float32, _ = tables(written)
    [vgg16] = [line for line in float32 if line["Models"] == "VGG16"]
    [cell] = [text for head, text in vgg16.items() if text and "printed" not in head and "Batch 1" in head]
    low, high = (float(end) for end in re.findall(r"[\d.]+", cell.partition("(")[2])[:2])
    assert low < 1e3 * first.value < 1.04e3 * first.value < high  # each run's own interval is 0.1 %
