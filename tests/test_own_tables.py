"""Tables of one's own, read by a map of their columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.cli import cli
from vertebra.errors import InvalidInputError, TableError, UnknownNameError, VertebraError
from vertebra.measurements import Table
from vertebra.measuring.citations import read_table

TABLE = """Model,Acc@1,Time (ms),FLOPs,BS,Memory
resnet50,76.1,12.5,4.1,1,98 MB
"vgg16, with biases",71.6,-,15.5,1,
"""
MAP = "model=Model,top1=Acc@1:percent,latency=Time (ms):ms,macs=FLOPs:G,batch_size=BS,memory_total=Memory"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_each_cell_with_a_figure_is_a_row_in_base_units(file: Path) -> None:
    rows = read_table(file, MAP, system="pi-5", precision="float32", source="a blog")
    told = [(row.model, row.metric, row.value) for row in rows]
    assert told == [
        ("resnet50", "top1", pytest.approx(0.761)),
        ("resnet50", "latency", 0.0125),
        ("resnet50", "macs", 4.1e9),
        ("resnet50", "memory_total", 98e6),
        ("vgg16, with biases", "top1", pytest.approx(0.716)),
        ("vgg16, with biases", "macs", 15.5e9),
    ]
    assert {(row.origin, row.source) for row in rows} == {("published", "a blog")}


def test_conditions_go_to_the_metrics_that_depend_on_them(file: Path) -> None:
    found = {row.metric: row for row in read_table(file, MAP, system="pi-5", precision="float32")}
    assert (found["latency"].system, found["latency"].batch_size) == ("pi-5", 1)
    assert (found["top1"].system, found["top1"].batch_size, found["top1"].precision) == (
        None,
        None,
        "float32",
    )
    assert found["macs"].conditions() == {}
    assert found["top1"].source == "mine.csv"


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_found_from_the_header(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "other.csv"
    lines = [["Model", "Top 1"], ["a, b", "0.7"]]
    path.write_text("\ufeff" + "\r\n".join(delimiter.join(line) for line in lines), encoding="utf-8")
    (row,) = read_table(path, "model=model,top1=top 1")
    assert (row.model, row.value) == ("a, b", 0.7)


def test_their_names_may_hold_colons_and_commas(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text('Model,"Time, ms: mean"\nx,8\n', encoding="utf-8")
    (row,) = read_table(path, "model=Model,latency=Time, ms: mean:ms")
    assert row.value == 0.008


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("model=Modell,top1=Acc@1:percent", 'has no column "Modell"'),
        ("top1=Acc@1:percent", "has no column for the network"),
        ("model=Model", "has no metric"),
        ("model=Model,latency=Time (ms):parsec", '"parsec" is not a unit of latency'),
        ("model=Model,latency", 'read "latency" in the map'),
        ("model=Model,top1=Acc@1:percent,top1=BS", '"top1" is mapped twice'),
        ("model=Model,fps=BS", "computed from other metrics, never stored"),
        ("model=Model,top1=Acc@1", 'line 2: can\'t read top1 from "76.1"'),
        ("model=Model,latency=Time (ms)", 'line 2: can\'t read latency from "12.5"'),
        ("model=Model,batch_size=Acc@1,macs=FLOPs:G", 'line 2: batch_size is "76.1"'),
    ],
)
def test_a_map_that_does_not_fit_is_refused_in_one_line(file: Path, mapping: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_table(file, mapping)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_the_error_lists_the_columns_that_are_there(file: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_table(file, "model=Name,top1=Acc@1")
    assert caught.value.hint == "its columns: Model, Acc@1, Time (ms), FLOPs, BS, Memory"


def test_an_unknown_column_of_ours_offers_the_known(file: Path) -> None:
    with pytest.raises(UnknownNameError, match="latancy"):
        read_table(file, "model=Model,latancy=Time (ms):ms")
    with pytest.raises(UnknownNameError, match="sistem"):
        read_table(file, MAP, sistem="x")
    with pytest.raises(InvalidInputError, match="both mapped and set"):
        read_table(file, MAP, batch_size="8")


def test_a_bad_cell_names_its_line_and_nothing_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("Model,Acc\na,0.7\n\nb,seven\n", encoding="utf-8")
    table = tmp_path / "table.sqlite"
    done = CliRunner().invoke(
        cli, ["cite", str(path), "--map", "model=Model,top1=Acc", "--table", str(table)]
    )
    assert isinstance(done.exception, InvalidInputError)
    assert "line 4" in done.exception.message
    assert not table.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"Model,Acc\n", b'Model,Acc\n"a,1\n', b"Model,Acc\na,1,2\n"]
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises((TableError, InvalidInputError), match=r"bad\.csv"):
        read_table(path, "model=Model,top1=Acc")


def test_the_command_takes_a_map(file: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.sqlite"
    arguments = [
        "cite",
        str(file),
        "--map",
        MAP,
        "--system",
        "pi-5",
        "--set",
        "engine=ncnn",
        "--table",
        str(table),
    ]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "6 rows added" in done.stderr
    (latency,) = Table(table).rows(metric="latency")
    assert (latency.system, latency.engine, latency.source) == ("pi-5", "ncnn", "mine.csv")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_stands_in_the_map_or_the_file_is_read_or_refused(tmp_path_factory, mapping, text) -> None:
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        rows = read_table(path, mapping)
    except VertebraError:
        return
    assert rows


# ------------------------------------------------------------------ decimal points and commas


def _values(tmp_path: Path, cells: list[str], *, delimiter: str = ";", **more: str) -> list[float]:
    path = tmp_path / "numbers.csv"
    lines = [f"m{number}{delimiter}{cell}" for number, cell in enumerate(cells)]
    path.write_text("\n".join([f"Model{delimiter}Time", *lines]), encoding="utf-8")
    return [row.value for row in read_table(path, "model=Model,latency=Time:s", **more)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.234,5"], [1234.5]),
        (["1,234.5"], [1234.5]),
        (["75,3", "1,234"], [75.3, 1.234]),
        (["75.3", "1,234"], [75.3, 1234.0]),
        (["75.3", "1.234"], [75.3, 1.234]),
        (["75,3", "1.234"], [75.3, 1234.0]),
        (["25,557,032"], [25557032.0]),
        (["25.557.032"], [25557032.0]),
        (["1 234,5", "1\u00a0234,5", "1\u202f234,5", "1\u2009234,5"], [1234.5] * 4),
        (["1'234.5", "1’234.5"], [1234.5] * 2),
        (["0,123", "0.5e-3"], None),
        (["0,123", "12"], [0.123, 12.0]),
        (["0.123", "1e-3"], [0.123, 0.001]),
        (["1234,567", "1,234"], [1234.567, 1.234]),
        (["1.234,5 ms", "2 s"], [1.2345, 2.0]),
        (["+3", "4."], [3.0, 4.0]),
        (["1,234.5", "1.234,5"], None),
        (["1,234"], None),
        (["1.234", "5.678"], None),
        (["12,34,567"], None),
        (["1,234.5.6"], None),
        (["1'234,5'6"], None),
    ],
)
def test_a_column_tells_what_its_commas_and_points_are(
    tmp_path: Path, cells: list[str], values: list[float] | None
) -> None:
    if values is None:
        with pytest.raises(InvalidInputError):
            _values(tmp_path, cells)
    else:
        assert _values(tmp_path, cells) == values


def test_what_no_cell_tells_is_refused_with_the_option_that_says_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match='line 2: "1,234" in "Time"') as caught:
        _values(tmp_path, ["1,234"])
    assert "--decimal comma" in str(caught.value.hint)
    assert _values(tmp_path, ["1,234"], decimal="comma") == [1.234]
    assert _values(tmp_path, ["1,234"], decimal="point") == [1234.0]
    with pytest.raises(InvalidInputError, match="can't read latency"):
        _values(tmp_path, ["1.234,5"], decimal="point")
    with pytest.raises(InvalidInputError, match="dot"):
        _values(tmp_path, ["1"], decimal="dot")


def test_cells_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r'"1,234\.5" in line 2, "2\.234,5" in line 3'):
        _values(tmp_path, ["1,234.5", "2.234,5"])


def test_columns_with_commas_between_have_points_in_their_cells(tmp_path: Path) -> None:
    assert _values(tmp_path, ["1.234", "5.678"], delimiter=",") == [1.234, 5.678]
    with pytest.raises(InvalidInputError, match="a fraction or more than a thousand"):
        _values(tmp_path, ['"1,234"'], delimiter=",")
    assert _values(tmp_path, ['"25,557,032"'], delimiter=",") == [25557032.0]


def test_another_column_tells_for_one_that_does_not(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("Model;Top;Params;BS\na;75,3;1.234;1.024\n", encoding="utf-8")
    rows = read_table(path, "model=Model,top1=Top:percent,params=Params,latency=Params:ms,batch_size=BS")
    assert [(row.metric, row.value) for row in rows] == [
        ("top1", 0.753),
        ("params", 1234.0),
        ("latency", 1.234),
    ]
    assert rows[-1].batch_size == 1024


def test_a_first_line_that_names_the_separator_is_read(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    for first in ("sep=;", '"sep=;"', "SEP=;"):
        path.write_text(f"{first}\nModel;A,B,C,D\na;0.7\nb;x\n", encoding="utf-8")
        with pytest.raises(InvalidInputError, match="line 4"):
            read_table(path, "model=Model,top1=A,B,C,D:fraction")


@pytest.mark.parametrize(
    ("cell", "column", "message"),
    [
        ("-12", "latency=F:ms", "line 2: The latency of a is -12.0 ms, which it can't be"),
        ("0", "latency=F:ms", "line 2: The latency of a is 0 ns"),
        ("0", "params=F:M", "line 2: The parameters of a is 0"),
        ("-5", "top1=F:percent", "line 2: The top-1 accuracy of a is -5 %"),
        ("7530", "top1=F:percent", "line 2: The top-1 accuracy of a is 7530 %"),
        ("75", "top1=F:fraction", "line 2: The top-1 accuracy of a is 7500 %"),
        ("0", "latency=L:ms,batch_size=F", "line 2: batch_size is 0"),
        ("-8", "latency=L:ms,batch_size=F", "line 2: batch_size is -8"),
        ("29/11/2026", "latency=L:ms,measured_at=F", "line 2: measured_at is '29/11/2026'"),
        ("a\x1b[2J", "latency=L:ms,weights=F", "line 2: weights holds the character U[+]001B"),
        ("5.3", "params=F", "line 2: The parameters of a is 5.3"),
    ],
)
def test_what_can_not_be_is_refused_with_its_line(
    tmp_path: Path, cell: str, column: str, message: str
) -> None:
    path, table = tmp_path / "mine.csv", Table(tmp_path / "table.sqlite")
    path.write_text(f"Model,L,F\na,5,{cell}\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        table.append(read_table(path, f"model=Model,{column}"))
    assert len(table) == 0


def test_two_columns_of_one_name_are_refused_where_one_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("Model,Time,Time\na,5,6\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match='2 columns called "Time"'):
        read_table(path, "model=Model,latency=Time:ms")
