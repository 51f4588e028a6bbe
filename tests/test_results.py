"""A results repository: pages that follow from archives, the schema, and the action that checks both."""

from __future__ import annotations

import copy
import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

import vertebra
from test_candidates import latency
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, TableError
from vertebra.machine import system
from vertebra.measurements import Table, schema
from vertebra.reading.results import Repository

FAST = replace(system.describe(), cpu="AMD EPYC 9R14", os="Debian GNU/Linux 12 (bookworm)", physical_cores=8)
SLOW = replace(FAST, cpu="Raspberry Pi 5 Model B Rev 1.0", physical_cores=4)
#: GitHub's rules for a composite action and for a workflow, as far as ours use them.
_INPUT = {
    "type": "object", "required": ["description"], "additionalProperties": False,
    "properties": {"description": {"type": "string"}, "required": {"type": "boolean"},
                   "default": {"type": "string"}},
}  # fmt: skip
_STEP = {
    "type": "object", "required": ["run", "shell"], "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "run": {"type": "string"}, "shell": {"type": "string"},
                   "if": {"type": "string"}, "env": {"type": "object"}},
}  # fmt: skip
ACTION = {
    "type": "object", "required": ["name", "description", "runs"], "additionalProperties": False,
    "properties": {
        "name": {"type": "string"}, "description": {"type": "string"},
        "inputs": {"type": "object", "additionalProperties": _INPUT},
        "runs": {"type": "object", "required": ["using", "steps"], "additionalProperties": False,
                 "properties": {"using": {"const": "composite"}, "steps": {"type": "array", "items": _STEP}}},
    },
}  # fmt: skip


def archived(folder: Path, machine: system.System = FAST, scale: float = 1.0) -> Path:
    """A submission of three networks in a repository's folder."""
    table = Table(folder.parent / f"{machine.physical_cores}-{scale}.sqlite")
    forms = {
        "alexnet": ("onnxruntime", 0.01),
        "squeezenet1_1": ("onnxruntime", 0.004),
        "vgg16": ("openvino", 0.06),
    }
    for model, (engine, value) in forms.items():
        row = latency(
            model, scale * value, low=0.9 * scale * value, high=1.1 * scale * value, grade="B", engine=engine,
            measured_at="2026-11-01T10:00:00+00:00", versions={engine: "1.22.0", "vertebra": "1.0"},
            system=machine.id, samples=2,
        )  # fmt: skip
        table.append([row], samples={"latency": [value, value]}, system=machine)
    archives = folder / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    return vertebra.submit(archives, table=table).path


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def lines(page: str, head: str) -> list[dict[str, str]]:
    """The table below a heading, as dictionaries."""
    below = page.split(f"\n## {head}\n")[1].split("\n## ")[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in below if line.startswith("|")]
    return [dict(zip(cells[0], one, strict=True)) for one in cells[2:]]


def test_a_page_has_the_figures_of_its_machine_with_the_front(tmp_path: Path) -> None:
    repository = tmp_path / "results"
    path = archived(repository)
    archived(repository, SLOW, scale=10)
    made = vertebra.submit(repository=repository)
    assert isinstance(made, Repository)
    assert (made.archives, made.rows, set(made.systems)) == (2, 6, {FAST.id, SLOW.id})
    page = (repository / f"systems/{FAST.id}.md").read_text()
    told = lines(page, "single-stream, cpu, batch size 1")
    assert [(one["network"], one["front"], one["latency"]) for one in told] == [
        ("squeezenet1_1", "●", "4.00 ms"), ("alexnet", "", "10.0 ms"), ("vgg16", "●", "60.0 ms"),
    ]  # fmt: skip
    first = told[0]
    assert (first["top-1"], first["accuracy is"], first["grade"]) == ("60.1 %", "published", "B")
    assert (first["latency: 95 %"], first["samples"]) == ("3.59 to 4.45 ms", "2")
    assert (first["engine"], first["measured"]) == ("onnxruntime 1.22.0", "2026-11-01")
    assert {"library": "openvino", "versions": "1.22.0"} in lines(page, "Versions")
    (archive,) = lines(page, "Archives")
    digest = json.loads(gzip.decompress(path.read_bytes()))["digest"]
    assert archive["digest (SHA-256 of its content)"] == f"`{digest}`"
    assert (repository / "systems" / archive["archive"].split("(")[1].rstrip(")")).resolve() == path.resolve()
    assert "| processor | AMD EPYC 9R14 |" in page
    assert "40.0 ms" in (repository / f"systems/{SLOW.id}.md").read_text()
    index = (repository / "index.md").read_text()
    assert f"[{SLOW.id}](systems/{SLOW.id}.md) | Raspberry Pi 5 Model B Rev 1.0" in index


