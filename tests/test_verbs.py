"""The verbs in Python: what the command can do, they can too."""

from __future__ import annotations

import contextlib
import inspect
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import vertebra
from colours import Colours, colours, encoded
from vertebra.cli import VERBS, cli
from vertebra.errors import InvalidInputError, VertebraError
from vertebra.inference import loading, resolving
from vertebra.measurements import COLUMNS, Measurement
from vertebra.measurements.views import FORM
from vertebra.reading import directory
from vertebra.reading.choice.rule import LIMITS
from vertebra.verbs import fit
from vertebra.verbs.bench import Benched


def latency(engine: str = "onnxruntime", batch_size: int = 1) -> Measurement:
    return Measurement(
        model="vgg16", metric="latency", value=0.2, origin="benched", system="box", device="cpu",
        engine=engine, precision="float32", batch_size=batch_size, input_size=224, threads=2,
        scenario="single-stream", measured_at="2026-11-01T10:00:00+00:00",
    )  # fmt: skip


def served(value: float, batch_size: int) -> Measurement:
    return Measurement(
        model="vgg16", metric="throughput", value=value, origin="benched", system="box", device="cpu",
        engine="onnxruntime", precision="float32", batch_size=batch_size, input_size=224, threads=2,
        streams=1, scenario="offline", measured_at="2026-11-01T10:00:00+00:00",
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "table.sqlite"
    accuracy = Measurement(model="vgg16", metric="top1", value=0.72, origin="published", source="paper")
    vertebra.Table(file).append([accuracy, latency(), latency("openvino"), latency(batch_size=8)])
    return file


def test_a_table_s_rows_are_written_and_taken_in_again(path: Path, tmp_path: Path) -> None:
    rows = vertebra.table(path=path, metric="latency")
    rows.write(tmp_path / "rows.csv")
    assert vertebra.cite(tmp_path / "rows.csv", table=tmp_path / "other.sqlite") == len(rows) == 3
    with pytest.raises(InvalidInputError, match=r"rows\.txt"):
        rows.write(tmp_path / "rows.txt")


def test_a_mistake_is_forgotten_and_restored_whole(path: Path) -> None:
    run = vertebra.Table(path).append([latency("mistake")])
    assert [row.engine for row in vertebra.table(path=path, forget=run[:8])] == ["mistake"]
    assert len(vertebra.table(path=path, every=True)) == 4
    assert [row.engine for row in vertebra.table(path=path, forgotten=True)] == ["mistake"]
    with pytest.raises(InvalidInputError, match="Whole runs"):
        vertebra.table(path=path, forget=run, engine="mistake")
    assert [row.engine for row in vertebra.table(path=path, restore=[run[:8]])] == ["mistake"]
    assert len(vertebra.table(path=path, every=True)) == 5


def test_the_command_forgets_restores_and_shows_how(path: Path) -> None:
    run = vertebra.Table(path).append([latency("mistake"), latency("mistake", 4)])
    where = ["--table", str(path)]
    shown = json.loads(CliRunner().invoke(cli, ["table", "--forget", run[:9], "--json", *where]).stdout)
    undo = f"vertebra table --restore {run[:12]}"
    assert shown == [{"run": run, "rows": 2, "now": "forgotten", "to undo": undo}]
    assert "mistake" not in CliRunner().invoke(cli, ["table", "--all", *where]).stdout
    assert run[:8] in CliRunner().invoke(cli, ["table", "--forgotten", *where]).stdout
    assert "restored" in CliRunner().invoke(cli, ["table", "--restore", run[:9], *where]).stdout
    assert "mistake" in CliRunner().invoke(cli, ["table", *where]).stdout
    refused = CliRunner().invoke(cli, ["table", "--forget", run, "--model", "vgg16", *where])
    assert (refused.exit_code, "whole runs" in refused.stderr) == (2, True)


def test_rows_of_a_forgotten_run_that_are_cited_again_stay_forgotten_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, table = tmp_path / "a.csv", vertebra.Table(tmp_path / "table.sqlite")
    file.write_text("Model,T\na,5\n")
    assert vertebra.cite(file, mapping="model=Model,latency=T:ms", table=table) == 1
    (row,) = table.rows()
    table.forget(str(row.run))
    assert vertebra.cite(file, mapping="model=Model,latency=T:ms", table=table) == 0
    assert f"--restore {str(row.run)[:12]}" in caplog.text


@pytest.mark.parametrize(
    "read",
    [
        lambda path: vertebra.table(path=path),
        lambda path: vertebra.pick(table=path),
        lambda path: vertebra.chart("accuracy-latency", table=path),
        lambda path: vertebra.compare("vgg16", "alexnet", table=path),
        lambda path: vertebra.report(path.with_suffix(".html"), table=path),
        lambda path: vertebra.show("vgg16", table=path),
        lambda path: vertebra.table(path=path, forget="ab"),
    ],
)
def test_a_table_that_was_named_and_is_not_there_is_said_by_readers(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(VertebraError, match=r"There is no table .*tabel\.sqlite"):
        read(tmp_path / "tabel.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_the_default_table_may_not_be_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "none.sqlite"))
    assert vertebra.table() == []


def test_counts_are_given_where_the_own_table_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / "file" / "table.sqlite"
    monkeypatch.setenv("VERTEBRA_TABLE", str(path))
    (one,) = vertebra.profile("squeezenet1_1")
    assert one.totals()["params"] == 1235496
    assert "--table PATH, or VERTEBRA_TABLE" in caplog.text
    with pytest.raises(VertebraError, match="can't be"):
        vertebra.profile("squeezenet1_1", table=path)


def test_a_figure_without_its_batch_size_is_said_where_it_is_asked_for(path: Path) -> None:
    published = Measurement(
        model="alpha", metric="latency", value=0.01, origin="published", system="box", source="b"
    )
    accuracy = Measurement(model="alpha", metric="top1", value=0.9, origin="published", source="b")
    vertebra.Table(path).append([published, accuracy])
    found = vertebra.pick(table=path, latency="20ms", system="box", engine=None, filters={})
    assert any("alpha needs batch size 1, and its row states none" in note for note in found.notes)


def test_wide_rows_are_of_the_form_that_is_asked_for_and_have_what_needs_no_machine(path: Path) -> None:
    assert len(vertebra.table(path=path, wide=True)) == 3
    [one] = vertebra.table(path=path, wide=True, engine="onnxruntime", batch_size=1)
    assert (one.value("latency"), one.value("top1")) == (0.2, 0.72)
    assert len(vertebra.table(path=path, wide=True, batch_size=(1, 8))) == 3


def test_measured_rows_name_the_load_that_serves_best() -> None:
    rows = Benched([served(10.0, 1), served(20.0, 8), served(20.1, 64)])
    assert [row.batch_size for row in rows.best_loads()] == [8]
    assert rows.shares == [None] * 3


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"view": "grid", "x": "latency"}, "has its own axes, so --x can't be set"),
        ({"view": "accuracy", "best": 3}, "This chart has no --best"),
        ({"bound": "line"}, "This chart has no --bound"),
    ],
)
def test_a_chart_refuses_what_it_takes_no_notice_of(path: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        vertebra.chart(table=path, **asked)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"page": True, "live": True}, "--live can't be combined with --page"),
        ({"page": True, "among": "catalogue"}, "--among can't be combined with --page"),
        ({"live": True, "path": "report.html"}, "--output can't be combined with --live"),
        ({"port": 80}, "--port needs --live"),
        ({"engine": "eager"}, "--engine needs --page"),
    ],
)
def test_a_report_refuses_contradictions(path: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        vertebra.report(table=path, **asked)


def test_a_live_report_is_a_server(path: Path) -> None:
    pytest.importorskip("vl_convert")
    with vertebra.report(live=True, port=0, table=path) as server:
        assert server.address.startswith("http://127.0.0.1:")


def test_the_command_still_knows_live_by_its_former_name(path: Path) -> None:
    done = CliRunner().invoke(cli, ["report", "--serve", "--page", "--table", str(path)])
    assert "--live can't be combined with --page" in str(done.exception)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Colours:
    """What answers red, green or blue in place of any network."""
    network = Colours()
    monkeypatch.setattr("vertebra.inference.loading.load", lambda model, **_: colours(session=network))
    return network


def test_predictions_come_in_a_list_or_each_when_its_batch_is_done(session: Colours) -> None:
    pictures = [encoded("red"), encoded("blue")]
    assert [one.top[0].name for one in vertebra.predict(*pictures, model="x")] == ["red", "blue"]
    session.batches.clear()
    stream = vertebra.predict(*pictures, model="x", stream=True)
    assert session.batches == []
    assert next(stream).top[0].name == "red"
    assert len(session.batches) == 1


def test_a_stream_that_is_closed_has_a_sheet_of_what_was_answered(session: Colours, tmp_path: Path) -> None:
    sheet, vectors = tmp_path / "sheet.html", tmp_path / "vectors.npz"
    stream = vertebra.predict(encoded("red"), encoded("blue"), model="x", stream=True, save=sheet)
    assert next(stream).picture is None
    assert not sheet.exists()
    stream.close()
    assert sheet.read_text().count("<figure>") == 1
    [one] = vertebra.predict(encoded("red"), model="x", save=sheet, pictures=True)
    assert one.picture is not None
    with pytest.raises(InvalidInputError, match="sheet"):
        vertebra.predict(encoded("red"), model="x", save=tmp_path / "sheet.bmp", stream=True)
    with pytest.raises(InvalidInputError, match="vectors"):
        vertebra.predict(encoded("red"), model="x", features=vectors.with_suffix(".txt"), stream=True)


def test_what_there_is_is_listed_as_data() -> None:
    assert vertebra.list()[0].name == "alexnet"
    assert {engine.info.name: engine.missing for engine in vertebra.list("engines")}["null"] is None
    assert {metric.name for metric in vertebra.list("metrics")} >= {"top1", "latency"}
    assert {entry.network for entry in vertebra.list(paper="bianco2018")} >= {"AlexNet"}
    assert {view.name for view in vertebra.list("charts")} >= {"grid"}
    assert {source.name for source in vertebra.list("sources")} >= {"paddleclas"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"what": "engines", "paper": "bianco2018"}, "--paper is for models, not for engines"),
        ({"what": "charts", "source": "timm"}, "--source is for models, not for charts"),
        ({"source": "tim"}, 'Unknown source "tim"'),
        ({"what": "modles"}, 'Unknown list "modles"'),
    ],
)
def test_what_can_not_be_listed_is_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(VertebraError, match=told):
        vertebra.list(**asked)


