"""Eight-bit integers instead of float32, or only for the parameters, by ONNX Runtime's own quantiser or by
NNCF. A guard on held-out pictures, and on labelled ones, must hold; until it does, the layers that lose most
go back to float32."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles, units
from vertebra.bundles.manifest import NETWORKS
from vertebra.data import datasets
from vertebra.data.datasets import Dataset
from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.exporting.quantisation import graphs, guard, pictures
from vertebra.exporting.quantisation import learnt as placing
from vertebra.exporting.quantisation.learnt import Learnt
from vertebra.exporting.quantisation.loss import Loss
from vertebra.exporting.quantisation.search import Found, Make, Search
from vertebra.machine import leftovers

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images
    from vertebra.zoo.compressed import Range

__all__ = [
    "INT8",
    "INT8_WEIGHTS",
    "PRECISIONS",
    "QUANTISERS",
    "Calibration",
    "answers",
    "asked",
    "choose",
    "quantise",
]

INT8, INT8_WEIGHTS = "int8", "int8-weights"
PRECISIONS = (INT8, INT8_WEIGHTS)

#: quantiser -> its name in the manifest
QUANTISERS = {"onnxruntime": "onnxruntime.quantization", "nncf": "nncf"}


@dataclass(frozen=True)
class Calibration:
    """The pictures and the quantiser for a network, and the requirements for the result.

    `folder` has the pictures for calibration and the guard. `guard` must hold on the held-out ones (None: the
    default guard). `quantiser` is one of QUANTISERS (None: the engine's default). On the `labelled` pictures
    the accuracy lost is measured; it may be at most `most_lost`, a share of 1. `options` are the arguments of
    `asked` that gave it, with which another process gets the same.
    """

    folder: Path | None = None
    guard: float | None = None
    quantiser: str | None = None
    labelled: Dataset | None = None
    most_lost: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)


def asked(
    precision: str | None,
    *,
    calibrate: str | Path | None = None,
    guard: float | None = None,
    quantiser: str | None = None,
    labelled: str | Path | None = None,
    format: str | None = None,
    split: str | None = None,
    most_lost: str | float | None = None,
) -> Calibration | None:
    """The calibration for an export's options; None if it isn't quantised. Raises InvalidInputError if they
    contradict each other or the pictures don't exist."""
    given = (calibrate, guard, quantiser, labelled, format, split, most_lost)
    if precision not in PRECISIONS and all(option is None for option in given):
        return None
    if precision not in PRECISIONS or (precision == INT8 and calibrate is None):
        raise InvalidInputError(
            "Precision int8 and a folder of calibration pictures must be given together.",
            "use: --precision int8 --calibrate FOLDER; --guard, --quantiser and --labelled need int8 or "
            "int8-weights",
        )
    if guard is not None and calibrate is None:
        raise InvalidInputError("A guard needs pictures.", "use: --calibrate FOLDER")
    if labelled is None and (format, split, most_lost) != (None, None, None):
        raise InvalidInputError(
            "--format, --split and --most-lost need labelled pictures.", "use: --labelled DATA"
        )
    if calibrate is not None and not os.path.isdir(calibrate):
        raise InvalidInputError(f"{calibrate} is not a folder of pictures.", "use: --calibrate FOLDER")
    if calibrate is not None:
        pictures.check_count(Path(calibrate))
    options = {"calibrate": calibrate and str(calibrate), "guard": guard, "quantiser": quantiser}
    options |= {
        "labelled": labelled and str(labelled),
        "format": format,
        "split": split,
        "most_lost": most_lost,
    }
    return Calibration(
        folder=None if calibrate is None else Path(calibrate),
        guard=guard,
        quantiser=quantiser,
        labelled=None if labelled is None else datasets.open(labelled, format=format, split=split),
        most_lost=units.parse(most_lost, "fraction") if isinstance(most_lost, str) else most_lost,
        options=options,
    )


def choose(engine: str, precision: str, calibration: Calibration | None, *, is_learnt: bool = False) -> str:
    """The quantiser for `engine`: the one asked for, else OpenVINO's own NNCF for OpenVINO if installed, else
    ONNX Runtime's; NNCF for int8-weights. A network that was trained in eight bits, and whose ranges are
    learnt so, is for ONNX Runtime's. Raises InvalidInputError if it doesn't exist or lacks the precision or
    can't take learnt ranges, and MissingRuntimeError if it isn't installed."""
    asked = None if calibration is None else calibration.quantiser
    here = importlib.util.find_spec("nncf") is not None
    is_learnt = is_learnt and precision == INT8
    if is_learnt and asked == "nncf":
        raise InvalidInputError(
            "The weights' ranges were learnt in training, and NNCF would measure its own.",
            "use: --quantiser onnxruntime, or leave it out",
        )
    usual = "nncf" if precision == INT8_WEIGHTS or (engine == "openvino" and here) else "onnxruntime"
    if is_learnt:
        usual = "onnxruntime"
    chosen = asked or usual
    if chosen not in QUANTISERS:
        raise InvalidInputError(f'There is no quantiser "{chosen}".', f"use one of: {', '.join(QUANTISERS)}")
    if chosen == "onnxruntime" and precision == INT8_WEIGHTS:
        raise InvalidInputError(
            "The quantiser onnxruntime doesn't support int8-weights.", "use: --quantiser nncf"
        )
    if chosen == "nncf" and not here:
        raise MissingRuntimeError.of("Quantising with NNCF", "nncf", "nncf")
    return chosen


def answers(draft: Path, format: str, images: Images, batch_size: int | None) -> Images:
    """The logits that the network in a Bundle's folder gives for `images`."""
    graph = graphs.of(format)
    return graphs.logits(graph.open(draft / NETWORKS[format]), images, batch_size or len(images))


def quantise(
    draft: Path,
    card: bundles.Card | None,
    calibration: Calibration | None,
    *,
    quantiser: str,
    format: str = "onnx",
    precision: str = INT8,
    batch_size: int | None = None,
    num_classes: int = 1000,
    learnt: Learnt | None = None,
) -> dict[str, Any]:
    """Replace the float32 network in a Bundle's folder `draft` with the quantised one; return the record for
    its manifest. Activations of a network that has `learnt` their ranges, in a training in eight bits, keep
    these, and the guard compares with what was trained. Raises InvalidInputError for bad pictures or a bad
    guard, and MeasurementError if the guard doesn't hold."""
    calibration = calibration or Calibration()
    trained = card is not None and card.weights is not None
    held = guard.of(calibration.guard, trained)
    split = None
    if calibration.folder is not None:
        assert card is not None
        assert card.preprocess is not None
        split = pictures.read(calibration.folder, card.preprocess, calibrates=precision == INT8)
    loss = None
    if calibration.labelled is not None:
        assert card is not None
        loss = Loss.of(calibration.labelled, calibration.most_lost, card, num_classes, split, batch_size)
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        graph, network = graphs.of(format), draft / NETWORKS[format]
        answer = None if learnt is None else learnt.answer
        search = Search(graph, network, Path(scratch), split, held, loss, batch_size or 1, answer)
        placed = None if learnt is None else placing.place(network, learnt.ranges)
        tensors = {} if placed is None else placed.tensors
        found = search.until(_make(quantiser, precision, network, split, batch_size or 1, tensors))
        graph.put(found.path, draft)
    record = _record(QUANTISERS[quantiser], split, held, search, found)
    if placed is not None:
        record["learnt_ranges"] = {"taken": len(placed.tensors), "without_tensor": placed.lost}
    return record


def _make(
    quantiser: str,
    precision: str,
    network: Path,
    split: pictures.Split | None,
    batch_size: int,
    ranges: Mapping[str, Range],
) -> Make:
    """What writes a quantised network to a path, with the layers named left in float32."""
    if precision == INT8_WEIGHTS:
        from vertebra.exporting.quantisation import nncf

        return partial(nncf.compress, network)
    assert split is not None
    module = importlib.import_module(f"vertebra.exporting.quantisation.{quantiser}")
    write = partial(module.write, network, graphs.batches(split.calibrate, batch_size))
    return partial(write, ranges=ranges) if ranges else write


def _record(
    by: str, split: pictures.Split | None, held: guard.Guard, search: Search, found: Found
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "by": by,
        "calibrated_on": 0 if split is None else len(split.calibrate),
        "held_out": 0 if split is None else len(split.held_out),
        "broken": 0 if split is None else split.broken,
        "measure": None if split is None else held.measure,
        "value": None if found.value is None else round(found.value, 4),
        "guard": None if split is None else held.least,
        "layers": len(search.layers),
        "float32_layers": list(found.kept),
    }
    return record if found.lost is None else record | {"accuracy": found.lost.to_dict()}
