"""An ONNX file from anywhere as a Bundle: copied, with ONNX Runtime's outputs as the reference.

There is no eager network to compare with, so the engines are compared with each other.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.bundles.manifest import NETWORK
from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.machine.system import library_versions
from vertebra.zoo.adapters import NetworkFile
from vertebra.zoo.adapters import onnx as files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_REFERENCE_SEED = 0
_REFERENCE_BATCH = 2


def adopt(
    file: NetworkFile, folder: Path | str, *, model: str, input_size: int, card: bundles.Card | None = None
) -> bundles.Bundle:
    """Write the network in `file` as the Bundle of a network called `model`.

    Raises InvalidInputError if it is not a classification network or takes another size, or if its data are
    in separate files and a `card` is given, which is about one file; MissingRuntimeError if such data must be
    copied and onnx is missing; and BundleError if the folder can't be written.
    """
    signature = files.signature(file.path)
    size = signature.input_size
    if size not in (None, input_size):
        raise InvalidInputError(f"{model} takes pictures of {size}x{size} pixels, not {input_size}.")

    def write_network(draft: Path) -> dict[str, Any]:
        network = draft / NETWORK
        shutil.copyfile(file.path, network)
        try:
            files.open_session(network)
        except (
            InvalidInputError
        ) as error:  # the original could be opened: its data are in files that weren't copied
            if card is not None:
                raise InvalidInputError(
                    f"{file.path} keeps its data in separate files; a Bundle takes one file.",
                    f"save it as one file: onnx.save(onnx.load({str(file.path)!r}), 'one.onnx')",
                ) from error
            _copy_with_data(file.path, network)
        return {"converted_from": file.converted_from}

    return bundles.write(
        folder,
        write_network,
        model=model,
        logits=_answers(file.path, signature, input_size),
        reference_seed=_REFERENCE_SEED,
        input_size=input_size,
        in_channels=3,
        versions={**library_versions(["onnxruntime"]), **file.versions},
        card=card,
    )


def _copy_with_data(path: Path, to: Path) -> None:
    """With the parameters in one separate file, wherever they were: a graph alone is limited to 2 GB."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("Copying an ONNX file", "onnx", "torch") from error
    network = onnx.load(str(path))
    onnx.save(network, str(to), save_as_external_data=True, location=f"{to.name}.data")


def _answers(path: Path, signature: files.Signature, input_size: int) -> npt.NDArray[np.float32]:
    """The logits of the reference images, in batches of the file's own size if it fixes one."""
    import numpy as np

    size = signature.batch_size or _REFERENCE_BATCH
    images = bundles.reference_images(
        batch_size=max(size, _REFERENCE_BATCH), in_channels=3, input_size=input_size, seed=_REFERENCE_SEED
    )
    session: Any = files.open_session(path)
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    logits = np.concatenate([session.run(None, {signature.input_name: batch})[0] for batch in batches])
    return logits.reshape(logits.shape[:2])
