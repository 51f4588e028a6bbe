"""A made-up table, and the lock of a choice from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vertebra
from vertebra.machine import system
from vertebra.measurements import Measurement, Table
from vertebra.reading import lockfile

HERE: dict[str, Any] = {
    "origin": "benched", "device": "cpu", "engine": "onnxruntime", "precision": "float32", "batch_size": 1,
    "input_size": 224, "threads": 1, "scenario": "single-stream", "grade": "B",
    "measured_at": "2026-11-01T10:00:00+00:00",
    "versions": {"onnxruntime": "1.31.0", "vertebra": "1.0"},
}  # fmt: skip


def figures(model: str, top1: float, latency: float, memory: float = 1e8, **more: Any) -> list[Measurement]:
    """A network's accuracy, and its latency and memory on this machine."""
    form = {**HERE, "system": system.describe().id, **more}
    return [
        Measurement(model=model, metric="top1", value=top1, origin="published", dataset="imagenet-1k",
                    split="val", source="/home/somebody/figures.csv", weights=f"{model}.tv_in1k"),
        Measurement(model=model, metric="params", value=1e6, origin="profiled"),
        Measurement(model=model, metric="latency", value=latency, low=0.98 * latency, high=1.02 * latency,
                    **form),
        Measurement(model=model, metric="memory_total", value=memory, **form),
    ]  # fmt: skip


def made(folder: Path) -> Table:
    """Three networks within 30 fps, and a better one that misses it by a little."""
    table = Table(folder / "table.sqlite")
    table.append(
        [
            *figures("squeezenet1_1", 0.60, 0.004),
            *figures("vgg11", 0.70, 0.025),
            *figures("vgg13", 0.69, 0.020),
            *figures("vgg16", 0.72, 0.037),
        ]
    )
    return table


def locked(table: Table, folder: Path) -> Path:
    """The lock of vgg11, the choice for 30 fps and 200 MB."""
    path = folder / lockfile.NAME
    vertebra.pick(fps=30, memory="200MB", table=table, among="table", lock=path)
    return path
