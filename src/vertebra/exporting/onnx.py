"""The ONNX exporter: torch's graph capture, any batch size, parameters in a file beside the graph."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundle
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError

if TYPE_CHECKING:
    from torch import Tensor, nn

_PACKAGES = ("torch", "onnx", "onnxscript")
_REFERENCE_SEED = 0
#: Graph capture takes a batch of 1 for a constant, so the reference batch has 2 images.
_REFERENCE_BATCH = 2


def export(
    subject: Subject,
    folder: Path | str,
    *,
    input_size: int,
    in_channels: int = 3,
    card: bundle.Card | None = None,
) -> bundle.Bundle:
    """Build the subject's network, record what eager float32 answers, and write both as a Bundle.

    `card` tells the Bundle what the network's weights, preprocessing and labels are.
    Raises MissingRuntimeError without torch, onnx or onnxscript, InvalidInputError where the network can't
    take this input, BundleError where the folder can't be written, and MeasurementError where torch can't
    export the network.
    """
    name = subject.arguments.get("name")
    if isinstance(name, str) and name.startswith("onnx:"):
        from vertebra.exporting.adoption import adopt

        return adopt(name, folder, input_size=input_size, card=card)
    _check_packages()
    import torch

    from vertebra.engines.eager import build
    from vertebra.exporting.folding import fold_batch_norms

    if subject.builder is None:
        raise InvalidInputError(f'"{subject.model}" came as a bundle; only a builder can be exported.')
    with _talk_on_stderr():
        network = build(subject)
        images = torch.from_numpy(
            bundle.reference_images(
                batch_size=_REFERENCE_BATCH,
                in_channels=in_channels,
                input_size=input_size,
                seed=_REFERENCE_SEED,
            )
        )
        with torch.inference_mode():
            logits = network(images)
        fold_batch_norms(network)  # after the logits: the Bundle is compared with the network as it was
        return bundle.write(
            folder,
            lambda draft: _write_onnx(network, images, draft / bundle.NETWORK),
            model=subject.model,
            logits=logits.numpy(),
            reference_seed=_REFERENCE_SEED,
            input_size=input_size,
            in_channels=in_channels,
            seed=subject.arguments.get("seed"),
            versions={name: importlib.metadata.version(name) for name in _PACKAGES},
            card=card,
        )


def _write_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    import torch

    try:
        torch.onnx.export(
            network,
            (images,),
            path,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            dynamo=True,
            external_data=True,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise MeasurementError(f"torch can't export this network to ONNX: {error}") from error


def _check_packages() -> None:
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingRuntimeError.of("Exporting", package, "torch")


@contextlib.contextmanager
def _talk_on_stderr() -> Iterator[Any]:
    """What torch prints goes to stderr; its notices of its own deprecations concern nobody here."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
