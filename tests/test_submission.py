"""Submissions: nothing private leaves, and nothing changed comes in."""

from __future__ import annotations

import gzip
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from test_candidates import latency, top1
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, TableError, UnknownNameError
from vertebra.machine import system
from vertebra.measurements import Measurement, Table

HERE = replace(system.describe(), kernel="6.8.0-alicebox")
#: What must not be in a file, however it is written.
SECRETS = ("alice", "acme", "wiki", "secret", "home", "users")


def measured(value: float = 0.01, **more: Any) -> Measurement:
    told = {
        "low": 0.9 * value, "high": 1.1 * value, "grade": "B", "measured_at": "2026-11-01T10:00:00+00:00",
        "versions": {"onnxruntime": "1.22.0+alice.acme", "numpy": "2.1.0", "alice-lib": "secret"},
        "grade_reasons": ("3 processes of alice", "others took 12 % of the processors: /home/alice/train.py"),
        "system": HERE.id,
    }  # fmt: skip
    model = more.pop("model", "alexnet")
    return latency(model, value, **(told | more))


def full_of_names(path: Path) -> Table:
    """A table with a name of a host, a user or a path in every column that can have one."""
    table = Table(path)
    table.append([measured()], samples={"latency": [0.01, 0.011], "/home/alice": [1.0]}, system=HERE)
    table.append(
        [
            measured(model="onnx:/home/alice/acme.onnx", network_sha256="a" * 64),
            measured(model="/Users/alice/secret-bundle"),
            measured(weights="/home/alice/secret.pth"),
            measured(system="alice-acme-laptop"),
            measured(provider="/home/alice/provider.so"),
            measured(convention="as in acme's wiki"),
            top1("alexnet", 0.5, source="acme's wiki"),
            top1("alexnet", 0.5, origin="evaluated", dataset="/home/alice/cats", engine="onnxruntime",
                 precision="float32", split="all"),
            Measurement(model="alexnet", metric="failure", value=1, origin="benched", engine="onnxruntime",
                        device="cpu", precision="float32", batch_size=1, threads=1, input_size=224,
                        scenario="single-stream", system=HERE.id,
                        grade_reasons=("FileNotFoundError: /home/alice/x",)),
        ],
        system=HERE,
    )  # fmt: skip
    return table


def content(path: Path) -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(path.read_bytes())))


def test_a_table_full_of_names_makes_a_file_with_none(tmp_path: Path) -> None:
    done = vertebra.submit(tmp_path / "a.gz", table=full_of_names(tmp_path / "t.sqlite"))
    text = gzip.decompress(done.path.read_bytes()).decode().lower()
    assert [secret for secret in SECRETS if secret in text] == []
    assert socket.gethostname().lower() not in text
    assert str(tmp_path).lower() not in text
    assert (done.rows, done.runs, sum(done.left_out.values())) == (1, 1, 9)
    (run,) = content(done.path)["content"]["runs"]
    (record,) = run["records"]
    assert record["versions"] == {"numpy": "2.1.0", "onnxruntime": "1.22.0"}
    assert record["grade_reasons"] == ["3 processes", "others took 12 % of the processors"]
    assert run["samples"] == {"latency": [0.01, 0.011]}
    assert content(done.path)["content"]["systems"][HERE.id]["kernel"] == "6.8"


def test_a_name_of_this_machine_is_refused_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "NCHW4c.example.org")
    table = Table(tmp_path / "t.sqlite")
    table.append([measured(), measured(layout="nchw4c")], system=HERE)
    done = vertebra.submit(tmp_path / "a.gz", table=table)
    assert (done.rows, done.left_out) == (1, {"with a private name in it": 1})


def test_it_describes_itself_and_is_called_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = full_of_names(tmp_path / "t.sqlite")
    one, two = vertebra.submit(table=table), vertebra.submit("two.gz", table=table)
    assert one.path.name == f"vertebra-{one.digest[:12]}.gz"
    assert one.path.read_bytes() == two.path.read_bytes()
    told = content(one.path)
    assert (told["format"], told["digest"]) == ("vertebra submission", one.digest)
    assert "vertebra cite FILE" in told["about"]
    assert told["content"]["metrics"]["latency"]["unit"] == "s"


