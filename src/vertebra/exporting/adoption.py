"""An ONNX file from anywhere as a Bundle: copied, with ONNX Runtime's outputs as the reference.

There is no eager network to compare with, so the engines are compared with each other, and the file with
itself: a picture must get the same answers alone, in a batch, and in a batch that is filled up.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles, parity
from vertebra.bundles import manifest
from vertebra.bundles.manifest import LOGITS, NETWORK, OWN_LOGITS, PROBABILITIES, SIGMOIDS
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.machine import onnx_files
from vertebra.machine.system import library_versions
from vertebra.zoo.adapters import NetworkFile
from vertebra.zoo.adapters import onnx as files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

_REFERENCE_SEED = 0
_REFERENCE_BATCH = 2
#: operators after which a number from 0 to 1 is a coincidence
_LINEAR = ("Gemm", "MatMul", "Conv", "Add", "QGemm", "QLinearMatMul", "QLinearAdd", "QLinearConv", "Sub")
#: how far the sum of rounded probabilities may be from 1
_ROUNDED = 0.1


def adopt(
    file: NetworkFile,
    folder: Path | str,
    *,
    model: str,
    input_size: int,
    card: bundles.Card | None = None,
    batch_size: int | None = None,
) -> bundles.Bundle:
    """Write the network in `file` as the Bundle of a network called `model`, which takes batches of any size
    unless it is `batch_size`, or one is all that the network takes.

    Raises InvalidInputError if it isn't a classification network or takes another size, if its answers depend
    on what else is in a batch, or, with a `card`, if they can't be told as shares of classes;
    MissingRuntimeError if its data must be stored anew and onnx is missing; and BundleError if the folder
    can't be written.
    """
    found, seen = files.graph(file.path), files.signature(file.path)
    precision = files.precision(found)
    if seen.input_size not in (None, input_size):
        size = f"{seen.input_size}x{seen.input_size}"
        raise InvalidInputError(f"{model} takes pictures of {size} pixels, not {input_size}.")
    answers, only = _asked(file.path, seen, input_size, precision)
    if batch_size is not None and only not in (None, batch_size):
        raise InvalidInputError(
            f"The network in {file.path} takes batches of {only} only; {batch_size} was asked for.",
            f"use --batch-size {only}, or leave it out",
        )

    def write_network(draft: Path) -> dict[str, Any]:
        _copy(found, draft)
        outputs = None if card is None else outputs_of(file.path, answers, found.ending, card.outputs)
        return {"converted_from": file.converted_from, "outputs": outputs}

    return bundles.write(
        folder,
        write_network,
        model=model,
        logits=answers,
        reference_seed=_REFERENCE_SEED,
        input_size=input_size,
        in_channels=seen.in_channels,
        versions={**library_versions(["onnxruntime"]), **file.versions},
        card=card,
        precision=precision,
        batch_size=batch_size or only,
    )


# ------------------------------------------------------------------ its files

_RESERVED = (
    NETWORK, manifest.REFERENCE, manifest.LABELS, manifest.PICTURE, manifest.PROOF, manifest.CARD,
    manifest.ROWS, manifest.NOTICES, manifest.SPLIT,
)  # fmt: skip


def _copy(found: onnx_files.OnnxFile, draft: Path) -> None:
    """The network and the files of its data, under the names by which the network calls them."""
    files_ = onnx_files.data_files(found)
    plain = all(manifest.is_plain(name) and manifest.runs_no_code(name) for name in found.locations)
    if not plain or set(found.locations) & set(_RESERVED):
        _store_anew(found.path, draft / NETWORK)
        return
    shutil.copyfile(found.path, draft / NETWORK)
    for name, source in zip(found.locations, files_, strict=True):
        shutil.copyfile(source, draft / name)


def _store_anew(path: Path, to: Path) -> None:
    """With all data in one separate file, whatever they were in: a graph alone is limited to 2 GB."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("Copying an ONNX file with data in folders", "onnx", "torch") from error
    network = onnx.load(str(path))
    onnx.save(network, str(to), save_as_external_data=True, location=f"{to.name}.data")


