"""TensorRT on an NVIDIA card: an engine built from the Bundle's ONNX when it is loaded, for the one shape of
the settings, and replayed as a CUDA graph where it can be captured.

The precision is required of every layer that multiplies, and read back from the engine built. A built engine
fits one card and one version of TensorRT alone, so what ships is the ONNX; the measurements made while
building are kept in the cache, so that the next load is shorter. No torch: memory and streams are CUDA's own.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.engines import Session, Settings, Subject, check_images
from vertebra.errors import BundleError, MeasurementError, MissingRuntimeError
from vertebra.machine import downloads
from vertebra.machine.files import make_folder, write_whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: precision -> TensorRT's flag that allows it, and its type. TF32 is allowed unless it is turned off.
_FLAGS = {"tf32": ("TF32", "FLOAT"), "float16": ("FP16", "HALF"), "bfloat16": ("BF16", "BF16")}
#: The layers that decide the network's precision: they do nearly all of the work.
_MULTIPLYING = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
#: The same in the inspector's words, of which it has several for each.
_WORDS = ("conv", "gemm", "matmul", "matrixmultiply")
#: What the inspector calls the types of tensors; the first that occurs in a type's description counts.
_TYPES = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "int8": "int8",
    "fp8": "float8",
    "fp32": "float32",
    "float": "float32",
}


class TensorrtSession(Session):
    """`engine` is TensorRT's own, for more than its outputs."""

    def __init__(self, engine: Any, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings
        self._context = engine.create_execution_context()
        self._input, self._output = _ends(engine)
        self._context.set_input_shape(self._input, settings.input_shape)
        self._stream = _cuda("cudaStreamCreate")
        self._events = _cuda("cudaEventCreate"), _cuda("cudaEventCreate")
        self._places: list[Any] = []
        self._graphs: list[Any] = []

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """The images on the card, a place there for the logits, and the call on them as a CUDA graph."""
        check_images(images, self._settings)
        rows, columns = self._settings.output_shape
        places = _cuda("cudaMalloc", images.nbytes), _cuda("cudaMalloc", 4 * rows * columns)
        self._places.extend(places)
        whole = images.copy(order="C")
        _cuda("cudaMemcpy", places[0], whole.ctypes.data, whole.nbytes, _kind("HostToDevice"))
        self._enqueue(places)  # what TensorRT does only at the first call must stay out of the graph
        _cuda("cudaStreamSynchronize", self._stream)
        return places, self._captured(places)

    def infer(self, prepared: Any) -> Any:
        places, graph = prepared
        first, last = self._events
        _cuda("cudaEventRecord", first, self._stream)
        if graph is None:
            self._enqueue(places)
        else:
            _cuda("cudaGraphLaunch", graph, self._stream)
        _cuda("cudaEventRecord", last, self._stream)
        _cuda("cudaEventSynchronize", last)
        return places[1]

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        import numpy as np

        logits = np.empty(self._settings.output_shape, dtype=np.float32)
        _cuda("cudaMemcpy", logits.ctypes.data, raw, logits.nbytes, _kind("DeviceToHost"))
        return logits

    def effective(self) -> dict[str, Any]:
        import tensorrt

        return {
            "precision": _precision(self.engine),
            "threads": None,
            "streams": 1,
            "provider": None,
            "device": "cuda",
            "layout": None,
            "version": tensorrt.__version__,
            "tf32": self._settings.precision == "tf32",
            "cuda_graph": len(self._graphs) > 0 if self._places else None,
        }

    def device_latency_s(self) -> float | None:
        return float(_cuda("cudaEventElapsedTime", *self._events)) / 1e3

    def close(self) -> None:
        for graph in self._graphs:
            _cuda("cudaGraphExecDestroy", graph)
        for place in self._places:
            _cuda("cudaFree", place)
        for event in self._events:
            _cuda("cudaEventDestroy", event)
        _cuda("cudaStreamDestroy", self._stream)
        del self._context, self.engine

    def _enqueue(self, places: tuple[Any, Any]) -> None:
        for name, place in zip((self._input, self._output), places, strict=True):
            self._context.set_tensor_address(name, int(place))
        if not self._context.execute_async_v3(int(self._stream)):
            raise MeasurementError("TensorRT can't run the network and gives no reason.")

    def _captured(self, places: tuple[Any, Any]) -> Any:
        """The call on these places as a CUDA graph; None where CUDA can't capture it."""
        from cuda.bindings import runtime

        _cuda("cudaStreamBeginCapture", self._stream, _mode("ThreadLocal"))
        queued = self._context.execute_async_v3(int(self._stream))
        status, captured = runtime.cudaStreamEndCapture(self._stream)
        if not queued or int(status) != 0:
            runtime.cudaGetLastError()  # clears the failure, which would appear in the next call
            return None
        graph = _cuda("cudaGraphInstantiate", captured, 0)
        _cuda("cudaGraphDestroy", captured)
        self._graphs.append(graph)
        return graph


def load(subject: Subject, settings: Settings) -> TensorrtSession:
    """Built before it returns: `compile_s` is how long that took."""
    assert subject.bundle is not None
    _check_card()
    path = bundles.read(subject.bundle, verify=False).network
    started = time.perf_counter()
    session = TensorrtSession(_built(path, settings), settings)
    session.compile_s = time.perf_counter() - started
    return session


def _check_card() -> None:
    from cuda.bindings import runtime

    status, count = runtime.cudaGetDeviceCount()
    if int(status) != 0 or count == 0:
        raise MissingRuntimeError(
            "CUDA finds no device here.", "check the driver with nvidia-smi, or choose another engine"
        )


def _ends(engine: Any) -> tuple[str, str]:
    """Names of the engine's input and output."""
    import tensorrt

    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    (taken,) = (name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT)
    (given,) = (name for name in names if name != taken)
    return taken, given


# ------------------------------------------------------------------ building


def _built(path: Path, settings: Settings) -> Any:
    """The engine for the network at `path`. Raises BundleError where the file can't be parsed, and
    MeasurementError where TensorRT has no such operator, no such precision or can't build it."""
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise _refused(path, parser)
    config = builder.create_builder_config()
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED  # or it couldn't be read back
    _demand(settings.precision, network, config)
    images = network.get_input(0)
    if -1 in tuple(images.shape):
        profile = builder.create_optimization_profile()
        profile.set_shape(images.name, *[settings.input_shape] * 3)  # the least, the usual and the most
        config.add_optimization_profile(profile)
    cache = _timing_cache(config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise MeasurementError(
            f"TensorRT can't build {path} in {settings.precision}: see its own messages above.",
            "try another precision, or onnxruntime on the card",
        )
    _keep(cache, config)
    return tensorrt.Runtime(logger).deserialize_cuda_engine(plan)


def _demand(precision: str, network: Any, config: Any) -> None:
    """Allow the precision and no other, and require it of all layers that multiply."""
    import tensorrt

    flags, types = tensorrt.BuilderFlag, tensorrt.DataType
    config.clear_flag(flags.TF32)
    if precision not in _FLAGS:
        return
    flag, kind = _FLAGS[precision]
    if not hasattr(flags, flag):
        raise MissingRuntimeError(
            f"TensorRT {tensorrt.__version__} can't be set to compute in {precision}.",
            'install one that can: pip install "vertebra[tensorrt]"',
        )
    config.set_flag(getattr(flags, flag))
    if precision == "tf32":
        return  # a way to multiply float32, not a separate type
    config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
    multiplying = {getattr(tensorrt.LayerType, name) for name in _MULTIPLYING}
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        if layer.type in multiplying:
            layer.precision = getattr(types, kind)


def _timing_cache(config: Any) -> Path:
    """Give the builder what earlier builds measured; returns where that is kept. It fits one version, and
    TensorRT itself refuses what was measured on another card."""
    import tensorrt

    path = downloads.cache_folder() / "tensorrt" / f"{tensorrt.__version__}.timing"
    earlier = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(earlier)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return path


def _keep(path: Path, config: Any) -> None:
    make_folder(path.parent)
    write_whole(path, bytes(config.get_timing_cache().serialize()), mode=0o644)


def _refused(path: Path, parser: Any) -> Exception:
    """The parser's error: the operator and its layer where it knows them."""
    error = parser.get_error(0)
    operator, layer = error.node_operator(), error.node_name()
    if not operator:
        return BundleError(f"TensorRT can't load {path}: {error.desc()}", "export the network again")
    return MeasurementError(
        f"TensorRT can't take the operator {operator} of the layer {layer}: {error.desc()}",
        "use onnxruntime: it opens the same Bundle and supports the most operators",
    )


# ------------------------------------------------------------------ what TensorRT reports


def _precision(engine: Any) -> str:
    """The input type of the built layers that multiply, from TensorRT's own description of them."""
    import tensorrt

    inspector = engine.create_engine_inspector()
    described = json.loads(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))
    layers = [layer for layer in described["Layers"] if layer.get("LayerType") != "Reformat"]
    # A fused kernel has no such name: then all kernels are looked at.
    multiplying = [layer for layer in layers if _multiplies(layer)] or layers
    kinds = {_type(layer["Inputs"][0]["Format/Datatype"]) for layer in multiplying if layer["Inputs"]}
    if "float32" in kinds and any(
        "tf32" in str(layer.get("TacticName", "")).lower() for layer in multiplying
    ):
        kinds = kinds - {"float32"} | {"tf32"}
    return ", ".join(sorted(kinds)) or "unknown"


def _multiplies(layer: dict[str, Any]) -> bool:
    words = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
    return any(word in words for word in _WORDS)


def _type(described: str) -> str:
    """`float16` for "Half" or "Channel major FP16 format where channel % 8 == 0"."""
    lowered = described.lower()
    return next((kind for word, kind in _TYPES.items() if word in lowered), described)


# ------------------------------------------------------------------ CUDA


def _cuda(name: str, *values: Any) -> Any:
    """The answer of one of CUDA's functions. Raises MeasurementError with its reason where it fails."""
    from cuda.bindings import runtime

    status, *answer = getattr(runtime, name)(*values)
    if int(status) != 0:
        raise MeasurementError(f"CUDA's {name} failed: {status.name}.")
    return answer[0] if answer else None


def _kind(direction: str) -> Any:
    from cuda.bindings import runtime

    return getattr(runtime.cudaMemcpyKind, f"cudaMemcpy{direction}")


def _mode(name: str) -> Any:
    from cuda.bindings import runtime

    return getattr(runtime.cudaStreamCaptureMode, f"cudaStreamCaptureMode{name}")