# ------------------------------------------------------------------ the command beside Python

#: The functions that a verb of the command calls, where it isn't the one of the same name alone.
FUNCTIONS = {
    "survey": ("survey", "write_job"),
    "eval": ("evaluate", "probe", "disagreement"),
    "pick": ("pick", "fastest"),
}

#: What a function's further keywords may be.
FURTHER: dict[str, set[str]] = {
    "cite": set(COLUMNS),
    "table": set(COLUMNS),
    "compare": set(COLUMNS),
    "chart": set(FORM),
    "pick": {*LIMITS, *FORM, "dataset", "probed", "origin"},
    "fit": {*fit.LIMITS},
    "report": {*LIMITS},
    "list": set(directory.LIMITS),
    "evaluate": set(inspect.signature(loading.load).parameters),
    "disagreement": set(inspect.signature(loading.load).parameters),
    "predict": set(inspect.signature(loading.load).parameters),
    "fastest": set(inspect.signature(resolving.resolve).parameters),
    "export": set(inspect.signature(resolving.resolve).parameters),
}

#: Options that only say how an answer is printed.
PRINTED = {"style", "layers", "top", "no_pager", "why"}

#: Parameter of the command -> where Python has it.
ELSEWHERE = {
    ("bench", "batch_sizes"): "batch_size takes several",
    ("chart", "all_views"): "a loop over vertebra.list('charts')",
    ("chart", "output"): "Chart.save",
    ("check", "markdown"): "Checked.markdown",
    ("compare", "sides"): "the arguments first and second",
    ("compare", "tolerance"): "reading.regression.Gate",
    ("compare", "require_judged"): "reading.regression.Gate",
    ("compare", "require_all"): "reading.regression.Gate",
    ("compare", "every"): "the returned list has every figure",
    ("compare", "junit"): "reading.regression.junit",
    ("eval", "arguments"): "the arguments model and dataset",
    ("eval", "probed"): "vertebra.probe",
    ("eval", "save"): "Evaluated.save",
    ("eval", "report"): "Evaluated.report",
    ("list", "words"): "the arguments what and pattern",
    ("pick", "fastest"): "vertebra.fastest",
    ("survey", "write_job"): "vertebra.write_job",
    ("report", "output"): "the argument path",
    ("table", "file"): "Rows.write",
    ("table", "table"): "path: the verb itself is called table",
}


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    names = [name for group in VERBS.values() for name in group]
    return {name: cli.get_command(context, name) or click.Command(None) for name in names}