# ------------------------------------------------------------------ its answers


def _asked(path: Path, seen: files.Signature, input_size: int, precision: str) -> tuple[Array, int | None]:
    """The answers to the reference images, and the only batch size that the network takes, or None. Raises
    InvalidInputError if what else is in a batch changes an answer by more than the precision allows."""
    import numpy as np

    size = seen.batch_size
    images = bundles.reference_images(
        batch_size=max(size or 0, _REFERENCE_BATCH), in_channels=seen.in_channels, input_size=input_size,
        seed=_REFERENCE_SEED,
    )  # fmt: skip
    session: Any = files.open_session(path)
    if size is None:
        alone = np.concatenate([files.run(path, session, images[[place]]) for place in range(len(images))])
        try:
            together = files.run(path, session, images)
        except InvalidInputError:
            return alone, 1  # "any" is stated, and a constant inside allows one
        filled = files.run(path, session, np.concatenate([images[:1], np.zeros_like(images)]))
        _check_alike(path, alone, together, precision)
        _check_alike(path, alone[:1], filled[:1], precision)
        return alone, None
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    answers = np.concatenate([files.run(path, session, part) for part in parts])
    if size > 1:
        filled = files.run(path, session, np.concatenate([images[:1], np.zeros_like(images[1:])]))
        _check_alike(path, answers[:1], filled[:1], precision)
    return answers, size


def _check_alike(path: Path, answers: Array, others: Array, precision: str) -> None:
    import numpy as np

    if not (np.isfinite(answers).all() and np.isfinite(others).all()):
        return  # a prediction reports it for each picture
    limit = parity.LIMITS[precision]
    try:
        parity.check_outputs(answers, others, precision)
    except MeasurementError as error:
        apart = parity.output_error(answers, others)
        raise InvalidInputError(
            f"The network in {path} answers otherwise for a picture in a batch than for the picture alone: "
            f"by {apart:.2g} of the answers' spread, and {limit:.2g} is allowed in {precision}.",
            "it was probably exported in training mode, where batch norms mix the pictures of a batch, or "
            "has a reshape that does; export it again after network.eval()",
        ) from error


def outputs_of(path: Path, answers: Array, ending: str, told: str | None) -> str:
    """What the network's outputs are, one of `manifest.OUTPUTS`: as `told`, else as its `ending` and its
    answers to noise show. Raises InvalidInputError if that isn't sure, or contradicts what was told."""
    import numpy as np

    shares = bool(((answers >= 0) & (answers <= 1)).all())
    apart = float(np.abs(answers.sum(axis=1) - 1).max())
    sums = shares and apart <= (_ROUNDED if ending == "Softmax" else 1e-3)
    if told is None:
        if sums:
            return PROBABILITIES
        if shares and ending not in _LINEAR:
            raise InvalidInputError(
                f"The outputs of the network in {path} are all from 0 to 1 but don't sum to 1 "
                f"(it ends in {ending or 'its input'}): probably a share for each class on its own.",
                f"say what they are: --outputs {SIGMOIDS} if so, --outputs {LOGITS} to put a softmax on them",
            )
        return LOGITS
    if told == PROBABILITIES and not sums:
        raise InvalidInputError(
            f"The outputs of the network in {path} don't sum to 1: they are no probabilities.",
            f"say what they are: --outputs {', '.join((LOGITS, SIGMOIDS, OWN_LOGITS))}",
        )
    if told == SIGMOIDS and not shares:
        raise InvalidInputError(
            f"The outputs of the network in {path} leave the range from 0 to 1: they are no shares.",
            f"if they are what a sigmoid makes shares of: --outputs {OWN_LOGITS}",
        )
    return told
