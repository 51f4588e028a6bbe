"""ONNX Runtime: one stream, operators in sequence. On the processor each runs over all the threads; on a card
through CUDA's provider or TensorRT's, without TF32 unless it is asked for, and never in parts on the
processor."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.engines import FEATURES, Session, Settings, Subject, check_images
from vertebra.errors import BundleError, InvalidInputError, MissingRuntimeError
from vertebra.machine import onnx_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: provider -> the device that it runs on; the first one for a device is its default
_DEVICES = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
}
#: the fastest of cuDNN's kernels
_FASTEST = {"cudnn_conv_algo_search": "EXHAUSTIVE"}
#: provider -> precision -> the options that select it
_OPTIONS: dict[str, dict[str, dict[str, str]]] = {
    "CPUExecutionProvider": {"float32": {}, "int8": {}},
    "CUDAExecutionProvider": {
        "float32": {"use_tf32": "0", **_FASTEST},
        "tf32": {"use_tf32": "1", **_FASTEST},
        "int8": {"use_tf32": "0", **_FASTEST},
    },
    "TensorrtExecutionProvider": {
        "float32": {"trt_fp16_enable": "0"},
        "float16": {"trt_fp16_enable": "1"},
    },
}
#: option -> the precision that it means where it is on
_SHORTER = {"use_tf32": "tf32", "trt_fp16_enable": "float16"}


class OnnxruntimeSession(Session):
    def __init__(self, session: Any, settings: Settings, *, written_in: str) -> None:
        self._session = session
        self._written_in = written_in
        self._settings = settings
        self._input = session.get_inputs()[0]
        self._output = session.get_outputs()[0]

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """A binding that holds the images and the place for the logits, on the device: a call then copies and
        allocates nothing (9 µs on top of the network itself, where a plain run takes 16)."""
        import numpy as np
        import onnxruntime

        check_images(images, self._settings)
        device = self._settings.device
        # a network that ends in a pool gives (N, classes, 1, 1)
        trailing = (1,) * (len(self._output.shape) - len(self._settings.output_shape))
        logits = np.empty((*self._settings.output_shape, *trailing), dtype=np.float32)
        place = onnxruntime.OrtValue.ortvalue_from_numpy
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input.name, place(images.copy(), device, 0))
        binding.bind_ortvalue_output(self._output.name, place(logits, device, 0))
        binding.synchronize_inputs()
        return binding

    def infer(self, prepared: Any) -> Any:
        self._session.run_with_iobinding(prepared)
        if self._settings.device != "cpu":
            prepared.synchronize_outputs()
        return prepared

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw.copy_outputs_to_cpu()[0].copy()
        return logits.reshape(self._settings.output_shape)

    @property
    def has_features(self) -> bool:
        """Whether the network has the output `features`."""
        return FEATURES in [output.name for output in self._session.get_outputs()]

    def features(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """The output `features` (N, D) for `images`; None if the network has none."""
        if not self.has_features:
            return None
        check_images(images, self._settings)
        found: npt.NDArray[np.float32] = self._session.run([FEATURES], {self._input.name: images})[0]
        return found

    def effective(self) -> dict[str, Any]:
        import onnxruntime

        provider = self._session.get_providers()[0]
        options = self._session.get_provider_options().get(provider, {})
        return {
            "precision": self._precision(options),
            "threads": self._session.get_session_options().intra_op_num_threads,
            "streams": 1,
            "provider": provider,
            "device": _DEVICES.get(provider),
            "layout": "NCHW",
            "version": onnxruntime.__version__,
            "tf32": {"0": False, "1": True}.get(options.get("use_tf32", "")),
        }

    def _precision(self, options: Mapping[str, str]) -> str:
        kinds = sorted({_element(self._input.type), _element(self._output.type)})
        shorter = [kind for option, kind in _SHORTER.items() if options.get(option) in ("1", "True", "true")]
        if shorter and kinds == ["float32"]:
            return ", ".join(shorter)
        return self._written_in if kinds == ["float32"] else ", ".join(kinds)

    def resized(self, batch_size: int) -> OnnxruntimeSession | None:
        """None where the graph has one batch size only."""
        if isinstance(self._input.shape[0], int):
            return None
        settings = replace(self._settings, batch_size=batch_size)
        return OnnxruntimeSession(self._session, settings, written_in=self._written_in)

    def close(self) -> None:
        del self._session


def load(subject: Subject, settings: Settings) -> OnnxruntimeSession:
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # on Windows, where the package's variable is no opt-out
    assert subject.bundle is not None
    network = bundles.read(subject.bundle, verify=False).network
    if settings.device != "cpu" and _holds(network, b"EPContext"):
        raise BundleError(
            f"{network} holds a part that is compiled for a card, which may contain native code.",
            "pass the network as it was before it was compiled",
        )
    # ONNX Runtime's own types show only what enters and leaves the network.
    try:
        written_in = onnx_files.read(network).precision
    except InvalidInputError as error:
        raise BundleError(f"ONNX Runtime can't load {network}: {error.message}") from error
    provider = _provider(settings, written_in)
    how = _OPTIONS[provider].get(settings.precision, _OPTIONS[provider]["float32"])
    try:
        session = onnxruntime.InferenceSession(str(network), _options(settings), providers=[(provider, how)])
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one.
        raise BundleError(f"ONNX Runtime can't load {network}: {error}") from error
    _check_shapes(network, session, settings)
    return OnnxruntimeSession(session, settings, written_in=written_in)


def _check_shapes(network: Path, session: Any, settings: Settings) -> None:
    """Raise BundleError if the graph takes or gives something else than the Bundle's manifest says."""
    for what, ends, expected in (
        ("takes", session.get_inputs(), settings.input_shape),
        ("gives", session.get_outputs()[:1], settings.output_shape),
    ):
        shapes = [list(end.shape) for end in ends]
        if len(shapes) != 1 or not _fits(shapes[0], expected):
            found = " and ".join(map(str, shapes)) or "nothing"
            raise BundleError(
                f"The network in {network} {what} {found}; the Bundle's manifest says {list(expected)}.",
                "export the network again: vertebra export",
            )


