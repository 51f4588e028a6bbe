"""What runs a network: the protocol, and the table of the runtimes that vertebra supports.

Importing this package loads nothing beyond the standard library. A runtime is imported by its own file, and
only when `load` is called. Adding an engine is one file here and one entry in the table.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vertebra.errors import (
    BundleError,
    InvalidInputError,
    MeasurementError,
    MissingRuntimeError,
    UnknownNameError,
    VertebraError,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.bundles import Bundle


@dataclass(frozen=True)
class EngineInfo:
    """One engine. `imports` must be importable for it to run; the first installed one of `distributions`
    gives its version. `reads` is what its Subject must hold, and `formats` which formats of Bundle it opens.
    `converters` are the distributions that, beside its own, make and check the Bundles it opens.

    `needs_compiler`: it builds machine code, where it runs or where a Bundle for it is made. `usual` engines
    are measured by default. `many_streams`: it can serve several calls at a time.
    """

    name: str
    module: str
    imports: tuple[str, ...]
    distributions: tuple[str, ...]
    extra: str | None
    reads: Literal["any", "builder", "bundle"]
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    summary: str
    formats: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ("NCHW",)
    providers: tuple[str, ...] = ()
    needs_compiler: bool = False
    usual: bool = True
    many_streams: bool = False
    converters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """An engine on this machine: the version of its runtime, and why it can't run here, or None if it can."""

    info: EngineInfo
    version: str | None
    missing: str | None


#: the second output of a network that was made with it: the classifier's input
FEATURES = "features"

_ONNX = ("torch", "onnx", "onnxscript")
#: Bundles in ONNX are checked in ONNX Runtime, whichever engine opens them later.
_CHECKED_ONNX = (*_ONNX, "onnxruntime", "onnxruntime-gpu")

_ENTRIES = (
    EngineInfo("null", "vertebra.engines.null", ("numpy",), ("numpy",), None, "any", ("float32",), ("cpu",),
               "Returns a constant at once, which leaves only the harness's own time."),
    EngineInfo("eager", "vertebra.engines.eager", ("torch",), ("torch",), "torch", "builder",
               ("float32", "bfloat16", "float16", "tf32"), ("cpu", "cuda"),
               "PyTorch, operator by operator: the reference that the others are compared with.",
               layouts=("NCHW", "NHWC"), providers=("cuda-graph",)),
    EngineInfo("compile", "vertebra.engines.compile", ("torch",), ("torch",), "torch", "builder",
               ("float32", "bfloat16", "float16", "tf32"), ("cpu", "cuda"),
               "PyTorch's compiler, run when the network is loaded.",
               layouts=("NCHW", "NHWC"), needs_compiler=True, usual=False),
    EngineInfo("aotinductor", "vertebra.engines.aotinductor", ("torch",), ("torch",), "torch", "bundle",
               ("float32",), ("cpu",), "PyTorch's compiler, run when the Bundle is made.",
               formats=("aotinductor",), needs_compiler=True, usual=False),
    EngineInfo("onnxruntime", "vertebra.engines.onnxruntime", ("onnxruntime",),
               ("onnxruntime", "onnxruntime-gpu"), None, "bundle",
               ("float32", "tf32", "float16", "int8"), ("cpu", "cuda"),
               "ONNX Runtime: its CPU provider, or CUDA's or TensorRT's on a card.", formats=("onnx",),
               converters=_CHECKED_ONNX,
               providers=("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider")),
    EngineInfo("openvino", "vertebra.engines.openvino", ("openvino",), ("openvino",), "openvino", "bundle",
               ("float32", "bfloat16", "float16", "int8", "int8-weights"), ("cpu",),
               "OpenVINO's CPU plug-in, with a fixed precision.",
               formats=("openvino", "onnx"), many_streams=True, converters=_CHECKED_ONNX),
    EngineInfo("ncnn", "vertebra.engines.ncnn", ("ncnn",), ("ncnn",), "ncnn", "bundle",
               ("float32",), ("cpu",), "Tencent's runtime for phones: one image at a time.",
               formats=("ncnn",), usual=False, converters=("torch", "pnnx")),
    EngineInfo("mnn", "vertebra.engines.mnn", ("MNN",), ("MNN",), "mnn", "bundle",
               ("float32",), ("cpu",), "Alibaba's runtime for phones.", formats=("mnn",), usual=False,
               converters=_ONNX),
    EngineInfo("litert", "vertebra.engines.litert", ("ai_edge_litert",), ("ai-edge-litert",), "litert",
               "bundle", ("float32",), ("cpu",), "Google's runtime for phones, with XNNPACK.",
               formats=("litert",), usual=False, converters=("torch", "litert-torch")),
    EngineInfo("executorch", "vertebra.engines.executorch", ("executorch", "torch"), ("executorch",),
               "executorch", "bundle", ("float32",), ("cpu",), "PyTorch's runtime for phones, with XNNPACK.",
               formats=("executorch",), usual=False, converters=("torch",)),
    EngineInfo("tensorrt", "vertebra.engines.tensorrt", ("tensorrt", "cuda.bindings"),
               ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "tensorrt", "bundle",
               ("float32", "tf32", "float16", "bfloat16"), ("cuda",),
               "NVIDIA's compiler for its cards, run when the Bundle is loaded.",
               formats=("onnx",), usual=False, converters=_CHECKED_ONNX),
)  # fmt: skip