def test_the_same_archives_give_the_same_bytes_and_only_pages_of_ours_go(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    archived(one), archived(one, SLOW)
    archived(two, SLOW), archived(two)
    vertebra.submit(repository=one)
    vertebra.submit(repository=two)
    assert files(one) == files(two)
    again = vertebra.submit(repository=one)
    assert (again.new, again.changed, again.removed) == ((), (), ())
    (one / "README.md").write_text("ours")
    (one / "systems" / "notes.md").write_text("ours")
    for path in (one / "archives").glob("*.gz"):
        if SLOW.id in gzip.decompress(path.read_bytes()).decode():
            path.unlink()
    less = vertebra.submit(repository=one)
    assert (less.changed, less.removed) == (("index.md",), (f"systems/{SLOW.id}.md",))
    assert (one / "README.md").read_text() == (one / "systems" / "notes.md").read_text() == "ours"


def test_a_new_folder_becomes_a_repository_and_a_bad_archive_changes_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["submit", "--repository", str(tmp_path / "new"), "--json"])
    (record,) = json.loads(done.stdout)
    assert (record["archives"], record["new"]) == (
        0, ["index.md", "submission.schema.json", "README.md", "action.yml", ".github/workflows/check.yml",
            "archives/.gitkeep"],
    )  # fmt: skip
    path = archived(tmp_path / "new")
    path.write_bytes(path.read_bytes()[:-9])
    before = files(tmp_path / "new")
    with pytest.raises(TableError, match="was changed or is damaged"):
        vertebra.submit(repository=tmp_path / "new")
    assert files(tmp_path / "new") == before
    with pytest.raises(InvalidInputError, match="is a file, not a folder"):
        vertebra.submit(repository=path)
    with pytest.raises(InvalidInputError, match="--output can't be combined with --repository"):
        vertebra.submit("a.gz", repository=tmp_path / "new")


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = archived(tmp_path_factory.mktemp("schema") / "results")
    return dict(json.loads(gzip.decompress(path.read_bytes())))


def test_the_schema_holds_for_what_is_submitted(submitted: dict[str, Any]) -> None:
    made = schema.schema()
    jsonschema.Draft202012Validator.check_schema(made)
    jsonschema.Draft202012Validator(made).validate(submitted)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("model", "onnx:/home/alice/x.onnx"), ("weights", "best.pth"), ("engine", "my server"),
        ("provider", "C:\\alice"), ("split", "val of alice"), ("protocol", "as in our wiki"), ("grade", "D"),
        ("source", "our wiki"), ("network_sha256", "0" * 64), ("grade_reasons", ["3 processes of alice"]),
        ("versions", {"alice-lib": "1.0"}), ("versions", {"numpy": "1.0+alice"}), ("threads", 0),
        ("value", "0.01"), ("measured_at", "2026-11-01T10:00:00+05:30"), ("run", "0" * 64), ("strange", 1),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_submit_would_not_write(
    submitted: dict[str, Any], column: str, value: object
) -> None:
    other = copy.deepcopy(submitted)
    other["content"]["runs"][0]["records"][0][column] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(other, schema.schema())


def test_the_action_is_one_that_github_takes_and_its_steps_run(tmp_path: Path) -> None:
    repository = tmp_path / "my results"
    archived(repository)
    vertebra.submit(repository=repository)
    action = yaml.safe_load((repository / "action.yml").read_text())
    jsonschema.validate(action, ACTION)
    workflow = yaml.safe_load((repository / ".github/workflows/check.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert (workflow["permissions"], job["runs-on"]) == ({"contents": "read"}, "ubuntu-latest")
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    assert [step["uses"].split("@")[0] for step in job["steps"]] == [
        "actions/checkout", "actions/setup-python", "./",
    ]  # fmt: skip
    _, check, pages = action["runs"]["steps"]
    assert "${{" not in check["run"] + pages["run"]  # inputs reach the shell as variables, never as code
    assert set(check["env"]) == set(pages["env"]) == {"FOLDER"}
    (tmp_path / "vertebra").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vertebra "$@"\n')
    (tmp_path / "vertebra").chmod(0o755)
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "results"], check=True)

    def run(step: dict[str, Any]) -> int:
        around = {**os.environ, "FOLDER": str(repository), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step["run"]], env=around, check=False
        ).returncode

    assert (run(check), run(pages)) == (0, 0)
    page = next((repository / "systems").glob("*.md"))
    page.write_text(page.read_text().replace("60.0 ms", "6.0 ms"))
    subprocess.run([*git, "commit", "-qam", "a better figure"], check=True)
    assert run(pages) == 1
    archive = next((repository / "archives").glob("*.gz"))
    archive.write_bytes(archive.read_bytes()[:-1])
    assert run(check) == 1
