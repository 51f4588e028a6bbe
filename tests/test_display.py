"""How values look at a prompt and in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import vertebra
from vertebra.inference.prediction import Answer, Prediction
from vertebra.measurements import Measurement, Rows, Table, display, wide
from vertebra.progress import Progress
from vertebra.verbs import notebook

HERE: dict[str, Any] = {
    "system": "here", "device": "cpu", "precision": "float32", "batch_size": 1, "input_size": 224,
    "threads": 2, "scenario": "single-stream", "engine": "onnxruntime",
}  # fmt: skip
LATENCY = Measurement(model="vgg16", metric="latency", value=0.12, low=0.11, high=0.13, grade="B",
                      origin="benched", **HERE)  # fmt: skip
TOP1 = Measurement(
    model="vgg16", metric="top1", value=0.72, origin="published", dataset="imagenet-1k", split="val"
)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    found = Table(tmp_path / "table.sqlite")
    found.append([LATENCY, TOP1])
    return found


def test_a_row_shows_the_columns_that_have_a_value() -> None:
    assert repr(TOP1) == (
        "Measurement(model='vgg16', metric='top1', value=0.72, origin='published', dataset='imagenet-1k', "
        "split='val')"
    )
    assert eval(repr(LATENCY)) == LATENCY


def test_what_verbs_return_is_one_line_at_a_prompt(table: Table) -> None:
    picked = vertebra.pick(among="table", fps=5, table=table, system="here")
    assert repr(picked) == (
        "<Pick: vgg16 on onnxruntime: top-1 accuracy 72.0 %, latency 120 ms (1 network meets "
        "frames per second ≥ 5/s)>"
    )
    assert repr(vertebra.pick(among="table", fps=99, table=table, system="here")).startswith(
        "<Pick: no network surely meets"
    )
    assert repr(vertebra.table(path=table)) == "<Rows: 2 rows of 1 network and 2 metrics>"
    assert repr(wide([LATENCY, TOP1])[0]).startswith(
        "<WideRow: vgg16, engine onnxruntime, top-1 accuracy 72.0 %"
    )
    compared = vertebra.compare(
        {"engine": "onnxruntime"}, {"engine": "onnxruntime"}, table=table, system="here"
    )
    assert repr(compared).startswith("<Compared: 1 figure, 1 no detectable difference")
    assert "latency of vgg16 120 ms 120 ms 1.000" in repr(compared[0])
    assert repr(vertebra.profile("squeezenet1_1", table=table)[0]) == (
        "<Profile: squeezenet1_1: 1.24 M parameters, 350 M MACs at 224x224>"
    )
    assert repr(vertebra.show("vgg16", table=table)) == "<Portrait: vgg16: VGG, 2014, 224 px>"
    answer = Prediction("cat.jpg", (Answer(281, "n02123045", "tabby", 0.5),))
    assert repr(answer) == "<Prediction: cat.jpg: tabby 50.0 %>"
    assert repr(Prediction("x.jpg", error="no such file")) == "<Prediction: x.jpg: no such file>"


def test_a_notebook_shows_tables_and_charts_as_pictures(table: Table) -> None:
    assert "<td>vgg16</td><td>onnxruntime</td><td>72.0 %</td><td>120 ms</td>" in (
        vertebra.pick(among="table", fps=5, table=table, system="here")._repr_html_()
    )
    chart = vertebra.chart("accuracy", table=table, system="here")
    shown = chart._repr_mimebundle_()
    assert shown["image/svg+xml"].startswith("<svg")
    assert shown["text/plain"] == repr(chart)
    assert len(repr(chart)) < 200


def test_what_is_shown_is_escaped_cut_and_counted() -> None:
    sound = Measurement(model="a", metric="params", value=1, origin="published")
    odd = Measurement.restored({**vars(sound), "model": "<b>\x1b[2J" + "x" * 300})  # as in an old table
    text = display.table([display.readable(odd)])
    assert "<b>" not in text
    assert "\x1b" not in text
    assert "&lt;b&gt;\N{REPLACEMENT CHARACTER}[2J" in text
    assert "x" * 250 not in text
    many = Rows([TOP1] * 40)._repr_html_()
    assert many.count("<tr>") == 26
    assert "… and 15 more" in many


def test_an_estimate_is_marked_and_shows_its_interval() -> None:
    row = Measurement(
        model="a", metric="latency", value=0.024, low=0.019, high=0.031, origin="estimated", **HERE
    )
    assert display.quantity(row) == "~24.0 ms (19.0 to 31.0 ms)"
    assert display.quantity(TOP1) == "72.0 %"
    assert display.quantity(None) is None


# ------------------------------------------------------------------ progress


def test_progress_in_html() -> None:
    assert notebook.drawn(Progress("<loading>")) == "<div>&lt;loading&gt;</div>"
    assert notebook.drawn(Progress("alexnet", 1, 3, "cases", left_s=75.0)) == (
        '<div><progress value="1" max="3"></progress> 1/3 cases alexnet, about 1:15 left</div>'
    )


def test_a_listener_that_was_given_is_kept_and_a_script_gets_none() -> None:
    assert notebook.listener(print) is print
    assert notebook.listener(None) is None


def test_a_real_notebook_shows_a_pick_and_a_bar(table: Table) -> None:
    cells = [
        f"import vertebra\nvertebra.pick(among='table', fps=5, table={str(table.path)!r}, system='here')",
        "from vertebra.verbs import notebook\nfrom vertebra.progress import Progress\n"
        "bar = notebook.listener(None)\n"
        "for done in (0, 2):\n    bar(Progress('alexnet', done, 2, 'cases'))",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    picked, bar = (cell.outputs for cell in book.cells)
    assert picked[0]["data"]["text/plain"].startswith("<Pick: vgg16 on onnxruntime")
    assert "<table>" in picked[0]["data"]["text/html"]
    assert len(bar) == 1
    assert 'value="2" max="2"' in bar[0]["data"]["text/html"]
