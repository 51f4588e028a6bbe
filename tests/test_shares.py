"""Shares of many cases for several machines, and the jobs that start them."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vertebra
from vertebra.campaigns import cases, jobs, shares
from vertebra.campaigns.shares import Share
from vertebra.cli import cli
from vertebra.data.datasets import dataset
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, Table, wide
from vertebra.measurements.measurement import COLUMNS
from vertebra.measuring.evaluation import parts, wilson
from vertebra.progress import Progress
from vertebra.reading.choice import candidates

WANTED = cases.cases(["alexnet", "squeezenet1_1", "vgg16"], ["null", "eager"], batch_sizes=(1, 8))


@given(st.lists(st.text(), unique=True), st.integers(1, 60))
def test_shares_are_disjoint_and_their_union_is_the_whole(contents: list[str], of: int) -> None:
    held = [[one for one in contents if Share(number, of).holds(one)] for number in range(1, of + 1)]
    assert Counter(one for part in held for one in part) == Counter(contents)


@settings(max_examples=30)
@given(st.integers(1, 40))
def test_the_shares_of_real_cases_are_too_and_keep_their_order(of: int) -> None:
    parts = [shares.of_cases(WANTED, f"{number}/{of}") for number in range(1, of + 1)]
    assert sum(map(len, parts)) == len(WANTED) == 12
    for part in parts:
        assert part == [case for case in WANTED if case in part]


def test_a_case_that_is_added_moves_no_other_and_the_machine_has_no_say() -> None:
    few = cases.cases(["alexnet"], ["null", "eager"], batch_sizes=(1, 8))
    for number in range(1, 6):
        among = [one for one in shares.of_cases(WANTED, f"{number}/5") if one.model == "alexnet"]
        assert shares.of_cases(few, f"{number}/5") == among
        other = [replace(case, threads=case.threads + 7) for case in WANTED]
        assert [case.model for case in shares.of_cases(other, f"{number}/5")] == [
            case.model for case in shares.of_cases(WANTED, f"{number}/5")
        ]
    # where a case is never changes, or machines with two versions would leave one out
    placed = {number: shares.of_cases(few, f"{number}/3") for number in (1, 2, 3)}
    assert {number: [(case.engine, case.batch_size) for case in part] for number, part in placed.items()} == {
        1: [("eager", 1)], 2: [("null", 1)], 3: [("null", 8), ("eager", 8)],
    }  # fmt: skip
    assert Share(3, 4).holds("alexnet")


def test_different_cases_have_different_contents() -> None:
    [case] = cases.cases(["alexnet"], ["null"])
    changed = {
        "model": "b", "weights": "w", "network_sha256": "ab", "engine": "eager", "precision": "int8",
        "device": "cuda", "input_size": 225, "batch_size": 2, "scenario": "offline", "streams": 2,
        "arrival_rate": 3.0, "latency_bound_s": 0.1, "beside": 1, "preprocess": {"size": 1},
    }  # fmt: skip
    contents = {shares.content(replace(case, **{name: value})) for name, value in changed.items()}
    assert len(contents | {shares.content(case)}) == len(changed) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9/8", "no share 9 of 8"), ("0/4", "no share 0 of 4"), ("1/0", "no share 1 of 0"),
        ("3", "not a share"), ("-1/4", "not a share"), ("1/4/5", "not a share"), ("a/b", "not a share"),
        ("1.0/4", "not a share"), ("٣/٨", "not a share"), ("1/9999999", "no share"), ("", "not a share"),
    ],
)  # fmt: skip
def test_what_is_no_share_is_refused_before_anything_runs(tmp_path: Path, text: str, message: str) -> None:
    path, out = tmp_path / "t.sqlite", tmp_path / "out"
    for call in (
        lambda: vertebra.bench("alexnet", engine="null", shard=text, table=path),
        lambda: vertebra.survey(model="alexnet", engine="null", shard=text, table=path, output=out),
        lambda: vertebra.probe(tmp_path, "alexnet", shard=text, table=path),
    ):
        with pytest.raises(InvalidInputError, match=message) as raised:
            call()
        assert "K" in str(raised.value.hint)
    assert not out.exists()
    assert len(Table(path)) == 0


def test_bench_measures_its_share_and_says_which(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.sqlite")
    seen: list[Progress] = []
    models = ("alexnet", "squeezenet1_1", "vgg11")
    asked = {"engine": "null", "quick": True, "seconds": 0.3, "table": table, "progress": seen.append}
    found = [
        {row.model for row in vertebra.bench(*models, shard=f"{number}/2", **asked)} for number in (1, 2)
    ]
    assert found[0] | found[1] == set(models)
    assert not found[0] & found[1]
    said = [event.text for event in seen if event.text.startswith("share ")]
    assert [text.partition(";")[0] for text in said] == [
        f"share {number}/2: {len(found[number - 1])} of 3 cases" for number in (1, 2)
    ]
    assert all("; machine: " in text for text in said)
    empty = next(f"{number}/50" for number in range(1, 51) if not shares.of_names(models, f"{number}/50"))
    assert list(vertebra.bench("alexnet", engine="null", shard=_without("alexnet"), table=table)) == []
    assert list(vertebra.probe(tmp_path / "absent", *models, shard=empty, table=table)) == []


def _without(model: str) -> str:
    """A share without the only case of this network."""
    wanted = cases.cases([model], ["null"])
    return next(f"{number}/2" for number in (1, 2) if not shares.of_cases(wanted, f"{number}/2"))


def test_a_survey_measures_its_share_only(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.sqlite")
    kept = {"engine": "null", "budget": 8.0, "table": table}
    for number in (1, 2):
        done = vertebra.survey(
            model=["alexnet", "squeezenet1_1"], shard=f"{number}/2", output=tmp_path / str(number), **kept
        )
        assert (done.failed, done.left, done.report.exists()) == (0, 0, True)
    rows = table.rows(metric="latency", origin="benched")
    assert sorted(row.model for row in rows) == ["alexnet", "squeezenet1_1"]


def test_what_is_no_share_of_pictures_is_refused_before_they_are_looked_for() -> None:
    done = CliRunner().invoke(cli, ["eval", "alexnet", "pictures", "--shard", "9/8"])
    assert str(done.exception).startswith("There is no share 9 of 8.")
    done = CliRunner().invoke(cli, ["survey", "--shards", "3"])
    assert (done.exit_code, "--shards needs --write-job" in done.stderr) == (2, True)
    done = CliRunner().invoke(cli, ["survey", "--shard", "1/3", "--write-job", "slurm"])
    assert (done.exit_code, "leave out --shard" in done.stderr) == (2, True)


# ------------------------------------------------------------------ jobs

#: What a careless script would run, split or expand.
NASTY = "a b'c\"$(touch pwned)`touch pwned`;touch pwned\n#SBATCH --pwned\n\\ $HOME * é"


def fake(folder: Path) -> dict[str, str]:
    """An environment in which `vertebra` writes down its arguments, and `pip` does nothing."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("vertebra", "pip"):
        (programs / name).write_text('#!/bin/sh\nprintf "%s\\0" "$0" "$@" >> "$LOG"\n')
        (programs / name).chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(folder / "log"), "HOME": "/nowhere"}


