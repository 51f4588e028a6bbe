"""The figures that timm and torchvision publish for their networks, and our own counts of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from vertebra.measurements import Measurement, shipped
from vertebra.measurements.shipped import published

_TIMM_PAGE = "huggingface/pytorch-image-models@aa4b5850, results"
TIMM = f"{_TIMM_PAGE} (Apache-2.0)"
TORCHVISION = "torchvision 0.29.2, its weights' metadata (BSD-3-Clause)"

#: library -> how it counts GMACs, GFLOPS and activations
_CONVENTIONS = {
    "timm": "fvcore: one per fused multiply-add, and normalisations and pools; rounded to 0.01 G",
    "torchvision": "one per multiply-add, though its pages say GFLOPS; rounded to 0.001 G",
}
_ROUNDED_PARAMS = {"timm": "all parameters, rounded to 0.01 M", "torchvision": None}
_ACTIVATIONS = "fvcore: outputs of convolutions and matrix products; rounded to 0.01 M"
_FILE_SIZE = "size of the checkpoint's file"


#: What they publish of accuracy.
ACCURACIES = ("top1", "top5")


def accuracies(metrics: Iterable[str] = ACCURACIES) -> list[Measurement]:
    """Top-1 and top-5, or one of them, on ImageNet's validation split, of each set of weights at each
    published input size."""
    wanted = tuple(metrics)
    return [row for line in published.printed("imagenet.csv.gz") for row in _accuracy(line, wanted)]


def _accuracy(line: dict[str, str], metrics: Iterable[str]) -> Iterator[Measurement]:
    source = f"{_TIMM_PAGE}/results-imagenet.csv" if _library(line) == "timm" else TORCHVISION
    for metric in metrics:
        if line[metric]:
            yield _made(
                model=line["model"],
                weights=line["weights"],
                metric=metric,
                value=float(f"{line[metric]}e-2"),  # as exact as a Decimal, and there are thousands
                dataset="imagenet-1k",
                split="val",
                protocol=f"centre crop of {_share(line['crop_pct'])}" if line["crop_pct"] else None,
                input_size=_size(line),
                source=source,
            )


#: Every column of a row, blank where a source says nothing.
_BLANK = Measurement(model="none", metric="params", value=1, origin="published")


#: A row of shipped figures, unchecked: the tests check each, and there are thousands at every start.
_made = _BLANK.like


@cache
def _share(crop_pct: str) -> str:
    return f"{float(crop_pct):.1%}".replace(".0%", "%").replace("%", " %")


def complexities() -> list[Measurement]:
    """Parameters, MACs, activations and file sizes, each in its library's own convention."""
    every = [row for line in published.printed("complexity.csv.gz") for row in _complexity(line)]
    # torchvision states a network's counts once for each of its sets of weights
    return list(
        {(row.model, row.weights, row.metric, row.input_size, row.value): row for row in every}.values()
    )


def _complexity(line: dict[str, str]) -> Iterator[Measurement]:
    library = _library(line)
    source = f"{_TIMM_PAGE}/benchmark-infer-{line['file']}.csv" if line["file"] else TORCHVISION
    size, old_name = _size(line), line["weights"] if library == "timm" else None
    figures: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("params", line["params_m"], "1e6", {"convention": _ROUNDED_PARAMS[library], "input_size": size}),
        ("macs", line["gmacs"], "1e9", {"convention": _CONVENTIONS[library], "input_size": size}),
        ("activations", line["macts_m"], "1e6", {"convention": _ACTIVATIONS, "input_size": size}),
    )
    for metric, text, unit, more in figures:
        if text:
            yield Measurement(
                model=line["model"], weights=old_name or None, metric=metric, value=_scaled(text, unit),
                origin="published", source=source, **more,
            )  # fmt: skip
    if line["file_size_mib"]:
        yield Measurement(
            model=line["model"], weights=line["weights"], metric="weight_bytes",
            value=_scaled(line["file_size_mib"], str(2**20)), origin="published", precision="float32",
            convention=_FILE_SIZE, source=source,
        )  # fmt: skip


@dataclass(frozen=True)
class _Machine:
    device: str
    system: str


_MACHINES = {
    "rtx3090": _Machine("cuda", "nvidia-rtx-3090"),
    "rtx4090": _Machine("cuda", "nvidia-rtx-4090"),
    "4090": _Machine("cuda", "nvidia-rtx-4090"),
    "5090": _Machine("cuda", "nvidia-rtx-5090"),
    "pro6000maxq": _Machine("cuda", "nvidia-rtx-pro-6000-max-q"),
    "i7_12700h": _Machine("cpu", "intel-i7-12700h"),
    "i9_10940x": _Machine("cpu", "intel-i9-10940x"),
}
_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "amp": "amp-float16", "amp_bf16": "amp-bfloat16"}
_TORCH = {"pt113": "1.13", "pt210": "2.1.0", "pt221": "2.2.1", "pt240": "2.4.0", "pt291": "2.9.1"}


def throughputs() -> list[Measurement]:
    """Images per second of timm's networks, one row per figure; batch sizes differ by network and machine.

    The conditions are in a table's name: precision, layout, torch, CUDA, machine, compiled or not.
    """
    return [row for table in published.benchmarks() for row in _throughputs(table)]


def _throughputs(table: published.Benchmark) -> Iterator[Measurement]:
    precision, layout, torch, cuda, machine, *compiled = table.name.split("-")
    versions = {"torch": _TORCH[torch]}
    if cuda != "cpu":
        versions["cuda"] = f"{cuda[2:-1]}.{cuda[-1]}"
    shared: dict[str, Any] = {
        "metric": "throughput",
        "origin": "published",
        "precision": _PRECISIONS[precision],
        "engine": "compile" if compiled else "eager",
        "layout": layout,
        "device": _MACHINES[machine].device,
        "system": _MACHINES[machine].system,
        "source": f"{_TIMM_PAGE}/benchmark-infer-{table.name}.csv",
        "versions": versions,
    }
    for (model, weights, input_size), (batch_size, rate) in table.figures.items():
        yield Measurement(
            model=model, weights=weights or None, value=rate, input_size=input_size, batch_size=batch_size,
            **shared,
        )  # fmt: skip


#: What we counted of each network.
COUNTED = ("params", "buffers", "weight_bytes", "macs", "activations")


def counts(metrics: Collection[str] = COUNTED, models: Collection[str] | None = None) -> list[Measurement]:
    """Our own counts, the same rows as `profiler.rows` returns; only of `metrics` and `models`, if given."""
    every = shipped.counts().values()
    wanted = [metric for metric in COUNTED if metric in metrics]
    return [
        row for count in every if models is None or count.model in models for row in _profiled(count, wanted)
    ]


def _profiled(count: shipped.Count, metrics: Iterable[str]) -> Iterator[Measurement]:
    for metric in metrics:
        yield _made(
            model=count.model,
            metric=metric,
            value=getattr(count, metric),
            origin="profiled",
            input_size=count.input_size if metric in ("macs", "activations") else None,
            precision="float32" if metric == "weight_bytes" else None,
        )


def _library(line: dict[str, str]) -> str:
    return line["model"].partition(":")[0]


def _size(line: dict[str, str]) -> int | None:
    return int(line["input_size"]) if line["input_size"] else None


def _scaled(text: str, unit: str) -> float:
    from decimal import Decimal

    # Decimal, so that 61.101 M becomes exactly 61101000.
    return float(Decimal(text) * Decimal(unit))
