"""Rows of the eleven classics for the readers' tests: true counts, published accuracy, made-up timings."""

from __future__ import annotations

from typing import Any

from vertebra.measurements import Measurement

#: name, native size, trainable parameters, MACs, top-1, top-5, a made-up latency in milliseconds
CLASSICS = (
    ("alexnet", 224, 61_100_840, 714_188_480, 0.567, 0.792, 12.1),
    ("squeezenet1_0", 224, 1_248_424, 777_221_152, 0.596, 0.817, 9.5),
    ("squeezenet1_1", 224, 1_235_496, 349_537_280, 0.601, 0.819, 5.2),
    ("vgg11", 224, 132_860_584, 7_609_090_048, 0.693, 0.891, 84.0),
    ("vgg13", 224, 133_044_904, 11_308_466_176, 0.700, 0.894, 121.0),
    ("vgg16", 224, 138_353_320, 15_470_264_320, 0.720, 0.907, 158.0),
    ("vgg19", 224, 143_661_736, 19_632_062_464, 0.726, 0.909, 199.0),
    ("darknet53", 256, 41_609_928, 9_285_115_904, 0.780, 0.941, 92.0),
    ("senet154_vd", 224, 121_737_048, 24_339_570_688, 0.814, 0.955, 402.0),
    ("resnet50_acnet", 224, 33_119_912, 5_356_027_904, 0.767, 0.932, 71.0),
    ("resnet50_acnet_deploy", 224, 25_553_192, 4_089_184_256, 0.767, 0.932, 48.0),
)
SYSTEM = "box-2-cores-1f2e3d4c"
SOURCE = "a page of figures"


def known() -> list[Measurement]:
    """What is known without a run: counts and published accuracy."""
    return [row for classic in CLASSICS for row in _known(*classic[:6])]


def _known(model: str, size: int, params: int, macs: int, top1: float, top5: float) -> list[Measurement]:
    def published(metric: str, value: float) -> Measurement:
        return Measurement(model=model, metric=metric, value=value, origin="published", source=SOURCE,
                           dataset="imagenet-1k", split="val", input_size=size)  # fmt: skip

    def profiled(metric: str, value: float, **more: Any) -> Measurement:
        return Measurement(model=model, metric=metric, value=value, origin="profiled", **more)

    return [
        published("top1", top1),
        published("top5", top5),
        profiled("params", params),
        profiled("macs", macs, input_size=size),
        profiled("weight_bytes", 4 * params, precision="float32"),
    ]


def timed(engine: str = "onnxruntime", pace: float = 1.0, **more: Any) -> list[Measurement]:
    """Latency and memory of the classics on `engine`, `pace` times what is made up; VGGs have grade C."""
    return [row for classic in CLASSICS for row in _timed(classic, engine, pace, more)]


def _timed(classic: tuple[Any, ...], engine: str, pace: float, more: dict[str, Any]) -> list[Measurement]:
    model, size, params, *_, milliseconds = classic
    form = {"system": SYSTEM, "engine": engine, "device": "cpu", "precision": "float32", "batch_size": 1,
            "input_size": size, "threads": 2, "versions": {engine: "1.22.0"},
            "measured_at": "2026-07-01T10:00:00+00:00", "origin": "benched"} | more  # fmt: skip
    value = milliseconds * pace / 1000
    grade, reasons = ("C", ("23 samples of 64: budget spent",)) if model.startswith("vgg") else ("B", ())
    return [
        Measurement(model=model, metric="latency", value=value, low=0.97 * value, high=1.05 * value,
                    samples=64, grade=grade, grade_reasons=reasons, **form),
        Measurement(model=model, metric="memory_total", value=6.0 * params + 9e7, **form),
    ]  # fmt: skip
