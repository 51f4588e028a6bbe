"""A network becomes an engine's Bundle: converted, compared with eager float32, then put in place."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles, engines, parity, zoo
from vertebra.bundles import proof
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.exporting import comparison, filled
from vertebra.exporting.orders import FORMATS, Converter, Order
from vertebra.machine import files
from vertebra.zoo import adapters, checkpoints
from vertebra.zoo.compressed import Compressed, Ranges

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from vertebra.exporting.quantisation import Calibration
    from vertebra.exporting.quantisation.learnt import Learnt

_REFERENCE_SEED = 0
#: Graph capture takes a batch of 1 for a constant, so the reference batch has 2 images.
_REFERENCE_BATCH = 2


def export(
    subject: Subject,
    folder: Path | str,
    *,
    input_size: int,
    in_channels: int = 3,
    card: bundles.Card | None = None,
    engine: str = "onnxruntime",
    precision: str = "float32",
    batch_size: int | None = None,
    calibration: Calibration | None = None,
    drawn: bool = False,
    features: bool = False,
) -> bundles.Bundle:
    """Build the subject's network, record eager float32's outputs, and write both as a Bundle for an engine.
    If it is to be `drawn`, the graph that ships gets drawn parameters instead, without torch; and where torch
    isn't installed, the subject's own. With `features` such a network also gives the classifier's input.

    The network takes batches of any size; with `batch_size`, or if the engine can't do otherwise, only of
    that one (default 1). `card` has the weights, preprocessing and labels for the Bundle.
    In precision int8 it is quantised with the pictures of the `calibration`, in int8-weights without any.
    Raises MissingRuntimeError if the conversion or the engine needs a package that isn't installed,
    InvalidInputError if the network can't take this input or the engine has no Bundles or not this precision,
    BundleError if the folder can't be written, MeasurementError if the network can't be converted or gives
    other outputs, and UnsuitableNetworkError if untrained parameters give it extreme activations.
    """
    name = subject.arguments.get("name")
    if isinstance(name, str) and adapters.is_file(name):
        return _adopt(name, folder, engine, input_size, card)
    if drawn:
        bare = Subject(subject.model, builder=subject.builder, arguments={"name": name})
        return filled.of_subject(bare, folder, input_size=input_size, engine=engine, compared=False)
    if precision == "float32" and calibration is None and _is_filled(subject, input_size, engine, features):
        return filled.of_subject(
            subject, folder, input_size=input_size, card=card, engine=engine, batch_size=batch_size,
            features=features,
        )  # fmt: skip
    if filled.is_needed() and subject.builder == zoo.BUILDER:
        filled.explain(subject, input_size)
    if features:
        raise InvalidInputError(
            f"{subject.model} gives its features only on the engine eager: no graph of it ships.",
            "leave the engine out",
        )
    left = _compressed(subject)
    is_learnt = left.ranges is not None
    format, order, quantiser = _plan(engine, precision, batch_size, calibration, is_learnt=is_learnt)
    _check_calibration(precision, calibration, card)
    _require(format, engine)
    converter: Converter = importlib.import_module(FORMATS[format].module)
    import torch

    from vertebra.engines.eager import build
    from vertebra.exporting import quantisation
    from vertebra.exporting.folding import fold_batch_norms
    from vertebra.measuring.profiler import activations
    from vertebra.zoo import rounding

    if subject.builder is None:
        raise InvalidInputError(
            f'"{subject.model}" is a Bundle already; only a network from a builder can be exported.'
        )
    with _talk_on_stderr():
        network = build(subject)
        images = torch.from_numpy(_images(max(_REFERENCE_BATCH, batch_size or 0), in_channels, input_size))
        logits, ranges = activations.run(network, images)
        if card is None or card.weights is None:
            activations.check(ranges)
        trained = network
        if quantiser is not None and precision == "int8" and left.ranges is not None:
            trained = rounding.rounded(network, left.ranges)  # what its accuracy was measured as
        seen = _seen(trained, card, in_channels)
        with torch.inference_mode():
            answers = trained(images).numpy()
        pruned = _counts(network, subject.model, input_size, in_channels) if left.widths else {}
        fold_batch_norms(network)  # after the logits: the Bundle is compared with the network as it was
        example = images[: order.batch_size or _REFERENCE_BATCH].clone()

        def write_network(draft: Path) -> dict[str, Any]:
            converter.write(network, example, draft, order)
            added = _proof(draft, card, seen) | pruned
            if quantiser is not None:
                got = quantisation.answers(draft, format, images.numpy(), order.batch_size)
                parity.check_outputs(logits.numpy(), got)
                added["quantisation"] = quantisation.quantise(
                    draft, card, calibration, quantiser=quantiser, format=format, precision=precision,
                    batch_size=order.batch_size, num_classes=logits.shape[1],
                    learnt=_learnt(trained, left.ranges),
                )  # fmt: skip
            return added

        return bundles.write(
            folder,
            write_network,
            model=subject.model,
            logits=answers,
            reference_seed=_REFERENCE_SEED,
            input_size=input_size,
            in_channels=in_channels,
            seed=subject.arguments.get("seed"),
            versions=_versions(format, engine, quantiser),
            card=card,
            format=format,
            precision=precision,
            batch_size=order.batch_size,
            engines=_engines(format, precision),
            check=lambda draft: comparison.compare(
                draft, engine, None if seen is None else seen.photographs, partial(_located, subject=subject)
            ),
        )


@dataclass(frozen=True)
class _Seen:
    """Eager float32's outputs for the reference pictures, and for photographs if there are any."""

    logits: Any
    photographs: tuple[Any, Any] | None


