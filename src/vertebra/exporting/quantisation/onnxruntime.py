"""ONNX Runtime's own static quantisation of an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images
    from vertebra.zoo.compressed import Range


def write(
    network: Path,
    batches: Sequence[Images],
    to: Path,
    kept: Sequence[str],
    ranges: Mapping[str, Range] | None = None,
) -> None:
    """The `network` at `to` with every layer but `kept` between quantising operators. The ranges of the
    activations are calibrated once, but for the tensors that have theirs in `ranges`; later calls read them
    from a file next to the folder of `to`."""
    import numpy as np
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        left = iter(batches)

        def get_next(self) -> dict[str, Images] | None:
            images = next(self.left, None)
            return None if images is None else {"images": images}

    def ends(one: Range) -> list[dict[str, Any]]:
        return [{"rmin": np.float32(one[0]), "rmax": np.float32(one[1])}]

    prepared = to.with_name("prepared.onnx")
    quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True, skip_optimization=True)
    quantization.quantize_static(
        str(prepared),
        str(to),
        Reader(),
        per_channel=True,
        # Without VNNI a processor adds two products in 16 bits, which eight-bit weights overflow.
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=list(kept),
        use_external_data_format=True,
        calibration_cache_path=to.parent.with_name("ranges.json"),
        extra_options={"TensorQuantOverrides": {name: ends(one) for name, one in (ranges or {}).items()}},
    )
