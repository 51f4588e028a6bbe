"""Shares of many cases for several machines, and the jobs that start them."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import vertebra
from vertebra.campaigns import cases, jobs, shares
from vertebra.campaigns.shares import Share
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Table
from vertebra.progress import Progress

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


def test_a_shard_of_one_network_on_one_data_set_is_refused() -> None:
    done = CliRunner().invoke(cli, ["eval", "alexnet", "pictures", "--shard", "1/2"])
    assert (done.exit_code, "--shard needs --probe" in done.stderr) == (2, True)
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