def _seen(network: nn.Module, card: bundles.Card | None, in_channels: int) -> _Seen | None:
    """None if the preprocessing isn't known."""
    import torch

    if card is None or card.preprocess is None or in_channels != 3:
        return None
    photographs = proof.photographs(card.preprocess)
    with torch.inference_mode():
        logits = network(torch.from_numpy(proof.inputs(card.preprocess))).numpy()
        if photographs is None:
            return _Seen(logits, None)
        return _Seen(logits, (photographs, network(torch.from_numpy(photographs)).numpy()))


def _proof(draft: Path, card: bundles.Card | None, seen: _Seen | None) -> dict[str, Any]:
    if card is None or card.preprocess is None or seen is None:
        return {}
    return {"proof": proof.write(draft, card.preprocess, card.labels, seen.logits)}


def check(subject: Subject, *, input_size: int, in_channels: int = 3) -> None:
    """Run the subject's untrained network once. Raises UnsuitableNetworkError if its activations are
    extreme, and what building it raises."""
    import torch

    from vertebra.engines.eager import build
    from vertebra.measuring.profiler import activations

    with _talk_on_stderr():
        images = torch.from_numpy(_images(_REFERENCE_BATCH, in_channels, input_size))
        activations.check(activations.run(build(subject), images)[1])


def _compressed(subject: Subject) -> Compressed:
    """What compression left in the subject's file of weights, if they are from one."""
    source = subject.arguments.get("weights")
    path = None if subject.builder != zoo.BUILDER or source is None else files.named(source)
    return checkpoints.compressed(path) if path is not None and path.exists() else Compressed()


