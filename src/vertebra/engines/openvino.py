"""OpenVINO's CPU plug-in, tuned for latency: a fixed shape, one stream unless more are asked for.

By default it would compute in bfloat16 wherever the processor can.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.engines import FEATURES, Session, Settings, Subject, check_images
from vertebra.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_LAYERS = ("Convolution", "FullyConnected", "MatMul", "Deconvolution", "GroupConvolution")
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32", "int8-weights": "f32"}
_PRECISIONS = {"fp32": "float32", "f32": "float32", "fp16": "float16", "f16": "float16", "bf16": "bfloat16"}
_EIGHT_BITS = ("i8", "u8")
_PRECISIONS |= dict.fromkeys(_EIGHT_BITS, "int8")


class OpenvinoSession(Session):
    def __init__(self, compiled: Any, settings: Settings, *, stored: str) -> None:
        self._compiled = compiled
        self._stored = stored
        self._settings = settings

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """A request that holds the images in a tensor of OpenVINO's own: a call then copies nothing."""
        import openvino

        check_images(images, self._settings)
        tensor = openvino.Tensor(openvino.Type.f32, openvino.Shape(images.shape))
        tensor.data[:] = images
        request = self._compiled.create_infer_request()
        request.set_input_tensor(tensor)
        return request

    def infer(self, prepared: Any) -> Any:
        # Measured: 26 µs on top of the network itself, where start_async() and wait() take 48.
        return prepared.infer(share_outputs=True)

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw[0].reshape(self._settings.output_shape).copy()
        return logits

    @property
    def has_features(self) -> bool:
        """Whether the network has the output `features`."""
        return bool(self._of_features())

    def _of_features(self) -> list[Any]:
        return [output for output in self._compiled.outputs if FEATURES in output.get_names()]

    def features(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """The output `features` (N, D) for `images`; None if the network has none."""
        outputs = self._of_features()
        if not outputs:
            return None
        found: npt.NDArray[np.float32] = self.prepare(images).infer()[outputs[0]].copy()
        return found

    def effective(self) -> dict[str, Any]:
        import openvino
        from openvino import properties

        compiled = self._compiled
        devices = compiled.get_property(properties.execution_devices())
        return {
            "precision": _precision(compiled, self._stored),
            "threads": compiled.get_property(properties.inference_num_threads()),
            "streams": int(compiled.get_property(properties.num_streams())),
            "provider": ", ".join(devices),
            "device": ", ".join(devices).lower(),
            "layout": "NCHW",
            "version": openvino.__version__,
        }

    def close(self) -> None:
        del self._compiled


def load(subject: Subject, settings: Settings) -> OpenvinoSession:
    import openvino

    assert subject.bundle is not None
    network = bundles.read(subject.bundle, verify=False).network
    core = openvino.Core()
    try:
        model = core.read_model(network)
        model.reshape(openvino.PartialShape(list(settings.input_shape)))
        stored = _stored(model)
        started = time.perf_counter()
        compiled = core.compile_model(model, "CPU", _properties(settings, stored))
    except RuntimeError as error:
        raise BundleError(f"OpenVINO can't load {network}: {error}") from error
    session = OpenvinoSession(compiled, settings, stored=stored)
    session.compile_s = time.perf_counter() - started
    return session


def _properties(settings: Settings, stored: str) -> dict[str, Any]:
    # A network stored in float16 is widened: asked for its own precision, OpenVINO may take bfloat16.
    hint = "f32" if settings.precision == stored else _HINTS[settings.precision]
    properties = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": str(settings.streams),
        "INFERENCE_NUM_THREADS": str(settings.threads),
    }
    if settings.precision == "int8-weights":  # by default it may round what flows between layers as well
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"
    return properties


def _stored(model: Any) -> str:
    """What the file's parameters are stored in, which are widened when compiled: int8-weights where some have
    eight bits, float16 where most have sixteen, else float32."""
    sizes: Counter[str] = Counter()
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            sizes[node.get_element_type().get_type_name()] += math.prod(node.get_output_shape(0))
    if any(sizes[kind] for kind in _EIGHT_BITS):
        return "int8-weights"
    return "float16" if sizes["f16"] > sizes["f32"] else "float32"


def _kind(node: Any, precision: str) -> str:
    """What a compiled layer multiplies: where its parameters alone have eight bits, what it takes."""
    takes = str(node.input(0).get_element_type().get_type_name())
    return takes if precision in _EIGHT_BITS and takes not in _EIGHT_BITS else precision


def _precision(compiled: Any, stored: str) -> str:
    """The precision in which the compiled layers with parameters compute: `float32` for OpenVINO's f32."""
    kinds = set()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if str(info["layerType"].value) in _LAYERS:
            kinds.add(_kind(node, str(info["runtimePrecision"].value).lower()))
    kinds = kinds or {compiled.get_property("INFERENCE_PRECISION_HINT").to_string()}
    precisions = {_PRECISIONS.get(kind, kind) for kind in kinds}
    if precisions == {"int8", "float32"}:  # a quantised network keeps some layers in float32
        return "int8"
    return stored if precisions == {"float32"} else ", ".join(sorted(precisions))
