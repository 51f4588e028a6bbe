"""Rows in and out of CSV, JSON, Parquet and pandas: nothing lost, nothing foreign let in."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vertebra import metrics
from vertebra.errors import (
    InvalidInputError,
    MissingRuntimeError,
    TableError,
    UnknownNameError,
    VertebraError,
)
from vertebra.measurements import COLUMNS, Measurement, Table, exchange
from vertebra.measurements.measurement import GRADES, ORIGINS
from vertebra.measurements.record import KINDS

WAYS: dict[str, tuple[Callable[..., None], Callable[..., list[Measurement]]]] = {
    "csv": (exchange.write_csv, exchange.read_csv),
    "json": (exchange.write_json, exchange.read_json),
    "parquet": (exchange.write_parquet, exchange.read_parquet),
}

number = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
#: Text that a row can hold: what can't be printed is refused (test_measurements.py).
_text = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cn", "Cs", "Zl", "Zp")))
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": _text,
    "integer": st.integers(1, 2**63 - 1),
    "boolean": st.booleans(),
    "number": number,
    "texts": st.lists(_text | st.just("two\n\tlines"), max_size=3).map(tuple),
    "mapping": st.dictionaries(_text, _text, max_size=3),
}

_CHOSEN = {
    "model": _text.filter(str.strip),
    "measured_at": st.datetimes().map(str),
    "metric": st.sampled_from(sorted(metrics.METRICS)),
    "origin": st.sampled_from(ORIGINS),
    "grade": st.sampled_from(GRADES),
}
_NEEDED = ("model", "metric", "value", "origin", "grade_reasons", "versions")


def _value_of(range: metrics.Range) -> st.SearchStrategy[float]:
    if range.is_whole:
        return st.integers(1, 1 if range.most < 2 else 2**50).map(float)
    return st.floats(0, min(range.most, 1e300), exclude_min=True)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    values = {}
    for name in COLUMNS:
        of_column = _CHOSEN.get(name, _VALUES[KINDS[name]])
        values[name] = draw(of_column if name in _NEEDED else st.none() | of_column)
    metric = metrics.find(values["metric"])
    for name in metric.conditions:
        if values[name] is None:
            values[name] = draw(_VALUES[KINDS[name]])
    low, value, high = sorted(draw(st.tuples(*[_value_of(metric.range)] * 3)))
    values.update(value=value, low=draw(st.none() | st.just(low)), high=draw(st.none() | st.just(high)))
    return Measurement(**values)


FULL = Measurement(
    model="vgg16",
    metric="latency",
    value=0.25,
    origin="benched",
    weights="w",
    low=0.2,
    high=0.3,
    samples=64,
    grade="B",
    grade_reasons=("one process", 'warm; "really"'),
    dataset="imagenet",
    split="val",
    protocol="p",
    input_size=224,
    batch_size=1,
    precision="float32",
    engine="eager",
    provider="cpu",
    device="cpu",
    layout="nchw",
    threads=2,
    streams=1,
    scenario="offline",
    arrival_rate=3.0,
    system="box-1",
    source="https://example.org/?a=1,2",
    convention="c",
    disputed="a line\nand another",
    run="0f",
    versions={"torch": "2.9", "vertebra": "0.1"},
    measured_at="2026-11-22",
)
BARE = Measurement(model="vgg16", metric="params", value=138357544, origin="published")


def same(left: Measurement, right: Measurement) -> bool:
    """Equal in every column, and of the same types but that a number may have been an int."""
    typed = [
        type(getattr(left, name)) is type(getattr(right, name)) for name in COLUMNS if KINDS[name] != "number"
    ]
    return left == right and all(typed) and isinstance(right.value, float)


@pytest.mark.parametrize("way", WAYS)
def test_full_and_bare_rows_survive_every_format(tmp_path: Path, way: str) -> None:
    write, read = WAYS[way]
    write([FULL, BARE], tmp_path / "rows")
    found = read(tmp_path / "rows")
    assert len(found) == 2
    assert same(FULL, found[0])
    assert same(BARE, found[1])


@pytest.mark.parametrize("way", WAYS)
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.lists(measurements(), max_size=3))
def test_any_rows_survive_every_format(tmp_path: Path, way: str, rows: list[Measurement]) -> None:
    write, read = WAYS[way]
    write(rows, tmp_path / "rows")
    found = read(tmp_path / "rows")
    assert len(found) == len(rows)
    assert all(same(left, right) for left, right in zip(rows, found, strict=True))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=st.lists(measurements(), max_size=3))
def test_any_rows_survive_a_dataframe(rows: list[Measurement]) -> None:
    found = exchange.from_dataframe(exchange.to_dataframe(rows))
    assert len(found) == len(rows)
    assert all(same(left, right) for left, right in zip(rows, found, strict=True))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.lists(measurements(), min_size=1, max_size=3))
def test_any_rows_survive_the_table(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Measurement]
) -> None:
    table = Table(tmp_path_factory.mktemp("table") / "table.sqlite")
    run = table.append(rows)
    expected = [dataclasses.replace(row, run=run) for row in rows]
    assert all(same(left, right) for left, right in zip(expected, table.rows(), strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_a_file_read_back_into_its_table_adds_nothing(tmp_path: Path, way: str) -> None:
    table, path = Table(tmp_path / "table.sqlite"), tmp_path / "rows"
    for number in range(3):
        table.append(
            [FULL, BARE, BARE, dataclasses.replace(FULL, value=0.25 + number / 100)], samples={"x": [number]}
        )
    getattr(table, f"write_{way}")(path)
    assert getattr(table, f"read_{way}")(path) == 0
    assert len(table) == 12
    other = Table(tmp_path / "other.sqlite")
    assert getattr(other, f"read_{way}")(path) == 12
    assert getattr(other, f"read_{way}")(path) == 0
    assert {row.run for row in other.rows()} == {row.run for row in table.rows()}


def test_a_dataframe_read_back_adds_nothing_and_keeps_types(tmp_path: Path) -> None:
    table = Table(tmp_path / "table.sqlite")
    table.append([FULL, BARE])
    frame = table.to_dataframe()
    assert list(frame.columns) == list(COLUMNS)
    assert str(frame["batch_size"].dtype) == "Int64"
    assert table.read_dataframe(frame) == 0
    assert Table(tmp_path / "other.sqlite").read_dataframe(frame) == 2


def test_rows_typed_by_hand_are_taken_once(tmp_path: Path) -> None:
    path, table = tmp_path / "mine.csv", Table(tmp_path / "table.sqlite")
    path.write_text(
        "\ufeffmetric,model,value,origin,source\r\nparams,a,5,published,\r\n\r\nparams,b,6e3,published,me\r\n"
    )
    assert (table.read_csv(path), table.read_csv(path)) == (2, 0)
    assert [(row.model, row.value, row.source) for row in table.rows()] == [
        ("a", 5.0, None),
        ("b", 6000.0, "me"),
    ]


HEAD = "model,metric,value,origin"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            f"{HEAD}\na,params,1,published\na,params,many,published\n",
            InvalidInputError,
            "line 3.*value from 'many'",
        ),
        (
            f"{HEAD}\na,params,1,published\na,parms,1,published\n",
            UnknownNameError,
            'line 3.*Unknown metric "parms"',
        ),
        (f"{HEAD}\na,params,nan,published\n", InvalidInputError, "line 2.*value"),
        (f"{HEAD}\na,params,1,guessed\n", InvalidInputError, "line 2.*origin"),
        (f"{HEAD}\na,latency,1,benched\n", InvalidInputError, "line 2.*must state"),
        (f"{HEAD}\na,params,,published\n", InvalidInputError, "line 2.*The row has no value"),
        (f"{HEAD}\na,params,1\n", TableError, "line 2 has 3 cells"),
        (f"{HEAD},versions\na,params,1,published,[1]\n", InvalidInputError, "line 2.*versions"),
        (f"{HEAD},versions\na,params,1,published,{'[' * 100_000}\n", InvalidInputError, "line 2.*versions"),
        (f"{HEAD}\na,latency,-0.012,published\n", InvalidInputError, "line 2: The latency of a is -12"),
        (f"{HEAD},low,high\na,latency,0.15,published,0.16,0.1\n", InvalidInputError, "line 2.*contain"),
        (f"{HEAD},batch_size\na,latency,0.15,published,0\n", InvalidInputError, "line 2: batch_size is 0"),
        (f"{HEAD},measured_at\na,params,1,published,29.11.2026\n", InvalidInputError, "line 2: measured_at"),
        (f'{HEAD}\n"a\x1bb",params,1,published\n', InvalidInputError, r"line 2: model holds.*U\+001B"),
        (f"{HEAD},grade_reasons\na,params,1,published,slow\n", InvalidInputError, "line 2.*grade_reasons"),
        (f"{HEAD},batchsize\na,params,1,published,1\n", UnknownNameError, 'Unknown column "batchsize"'),
        (f"{HEAD},model\na,params,1,published,b\n", TableError, "names a column twice"),
        ("name,age\nx,3\n", TableError, "lacks the columns model, metric, value, origin"),
        ("", TableError, "lacks the columns model"),
        (f'{HEAD}\n"a,params', TableError, "not CSV"),
    ],
)
def test_a_bad_csv_is_told_by_its_line_and_nothing_is_appended(
    tmp_path: Path, text: str, error: type[VertebraError], message: str
) -> None:
    path, table = tmp_path / "rows.csv", Table(tmp_path / "table.sqlite")
    path.write_text(text)
    with pytest.raises(error, match=message):
        table.read_csv(path)
    assert len(table) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", "not JSON"),
        ("[]", "format"),
        ('{"format": "songs", "version": 1, "rows": []}', "format"),
        (
            '{"format": "vertebra.measurements", "version": 1, "rows": [{"model": "a", "metric": "top1", '
            '"value": 75.3, "origin": "published"}]}',
            "row 1: The top-1 accuracy of a is 7530 %",
        ),
        ('{"format": "vertebra.measurements", "version": 3, "rows": []}', "version 3"),
        ('{"format": "vertebra.measurements", "version": 1, "rows": [3]}', "list of objects"),
        (
            '{"format": "vertebra.measurements", "version": 1, "rows": [{"model": "a", "moddel": 1}]}',
            "row 1.*moddel",
        ),
        ('{"format": "vertebra.measurements", "version": 1, "rows": [{"model": 3}]}', "row 1.*model is 3"),
    ],
)
def test_a_bad_json_is_told_by_its_row_and_nothing_is_appended(
    tmp_path: Path, text: str, message: str
) -> None:
    path, table = tmp_path / "rows.json", Table(tmp_path / "table.sqlite")
    path.write_text(text)
    with pytest.raises(VertebraError, match=message):
        table.read_json(path)
    assert len(table) == 0


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    table = Table(tmp_path / "table.sqlite")
    (tmp_path / "text").write_text("PAR1 in name only")
    parquet.write_table(pyarrow.table({"song": ["x"]}), tmp_path / "songs")
    for name, message in (
        ("text", "not Parquet"),
        ("songs", "lacks the columns model"),
        ("absent", "No such file"),
    ):
        with pytest.raises(TableError, match=message):
            table.read_parquet(tmp_path / name)
    assert len(table) == 0


@pytest.mark.parametrize("way", WAYS)
def test_writing_that_fails_leaves_the_older_file_and_no_litter(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    path.write_text("older")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(TableError, match="No space left"):
        WAYS[way][0]([FULL], path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("rows", "older")]


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_that_does_not_exist_is_told(tmp_path: Path, way: str) -> None:
    with pytest.raises(TableError, match="Can't write"):
        WAYS[way][0]([FULL], tmp_path / "absent" / "rows")
    with pytest.raises(TableError):
        WAYS[way][1](tmp_path / "absent")


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("pyarrow", lambda path: exchange.write_parquet([BARE], path)),
        ("pyarrow", exchange.read_parquet),
        ("pandas", lambda path: exchange.to_dataframe([BARE])),
    ],
)
def test_without_the_library_the_install_line_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, use: Callable[[Path], object]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingRuntimeError) as raised:
        use(tmp_path / "rows")
    assert raised.value.hint == 'install it with: pip install "vertebra[tables]"'
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [1, 2])
def test_json_of_both_versions_is_read(tmp_path: Path, version: int) -> None:
    path = tmp_path / "rows.json"
    row = '{"model": "a", "metric": "params", "value": 1.0, "origin": "profiled"}'
    path.write_text(f'{{"format": "vertebra.measurements", "version": {version}, "rows": [{row}]}}')
    assert [(row.model, row.network_sha256) for row in exchange.read_json(path)] == [("a", None)]


def test_a_data_frame_and_a_parquet_file_refuse_what_can_not_be_by_its_row(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = {"model": ["a", "b"], "metric": ["top1"] * 2, "value": [0.7, -0.05], "origin": ["published"] * 2}
    frame, table = pandas.DataFrame(rows), Table(tmp_path / "table.sqlite")
    with pytest.raises(InvalidInputError, match="row 2: The top-1 accuracy of b is -5 %"):
        table.read_dataframe(frame)
    frame.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(InvalidInputError, match=r"rows\.parquet, row 2: The top-1 accuracy of b is -5 %"):
        table.take_in(tmp_path / "rows.parquet")
    assert len(table) == 0


def test_cells_that_a_spreadsheet_would_run_travel_unchanged(tmp_path: Path) -> None:
    row = dataclasses.replace(BARE, model="=1+1", source="@sum\ttab", convention="+a")
    exchange.write_csv([row], tmp_path / "rows.csv")
    assert exchange.read_csv(tmp_path / "rows.csv") == [row]