def _learnt(trained: nn.Module, ranges: Ranges | None) -> Learnt | None:
    """What the quantiser is told of a training in eight bits."""
    import torch

    from vertebra.exporting.quantisation.learnt import Learnt

    if ranges is None:
        return None

    def answer(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = trained(torch.from_numpy(images)).numpy()
            return logits

    return Learnt(ranges, answer)


def _counts(network: nn.Module, model: str, input_size: int, in_channels: int) -> dict[str, Any]:
    """A pruned network's own counts, for the manifest: its model's are of more channels."""
    from vertebra.measuring import profiler

    found = profiler.profile(network, model=model, input_size=input_size, in_channels=in_channels)
    return {"pruned": {"params": found.params, "macs": found.macs}}


def _plan(
    engine: str,
    precision: str,
    batch_size: int | None,
    calibration: Calibration | None,
    *,
    is_learnt: bool = False,
) -> tuple[str, Order, str | None]:
    """The format of the engine's Bundles, the order for its converter, and the quantiser of its result, if
    any."""
    from vertebra.exporting import quantisation

    info = engines.find(engine)
    if info.reads != "bundle":
        held = [known.name for known in engines.known() if known.reads == "bundle"]
        raise InvalidInputError(
            f'The engine "{info.name}" runs a network as it is: there is nothing to export.',
            f"engines that read a Bundle: {', '.join(held)}",
        )
    if precision not in info.precisions:
        able = [known.name for known in engines.known() if known.formats and precision in known.precisions]
        others = f"; engines with it: {', '.join(able)}" if able else ""
        raise InvalidInputError(
            f'The engine "{info.name}" has no precision "{precision}".',
            f"its precisions: {', '.join(info.precisions)}{others}",
        )
    if batch_size is not None and batch_size < 1:
        raise InvalidInputError(f"The batch size is {batch_size}, but must be at least 1.")
    reduced = precision in quantisation.PRECISIONS
    quantiser = None
    if reduced:
        quantiser = quantisation.choose(info.name, precision, calibration, is_learnt=is_learnt)
    format = _format(engine, quantiser)
    whole = batch_size if FORMATS[format].any_batch_size else batch_size or 1
    return format, Order(whole, precision), quantiser


def _format(engine: str, quantiser: str | None = None) -> str:
    """The format of the engine's own Bundles; ONNX if ONNX Runtime's tools quantise them."""
    return "onnx" if quantiser == "onnxruntime" else engines.find(engine).formats[0]


def _engines(format: str, precision: str) -> list[str]:
    """The engines that open a Bundle of this format and, if it is quantised, run that precision."""
    opening = [info for info in engines.known() if format in info.formats]
    return [info.name for info in opening if not precision.startswith("int8") or precision in info.precisions]


def _check_calibration(precision: str, calibration: Calibration | None, card: bundles.Card | None) -> None:
    pictures = None if calibration is None else calibration.folder
    labelled = None if calibration is None else calibration.labelled
    if (precision == "int8" and pictures is None) or (
        calibration is not None and not precision.startswith("int8")
    ):
        raise InvalidInputError(
            "Precision int8 and a folder of calibration pictures must be given together.",
            "use both, or neither: vertebra export MODEL --precision int8 --calibrate FOLDER",
        )
    known = card is not None and card.preprocess is not None
    if not known and (pictures is not None or labelled is not None):
        raise InvalidInputError(
            "No preprocessing is known for this network, and its calibration pictures need one.",
            "name one: --preprocess NAME|FILE",
        )


def _is_filled(subject: Subject, input_size: int, engine: str, features: bool) -> bool:
    """Whether the Bundle is made from a graph: for want of torch, or for the features."""
    formats = engines.find(engine).formats[:1]
    makes = bool(formats) and filled.makes(formats[0])
    return makes and (features or filled.is_needed()) and filled.suits(subject, input_size)


def check_order(
    engine: str = "onnxruntime",
    precision: str = "float32",
    batch_size: int | None = None,
    calibration: Calibration | None = None,
    *,
    model: str | None = None,
) -> None:
    """Raise what `export` raises for these, whatever the network, or for a missing library: a quick check
    before weights are downloaded. A `model` with a graph needs no torch."""
    format = _plan(engine, precision, batch_size, calibration)[0]
    if precision == "float32" and _has_graph(model, format):
        engines.require(engine)
        return
    _require(format, engine)


def _has_graph(model: str | None, format: str) -> bool:
    return model is not None and filled.makes(format) and filled.found(model) is not None


def require(engine: str, model: str | None = None) -> None:
    """Raise MissingRuntimeError if no network can run in the engine here: its runtime is missing or, if it
    reads Bundles, their converter, which a `model` with a graph may not need. Imports nothing."""
    info = engines.find(engine)
    engines.require(engine)
    if info.reads == "bundle" and not _has_graph(model, info.formats[0]):
        _require(info.formats[0], engine)


def missing(engine: str, model: str | None = None) -> str | None:
    """Why `require` refuses the engine, with the line that installs what is missing; None if it doesn't."""
    try:
        require(engine, model)
    except MissingRuntimeError as error:
        return f"{error.message} {error.hint}"
    return None


def _require(format: str, engine: str) -> None:
    """Raise MissingRuntimeError unless the converter's packages and the engine are installed."""
    for package in FORMATS[format].packages:
        if importlib.util.find_spec(package) is None:
            raise MissingRuntimeError.of("Exporting", package, FORMATS[format].extra)
    engines.require(engine)


def _adopt(
    name: str, folder: Path | str, engine: str, input_size: int, card: bundles.Card | None
) -> bundles.Bundle:
    from vertebra.exporting.adoption import adopt

    if "onnx" not in engines.find(engine).formats:
        raise InvalidInputError(
            f'{name} is an ONNX file, but "{engine}" opens {", ".join(engines.find(engine).formats)}.',
            "leave the engine out: the Bundle keeps the file as it is",
        )
    return adopt(adapters.network_file(name), folder, model=name, input_size=input_size, card=card)


def _images(batch_size: int, in_channels: int, input_size: int) -> Any:
    return bundles.reference_images(
        batch_size=batch_size, in_channels=in_channels, input_size=input_size, seed=_REFERENCE_SEED
    )


def _versions(format: str, engine: str, quantiser: str | None) -> dict[str, str]:
    """The versions of the libraries that made the Bundle's files and that compared them."""
    from vertebra.machine.system import library_versions

    modules = importlib.metadata.packages_distributions()
    made = dict.fromkeys(modules.get(package, [package])[0] for package in FORMATS[format].packages)
    used = [quantiser] if quantiser else []
    return dict(library_versions([*made, *used, *engines.find(engine).distributions]))


def _located(error: MeasurementError, kept: bundles.Bundle, *, subject: Subject) -> MeasurementError:
    """The error with the layer where it begins. In int8 every layer differs, so none is named."""
    from vertebra.engines.eager import build
    from vertebra.exporting import divergence

    if kept.precision.startswith("int"):
        return error
    images = kept.reference_pair(kept.batch_size or 1)[0]
    where = divergence.describe(kept, build(subject), images)
    return MeasurementError(f"{error.message} {where}", error.hint)


@contextlib.contextmanager
def _talk_on_stderr() -> Iterator[Any]:
    """What torch prints goes to stderr; its deprecation notices are hidden, since users can't act on them."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