ENGINES: dict[str, EngineInfo] = {entry.name: entry for entry in _ENTRIES}


@dataclass(frozen=True)
class Subject:
    """The network to run, in a form that crosses to another process as text.

    Either `bundle`, the path of a Bundle's folder, or `builder`, the address "module:function" of a function
    that is called with `arguments` and returns a torch module. Two calls must give the same parameters in
    two processes, so an untrained network takes a seed among its arguments. `trust_code`: the Bundle may be
    native code that another machine made.
    """

    model: str
    bundle: str | None = None
    builder: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    trust_code: bool = False

    def __post_init__(self) -> None:
        if (self.bundle is None) == (self.builder is None):
            raise InvalidInputError(
                f'The subject "{self.model}" must hold either a bundle or a builder, not both.',
                'pass bundle="path/of/folder" or builder="module:function"',
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Subject:
        """The subject that `to_json` wrote. Raises InvalidInputError for anything else."""
        return cls(**_object(text, cls))


@dataclass(frozen=True)
class Settings:
    """How to run it. An engine that can't hold one of these refuses; none is replaced silently.

    `layout` (`NCHW` or `NHWC`) and `provider` are the engine's own choice where they are None. `streams`
    calls may be under way at a time, and share the threads. `spins`: threads may keep a core busy while
    they wait for work, which makes calls quicker and takes the core from others; where it is false, engines
    that can be told let them sleep.
    """

    batch_size: int = 1
    input_size: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1
    layout: str | None = None
    provider: str | None = None
    streams: int = 1
    spins: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "input_size", "in_channels", "num_classes", "threads", "streams"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return (self.batch_size, self.in_channels, self.input_size, self.input_size)

    @property
    def output_shape(self) -> tuple[int, int]:
        return (self.batch_size, self.num_classes)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings that `to_json` wrote. Raises InvalidInputError for anything else."""
        return cls(**_object(text, cls))


class Session(Protocol):
    """A network that is loaded and ready. `infer` alone is timed.

    `compile_s` is the part of loading in which the engine compiled the network, where it reports that.
    """

    compile_s: float | None = None

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """`images` (N, C, H, W) where and as the engine needs them. Raises InvalidInputError where the shape
        or type isn't that of the settings."""
        ...

    def infer(self, prepared: Any) -> Any:
        """One forward pass, finished on return. The answer may be overwritten by the next call."""
        ...

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        """The logits (N, num_classes) in what `infer` returned, as a copy of their own."""
        ...

    def effective(self) -> dict[str, Any]:
        """precision, threads, streams, provider, device, layout and version as the runtime itself reports
        them; None where the engine has no such setting or the runtime doesn't report it. An engine with more
        settings that change results adds them."""
        ...

    def device_latency_s(self) -> float | None:
        """Time of the last `infer` between two events on the device itself; None where it has none (CPU)."""
        return None

    def memory(self) -> dict[str, int]:
        """Bytes that the device's allocator handed out (`allocated`) and took (`reserved`) at the peak since
        loading; empty where there is no such allocator (CPU)."""
        return {}

    def resized(self, batch_size: int) -> Session | None:
        """The same network, not loaded again, for batches of another size; None where the engine can't. It
        ends with this session."""
        return None

    def close(self) -> None:
        """Let go of the network and its memory."""
        ...

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits (N, num_classes) of `images` (N, C, H, W)."""
        return self.outputs(self.infer(self.prepare(images)))


def known() -> tuple[EngineInfo, ...]:
    """Every engine in the table, whether or not it can run here."""
    return tuple(ENGINES.values())


def find(name: str) -> EngineInfo:
    """The engine called `name`, in any case. Raises UnknownNameError with close matches."""
    try:
        return ENGINES[name.lower()]
    except KeyError:
        raise UnknownNameError.of("engine", name, ENGINES, "vertebra list engines") from None


def available() -> tuple[str, ...]:
    """Names of the engines whose runtime is installed here, in the table's order."""
    return tuple(name for name in ENGINES if _absent(find(name)) is None)


def missing(name: str) -> str | None:
    """Why the engine can't run here, with the line that installs it; None where it can. Imports nothing."""
    info = find(name)
    package = _absent(info)
    if package is None:
        return None
    error = _missing_error(info, package)
    return f"{error.message} {error.hint}"


def here() -> list[Engine]:
    """Every engine in the table, as it is on this machine."""
    return [Engine(info, version(info.name), missing(info.name)) for info in known()]


def require(name: str) -> str:
    """`name` as the engine spells it. Raises UnknownNameError, and MissingRuntimeError where the engine
    can't run here."""
    info = find(name)
    package = _absent(info)
    if package is not None:
        raise _missing_error(info, package)
    return info.name


def version(name: str) -> str | None:
    """Version of the engine's runtime from its installed metadata; None where it isn't installed."""
    import importlib.metadata  # takes longer than all else here

    for distribution in find(name).distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def load(name: str, subject: Subject, settings: Settings) -> Session:
    """`subject` loaded into the engine `name`.

    Raises MissingRuntimeError where the runtime isn't installed, InvalidInputError where the engine can't
    take this subject or these settings, BundleError where the network's file can't be read, and
    MeasurementError where the runtime doesn't do what was asked (another precision, other threads).
    """
    info = find(require(name))
    kept = _check_request(info, subject, settings)
    session = _loaded(info, kept, subject, settings)
    try:
        check_effective(info.name, settings, session.effective())
    except MeasurementError:
        session.close()
        raise
    return session


def _loaded(info: EngineInfo, kept: Bundle | None, subject: Subject, settings: Settings) -> Session:
    """The engine's session. Native code gets here only, and only as a file that may be loaded."""
    from vertebra.bundles import native
    from vertebra.bundles.manifest import NATIVE

    start: Callable[..., Session] = importlib.import_module(info.module).load
    if kept is None:
        return start(subject, settings)
    with _told_by(info.name, kept):
        if kept.format not in NATIVE:
            return start(subject, settings)
        with native.cleared(kept, trust_code=subject.trust_code) as file:
            return start(file, settings)


@contextmanager
def _told_by(name: str, kept: Bundle) -> Iterator[None]:
    """Whatever a runtime raises for a network's file becomes a BundleError: they share no base class."""
    try:
        yield
    except (VertebraError, MemoryError, ImportError):
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise BundleError(
            f"{name} can't load the network in {kept.folder}: {reason}.",
            "export the network again: vertebra export",
        ) from error


def check_effective(name: str, settings: Settings, effective: Mapping[str, Any]) -> None:
    """Raises MeasurementError where the runtime reports another precision, device, number of threads, ...
    than asked for: a result under the wrong conditions is worse than none."""
    for condition in ("precision", "device", "threads", "layout", "provider", "streams"):
        asked, got = getattr(settings, condition), effective.get(condition)
        if None not in (asked, got) and got != asked:
            raise MeasurementError(
                f"{name} runs with {condition} {got}, though {asked} was asked for.",
                f"ask for {condition} {got}, or leave this engine out",
            )


def check_images(images: npt.NDArray[Any], settings: Settings) -> None:
    """Raises InvalidInputError unless `images` are float32 of the settings' shape."""
    if images.shape != settings.input_shape or images.dtype.name != "float32":
        raise InvalidInputError(
            f"The images are {images.dtype} {images.shape}; float32 {settings.input_shape} was expected.",
            "load the engine with the batch_size, in_channels and input_size of the images",
        )


def compiler() -> str | None:
    """The C++ compiler that torch would call here; None where there is none."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, _COMPILERS)), None)


_COMPILERS = ("g++", "clang++", "c++")


def _absent(info: EngineInfo) -> str | None:
    """The first package that the engine needs and that can't be imported here."""
    absent = (name for name in info.imports if not _is_there(name))
    return next(absent, "a C++ compiler" if info.needs_compiler and compiler() is None else None)


def _is_there(package: str) -> bool:
    """Whether it can be imported; its parents first, for looking inside one that is absent raises."""
    parent = package.rpartition(".")[0]
    return (not parent or _is_there(parent)) and importlib.util.find_spec(package) is not None


def _missing_error(info: EngineInfo, package: str) -> MissingRuntimeError:
    what = f'The engine "{info.name}"'
    if package == "a C++ compiler":
        return MissingRuntimeError(
            f"{what} needs {package}, but none was found.",
            "install it with: apt install g++ (macOS: xcode-select --install), or set CXX to it",
        )
    if info.extra is not None:
        return MissingRuntimeError.of(what, package, info.extra)
    error = f"{what} needs {package}, which is not installed."
    return MissingRuntimeError(error, "install it with: pip install vertebra")


def _check_request(info: EngineInfo, subject: Subject, settings: Settings) -> Bundle | None:
    """The Bundle that the engine will open, if any. Raises InvalidInputError."""
    held = "bundle" if subject.bundle is not None else "builder"
    if info.reads not in ("any", held):
        raise InvalidInputError(
            f'The engine "{info.name}" reads a {info.reads}, but "{subject.model}" is a {held}.',
            "export the network first: vertebra export"
            if info.reads == "bundle"
            else "pass the network instead of its Bundle, or choose an engine that reads Bundles",
        )
    for condition, offered in (
        ("precision", info.precisions),
        ("device", info.devices),
        ("layout", info.layouts),
        ("provider", info.providers),
    ):
        _check_offered(info.name, condition, getattr(settings, condition), offered)
    if settings.streams > 1 and not info.many_streams:
        raise InvalidInputError(
            f'The engine "{info.name}" has one stream; {settings.streams} were asked for.',
            "call its session from several threads instead, or choose an engine with streams",
        )
    if subject.bundle is None or info.reads != "bundle":
        return None
    return _checked_bundle(info, subject.bundle, settings)


def _checked_bundle(info: EngineInfo, folder: str, settings: Settings) -> Bundle:
    """Raises InvalidInputError where the Bundle is another engine's, or of another batch size."""
    from vertebra import bundles

    kept = bundles.read(folder, verify=False)
    if kept.format not in info.formats:
        others = [other.name for other in known() if kept.format in other.formats]
        raise InvalidInputError(
            f'{folder} is a Bundle of the format "{kept.format}", but "{info.name}" opens '
            f"{', '.join(info.formats)}.",
            f"run it with {' or '.join(others)}, or export the network for {info.name}: vertebra export",
        )
    if kept.batch_size not in (None, settings.batch_size):
        raise InvalidInputError(
            f"{folder} takes only batches of {kept.batch_size}, not of {settings.batch_size}.",
            f"use that batch size, or export again: vertebra export --batch-size {settings.batch_size}",
        )
    return kept


def _check_offered(name: str, condition: str, asked: str | None, offered: Iterable[str]) -> None:
    if asked is not None and asked not in offered:
        raise InvalidInputError(
            f'The engine "{name}" has no {condition} "{asked}".',
            f"supported: {', '.join(offered) or 'none, so leave it out'}",
        )


def _object(text: str, kind: type[Any]) -> dict[str, Any]:
    """The JSON object in `text`, whose keys must be fields of the dataclass `kind`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"Expected a {kind.__name__} as JSON: {error}.") from error
    names = {entry.name for entry in fields(kind)}
    if not isinstance(value, dict) or set(value) != names:
        raise InvalidInputError(
            f"Expected a {kind.__name__} as a JSON object with the keys {', '.join(sorted(names))}."
        )
    return value
