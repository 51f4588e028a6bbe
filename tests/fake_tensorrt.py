"""TensorRT 10 and CUDA's runtime as far as the engine uses them, without a card.

They refuse what the real ones refuse (names that they lack, calls out of order, addresses that nobody gave
out), and compute with ONNX Runtime. Installed by `install` in place of the real modules.
"""

from __future__ import annotations

import ctypes
import enum
import importlib.machinery
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest

DataType = enum.Enum("DataType", ["FLOAT", "HALF", "BF16", "INT8"])
BuilderFlag = enum.Enum("BuilderFlag", ["FP16", "BF16", "TF32", "OBEY_PRECISION_CONSTRAINTS"])
LayerType = enum.Enum("LayerType", ["CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "ACTIVATION"])
TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED"])
LayerInformationFormat = enum.Enum("LayerInformationFormat", ["ONELINE", "JSON"])
_KINDS = {"Conv": LayerType.CONVOLUTION, "Gemm": LayerType.MATRIX_MULTIPLY}
_NAMES = {DataType.FLOAT: "Float", DataType.HALF: "Half", DataType.BF16: "BFloat16"}
_FLAG_OF = {DataType.HALF: BuilderFlag.FP16, DataType.BF16: BuilderFlag.BF16}


class Logger:
    ERROR = 1

    def __init__(self, severity: int) -> None:
        self.severity = severity


class Network:
    """What the parser fills: a layer for each node of the graph."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.layers: list[SimpleNamespace] = []
        self.shape: tuple[int, ...] = ()

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, number: int) -> SimpleNamespace:
        return self.layers[number]

    def get_input(self, number: int) -> SimpleNamespace:
        assert number == 0
        return SimpleNamespace(name="images", shape=self.shape)


class OnnxParser:
    unknown: tuple[str, ...] = ()

    def __init__(self, network: Network, logger: Logger) -> None:
        assert isinstance(logger, Logger)
        self._network, self._errors = network, []

    def parse_from_file(self, path: str) -> bool:
        try:
            graph = onnx.load(path, load_external_data=False).graph
        except Exception as error:
            self._errors.append(_ParserError(str(error), "", ""))
            return False
        for node in graph.node:
            if node.op_type in self.unknown:
                self._errors.append(_ParserError("no importer is registered", node.op_type, node.name))
                return False
        dims = graph.input[0].type.tensor_type.shape.dim
        self._network.shape = tuple(-1 if dim.dim_param else dim.dim_value for dim in dims)
        self._network.layers = [
            SimpleNamespace(type=_KINDS.get(node.op_type, LayerType.ACTIVATION), precision=DataType.FLOAT)
            for node in graph.node
        ]
        self._network.path = Path(path)
        return True

    def get_error(self, number: int) -> _ParserError:
        return self._errors[number]


class _ParserError:
    def __init__(self, text: str, operator: str, node: str) -> None:
        self.desc, self.node_operator, self.node_name = (lambda: text), (lambda: operator), (lambda: node)


class TimingCache:
    def __init__(self, earlier: bytes) -> None:
        self.measured = earlier

    def serialize(self) -> memoryview:
        return memoryview(self.measured)


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}  # allowed unless it is taken back
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.profiles: list[Profile] = []
        self.cache: TimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        assert isinstance(flag, BuilderFlag)
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, earlier: bytes) -> TimingCache:
        return TimingCache(earlier)

    def set_timing_cache(self, cache: TimingCache, *, ignore_mismatch: bool) -> bool:
        if cache.measured.startswith(b"another card") and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.cache


class Profile:
    shapes: dict[str, tuple[tuple[int, ...], ...]]

    def __init__(self) -> None:
        self.shapes = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        assert len(shapes) == 3
        self.shapes[name] = shapes


class Builder:
    """`builds` is every configuration that something was built with."""

    builds: ClassVar[list[Config]] = []
    fails = False

    def __init__(self, logger: Logger) -> None:
        assert isinstance(logger, Logger)

    def create_network(self, flags: int) -> Network:
        assert flags == 0
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> Plan | None:
        if self.fails:
            return None
        assert network.path is not None
        assert (-1 in network.shape) == bool(config.profiles), "a dynamic input needs a profile"
        assert config.cache is not None
        config.cache.measured += b"+"
        Builder.builds.append(config)
        return Plan(network, config)


class Plan:
    def __init__(self, network: Network, config: Config) -> None:
        self.network, self.config = network, config


class Runtime:
    def __init__(self, logger: Logger) -> None:
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, plan: Plan) -> Engine:
        return Engine(plan)


class Engine:
    num_io_tensors = 2

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def get_tensor_name(self, number: int) -> str:
        return ("logits", "images")[number]  # in no particular order

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "images" else TensorIOMode.OUTPUT

    def create_execution_context(self) -> Context:
        return Context(self.plan)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self.plan)


class Inspector:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        assert format is LayerInformationFormat.JSON
        detailed = self._plan.config.profiling_verbosity is ProfilingVerbosity.DETAILED
        layers = [self._layer(layer) for layer in self._plan.network.layers]
        reformat = {"LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": []}
        return json.dumps({"Layers": [reformat, *layers] if detailed else ["names", "only"]})

    def _layer(self, layer: SimpleNamespace) -> dict[str, Any]:
        """The type demanded where it must be obeyed, else whichever is fastest: here never a shorter one."""
        flags = self._plan.config.flags
        obeyed = _FLAG_OF.get(layer.precision) in flags and BuilderFlag.OBEY_PRECISION_CONSTRAINTS in flags
        kind = layer.precision if obeyed else DataType.FLOAT
        multiplies = layer.type is not LayerType.ACTIVATION
        tactic = "sm80_xmma_fprop_implicit_gemm_tf32f32" if BuilderFlag.TF32 in flags else "sm80_xmma_f32f32"
        return {
            "LayerType": {LayerType.CONVOLUTION: "CaskConvolution", LayerType.MATRIX_MULTIPLY: "gemm"}.get(
                layer.type, "PointWiseV2"
            ),
            "Inputs": [{"Format/Datatype": _NAMES[kind]}],
            "Outputs": [{"Format/Datatype": _NAMES[kind]}],
            "TacticName": tactic if multiplies else "",
        }


class Context:
    def __init__(self, plan: Plan) -> None:
        assert plan.network.path is not None
        self._session = onnxruntime.InferenceSession(
            str(plan.network.path), providers=["CPUExecutionProvider"]
        )
        self._plan = plan
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        for profile in self._plan.config.profiles:
            assert shape in profile.shapes[name]
        self._shape = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in CARD.memory
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert self._shape
        places = dict(self._addresses)

        def work() -> None:
            images = np.frombuffer(CARD.memory[places["images"]], np.float32).reshape(self._shape)
            (logits,) = self._session.run(["logits"], {"images": images})
            CARD.memory[places["logits"]][:] = logits.tobytes()

        return CARD.queue(stream, work)


# ------------------------------------------------------------------ CUDA


Status = enum.IntEnum("Status", {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorNoDevice": 100})


class Card:
    """Memory by address, streams that run at once unless they are captured, time that only events move."""

    def __init__(self) -> None:
        self.devices, self.captures, self.free_bytes = 1, True, 2**30
        self.memory: dict[int, bytearray] = {}
        self.alive: set[int] = set()
        self.calls: list[str] = []
        self.captured: dict[int, list[Any]] = {}
        self._next, self._now_ms = 1000, 0.0

    def handle(self) -> int:
        self._next += 8
        self.alive.add(self._next)
        return self._next

    def queue(self, stream: int, work: Any) -> bool:
        assert stream in self.alive
        if stream not in self.captured:
            work()
        elif self.captures:
            self.captured[stream].append(work)
        return stream not in self.captured or self.captures

    def tick(self) -> float:
        self._now_ms += 2.0
        return self._now_ms


CARD = Card()


def cudaGetDeviceCount() -> tuple[Status, int | None]:
    return (Status.cudaSuccess, CARD.devices) if CARD.devices else (Status.cudaErrorNoDevice, None)


def cudaMalloc(size: int) -> tuple[Status, int | None]:
    if size > CARD.free_bytes:
        return Status.cudaErrorMemoryAllocation, None
    place = CARD.handle()
    CARD.memory[place] = bytearray(size)
    return Status.cudaSuccess, place


def cudaFree(place: int) -> tuple[Status]:
    del CARD.memory[place]
    CARD.alive.remove(place)
    return (Status.cudaSuccess,)


def cudaMemcpy(to: int, source: int, count: int, kind: str) -> tuple[Status]:
    if kind == "in":
        CARD.memory[to][:] = ctypes.string_at(source, count)
    else:
        assert kind == "out"
        ctypes.memmove(to, bytes(CARD.memory[source]), count)
    return (Status.cudaSuccess,)


def _made() -> tuple[Status, int]:
    return Status.cudaSuccess, CARD.handle()


def _ended(handle: int) -> tuple[Status]:
    CARD.alive.remove(handle)
    return (Status.cudaSuccess,)


_EVENTS: dict[int, float] = {}


def cudaEventRecord(event: int, stream: int) -> tuple[Status]:
    assert {event, stream} <= CARD.alive
    _EVENTS[event] = CARD.tick()
    return (Status.cudaSuccess,)


def cudaEventElapsedTime(first: int, last: int) -> tuple[Status, float]:
    return Status.cudaSuccess, _EVENTS[last] - _EVENTS[first]


def _waited(handle: int) -> tuple[Status]:
    assert handle in CARD.alive
    return (Status.cudaSuccess,)


def cudaStreamBeginCapture(stream: int, mode: str) -> tuple[Status]:
    CARD.captured[stream] = []
    return (Status.cudaSuccess,)


def cudaStreamEndCapture(stream: int) -> tuple[Status, Any]:
    work = CARD.captured.pop(stream)
    return (Status.cudaSuccess, _graph(work)) if CARD.captures else (Status.cudaErrorNoDevice, None)


_GRAPHS: dict[int, list[Any]] = {}


def _graph(work: list[Any]) -> int:
    handle = CARD.handle()
    _GRAPHS[handle] = work
    return handle


def cudaGraphInstantiate(graph: int, flags: int) -> tuple[Status, int]:
    assert flags == 0
    return Status.cudaSuccess, _graph(_GRAPHS[graph])


def cudaGraphLaunch(graph: int, stream: int) -> tuple[Status]:
    assert {graph, stream} <= CARD.alive
    CARD.calls.append("cudaGraphLaunch")
    for work in _GRAPHS[graph]:
        work()
    return (Status.cudaSuccess,)


RUNTIME: dict[str, Any] = {
    **{name: value for name, value in list(globals().items()) if name.startswith("cuda")},
    "cudaStreamCreate": _made,
    "cudaEventCreate": _made,
    **dict.fromkeys(
        ("cudaStreamDestroy", "cudaEventDestroy", "cudaGraphDestroy", "cudaGraphExecDestroy"), _ended
    ),
    **dict.fromkeys(("cudaStreamSynchronize", "cudaEventSynchronize"), _waited),
    "cudaGetLastError": lambda: (Status.cudaSuccess,),
    "cudaMemcpyKind": SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out"),
    "cudaStreamCaptureMode": SimpleNamespace(cudaStreamCaptureModeThreadLocal="of this thread"),
}
TENSORRT = {
    "__version__": "10.16.1.11",
    **{
        one.__name__: one
        for one in (
            DataType, BuilderFlag, LayerType, TensorIOMode, ProfilingVerbosity, LayerInformationFormat,
            Logger, OnnxParser, Builder, Runtime,
        )
    },
}  # fmt: skip


def install(patch: pytest.MonkeyPatch) -> Card:
    """Put both in place of the real modules. The card starts empty."""
    CARD.__init__()  # type: ignore[misc]
    Builder.builds = []
    modules = {"tensorrt": TENSORRT, "cuda": {}, "cuda.bindings": {}, "cuda.bindings.runtime": RUNTIME}
    for name, content in modules.items():
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        vars(module).update(content)
        patch.setitem(sys.modules, name, module)
    sys.modules["cuda"].bindings = sys.modules["cuda.bindings"]  # type: ignore[attr-defined]
    sys.modules["cuda.bindings"].runtime = sys.modules["cuda.bindings.runtime"]  # type: ignore[attr-defined]
    return CARD