def logged(folder: Path) -> list[str]:
    return (folder / "log").read_text().split("\0")[:-1]


def directives(script: str) -> dict[str, str]:
    """What `sbatch` reads: the lines that begin so before the first command."""
    lines = script.splitlines()
    first = next(place for place, line in enumerate(lines) if line and not line.startswith("#"))
    found = [line.removeprefix("#SBATCH --") for line in lines[:first] if line.startswith("#SBATCH ")]
    return {name: value for name, _, value in (one.partition("=") for one in found)}


@pytest.mark.parametrize("output", ["out", NASTY])
def test_a_job_array_runs_each_share_with_every_value_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = vertebra.write_job("slurm", shards=8, model=["AlexNet", "vgg16"], engine="openvino", budget="90s",
                              output=output, again=True, seed=3, table="t.sqlite")  # fmt: skip
    assert path == Path(output) / "survey.sbatch"
    script = path.read_text()
    assert directives(script) == {
        "job-name": "vertebra-survey", "array": "1-8", "nodes": "1", "ntasks": "1", "exclusive": "",
        "time": "23",
    }  # fmt: skip
    environment = fake(tmp_path)
    assert subprocess.run(["bash", path], env=environment, check=False, capture_output=True).returncode == 1
    subprocess.run(["bash", path], env={**environment, "SLURM_ARRAY_TASK_ID": "3"}, check=True)
    assert logged(tmp_path)[1:] == [
        "survey", "--shard", "3/8", "--table", f"{output}/share-3.sqlite", "--output", f"{output}/share-3",
        "--model=alexnet", "--model=vgg16", "--engine=openvino", "--budget=90s", "--again", "--seed=3",
    ]  # fmt: skip
    assert not (tmp_path / "pwned").exists()
    assert not [line for line in directives(script) if "pwned" in line]


def expanded(word: str) -> str:
    """What Kubernetes makes of a word of a command: `$$` is `$`, and a name in `$(…)` that it knows is
    replaced (none here)."""
    return re.sub(r"\$\$", "$", word)


