"""The head of a Bundle that was fitted on pictures: the row of its accuracy, and whether pictures are among
those that it was fitted on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

from vertebra.bundles import Bundle
from vertebra.bundles.fitted import Fitted, read_split
from vertebra.bundles.manifest import SPLIT
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.machine import onnx_files, onnx_heads
from vertebra.measurements import Measurement, now
from vertebra.measurements.possible import plain_names
from vertebra.zoo.graphs import store


def lists_pictures(kept: Bundle) -> bool:
    """Whether the Bundle lists the pictures that its head was fitted on, or its network was trained on."""
    return SPLIT in kept.files


def seen(kept: Bundle, digests: Iterable[str]) -> int:
    """How many of the pictures with these digests are in the Bundle's list. Raises BundleError if it can't be
    read."""
    known = read_split(kept.folder / SPLIT)
    return sum(digest in known for digest in digests)


def rows(kept: Bundle, measured_at: str | None = None, *, counted: Bundle | None = None) -> list[Measurement]:
    """The cross-validated accuracy of the Bundle's head, and what is counted of its network, as rows that a
    `bench` of the Bundle joins. Multiply-accumulates are only counted where onnx is installed; those of a
    Bundle in another precision in `counted`, the Bundle that it was made from.

    Raises InvalidInputError for a Bundle without a head, and for one in another precision than the accuracy.
    """
    if kept.fitted is None:
        raise InvalidInputError(f"{kept.folder} has no head that was fitted on pictures.")
    if kept.precision != kept.fitted.precision:
        raise InvalidInputError(
            f"The cross-validated accuracy is of {kept.fitted.precision}, and {kept.folder} is in "
            f"{kept.precision}.",
            "evaluate it on labelled pictures that it wasn't fitted on: vertebra eval BUNDLE PICTURES",
        )
    common: dict[str, Any] = {
        "model": kept.model,
        "weights": kept.weights,
        "network_sha256": kept.network_sha256,
    }
    common |= {"versions": dict(kept.versions), "measured_at": measured_at or now()}
    precise = None if kept.precision == "float32" else kept.precision
    return [_accuracy(kept, kept.fitted, {**common, "precision": precise}), *_counts(kept, counted, common)]


def _accuracy(kept: Bundle, fitted: Fitted, common: Mapping[str, Any]) -> Measurement:
    majority = max(count for _, count in fitted.classes) / fitted.total
    shape = f"{len(fitted.classes)} classes; the largest has {100 * majority:.1f} % of the images"
    return Measurement(
        metric="top1",
        value=fitted.accuracy,
        low=fitted.low,
        high=fitted.high,
        samples=fitted.total,
        origin="evaluated",
        input_size=kept.input_size,
        grade_reasons=(shape, *fitted.remarks),
        **plain_names(
            {
                **common,
                "dataset": fitted.pictures,
                "dataset_sha256": fitted.pictures_sha256,
                "split": f"{fitted.folds}-fold",
                "protocol": fitted.how,
            }
        ),
    )


def _counts(own: Bundle, counted_in: Bundle | None, common: Mapping[str, Any]) -> Iterator[Measurement]:
    """What is counted of a network in ONNX, and the bytes of its weights in its own precision."""
    kept = counted_in or own
    if kept.format != "onnx":
        return
    from vertebra.measuring import graphs

    found = onnx_files.read(kept.network)
    params, _, weight_bytes = graphs.sizes(found)
    counts = {"params": _params(kept) or params, "weight_bytes": weight_bytes}
    if own is not kept:
        counts["weight_bytes"] = _bytes(own)
    with contextlib.suppress(MissingRuntimeError, MeasurementError):  # it may have what can't be counted
        counted = graphs.profile(kept.network, model=kept.model, input_size=kept.input_size)
        counts |= {"macs": counted.macs, "activations": counted.activations}
    for metric, value in counts.items():
        sized = metric in ("macs", "activations")
        yield Measurement(
            metric=metric,
            value=value,
            origin="profiled",
            input_size=kept.input_size if sized else None,
            precision=own.precision if metric == "weight_bytes" else None,
            **plain_names(common),
        )


def _bytes(kept: Bundle) -> int:
    """The size of the weights of a Bundle in ONNX or OpenVINO's format."""
    from vertebra.measuring import graphs

    if kept.format == "onnx":
        return graphs.sizes(onnx_files.read(kept.network))[2]
    return kept.network.with_suffix(".bin").stat().st_size


def _params(kept: Bundle) -> int | None:
    """The parameters of a graph that ships with the head in place of its classifier; None for another
    network. In the file fewer may be left: batch normalisations are in the weights there."""
    if kept.graph is None or kept.model not in store.names():
        return None
    graph = store.find(kept.model, kept.input_size)
    skeleton = store.skeleton(graph, features=True)
    width = onnx_heads.width(skeleton, onnx_heads.FEATURES)
    left = onnx_heads.headed(skeleton, onnx_heads.FEATURES, classes=kept.num_classes).taken
    gone = sum(
        prod(one.shape) for one in graph.parameters() if one.key not in left and ".running_" not in one.key
    )
    return None if width is None else graph.params - gone + (width + 1) * kept.num_classes
