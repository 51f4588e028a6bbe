"""Processes that train together: the same parameters as one that accumulates, and no hang if one is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from toys import job, photos, recipe
from vertebra.bundles import runs
from vertebra.errors import InvalidInputError
from vertebra.training import checkpoints, loop, ranks

#: Batch norms, and a stride that makes them matter.
MODEL = "timm:test_resnet"
PLAIN: dict[str, Any] = {"batch": 16, "lr_batch": 16, "epochs": 2, "warmup_epochs": 0.0, "ema": 0.5}

PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from toys import job, recipe
from vertebra.errors import VertebraError
from vertebra.training import loop
from vertebra.training.job import Hooks

rank = int(os.environ["RANK"])
place, folder, act, changes = Path({place!r}), Path({folder!r}), {act!r}, {changes!r}
calls = 0

def loss(answer, images, targets, hard):
    global calls
    calls += 1
    if calls == 3 and rank == 1:
        exec(act)
    return (answer(images).log_softmax(1) * -targets).sum(1).mean()

hooks = Hooks(loss=loss, name="acting") if act else Hooks()
try:
    one = job(place, folder, model={model!r}, recipe=recipe(**changes), float64=True, hooks=hooks,
              resume={resume!r})
    done = loop.train(one)
    print(f"rank {{rank}}: {{done.status}} after {{done.step}} steps, {{done.best}}", flush=True)
except VertebraError as error:
    print(f"rank {{rank}}: {{error.message}}", flush=True)
    sys.exit(3)
"""


def start(
    place: Path, folder: Path, changes: dict[str, Any], act: str = "", *, resume: bool = False
) -> subprocess.Popen[str]:
    """Two processes of torchrun that train on `place` into `folder`."""
    tests = str(Path(__file__).parent)
    text = PROGRAM.format(
        tests=tests,
        place=str(place),
        folder=str(folder),
        act=act,
        changes=changes,
        model=MODEL,
        resume=resume,
    )
    script = folder.parent / f"{folder.name}.py"
    script.write_text(text)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, str(script)], env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=300)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """49 pictures: 37 to train on, so that the last step of an epoch isn't full."""
    place = photos(tmp_path_factory.mktemp("toys") / "photos", 16)
    extra = photos(place.parent / "extra", 1, seed=4)
    (extra / "blue" / "0.png").rename(place / "blue" / "more.png")
    return place


@pytest.fixture(scope="module")
def two(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes."""
    folder = tmp_path_factory.mktemp("two") / "run"
    printed = finished(start(place, folder, PLAIN))
    assert printed.count("finished after 4 steps") == 2, printed
    return folder


def test_two_processes_equal_one_that_accumulates(place: Path, two: Path, tmp_path: Path) -> None:
    one = loop.train(
        job(place, tmp_path / "one", model=MODEL, recipe=recipe(**PLAIN, accumulate=2), float64=True)
    )
    assert one.step == 4
    kept = [checkpoints.load(folder / runs.CHECKPOINT) for folder in (tmp_path / "one", two)]
    parameters = {
        name for name in kept[0]["network"] if ".running_" not in name and "num_batches" not in name
    }
    for part in ("network", "average"):
        for name in parameters:
            assert torch.allclose(kept[0][part][name], kept[1][part][name], rtol=0, atol=1e-12), name
    assert len(kept[1]["statistics"]) == 2
    losses = [[line["loss"] for line in runs.read(one).lines("step")] for one in (tmp_path / "one", two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_running_statistics_are_averaged_before_an_evaluation(two: Path) -> None:
    kept = checkpoints.load(two / runs.CHECKPOINT)
    first, second = kept["statistics"]
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    mean = next(name for name in first[0] if name.endswith("running_mean"))
    assert torch.equal(first[0][mean], kept["network"][mean])


@pytest.mark.parametrize(
    "act", ["os._exit(9)", pytest.param("raise RuntimeError('broken')", marks=pytest.mark.slow)]
)
def test_a_process_that_is_gone_ends_the_others(place: Path, tmp_path: Path, act: str) -> None:
    printed = finished(start(place, tmp_path / "two", {**PLAIN, "mixup": 0.2}, act))
    lines = [line for line in printed.splitlines() if line.startswith("rank 0:")]
    assert lines, printed
    assert lines[0].startswith("rank 0: Another process of this run has ended")
    assert lines[0].count("\n") == 0


@pytest.mark.slow
def test_two_processes_continue_to_the_bit(place: Path, tmp_path: Path) -> None:
    """Interrupted in the middle of an epoch, where each has running statistics of its own."""
    changes = {**PLAIN, "mixup": 0.2}
    waits = start(place, tmp_path / "whole", changes, "pass")
    finished(waits)
    printed = finished(start(place, tmp_path / "two", changes, "os.kill(os.getpid(), 2)"))
    assert printed.count("interrupted after 3 steps") == 2, printed
    finished(start(place, tmp_path / "two", changes, "pass", resume=True))
    ended = [checkpoints.load(tmp_path / name / runs.CHECKPOINT) for name in ("whole", "two")]
    for kept in ended:
        for name in ("seconds", "waited", "log_bytes"):
            del kept[name]
    assert checkpoints.digest(ended[0]) == checkpoints.digest(ended[1])


def test_work_of_the_first_alone_is_shared_and_so_are_its_errors() -> None:
    team = ranks.Team()
    assert team.alone(lambda: 7) == 7
    assert (team.total([1.0, 2.0]), team.gather("one")) == ([1.0, 2.0], ["one"])
    with pytest.raises(InvalidInputError, match="none"):
        team.alone(lambda: (_ for _ in ()).throw(InvalidInputError("none")))


@pytest.mark.parametrize(
    ("variables", "message"),
    [({"WORLD_SIZE": "2"}, "RANK not set"), ({"WORLD_SIZE": "two"}, "WORLD_SIZE is two"),
     ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK must be from 0 to 1")],
)  # fmt: skip
def test_a_launcher_s_variables_must_make_sense(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match=message), ranks.joined():
        pass