def test_an_indexed_job_runs_each_share_with_every_value_as_it_was(tmp_path: Path) -> None:
    address = "postgresql://me:secret@host/one%20$(x)?sslmode=require"
    path = vertebra.write_job("kubernetes", shards=5, model="alexnet", table=address, output=tmp_path / "out")
    text = path.read_text()
    assert "secret" not in text.replace("secretKeyRef", "").replace("create secret", "")
    job = yaml.safe_load(text)
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("batch/v1", "Job", "vertebra-survey")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 5, 5)
    assert all(isinstance(spec[name], int) for name in ("backoffLimit", "activeDeadlineSeconds"))
    pod = spec["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    (apart,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert (apart["topologyKey"], apart["labelSelector"]["matchLabels"]) == ("kubernetes.io/hostname", labels)
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    table, password = container["env"]
    assert expanded(table["value"]) == Table(address, create=False).shown
    assert Table(expanded(table["value"]), create=False).store.url.database == "one $(x)"
    assert password["valueFrom"]["secretKeyRef"] == {
        "name": "vertebra-table", "key": "password", "optional": True,
    }  # fmt: skip
    assert set(container) == {"name", "image", "command", "env", "resources"}
    environment = {**fake(tmp_path), "JOB_COMPLETION_INDEX": "4"}
    subprocess.run([*map(expanded, container["command"])], env=environment, check=True)
    words = logged(tmp_path)
    version = vertebra.__version__
    assert words[1:4] == ["install", "--quiet", f"vertebra[survey,postgres]=={version}"]
    assert words[5:] == [
        "survey", "--shard", "5/5", "--output", "/tmp/survey", "--model=alexnet", "--budget=6m", "--seed=0",
    ]  # fmt: skip


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=4))
@settings(max_examples=60)
def test_any_text_comes_through_yaml_and_the_expansion(words: list[str]) -> None:
    text = jobs.kubernetes(words, shares=2, budget_s=60.0, table="postgresql:///x")
    (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    assert [expanded(word) for word in container["command"][4:]] == words


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"kind": "lsf"}, UnknownNameError, 'Unknown kind of job "lsf"'),
        ({"kind": "kubernetes"}, InvalidInputError, "needs a table on a server"),
        ({"kind": "slurm", "shards": 0}, InvalidInputError, "no share 1 of 0"),
        ({"kind": "slurm", "model": "alexnett"}, UnknownNameError, "alexnett"),
        ({"kind": "slurm", "engine": "onnx"}, UnknownNameError, '"onnx"'),
        ({"kind": "slurm", "budget": "soon"}, InvalidInputError, "soon"),
        ({"kind": "slurm", "output": "a\udcff"}, InvalidInputError, "is not text"),
    ],
)
def test_what_no_job_can_be_is_refused_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        vertebra.write_job(table=tmp_path / "t.sqlite", **asked)
    assert list(tmp_path.iterdir()) == []


def test_a_job_takes_the_place_of_an_earlier_one_only(tmp_path: Path) -> None:
    where = ["--output", str(tmp_path), "--table", str(tmp_path / "t.sqlite")]
    for count in ("3", "4"):
        done = CliRunner().invoke(cli, ["survey", "--write-job", "slurm", "--shards", count, *where])
        assert (done.exit_code, f"starts {count} shares" in done.stdout) == (0, True)
    assert f"sbatch {tmp_path / 'survey.sbatch'}" in done.stdout
    script = (tmp_path / "survey.sbatch").read_text()
    assert directives(script)["array"] == "1-4"
    assert f"vertebra merge {tmp_path}/share-*.sqlite --table {tmp_path / 't.sqlite'}\n" in script
    (tmp_path / "survey.sbatch").write_text("mine")
    with pytest.raises(InvalidInputError, match="somebody else's"):
        vertebra.write_job("slurm", output=tmp_path, table=tmp_path / "t.sqlite")
    assert (tmp_path / "survey.sbatch").read_text() == "mine"


# ------------------------------------------------------------------ shares of one network's pictures


def noise(folder: Path, per_class: int = 5) -> Path:
    """Two classes of PNGs of noise, one file that is no picture, and two pictures of one name and size."""
    draw = np.random.default_rng(3)
    for label in ("n01440764", "n01443537"):
        for number in range(per_class):
            place = folder / label / str(number % 2)
            place.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number // 2}.png")
    (folder / "n01440764" / "broken.jpg").write_bytes(b"no picture")
    return folder