def test_it_is_taken_in_with_samples_and_machine_once(tmp_path: Path) -> None:
    done = vertebra.submit(tmp_path / "a.gz", table=full_of_names(tmp_path / "t.sqlite"))
    into = Table(tmp_path / "into.sqlite")
    assert vertebra.cite(done.path, table=into) == 1
    assert vertebra.cite(done.path, table=into) == 0
    (row,) = into.rows()
    assert (row.model, row.value, row.system) == ("alexnet", 0.01, HERE.id)
    assert into.samples(str(row.run)) == {"latency": [0.01, 0.011]}
    assert (into.system(HERE.id) or {})["cpu"] == HERE.cpu
    assert vertebra.cite(done.path, table=Table(tmp_path / "t.sqlite")) == 0  # it has the originals


def spoilt(path: Path, change: str) -> bytes:
    if change == "cut":
        return path.read_bytes()[:-20]
    if change == "not packed":
        return b"rows"
    told = content(path)
    if change == "value":
        told["content"]["runs"][0]["records"][0]["value"] = 0.001
    if change == "format":
        told["format"] = "other"
    if change == "newer":
        told["version"] = 99
    if change == "list":
        return gzip.compress(b"[]")
    return gzip.compress(json.dumps(told).encode())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("value", "was changed or is damaged: its content isn't what its digest says"),
        ("cut", "can't be unpacked"),
        ("not packed", "can't be unpacked"),
        ("format", "is not a submission"),
        ("list", "is not a submission"),
        ("newer", "newer vertebra"),
    ],
)
def test_a_changed_file_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, change: str, told: str
) -> None:
    done = vertebra.submit(tmp_path / "a.gz", table=full_of_names(tmp_path / "t.sqlite"))
    bad = tmp_path / "bad.gz"
    bad.write_bytes(spoilt(done.path, change))
    into = Table(tmp_path / "into.sqlite")
    with pytest.raises(TableError, match=told):
        vertebra.cite(bad, table=into)
    assert (into.rows(), into.systems()) == ([], {})
    refused = CliRunner().invoke(cli, ["cite", str(bad), "--table", str(tmp_path / "into.sqlite")])
    assert refused.exit_code != 0


def test_a_run_that_was_changed_with_its_digest_is_refused_too(tmp_path: Path) -> None:
    from vertebra.measurements import submission

    done = vertebra.submit(tmp_path / "a.gz", table=full_of_names(tmp_path / "t.sqlite"))
    told = content(done.path)
    told["content"]["runs"][0]["records"][0]["value"] = 0.0095
    told["digest"] = submission._digest(told["content"])
    done.path.write_bytes(gzip.compress(json.dumps(told).encode()))
    with pytest.raises(TableError, match="a run in it isn't what its id says"):
        vertebra.cite(done.path, table=Table(tmp_path / "into.sqlite"))


def test_the_command_says_what_it_wrote_and_left_out(tmp_path: Path) -> None:
    full_of_names(tmp_path / "t.sqlite")
    asked = ["submit", "-o", str(tmp_path / "a.gz"), "--table", str(tmp_path / "t.sqlite")]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("1 row of 1 run written into ")
    assert "of weights that aren't published" in done.stdout
    (record,) = json.loads(CliRunner().invoke(cli, [*asked, "--json"]).stdout)
    assert (record["rows"], record["left_out"]) == (1, 9)


def test_what_can_not_be_submitted_is_refused(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.sqlite")
    table.append([top1("alexnet", 0.5, source="acme's wiki")])
    with pytest.raises(InvalidInputError, match="nothing that can be submitted: 1 not measured here"):
        vertebra.submit(tmp_path / "a.gz", table=table)
    with pytest.raises(UnknownNameError):
        vertebra.submit(tmp_path / "a.gz", system="pi", table=table)
    full = full_of_names(tmp_path / "full.sqlite")
    with pytest.raises(InvalidInputError, match=r"ends in \.gz|can't be called"):
        vertebra.submit(tmp_path / "a.zip", table=full)
    assert not (tmp_path / "a.gz").exists()