def functions(verb: str) -> tuple[str, ...]:
    return FUNCTIONS.get(verb, (verb,))


def test_a_star_import_has_every_public_name_but_list() -> None:
    assert set(vertebra.__all__) == vertebra._PUBLIC.keys() - {"list", "__version__"}


@pytest.mark.parametrize("verb", commands())
def test_every_verb_of_the_command_is_a_function_with_its_options(verb: str) -> None:
    taken: set[str] = set()
    for name in functions(verb):
        assert name in vertebra._PUBLIC
        assert name in dir(vertebra)
        parameters = inspect.signature(getattr(vertebra, name)).parameters.values()
        taken |= {one.name for one in parameters}
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            taken |= FURTHER.get(name, set())
    missing = {
        one.name for one in commands()[verb].params
        if not getattr(one, "hidden", False) and not taken & {one.name, *map(spelled, one.opts)}
    }  # fmt: skip
    elsewhere = {name for named, name in ELSEWHERE if named == verb}
    assert missing - PRINTED == elsewhere


def spelled(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


# ------------------------------------------------------------------ earlier names of arguments


def test_earlier_names_of_arguments_are_still_taken(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = vertebra.Table(tmp_path / "table.sqlite")
    picks = [vertebra.pick(among="catalogue", params="2M", table=table, **{name: "params"})  # type: ignore[arg-type]
             for name in ("by", "objective")]  # fmt: skip
    assert picks[0].objective == picks[1].objective == "params"
    for name in ("engine", "engines"):
        with pytest.raises(VertebraError, match='Unknown engine "onx"'):
            vertebra.bench("alexnet", table=table, **{name: "onx"})  # type: ignore[arg-type]
        with pytest.raises(VertebraError, match='Unknown engine "onx"'):
            vertebra.fastest("alexnet", table=table, **{name: "onx"})  # type: ignore[arg-type]
        with pytest.raises(VertebraError, match='Unknown engine "onx"'):
            vertebra.survey(output=tmp_path / "out", table=table, **{name: ["onx"]})  # type: ignore[arg-type]


@pytest.fixture
def spoilt(path: Path) -> Path:
    """A table of an earlier version, with what no door lets in any more."""
    other = [latency(), Measurement(model="vgg16", metric="params", value=1e8, origin="profiled")]
    rows = [*other, Measurement(model="vgg16", metric="top1", value=0.9, origin="published", source="b")]
    for model in ("zero", "negative", "over", "swapped", "broken"):
        vertebra.Table(path).append([replace(row, model=model) for row in rows])
    with contextlib.closing(sqlite3.connect(path)) as raw:
        for change in (
            "value = 0 WHERE model = 'zero' AND metric IN ('latency', 'params')",
            "value = -1 WHERE model = 'negative'",
            "value = 75.3 WHERE model = 'over' AND metric = 'top1'",
            "low = 0.1, high = 0.05 WHERE model = 'swapped' AND metric = 'latency'",
            "measured_at = 'yesterday', batch_size = 0 WHERE model = 'swapped' AND metric = 'latency'",
            "versions = '{', value = 'text' WHERE model = 'broken'",
        ):
            raw.execute(f"UPDATE measurements SET {change}")
        raw.commit()
    return path


def test_readers_of_a_spoilt_table_go_on(spoilt: Path, tmp_path: Path) -> None:
    wide = {row.model: row for row in vertebra.table(path=spoilt, wide=True)}
    assert wide["zero"].value("top1") == 0.9
    assert wide["zero"].value("params") == 0  # counted: a network may have none
    assert {wide["zero"].value(name) for name in ("latency", "fps", "accuracy_density")} == {None}
    assert "broken" not in wide
    choice = vertebra.pick(table=spoilt, latency="300ms", system="box").choice
    assert choice is not None
    assert (choice.model, choice.value("top1")) == ("vgg16", 0.72)
    assert vertebra.compare("vgg16@onnxruntime", "vgg16@openvino", table=spoilt, batch_size=1)
    assert vertebra.report(tmp_path / "report.html", table=spoilt).exists()
    shown = CliRunner().invoke(cli, ["table", "--json", "--table", str(spoilt)])
    assert shown.exit_code == 0
    assert any(row["model"] == "zero" and row["value"] == 0 for row in json.loads(shown.stdout))
