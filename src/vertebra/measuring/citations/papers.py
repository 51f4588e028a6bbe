"""Two papers that compared networks on GPUs and small boards: Canziani et al. 2016 and Bianco et al. 2018.

Neither paper's figures could be found as a printed table. Bianco's accuracies are those of its authors'
repository, and its counts were made again with its authors' code; Canziani's were read off its charts by
others.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from vertebra.measurements import Measurement
from vertebra.measurements.shipped import published

if TYPE_CHECKING:
    from vertebra.zoo.papers import Paper

BIANCO = "Bianco et al. 2018, arXiv 1810.00736, by its repository CeLuigi/models-comparison.pytorch"
CANZIANI = "Canziani et al. 2016, arXiv 1605.07678, as read off its charts"

_README = f"{BIANCO}, README at 66e1626"
_RECOUNTED = f"{BIANCO}, recounted on its code at 51388f0"
CONVOLUTIONS = (
    "the paper's G-FLOPs: one per multiply-accumulate of convolutions and half per bias, nothing else"
)
#: column of bianco2018.csv -> metric, unit, convention
_COUNTS = (
    ("params_m_recomputed", "params", "1e6", "all, Inception-v3's auxiliary head too; rounded to 0.001 M"),
    ("model_size_mb_recomputed", "weight_bytes", "1e6", "bytes of the state dict, rounded to 0.01 MB"),
    ("gmacs_all_recomputed", "macs", "1e9", "one per multiply-accumulate of convolutions and products"),
    ("gmacs_conv_recomputed", "macs", "1e9", CONVOLUTIONS),
)  # fmt: skip
#: reading of Canziani's charts -> its source
_READINGS = {
    "moons": f"{CANZIANI} by BertMoons/Comparing-CNN-Architectures@0107c4e",
    "auto": f"{CANZIANI} by a machine, in a lecture hand-out (AMA 564)",
}
_CHART = "2 per multiply-accumulate, read off a chart"


def bianco2018() -> list[Measurement]:
    """The 44 networks of the paper: accuracy with the repository's weights, and the recounted complexity."""
    return [row for line in published.printed("bianco2018.csv") for row in _bianco(line)]


def _bianco(line: dict[str, str]) -> Iterator[Measurement]:
    from vertebra.zoo.papers import BIANCO2018

    model, size = _network(BIANCO2018, line), int(line["input_size"])
    protocol = "centre crop of 87.5 %"
    for metric in ("top1", "top5"):
        text, quoted = line[f"{metric}_readme"], line[f"ref_{metric}"]
        seen = {"input_size": size, "protocol": protocol, "source": _README}
        if text:
            yield _accuracy(model, metric, text, "models-comparison.pytorch", **seen)
        if quoted:
            yield _accuracy(
                model, f"reference_{metric}", quoted, f"reference, {line['ref_framework']}", source=_README
            )
    for column, metric, unit, convention in _COUNTS:
        yield Measurement(
            model=model,
            metric=metric,
            value=_scaled(line[column], unit),
            origin="published",
            input_size=size if metric == "macs" else None,
            precision="float32" if metric == "weight_bytes" else None,
            source=_RECOUNTED,
            convention=convention,
        )


def canziani2016() -> list[Measurement]:
    """The 14 networks of the paper: top-1, operations and parameters, in two readings of its charts."""
    lines = list(published.printed("canziani2016.csv"))
    return [row for reader in _READINGS for line in lines for row in _canziani(line, reader)]


def _canziani(line: dict[str, str], reader: str) -> Iterator[Measurement]:
    from vertebra.zoo.papers import CANZIANI2016

    model, source = _network(CANZIANI2016, line), _READINGS[reader]
    if line[f"top1_{reader}"]:
        yield _accuracy(model, "top1", line[f"top1_{reader}"], "canziani2016", source=source)
    for column, metric, unit in (("gops", "operations", "1e9"), ("params_m", "params", "1e6")):
        text = line.get(f"{column}_{reader}")
        if text:
            yield Measurement(
                model=model, metric=metric, value=_scaled(text, unit), origin="published", source=source,
                convention=_CHART if metric == "operations" else "read off a chart of accuracy density",
            )  # fmt: skip


def _network(paper: Paper, line: dict[str, str]) -> str:
    return next(entry.model for entry in paper.entries if entry.network == line["model"])


def _accuracy(model: str, metric: str, text: str, weights: str, **more: Any) -> Measurement:
    return Measurement(
        model=model, weights=weights, metric=metric, value=_scaled(text, "0.01"), origin="published",
        dataset="imagenet-1k", split="val", **more,
    )  # fmt: skip


def _scaled(text: str, unit: str) -> float:
    return float(Decimal(text) * Decimal(unit))
