"""What is seen of a training while it runs: one line of progress, the log, TensorBoard and MLflow."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertebra.errors import warn
from vertebra.progress import Listener, Progress

#: Seconds for which the text of the progress stays, so that lines of a log don't pile up.
_TEXT_S = 10.0


class Pace:
    """How fast a process trains, and for what it waits: seconds of its own clock."""

    def __init__(self) -> None:
        self.trained_s = 0.0
        self.waited_s = 0.0
        self.kept_s = 0.0
        self.evaluated_s = 0.0
        self.images = 0
        self.evaluations = 0

    @property
    def images_per_s(self) -> float:
        """Images trained in a second, waiting included; 0 before the first."""
        return self.images / self.trained_s if self.trained_s else 0.0

    @property
    def waiting(self) -> float:
        """The share of the training's time in which the next batch wasn't ready."""
        return self.waited_s / self.trained_s if self.trained_s else 0.0

    def left_s(self, images: int, evaluations: int) -> float | None:
        """Seconds that so many images and evaluations will take; None before anything is known."""
        if not self.images:
            return None
        each = self.evaluated_s / self.evaluations if self.evaluations else 0.0
        return images / self.images_per_s + evaluations * each


class Watch:
    """Gives progress to a listener, and the log's lines to TensorBoard and MLflow, where these are there.

    A service that fails is left out from then on, with a warning: it never ends a training.
    """

    def __init__(self, progress: Listener, folder: Path, record: Mapping[str, Any], *, first_step: int,
                 writes: bool) -> None:  # fmt: skip
        self.progress = progress
        self._text, self._said_s = "", 0.0
        self._services: list[Any] = []
        if writes:
            self._services = [
                one for one in (_tensorboard(folder, first_step), _mlflow(folder, record)) if one
            ]

    def step(self, name: str, line: Mapping[str, Any], images: int, total: int, left_s: float | None) -> None:
        """Show the state after a step; `line` is what the log has of it."""
        now = time.monotonic()
        if not self._text.startswith(name) or now - self._said_s >= _TEXT_S:
            top1 = "" if line.get("top1") is None else f", top-1 {line['top1']:.1%}"
            waiting = line["times"]["waiting"]
            waits = f", waits {waiting:.0%} of the time for pictures" if waiting >= 0.05 else ""
            self._text, self._said_s = f"{name}: loss {line['loss']:.3f}{top1}{waits}", now
        self.progress(Progress(self._text, images, total, "images", left_s))

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self.progress(Progress(text))

    def log(self, line: Mapping[str, Any]) -> None:
        """Give a line of the log to the services."""
        for service in list(self._services):
            try:
                service.log(_scalars(line), int(line["step"]))
            except Exception as error:
                self._services.remove(service)
                warn(f"{service.name} gets no more lines: {_reason(error)}")

    def close(self) -> None:
        """End the services."""
        for service in self._services:
            with contextlib.suppress(Exception):
                service.close()


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by the names of their curves: "train/loss", "val/top1_averaged"."""
    kind = "train" if line["kind"] == "step" else "val"
    found = {f"{kind}/{name}": line[name] for name in ("loss", "top1", "rate") if line.get(name) is not None}
    for one in line.get("evaluated", ()):
        found[f"{kind}/top1_{one['weights']}"] = one["top1"]
    times = line.get("times", {})
    found |= {f"speed/{name}": times[name] for name in ("images_per_s", "waiting") if name in times}
    return {name: float(value) for name, value in found.items()}


class _TensorBoard:
    name = "TensorBoard"

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def _tensorboard(folder: Path, first_step: int) -> _TensorBoard | None:
    if importlib.util.find_spec("tensorboard") is None:
        warn(
            "TensorBoard gets nothing: tensorboard isn't installed; the run's log and curves have the same",
            'install it with: pip install "vertebra[train]"',
        )
        return None
    try:
        return _TensorBoard(folder, first_step)
    except Exception as error:
        warn(f"TensorBoard gets nothing: {_reason(error)}")
        return None


class _MLflow:
    name = "MLflow"

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri((folder / "mlflow").absolute().as_uri())
        mlflow.start_run(run_name=folder.name)
        recipe = record.get("recipe", {})
        plain = {key: value for key, value in recipe.items() if isinstance(value, str | int | float | bool)}
        mlflow.log_params({"model": record.get("model"), **plain})

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(scalars), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def _mlflow(folder: Path, record: Mapping[str, Any]) -> _MLflow | None:
    if importlib.util.find_spec("mlflow") is None:
        return None
    try:
        return _MLflow(folder, record)
    except Exception as error:
        warn(f"MLflow gets nothing: {_reason(error)}")
        return None
