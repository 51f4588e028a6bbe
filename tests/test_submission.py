"""Submissions: nothing private leaves, and nothing changed comes in."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import vertebra
from test_candidates import latency, top1
from vertebra import engines
from vertebra.cli import cli
from vertebra.data.preprocess import protocols
from vertebra.errors import InvalidInputError, TableError, UnknownNameError
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, blocks, public, receiving, submission
from vertebra.measurements.blocks import Block, Surroundings
from vertebra.measurements.measurement import COLUMNS
from vertebra.measurements.record import row_of, text_of
from vertebra.measurements.run import Run
from vertebra.measuring import evaluation
from vertebra.measuring.benchmarking import SCENARIOS

HERE = replace(
    system.describe(), kernel="6.8.0-alicebox", cpu="AMD EPYC 9R14 alice@acme.example", os="Debian 12"
)
#: The same as others see it.
AS_SEEN = replace(HERE, cpu="AMD EPYC 9R14")
#: What must not be in a file, however it is written.
SECRETS = ("alice", "acme", "wiki", "secret", "home", "users")
#: Names of hosts, users, paths, addresses and machines, as people have them.
PRIVATE = (
    "alice-laptop", "DESKTOP-4F7K2Q9", "node17.cluster.example.org", "/home/alice/photos",
    "~/models/best.pth", "/Users/Zoë/Desktop", "C:\\Users\\Иван\\модель.onnx", "\\\\server\\share\\x",
    "file:///srv/data/x.onnx", "https://x.example/a?token=ghp_16C7e42F292c6912E7", "alice@acme.example",
    "10.24.3.17", "fe80::1ff:fe23:4567:890a", "C02XL0GXJGH5", "5CD1234XYZ",
    "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI", "aa:bb:cc:dd:ee:ff", "田中さんのMac", "O'Brien",
    "float32 of alice",
    "val[:500] in /mnt", "resize 256 bilinear, crop 224 (alice)", "CPUExecutionProvider@alicebox",
    "1.22.0+acme", "2.1.0.dev20260101-alice", "3 processes of alice",
    "others took 12 % of the processors: /home/a",
)  # fmt: skip
#: Columns of text that a row can have.
TEXTS = (
    "model", "weights", "dataset", "split", "protocol", "precision", "engine", "provider", "device",
    "layout", "scenario", "system", "source", "convention", "disputed", "network_sha256", "dataset_sha256",
)  # fmt: skip


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
    (machine,) = content(done.path)["content"]["systems"].values()
    assert (machine["kernel"], machine["cpu"]) == ("6.8", "AMD EPYC 9R14")


def test_no_private_name_passes_in_any_column(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.sqlite")
    good = measured(split="val", protocol="resize 256 bilinear, crop 224", layout="NCHW")
    rows, kept = [good], 1
    for name in PRIVATE:
        rows += [replace(good, **{column: name}) for column in TEXTS]
        rows += [replace(good, versions={name: "1.0", "numpy": name}), replace(good, grade_reasons=(name,))]
        kept += 3  # the digest of pictures isn't copied
    machines = [
        replace(HERE, **{column: name}) for name in PRIVATE
        for column in ("cpu", "architecture", "os", "kernel", "python", "virtual")
    ]  # fmt: skip
    machines += [replace(HERE, features=(name,), gpus=(system.Gpu(name, 1, name),)) for name in PRIVATE]
    table.append(rows, samples={name: [1.0] for name in (*PRIVATE, "latency")}, system=HERE)
    for number, machine in enumerate(machines):
        table.append(
            [replace(good, system=machine.id, value=0.01 + number * 1e-6, low=None, high=None)],
            system=machine,
        )
    done = vertebra.submit(tmp_path / "a.gz", table=table)
    assert (done.rows, sum(done.left_out.values())) == (kept + len(machines), len(PRIVATE) * (len(TEXTS) - 1))
    assert set(done.shortened) == {
        "ends of versions", "lists of samples that aren't known", "reasons of grades in words",
        "versions of libraries that aren't known", "words of a machine's description",
    }  # fmt: skip
    assert [name for name in PRIVATE if name in every_text(content(done.path))] == []
    assert vertebra.cite(done.path, check=True) == done.rows


def every_text(told: Any) -> set[str]:
    """Every text in a file, and every word of one, in any spelling of a path."""
    if isinstance(told, str):
        return {told, *re.split(r"[\s/\\\\,=@:?]+", told)}
    if isinstance(told, dict):
        return set().union(*map(every_text, [*told, *told.values()]))
    return set().union(*map(every_text, told)) if isinstance(told, list) else set()


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(exclude_categories=("C",), exclude_characters="\u2028\u2029"), min_size=9),
    st.data(),
)
def test_no_text_that_anyone_writes_passes(text: str, data: st.DataObject) -> None:
    """A mark in capitals that no list has, within any text, in any column."""
    secret = f"{text[:4]}QXZW{text[4:]}"
    column = data.draw(st.sampled_from([*TEXTS, "versions", "library", "reason"]))
    more: dict[str, Any] = {
        "versions": {"versions": {"numpy": secret}}, "library": {"versions": {secret: "1.0"}},
        "reason": {"grade_reasons": (secret, f"3 processes {secret}")},
    }.get(column, {column: secret})  # fmt: skip
    made = public.row(measured().like(**more), {HERE.id: "cpu-1-cores-00000000"}, Counter())
    machine = public.machine(
        replace(HERE, **dict.fromkeys(("cpu", "os", "python", "kernel", "virtual", "architecture"), secret),
                gpus=(system.Gpu(secret, 1, secret),), features=(secret,)).to_dict(), (), Counter(),
    )  # fmt: skip
    assert "QXZW" not in (made if isinstance(made, str) else repr(made)) + repr(machine)


def test_the_lists_have_the_words_that_rows_of_ours_have() -> None:
    for engine in engines.known():
        assert engine.name in public.WORDS["engine"]
        for column in ("precisions", "devices", "layouts", "providers"):
            assert set(getattr(engine, column)) <= set(public.WORDS[column[:-1]])
        assert {*engine.distributions, *engine.converters} <= set(public.LIBRARIES)
    assert set(SCENARIOS) <= set(public.WORDS["scenario"])
    assert {*public.WORDS, *public.SHAPES, *public.NUMBERS, *public.NEVER} | {
        "model", "metric", "weights", "system", "versions", "grade_reasons",
    } == set(COLUMNS)  # fmt: skip
    around = Surroundings(**dict.fromkeys((one.name for one in fields(Surroundings)), 1.0))
    block = Block(process=0, order=0, started_s=0.0, latencies=(1.0,), canary_s=1.0, handover_s=1.0,
                  surroundings=around)  # fmt: skip
    assert set(blocks.pack([block])) <= set(public.SERIES)
    for name in protocols.PROTOCOLS:
        record = protocols.find(name)
        every = [
            replace(record, interpolation=how, decode=decode, mean=mean)
            for how in ("bilinear", "bicubic", "lanczos", "opencv-bilinear") for decode in ("exact", "scaled")
            for mean in (record.mean, (0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
        ]  # fmt: skip
        assert all(re.fullmatch(public.SHAPES["protocol"], evaluation.protocol(one)) for one in every)


@pytest.mark.parametrize(
    ("cpu", "name"),
    [
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "Ubuntu 22.04.3 LTS"),
        ("AMD Ryzen 9 7950X3D 16-Core Processor", "Debian GNU/Linux 12 (bookworm)"),
        ("11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", "Windows 11"),
        ("Raspberry Pi 5 Model B Rev 1.0", "Raspbian GNU/Linux 11 (bullseye)"),
        ("Apple M3 Max", "macOS 15.1"),
        (None, "Fedora Linux 41 (Workstation Edition)"),
    ],
)
def test_machines_as_their_makers_call_them_stay_as_they_are(cpu: str | None, name: str) -> None:
    one = replace(
        HERE,
        cpu=cpu,
        os=name,
        gpus=(system.Gpu("NVIDIA A100-SXM4-80GB", 1, "550.54.15"),),
        kernel="Linux 6.8",
    )
    taken = Counter[str]()
    assert public.machine(one.to_dict(), (), taken) == one.to_dict()
    assert +taken == {}


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
    assert (row.model, row.value, row.system) == ("alexnet", 0.01, AS_SEEN.id)
    assert into.samples(str(row.run)) == {"latency": [0.01, 0.011]}
    assert (into.system(AS_SEEN.id) or {})["cpu"] == AS_SEEN.cpu
    assert vertebra.cite(done.path, table=Table(tmp_path / "t.sqlite")) == 0  # it has the originals


def named(path: Path) -> bytes:
    """The file as gzip writes it with a name that leads out of the folder."""
    body = path.read_bytes()
    return body[:3] + b"\x08" + body[4:10] + b"../../../etc/cron.d/x\0" + body[10:]


def spoilt(path: Path, change: str) -> bytes:
    told = content(path)
    raw = {
        "cut": path.read_bytes()[:-20],
        "no end": path.read_bytes()[:-8],
        "not packed": b"rows",
        "empty": b"",
        "list": submission.packed(b"[]"),
        "twice": path.read_bytes() * 2,
        "more": path.read_bytes() + b"\0",
        "named": named(path),
        "bomb": submission.packed(bytes(submission.MOST_BYTES + 1)),
        "deep": submission.packed(b"[" * 100_000),
        "spaces": submission.packed(json.dumps(told).encode()),
        "no number": submission.packed(text_of(told).replace('"version":1', '"version":NaN').encode()),
        "key twice": submission.packed(
            text_of(told).replace('"version":1', '"version":9,"version":1').encode()
        ),
    }
    if change in raw:
        return raw[change]
    edits = {
        "value": lambda: told["content"]["runs"][0]["records"][0].update(value=0.001),
        "digest": lambda: told.update(digest="0" * 64),
        "format": lambda: told.update(format="other"),
        "newer": lambda: told.update(version=99),
        "version": lambda: told.update(version="1"),
        "note": lambda: told.update(note="from alice"),
        "no runs": lambda: told.update(content={}, digest=submission.digest_of({})),
    }
    edits[change]()
    return submission.packed(text_of(told).encode())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("value", "was changed or is damaged: its content isn't what its digest says"),
        ("digest", "its content isn't what its digest says"),
        ("cut", "it is cut short|can't be unpacked"),
        ("no end", "it is cut short"),
        ("not packed", "isn't packed as vertebra packs"),
        ("empty", "isn't packed as vertebra packs"),
        ("named", "isn't packed as vertebra packs"),
        ("twice", "something follows its end"),
        ("more", "something follows its end"),
        ("bomb", "unpacks to more than 128 MiB, which no submission does"),
        ("deep", "isn't JSON as vertebra writes it"),
        ("spaces", "isn't JSON as vertebra writes it"),
        ("no number", "isn't JSON as vertebra writes it"),
        ("key twice", "isn't JSON as vertebra writes it"),
        ("format", "is not a submission"),
        ("list", "is not a submission"),
        ("newer", "newer vertebra"),
        ("version", "its version isn't a number"),
        ("note", "something was added to it"),
        ("no runs", "it has no runs or no machines"),
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


def test_any_byte_that_is_flipped_is_found(tmp_path: Path) -> None:
    done = vertebra.submit(tmp_path / "a.gz", table=full_of_names(tmp_path / "t.sqlite"))
    whole, bad = done.path.read_bytes(), tmp_path / "bad.gz"
    for place in range(len(whole)):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(TableError):
            receiving.read(bad)


def test_several_are_checked_with_a_line_for_each_bad_one(tmp_path: Path) -> None:
    done = vertebra.submit(tmp_path, table=full_of_names(tmp_path / "t.sqlite"))
    assert done.path == tmp_path / f"vertebra-{done.digest[:12]}.gz"
    told = content(done.path)
    for record in told["content"]["runs"][0]["records"]:
        record["provider"] = "/home/alice"
    run = Run.of(map(row_of, told["content"]["runs"][0]["records"]), {}, told["content"]["runs"][0]["system"])
    told["content"]["runs"][0] |= {"id": run.id, "samples": {}}
    told["digest"] = submission.digest_of(told["content"])
    (tmp_path / "private.gz").write_bytes(submission.packed(text_of(told).encode()))
    (tmp_path / "short.gz").write_bytes(done.path.read_bytes()[:-9])
    refused = CliRunner().invoke(cli, ["cite", "--check", *map(str, sorted(tmp_path.glob("*.gz")))])
    first, second = str(refused.exception).splitlines()
    assert first.startswith(f"private.gz isn't what vertebra submit writes: run {run.id[:12]}: provider")
    assert second.startswith("short.gz was changed or is damaged")
    good = CliRunner().invoke(cli, ["cite", "--check", str(done.path)])
    assert good.stderr == "1 rows checked.\n"
    with pytest.raises(InvalidInputError, match="No submission"):
        vertebra.cite(check=True)


def test_a_run_that_was_changed_with_its_digest_is_refused_too(tmp_path: Path) -> None:
    done = vertebra.submit(tmp_path / "a.gz", table=full_of_names(tmp_path / "t.sqlite"))
    told = content(done.path)
    told["content"]["runs"][0]["records"][0]["value"] = 0.0095
    told["digest"] = submission.digest_of(told["content"])
    done.path.write_bytes(submission.packed(text_of(told).encode()))
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