@given(count=st.integers(1, 40), of=st.integers(1, 9), seed=st.integers(0, 99))
def test_shares_of_pictures_are_disjoint_and_the_whole_in_any_order(count: int, of: int, seed: int) -> None:
    samples = [(f"{number % 3}/{number}.png", number % 2) for number in range(count)]

    def made(order: list[tuple[str, int]]) -> dataset.Dataset:
        return dataset.of(
            order, lambda name: name.encode(), name="d", split="val", format="list", classes=None, at=str
        )

    other = random.Random(seed).sample(samples, count)
    if of > count:
        with pytest.raises(InvalidInputError, match=f"{count} pictures, which can't be {of} shares"):
            made(samples).share(1, of)
        return
    shares = [[one.name for one in made(samples).share(number, of)] for number in range(1, of + 1)]
    assert sorted(itertools.chain(*shares)) == sorted(name for name, _ in samples)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [len(made(samples).share(number, of)) for number in range(1, of + 1)] == list(map(len, shares))
    assert [
        {one.name for one in made(other).share(number, of)} for number in range(1, of + 1)
    ] == list(map(set, shares))  # fmt: skip


def told(rows: list[Measurement]) -> dict[str, tuple[object, ...]]:
    """What the rows of an evaluation say, but for when and why."""
    kept = [column for column in COLUMNS if column not in ("run", "measured_at", "grade_reasons")]
    return {row.metric: tuple(getattr(row, column) for column in kept) for row in rows}


def test_shares_of_an_evaluation_come_to_exactly_the_whole(tmp_path: Path) -> None:
    data = noise(tmp_path / "fish")
    options = {"engine": "eager", "untrained": True, "labels": "imagenet-1k"}
    whole = vertebra.evaluate("squeezenet1_1", data, table=tmp_path / "whole.sqlite", **options)
    files = [tmp_path / f"{number}.sqlite" for number in (1, 2, 3)]
    for number, file in enumerate(files, 1):
        done = vertebra.evaluate("squeezenet1_1", data, shard=f"{number}/3", table=file, **options)
        assert {row.split for row in done.rows} == {f"all[share {number}/3]"}
        assert done.joined is not None
        assert len(done.joined.missing) == 2
        assert done.rows[0].dataset_sha256 == whole.rows[0].dataset_sha256
    into = Table(tmp_path / "into.sqlite")
    first = vertebra.merge(files[2], files[0], table=into)
    assert [one.missing for one in first.joined] == [(2,)]
    assert "1 of 3 shares missing: 2" in str(first.joined[0])
    assert [row for row in wide(into.rows()) if "top1" in row.figures] == []  # a share is no accuracy
    second = vertebra.merge(files[1], table=into)
    (joined,) = second.joined
    assert (joined.missing, joined.added) == ((), len(whole.rows))
    assert told(list(joined.rows)) == told(whole.rows)
    assert joined.rows[0].grade_reasons[-1] == "joined from 3 shares"
    assert vertebra.merge(*files, table=into).joined[0].added == 0
    (row,) = wide(into.rows())
    assert row.figures["top1"].samples == 10
    assert (candidates.comparable(into, dataset="fish", system=None)[0].split) == "all"


def test_the_last_share_in_one_table_joins_them(tmp_path: Path) -> None:
    data, table = noise(tmp_path / "fish"), str(tmp_path / "table.sqlite")
    asked = ["eval", "squeezenet1_1", str(data), "--untrained", "--labels", "imagenet-1k",
             "--engine", "eager", "--limit", "9", "--table", table, "--shard"]  # fmt: skip
    one = CliRunner().invoke(cli, [*asked, "2/2"], catch_exceptions=False)
    assert "split all[:9]: 1 of 2 shares missing: 1." in one.stderr
    two = CliRunner().invoke(cli, [*asked, "1/2", "--json"], catch_exceptions=False)
    assert [row["split"] for row in json.loads(two.stdout) if row["metric"] == "top1"] == [
        "all[:9][share 1/2]", "all[:9]",
    ]  # fmt: skip
    many = CliRunner().invoke(cli, [*asked, "1/99"])
    assert isinstance(many.exception, InvalidInputError)
    against = CliRunner().invoke(cli, [*asked, "1/2", "--against", "float32"])
    assert "--shard can't be combined with --against" in against.stderr


def test_shares_of_other_versions_are_not_joined(tmp_path: Path) -> None:
    row = Measurement(model="alexnet", metric="top1", value=0.5, samples=2, origin="evaluated", dataset="d",
                      split="all[share 1/2]", versions={"numpy": "2.1"})  # fmt: skip
    table = Table(tmp_path / "t.sqlite")
    table.append([row])
    table.append([replace(row, split="all[share 2/2]", versions={"numpy": "2.2"})])
    assert [(one.missing, one.otherwise) for one in parts.join(table)] == [((2,), (2,)), ((1,), (1,))]
    table.append([replace(row, value=1.0, split="all[share 2/2]")])
    (joined, _) = parts.join(table)
    assert (joined.rows[0].value, joined.rows[0].samples) == (0.75, 4)
    assert (joined.rows[0].low, joined.rows[0].high) == wilson(3, 4)
