"""A graph that ships, filled with parameters, as a Bundle: without torch, and without the exporter.

What proves it: with drawn parameters the graph gives eager PyTorch's logits, which ship with it; given
weights have exactly its names and shapes; and every engine is compared with what ONNX Runtime gives without
optimising. That is of the graph as it ships where weights are given: with its batch normalisations, which
stand in the Bundle's weights.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles, engines, parity, zoo
from vertebra.bundles import proof
from vertebra.bundles.manifest import NETWORK, NOTICES
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MeasurementError, UnknownNameError, VertebraError
from vertebra.exporting import comparison
from vertebra.exporting.orders import FORMATS
from vertebra.machine import leftovers
from vertebra.machine.system import library_versions
from vertebra.zoo import arrays as taking
from vertebra.zoo.graphs import drawing, filling, store
from vertebra.zoo.graphs.filling import Slot
from vertebra.zoo.graphs.store import Graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

_REFERENCE_SEED = 0
_REFERENCE_BATCH = 2
#: of an untrained network
_CLASSES = 1000
#: formats that are made from ONNX, each by the `convert` of its module
CONVERTED = ("openvino", "mnn")


def found(name: str, input_size: int | None = None) -> Graph | None:
    """The graph of a network of 1000 classes for pictures of this size; None if there is none."""
    try:
        graph = store.find(name, input_size)
    except VertebraError:
        return None
    return graph if _classes(graph) == _CLASSES else None


@lru_cache(maxsize=4096)
def _classes(graph: Graph) -> int | None:
    return filling.classes_of(store.skeleton(graph))


def is_needed() -> bool:
    """Whether a network can only be made from its graph: torch, or what its exporter needs, isn't
    installed."""
    return any(importlib.util.find_spec(package) is None for package in FORMATS["onnx"].packages)


def suits(subject: Subject, input_size: int, in_channels: int = 3) -> bool:
    """Whether the subject, one of `zoo.build`, can be made from a graph that ships."""
    if subject.builder != zoo.BUILDER or in_channels != 3 or found(subject.model, input_size) is None:
        return False
    return "weights" in subject.arguments or subject.arguments.get("num_classes", _CLASSES) == _CLASSES


def explain(subject: Subject, input_size: int) -> None:
    """Raise InvalidInputError if the subject's network has graphs, but none for this size: those that it has;
    or if it is known why it has none."""
    with contextlib.suppress(UnknownNameError):
        store.find(subject.model, input_size)


def of_subject(subject: Subject, folder: Path | str, *, input_size: int, **made: Any) -> bundles.Bundle:
    """The subject with its weights, or drawn without any, as a Bundle; `made` are options of `write`. Raises
    what `write` and `zoo.arrays.take` raise."""
    asked = {**subject.arguments}
    arrays = None
    if "weights" in asked:
        model = zoo.find(asked["name"])
        choices = {name: asked[name] for name in ("ema", "sha256", "accept_unverified") if name in asked}
        arrays = taking.take(model, asked["weights"], input_size=input_size, **choices).arrays
    graph = store.find(subject.model, input_size)
    return write(graph, folder, model=subject.model, input_size=input_size, arrays=arrays, **made)


def makes(format: str) -> bool:
    """Whether Bundles of this format can be made from a graph."""
    return format == "onnx" or format in CONVERTED


@dataclass(frozen=True)
class _Filled:
    """A graph whose parameters are in the file at `path`; `session` runs it as it is, without optimising."""

    path: Path

    @cached_property
    def session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    def answers(self, images: Array) -> Array:
        """The logits (N, num_classes) of `images` (N, 3, H, W). Raises MeasurementError where it can't
        run."""
        try:
            (logits,) = self.session.run(["logits"], {"images": images})
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MeasurementError(f"ONNX Runtime can't run the graph: {reason}") from error
        found: Array = logits.reshape(len(images), -1)
        return found


def write(
    graph: Graph,
    folder: Path | str,
    *,
    model: str,
    input_size: int,
    arrays: Mapping[str, Any] | None = None,
    card: bundles.Card | None = None,
    engine: str = "onnxruntime",
    batch_size: int | None = None,
    features: bool = False,
    seed: int | None = None,
    compared: bool = True,
) -> bundles.Bundle:
    """Write `graph` with the parameters in `arrays`, by their names in the state dict, as the Bundle of the
    network called `model` for `engine`. Without `arrays` the parameters are drawn. With `features` the
    network also gives the classifier's input.

    Unless `compared`, the engine is left to whoever loads it, as a measurement does, which compares first.
    Raises WeightsError if the arrays don't fit, InvalidInputError if the graph doesn't take this size or the
    engine's format isn't made from ONNX, MissingRuntimeError, BundleError, and MeasurementError if the graph
    or the engine answers otherwise than it must.
    """
    format = _format(engine)
    engines.require(engine)
    slots = tuple(Slot(*one) for one in graph.parameters())
    skeleton = filling.with_size(store.skeleton(graph, features=features), input_size)
    seen: dict[str, Array] = {}

    def write_network(draft: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            path = (draft if format == "onnx" else Path(scratch)) / NETWORK
            told = graph.answers
            as_told = skeleton if told is None or told.size == input_size else store.skeleton(graph)
            filled = _fill(graph, as_told, slots, None, path)
            error = _proved(filled, graph)
            if arrays is not None:
                filled = _fill(graph, skeleton, slots, arrays, Path(scratch) / "whole.onnx", folded=False)
            elif as_told is not skeleton:
                filled = _fill(graph, skeleton, slots, None, path)
            size = max(_REFERENCE_BATCH, batch_size or 0)
            seen["logits"] = filled.answers(_images(size, input_size))
            added: dict[str, Any] = {"graph": _record(graph, error)}
            if card is not None and card.preprocess is not None:
                logits = filled.answers(proof.inputs(card.preprocess))
                added["proof"] = proof.write(draft, card.preprocess, card.labels, logits)
                photographs = proof.photographs(card.preprocess)
                if photographs is not None:
                    seen.update(photographs=photographs, photographed=filled.answers(photographs))
            del filled  # and its session
            if arrays is not None:
                _fill(graph, skeleton, slots, arrays, path)
            if format != "onnx":
                _convert(format)(path, draft)
        (draft / NOTICES).write_text(store.notices(graph), encoding="utf-8")
        return added

    try:
        return bundles.write(
            folder,
            write_network,
            model=model,
            logits=lambda: seen["logits"],
            reference_seed=_REFERENCE_SEED,
            input_size=input_size,
            in_channels=3,
            seed=seed,
            versions=library_versions(("onnxruntime", *engines.find(engine).distributions)),
            card=card,
            format=format,
            batch_size=batch_size,
            engines=[info.name for info in engines.known() if format in info.formats],
            check=(lambda draft: comparison.compare(draft, engine, _photographs(seen))) if compared else None,
        )
    except OSError as error:
        raise MeasurementError(
            f"The graph of {graph.name} can't be filled: {error.strerror or error}.",
            "free some space, or set TMPDIR to another folder",
        ) from error


def _photographs(seen: Mapping[str, Array]) -> tuple[Array, Array] | None:
    return (seen["photographs"], seen["photographed"]) if "photographs" in seen else None


def _format(engine: str) -> str:
    formats = engines.find(engine).formats
    format = "onnx" if engine == "onnxruntime" else next(iter(formats), "")
    if not makes(format):
        able = [info.name for info in engines.known() if info.formats and makes(info.formats[0])]
        raise InvalidInputError(
            f'Bundles for "{engine}" aren\'t made from the graphs that ship.',
            f'install torch to make one: pip install "vertebra[{_extra(format)}]"; or use {", ".join(able)}',
        )
    return format


def _extra(format: str) -> str:
    return FORMATS[format].extra if format in FORMATS else "torch"


def _convert(format: str) -> Callable[[Path, Path], None]:
    from vertebra.exporting import mnn, openvino

    return {"openvino": openvino.convert, "mnn": mnn.convert}[format]


def _fill(
    graph: Graph, skeleton: bytes, slots: Sequence[Slot], arrays: Mapping[str, Any] | None, path: Path,
    *, folded: bool = True,
) -> _Filled:  # fmt: skip
    if arrays is None:
        filling.write(skeleton, slots, filling.drawn(graph.name, slots), path, folded=folded)
    else:
        passed_over = {one.key for one in graph.unused}
        kept = {key: array for key, array in arrays.items() if key not in passed_over}
        classes = filling.other_classes(skeleton, slots, kept)
        if classes is not None:
            skeleton, slots = filling.with_classes(skeleton, classes), filling.resized(slots, kept)
        filling.write(skeleton, slots, filling.given(graph.name, slots, kept), path, folded=folded)
    return _Filled(path)


def _proved(filled: _Filled, graph: Graph) -> float | None:
    """How far the drawn graph is from eager's logits, which ship; None if none do. Raises MeasurementError if
    that is further than float32 allows."""
    import numpy as np

    told = graph.answers
    if told is None:
        return None
    images = drawing.draw(graph.name, drawing.IMAGES, (len(told.logits), 3, told.size, told.size))
    got = filled.answers(images)[:, list(told.classes)].astype(np.float64)
    error = float(np.abs(got - np.array(told.logits)).max()) / told.spread
    limit = parity.LIMITS["float32"]
    if not error <= limit:
        raise MeasurementError(
            f"The graph of {graph.name} doesn't answer as PyTorch did: its logits are off by {error:.2g} of "
            f"their spread, and {limit:.2g} is allowed.",
            "report it, with the version of ONNX Runtime: vertebra doctor",
        )
    return error


def _record(graph: Graph, error: float | None) -> dict[str, Any]:
    return {
        "library": graph.library, "version": graph.version, "file": graph.file, "licence": graph.licence,
        "against_eager": None if error is None else float(f"{error:.2g}"),
    }  # fmt: skip


def _images(batch_size: int, input_size: int) -> Array:
    return bundles.reference_images(
        batch_size=batch_size, in_channels=3, input_size=input_size, seed=_REFERENCE_SEED
    )
