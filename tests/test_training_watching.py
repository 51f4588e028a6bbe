"""What is seen of a training while it runs: the line of progress, TensorBoard and MLflow."""

from __future__ import annotations

import importlib.machinery
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from vertebra.progress import Progress
from vertebra.training.watching import Pace, Watch

STEP = {"kind": "step", "step": 3, "epoch": 1, "loss": 0.5, "top1": 0.75, "rate": 0.1,
        "times": {"images_per_s": 20.0, "waiting": 0.25}}  # fmt: skip
EPOCH = {"kind": "epoch", "step": 4, "epoch": 1, "evaluated": [{"weights": "averaged", "top1": 0.9}],
         "times": {}}  # fmt: skip
RECORD = {"model": "squeezenet1_1", "recipe": {"epochs": 2, "milestones": []}}


def watch(folder: Path, events: list[Progress], *, writes: bool = True) -> Watch:
    return Watch(events.append, folder, RECORD, first_step=0, writes=writes)


def test_the_line_says_loss_accuracy_and_what_it_waits_for(tmp_path: Path) -> None:
    events: list[Progress] = []
    seen = watch(tmp_path, events, writes=False)
    seen.step("epoch 1 of 2", STEP, 30, 100, 9.0)
    seen.step("epoch 1 of 2", {**STEP, "loss": 0.4}, 40, 100, 8.0)
    assert [event.text for event in events] == 2 * [
        "epoch 1 of 2: loss 0.500, top-1 75.0%, waits 25% of the time for pictures"
    ]
    assert (events[1].done, events[1].total, events[1].left_s) == (40, 100, 8.0)


def test_a_pace_knows_what_is_left() -> None:
    pace = Pace()
    assert pace.left_s(10, 1) is None
    pace.images, pace.trained_s, pace.waited_s, pace.evaluated_s, pace.evaluations = 50, 5.0, 1.0, 4.0, 2
    assert (pace.images_per_s, pace.waiting, pace.left_s(100, 3)) == (10.0, 0.2, 16.0)


def test_tensorboard_has_the_log_s_numbers(tmp_path: Path) -> None:
    events_of = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seen = watch(tmp_path, [])
    seen.log(STEP)
    seen.log(EPOCH)
    seen.close()
    found = events_of.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == {
        "train/loss", "train/top1", "train/rate", "val/top1_averaged", "speed/images_per_s", "speed/waiting",
    }  # fmt: skip
    [loss] = found.Scalars("train/loss")
    assert (loss.step, loss.value) == (3, 0.5)


class Service(types.ModuleType):
    """A stand-in for mlflow that notes its calls."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__("mlflow")
        self.__spec__ = importlib.machinery.ModuleSpec("mlflow", None)
        self.calls: list[Any] = []
        self._fails = fails

    def set_tracking_uri(self, uri: str) -> None:
        self.calls.append(uri)

    def start_run(self, run_name: str) -> None:
        self.calls.append(run_name)

    def log_params(self, given: dict[str, Any]) -> None:
        self.calls.append(given)

    def log_metrics(self, given: dict[str, float], step: int) -> None:
        if self._fails:
            raise ConnectionError("the server is gone")
        self.calls.append((step, given))

    def end_run(self) -> None:
        self.calls.append("end")


def test_mlflow_gets_the_same_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "mlflow", service)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    seen = watch(tmp_path, [])
    seen.log(EPOCH)
    seen.close()
    assert service.calls == [
        (tmp_path / "mlflow").as_uri(), tmp_path.name, {"model": "squeezenet1_1", "epochs": 2},
        (4, {"val/top1_averaged": 0.9}), "end",
    ]  # fmt: skip


def test_a_service_that_fails_never_ends_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(fails=True)
    monkeypatch.setitem(sys.modules, "mlflow", service)
    seen = watch(tmp_path, [])
    with caplog.at_level(logging.WARNING, "vertebra"):
        seen.log(STEP)
        seen.log(STEP)
    assert [record.message for record in caplog.records if "MLflow" in record.message] == [
        "warning: MLflow gets no more lines: the server is gone"
    ]
    seen.close()
