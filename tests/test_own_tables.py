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
