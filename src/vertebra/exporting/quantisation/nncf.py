"""NNCF's quantisation after training, and its compression of weights alone, of an ONNX or OpenVINO graph."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images


def write(network: Path, batches: Sequence[Images], to: Path, kept: Sequence[str]) -> None:
    """The `network` at `to` with every layer but `kept` in eight bits, calibrated on `batches`."""
    with _quiet() as nncf:
        made = nncf.quantize(
            _read(network),
            nncf.Dataset([{"images": images} for images in batches]),
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=list(kept)),
            # Without VNNI a processor adds two products in 16 bits, which eight-bit weights overflow.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.quantization.advanced_parameters.OverflowFix.ENABLE
            ),
        )
        _save(made, to)


def compress(network: Path, to: Path, kept: Sequence[str]) -> None:
    """The `network` at `to`, the parameters of every layer but `kept` in int8, one scale per channel."""
    with _quiet() as nncf:
        made = nncf.compress_weights(
            _read(network),
            mode=nncf.CompressWeightsMode.INT8_SYM,
            ignored_scope=nncf.IgnoredScope(names=list(kept)),
        )
        _save(made, to)


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """NNCF, without its output."""
    import nncf

    logging.getLogger("nncf").setLevel(
        logging.ERROR
    )  # its own function sets every handler's level, others' too
    with contextlib.redirect_stdout(io.StringIO()):
        yield nncf


def _read(network: Path) -> Any:
    if network.suffix == ".onnx":
        import onnx

        return onnx.load(str(network))
    from vertebra.exporting.quantisation.graphs import read_openvino

    return read_openvino(network)


def _save(made: Any, to: Path) -> None:
    if to.suffix == ".onnx":
        import onnx

        onnx.save(made, str(to), save_as_external_data=True, location=f"{to.name}.data")
        return
    import openvino

    from vertebra.exporting.openvino import name_nodes

    name_nodes(made)
    openvino.save_model(made, to, compress_to_fp16=False)