def _fits(shape: list[Any], expected: tuple[int, ...]) -> bool:
    """Whether a graph's sizes, of which only whole numbers are fixed, allow these; a pool leaves ones."""
    pairs = zip(shape, (*expected, 1, 1), strict=False)
    return len(shape) >= len(expected) and all(
        size == wanted for size, wanted in pairs if isinstance(size, int)
    )


def _holds(network: Path, content: bytes) -> bool:
    with network.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(content) >= 0


def _provider(settings: Settings, written_in: str) -> str:
    """The provider asked for, or the device's default. Raises InvalidInputError where it runs on another
    device or lacks the precision, and MissingRuntimeError where this ONNX Runtime was built without it. What
    a network is `written_in` needs no option."""
    import onnxruntime

    usual = next(name for name, device in _DEVICES.items() if device == settings.device)
    provider = settings.provider or usual
    if _DEVICES[provider] != settings.device:
        raise InvalidInputError(
            f"{provider} runs on {_DEVICES[provider]}, but device {settings.device} was asked for.",
            f"use device {_DEVICES[provider]}, or leave the provider out",
        )
    if settings.precision not in (*_OPTIONS[provider], written_in):
        raise InvalidInputError(
            f'{provider} has no precision "{settings.precision}".',
            f"supported: {', '.join(_OPTIONS[provider])}",
        )
    if provider not in onnxruntime.get_available_providers():
        raise MissingRuntimeError(
            f"This ONNX Runtime was built without {provider}.",
            "install it with: pip uninstall onnxruntime && pip install onnxruntime-gpu",
        )
    if provider == "TensorrtExecutionProvider":
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT reads it while it builds; it has no option for it
    return provider


def _options(settings: Settings) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    if not settings.spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: its warnings would go to the reader's terminal
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if settings.device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _element(kind: str) -> str:
    """`float32` for `tensor(float)`."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
