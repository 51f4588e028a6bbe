"""PaddleClas's page "Other networks" in the editions that print its figures.

Known mistakes of a printed figure are described in its row's `disputed`; the figure itself is unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from vertebra.measurements import Measurement
from vertebra.measurements.shipped import published
from vertebra.zoo import names


@dataclass(frozen=True)
class Edition:
    """One edition of a published page. `latency_system` is the GPU for tables that don't name one."""

    source: str
    latency_system: str | None = None
    latency_disputed: str | None = None


PAGE = 'PaddleClas documentation, "Other networks" (Others.md)'
_SAME_AS_V100 = "the same eight figures stand under the heading V100 in the English Others.md"

#: The edition that a row of rows/paddleclas.csv belongs to.
EDITIONS = {
    "en-page": Edition(
        f"{PAGE}, English, as a rendered page",
        "nvidia-v100",
        f'this edition\'s catalogue heads the table "SD855"; {_SAME_AS_V100}',
    ),
    "en-others": Edition(f"{PAGE}, English, with the V100 and T4 tables"),
    "zh-others-2020": Edition(
        f"{PAGE}, Chinese, the edition that has ResNet50_ACNet",
        "nvidia-v100",
        f"this edition names no device; {_SAME_AS_V100}",
    ),
    "zh-others-2022": Edition(f"{PAGE}, Chinese, edition of 2022-10-24, the one that has SENet154_vd"),
}

_SYSTEMS = {"V100 GPU": "nvidia-v100", "T4 GPU": "nvidia-t4"}
_PRECISIONS = {"FP32": "float32", "FP16": "float16"}
_BASE_UNITS = {"fraction": "1", "G": "1e9", "M": "1e6", "ms": "1e-3"}
_METRICS = {"flops": "operations"}

#: How the page counted (found by running its counter on the original networks).
_CONVENTION = {
    "operations": "paddle.fluid.contrib.model_stat: convolutions 2 per multiply-accumulate, fully connected "
    "layers 1, grouped convolutions not at all, plus pools and 2 per normalised element, minus activations",
    "params": "paddle.fluid.contrib.model_stat: convolutions without bias, one bias element per fully "
    "connected layer",
}

_FULLY_CONNECTED_ONCE = (
    "fully connected layers are counted once per multiply-accumulate and convolutions twice; "
    "the true figure is {true:,} operations"
)
_GROUPS_LOST = "grouped convolutions were not counted; the true figure is {true:,} {what}"

#: (model, metric) -> what is wrong with the printed figure. True figures: `vertebra profile`.
DISPUTED = {
    ("alexnet", "operations"): _FULLY_CONNECTED_ONCE.format(true=1_428_376_960),
    ("vgg11", "operations"): _FULLY_CONNECTED_ONCE.format(true=15_218_180_096),
    ("vgg13", "operations"): _FULLY_CONNECTED_ONCE.format(true=22_616_932_352),
    ("vgg16", "operations"): _FULLY_CONNECTED_ONCE.format(true=30_940_528_640),
    ("vgg19", "operations"): _FULLY_CONNECTED_ONCE.format(true=39_264_124_928),
    ("senet154_vd", "operations"): _GROUPS_LOST.format(true=48_679_141_376, what="operations"),
    ("senet154_vd", "params"): _GROUPS_LOST.format(true=121_737_048, what="trainable parameters"),
}


def paddleclas() -> list[Measurement]:
    """The figures of PaddleClas's "Other networks" page, in each edition that prints them."""
    printed = list(published.printed("paddleclas.csv"))
    resizes = {
        (row["edition"], row["model"]): row for row in printed if row["metric"] == "resize_short"
    }  # the protocol of the accuracies, not a figure of its own
    return [
        _measurement(row, resizes.get((row["edition"], row["model"])))
        for row in printed
        if row["metric"] != "resize_short"
    ]


def _measurement(row: dict[str, str], resize: dict[str, str] | None) -> Measurement:
    if row["metric"] == "latency":
        return _latency(row)
    model = names.find(row["model"])
    metric = _METRICS.get(row["metric"], row["metric"])
    accuracy = metric.endswith(("top1", "top5"))
    protocol = f"resize {resize['printed']}, crop {resize['input_size']}" if accuracy and resize else None
    return Measurement(
        model=model.name,
        weights=("reference" if metric.startswith("reference") else "paddle_in1k") if accuracy else None,
        metric=metric,
        value=_value(row),
        origin="published",
        dataset="imagenet-1k" if accuracy else None,
        split="val" if accuracy else None,
        protocol=protocol,
        input_size=None if metric == "params" else model.input_size,
        precision="float32" if accuracy else None,
        source=EDITIONS[row["edition"]].source,
        convention=_CONVENTION.get(metric),
        disputed=DISPUTED.get((model.name, metric)),
    )


def _latency(row: dict[str, str]) -> Measurement:
    edition = EDITIONS[row["edition"]]
    return Measurement(
        model=names.find(row["model"]).name,
        metric="latency",
        value=_value(row),
        origin="published",
        input_size=int(row["input_size"]),
        batch_size=int(row["batch_size"]),
        precision=_PRECISIONS[row["precision"]],
        engine=row["engine"].lower() or None,
        device="cuda",
        system=_SYSTEMS[row["device"]] if row["device"] else edition.latency_system,
        source=edition.source,
        disputed=None if row["device"] else edition.latency_disputed,
    )


def _value(row: dict[str, str]) -> float:
    # Decimal, so that 61.090 M becomes exactly 61090000.
    return float(Decimal(row["printed"]) * Decimal(_BASE_UNITS[row["unit"]]))
