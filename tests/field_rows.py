"""A made-up field of networks for the explorer's tests: rows like those of a catalogue, some measured."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from vertebra.measurements import Measurement

SYSTEM = "box-2-cores-1f2e3d4c"
FAMILIES = (
    "resnet", "vit", "efficientnet", "convnext", "mobilenetv", "regnety", "swin", "densenet", "vgg", "levit",
    "squeezenet", "xception", "ghostnet", "hrnet", "nfnet",
)  # fmt: skip
#: Of the networks, every so many one is measured, and the others are estimated.
_MEASURED = 9


def field(networks: int, engines: tuple[str, ...] = ("onnxruntime",), seed: int = 4) -> list[Measurement]:
    """Rows of `networks` networks: counts and a published accuracy, and latency and memory on each engine."""
    draw = random.Random(seed)
    return [row for number in range(networks) for row in _network(number, engines, draw)]


def _network(number: int, engines: tuple[str, ...], draw: random.Random) -> Iterator[Measurement]:
    name = f"timm:{FAMILIES[number % len(FAMILIES)]}{number}"
    params = int(10 ** draw.uniform(5.8, 8.6))
    macs = int(params * 10 ** draw.uniform(1.2, 2.4))
    # thousandths, so that ties happen
    top1 = round(0.42 + 0.05 * math.log10(macs / 1e6) * draw.uniform(1.2, 1.8), 3)
    yield _published(name, "top1", top1)
    yield Measurement(model=name, metric="params", value=params, origin="profiled")
    yield Measurement(model=name, metric="macs", value=macs, origin="profiled", input_size=224)
    yield Measurement(
        model=name, metric="weight_bytes", value=4 * params, origin="profiled", precision="float32"
    )
    if number % 41 == 7:  # never ran, and has no price
        return
    for pace, engine in enumerate(engines, 1):
        yield from _ran(name, engine, number, macs, params, pace, draw)


def _published(name: str, metric: str, value: float) -> Measurement:
    return Measurement(model=name, metric=metric, value=value, origin="published", source="a table",
                       dataset="imagenet-1k", split="val", input_size=224)  # fmt: skip


def _ran(
    name: str, engine: str, number: int, macs: int, params: int, pace: int, draw: random.Random
) -> Iterator[Measurement]:
    is_measured = number % _MEASURED == 0
    form: dict[str, Any] = {
        "model": name, "system": SYSTEM, "engine": engine, "device": "cpu", "precision": "float32",
        "batch_size": 1, "input_size": 224, "threads": 2, "origin": "benched" if is_measured else "estimated",
    }  # fmt: skip
    seconds = macs / 4e10 * pace * draw.uniform(0.6, 1.7)
    spread = 1.03 if is_measured else 1.25
    grade, reasons = None, ()
    if is_measured:
        grade, reasons = ("C", ("the clock drifted",)) if draw.random() < 0.3 else ("B", ())
    yield Measurement(metric="latency", value=seconds, low=seconds / spread, high=seconds * spread,
                      grade=grade, grade_reasons=reasons, **form)  # fmt: skip
    yield Measurement(metric="memory_total", value=9e7 + 5.5 * params, **form)
