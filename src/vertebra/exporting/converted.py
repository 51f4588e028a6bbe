"""A Bundle in ONNX as the Bundle of another engine, or in eight bits: from its own file, without torch.

Its labels, preprocessing, reference, proof and notices go with it, and the new file is held against them.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles, engines, parity
from vertebra.bundles import Bundle, Card, proof
from vertebra.bundles.manifest import NETWORK, NOTICES, PROOF, SPLIT
from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.exporting import comparison, conversion, filled
from vertebra.machine import leftovers, onnx_files, onnx_heads
from vertebra.machine.system import library_versions
from vertebra.zoo.adapters.onnx import signature

if TYPE_CHECKING:
    from vertebra.exporting.quantisation import Calibration

#: what the input of a network that we made is called
INPUT = "images"
#: in a Bundle of any format, where it has them
_KEPT = (PROOF, NOTICES, SPLIT)


def check(
    engine: str = "onnxruntime", precision: str = "float32", calibration: Calibration | None = None
) -> str:
    """The format of the engine's Bundles, if they can be made from an ONNX file. Raises InvalidInputError if
    they can't, and MissingRuntimeError if something isn't installed."""
    format, _, quantiser = conversion._plan(engine, precision, None, calibration)
    if not filled.makes(format):
        able = [info.name for info in engines.known() if info.formats and filled.makes(info.formats[0])]
        raise InvalidInputError(
            f'Bundles for "{engine}" aren\'t made from an ONNX file.', f"use one of: {', '.join(able)}"
        )
    if precision != "float32" and quantiser is None:
        raise InvalidInputError(
            f"A Bundle in {precision} isn't made from one in float32.",
            f"run the Bundle in it: --precision {precision} with vertebra bench, eval or predict",
        )
    if quantiser is not None and importlib.util.find_spec("onnx") is None:
        raise MissingRuntimeError.of("Quantising", "onnx", "torch")
    engines.require(engine)
    return format


def convert(
    kept: Bundle,
    folder: Path | str,
    *,
    engine: str = "onnxruntime",
    precision: str = "float32",
    calibration: Calibration | None = None,
) -> Bundle:
    """Write the network of `kept`, a Bundle in ONNX and float32, as the Bundle of `engine` in `precision`:
    float32, or int8 or int8-weights as the `calibration` says.

    Raises InvalidInputError for another Bundle, engine or precision, MissingRuntimeError, BundleError if the
    folder can't be written, and MeasurementError if the engine or the guard doesn't hold.
    """
    if (kept.format, kept.precision) != ("onnx", "float32"):
        raise InvalidInputError(
            f"{kept.folder} is in {kept.format} and {kept.precision}; only a Bundle in onnx and float32 is "
            "converted.",
            "export the network for the engine from its name, or from its Bundle in onnx",
        )
    format = check(engine, precision, calibration)
    quantiser = conversion._plan(engine, precision, kept.batch_size, calibration)[2]
    card = card_of(kept)
    conversion._check_calibration(precision, calibration, card)
    if quantiser is not None and (called := signature(kept.network).input_name) != INPUT:
        raise InvalidInputError(
            f'The input of {kept.network} is called "{called}"; only one called "{INPUT}" is quantised.'
        )
    seen: dict[str, Any] = {}

    def write_network(draft: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            own = draft if format == "onnx" else Path(scratch)
            _copy(kept, own)
            seen["photographs"] = _photographs(kept)
            if format != "onnx":
                filled._convert(format)(own / NETWORK, draft)
        added = _facts(kept)
        if quantiser is not None:
            added["quantisation"] = _quantised(kept, draft, card, calibration, quantiser, format, precision)
        for name in _KEPT:
            if name in kept.files:
                shutil.copyfile(kept.folder / name, draft / name)
        return added

    return bundles.write(
        folder,
        write_network,
        model=kept.model,
        logits=kept.reference_pair(kept.reference["batch_size"])[1],
        reference_seed=kept.reference["seed"],
        input_size=kept.input_size,
        in_channels=kept.in_channels,
        card=card,
        format=format,
        precision=precision,
        batch_size=kept.batch_size,
        engines=conversion._engines(format, precision),
        check=lambda draft: comparison.compare(draft, engine, seen["photographs"]),
        versions={**kept.versions, **_versions(engine, quantiser)},
        seed=kept.seed,
    )


def card_of(kept: Bundle) -> Card:
    """What the Bundle records about its network."""
    return Card(
        weights=kept.weights,
        weights_sha256=kept.weights_sha256,
        licence=kept.licence,
        preprocess=kept.preprocess,
        labels=kept.label_set(),
        outputs=kept.outputs,
        assumed=tuple(kept.assumed),
    )


def _facts(kept: Bundle) -> dict[str, Any]:
    return {
        "proof": kept.proof,
        "graph": kept.graph,
        "fitted": None if kept.fitted is None else kept.fitted.record(),
        "converted_from": kept.converted_from,
    }


def _copy(kept: Bundle, to: Path) -> None:
    """The network and its data; every operator has a name, by which a layer is left in float32."""
    (to / NETWORK).write_bytes(onnx_heads.named(kept.network.read_bytes()))
    for path in onnx_files.data_files(onnx_files.read(kept.network)):
        shutil.copyfile(path, to / path.name)


def _photographs(kept: Bundle) -> tuple[Any, Any] | None:
    """The photographs of the proof with what ONNX Runtime answers without optimising."""
    images = None if kept.preprocess is None else proof.photographs(kept.preprocess)
    if images is None:
        return None
    session = filled._Filled(kept.network).session
    size = kept.batch_size or len(images)
    return images, proof.answers(lambda some: _asked(session, some), images, size)


def _asked(session: Any, images: Any) -> Any:
    (name,) = (one.name for one in session.get_inputs())
    return session.run([session.get_outputs()[0].name], {name: images})[0].reshape(len(images), -1)


def _quantised(
    kept: Bundle,
    draft: Path,
    card: Card,
    calibration: Calibration | None,
    quantiser: str,
    format: str,
    precision: str,
) -> dict[str, Any]:
    from vertebra.exporting import quantisation

    images, logits = kept.reference_pair(kept.batch_size or kept.reference["batch_size"])
    parity.check_outputs(logits, quantisation.answers(draft, format, images, kept.batch_size))
    before = {path.name for path in draft.iterdir()}
    record = quantisation.quantise(
        draft, card, calibration, quantiser=quantiser, format=format, precision=precision,
        batch_size=kept.batch_size, num_classes=kept.num_classes,
    )  # fmt: skip
    if format == "onnx":  # its data are in one file now, whatever they were in
        for name in before - {NETWORK, f"{NETWORK}.data"}:
            (draft / name).unlink(missing_ok=True)
    return record


def _versions(engine: str, quantiser: str | None) -> Mapping[str, str]:
    used = [quantiser] if quantiser else []
    return library_versions(["onnxruntime", *used, *engines.find(engine).distributions])
