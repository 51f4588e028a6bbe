"""ncnn on the processor, in float32. It has no batches: the images of one run one after the other.

By default it would keep weights and activations in float16 or bfloat16 where the processor can.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.engines import Session, Settings, Subject, check_images, version
from vertebra.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: ncnn's switches that would allow other types than float32
_SHORTER = {
    "use_fp16_packed": "float16",
    "use_fp16_storage": "float16",
    "use_fp16_arithmetic": "float16",
    "use_bf16_packed": "bfloat16",
    "use_bf16_storage": "bfloat16",
    "use_int8_storage": "int8",
    "use_int8_arithmetic": "int8",
}


class NcnnSession(Session):
    def __init__(self, network: Any, settings: Settings) -> None:
        self._network = network
        self._settings = settings
        (self._input,) = network.input_names()
        (self._output,) = network.output_names()

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """A matrix of ncnn's for each image, and the copy of the image that it refers to but doesn't own."""
        import ncnn

        check_images(images, self._settings)
        copies = [image.copy() for image in images]
        return [(ncnn.Mat(image), image) for image in copies]

    def infer(self, prepared: Any) -> Any:
        return [self._answer(matrix) for matrix, _ in prepared]

    def _answer(self, image: Any) -> Any:
        extractor = self._network.create_extractor()
        extractor.input(self._input, image)
        return extractor.extract(self._output)[1]

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.stack([np.array(logits, dtype=np.float32).reshape(-1) for logits in raw])

    def effective(self) -> dict[str, Any]:
        options = self._network.opt
        shorter = {kind for switch, kind in _SHORTER.items() if getattr(options, switch, False)}
        return {
            "precision": ", ".join(sorted(shorter)) or "float32",
            "threads": options.num_threads,
            "streams": None,
            "provider": None,
            "device": "gpu" if options.use_vulkan_compute else "cpu",
            "layout": "NCHW",
            "version": version("ncnn"),
            "winograd": options.use_winograd_convolution,
        }

    def close(self) -> None:
        self._network.clear()


def load(subject: Subject, settings: Settings) -> NcnnSession:
    assert subject.bundle is not None
    path = bundles.read(subject.bundle, verify=False).network
    return NcnnSession(open_network(path, settings.threads), settings)


def open_network(path: Path, threads: int) -> Any:
    """ncnn's own network, in float32 on the processor. Raises BundleError."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_vulkan_compute = False
    for switch in _SHORTER:
        setattr(network.opt, switch, False)
    if network.load_param(str(path)) or network.load_model(str(path.with_suffix(".bin"))):
        raise BundleError(f"ncnn can't load {path}.", "export the network again: vertebra export")
    return network
