"""PyTorch's eager mode: one operator after the other, in the precision asked for and no other.

Denormal numbers are kept, as in the other engines here: flushing them would be faster on a network whose
activations fade, and would change its answers.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vertebra.engines import Session, Settings, Subject, check_images
from vertebra.errors import InvalidInputError, MissingRuntimeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor, nn


#: The provider that replays on a card what eager did once: a call then launches one graph, not each operator.
CUDA_GRAPH = "cuda-graph"
#: Calls before the capture, which make what PyTorch only makes at first.
_WARM_UPS = 3


class EagerSession(Session):
    """`network` is the torch module itself, for more than its outputs."""

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        import torch

        self.network = network
        self._settings = settings
        self._inference_mode = torch.inference_mode
        self._events = _events() if settings.device == "cuda" else None

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """The images on the device, in the network's type and layout; there when this returns."""
        import torch

        check_images(images, self._settings)
        memory_format = _memory_format(self._settings)
        on_device = torch.tensor(images).to(self._settings.device, _dtype(self._settings))
        prepared = on_device.contiguous(memory_format=memory_format)
        if self._events is not None:
            torch.cuda.synchronize()
        return self._captured(prepared) if self._settings.provider == CUDA_GRAPH else prepared

    def infer(self, prepared: Any) -> Any:
        with self._inference_mode():
            if self._events is None:
                return self.network(prepared)
            first, last = self._events
            first.record()
            answer = prepared.replay() if isinstance(prepared, Captured) else self.network(prepared)
            last.record()
            last.synchronize()
            return answer

    def _captured(self, images: Tensor) -> Captured:
        import torch

        with self._inference_mode():
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    self.network(images)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                answer = self.network(images)
        return Captured(graph, images, answer)

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw.float().cpu().numpy().copy()
        return logits

    def effective(self) -> dict[str, Any]:
        import torch

        on_card = self._events is not None
        return {
            "precision": _precision(self.network, on_card=on_card),
            "threads": torch.get_num_threads(),
            "streams": None,
            "provider": self._settings.provider,
            "device": ", ".join(sorted({tensor.device.type for tensor in _tensors(self.network)}))
            or self._settings.device,
            "layout": _layout(self.network),
            "version": str(torch.__version__),
            "tf32": _uses_tf32() if on_card else None,
            "cudnn_benchmark": torch.backends.cudnn.benchmark if on_card else None,
        }

    def device_latency_s(self) -> float | None:
        if self._events is None:
            return None
        first, last = self._events
        return float(first.elapsed_time(last)) / 1e3

    def memory(self) -> dict[str, int]:
        import torch

        if self._events is None:
            return {}
        return {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
        }

    def close(self) -> None:
        del self.network


@dataclass(frozen=True)
class Captured:
    """One call as a CUDA graph, with the images that it reads and the place for its answer."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    answer: Tensor

    def replay(self) -> Tensor:
        self.graph.replay()
        return self.answer


def load(subject: Subject, settings: Settings) -> EagerSession:
    return EagerSession(placed(subject, settings), settings)


def placed(subject: Subject, settings: Settings) -> nn.Module:
    """The subject's network in the settings' precision and layout on their device, torch's switches set.

    Raises what `build` raises, MissingRuntimeError where torch finds no such device, and InvalidInputError
    where the provider runs on another one.
    """
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MissingRuntimeError(
            "torch finds no CUDA device here.", "check the driver with nvidia-smi, or use device cpu"
        )
    if settings.provider == CUDA_GRAPH and settings.device != "cuda":
        raise InvalidInputError(f"A {CUDA_GRAPH} runs on cuda, not on {settings.device}.", "use device cuda")
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("highest")
    if settings.device == "cuda":
        _set_up_card(settings)
    network = build(subject)
    if settings.precision not in ("float32", "tf32"):
        network = network.to(_dtype(settings))
    network = network.to(settings.device)
    return network.to(memory_format=_memory_format(settings))


def build(subject: Subject) -> nn.Module:
    """The torch module that the subject's builder makes, in evaluation mode.

    Raises InvalidInputError where the address leads nowhere, doesn't take the arguments, or gives no module.
    """
    from torch import nn

    module_name, _, function_name = (subject.builder or "").partition(":")
    try:
        builder = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f'The builder "{subject.builder}" of "{subject.model}" can\'t be found: {error}.',
            'write a builder as "package.module:function"',
        ) from error
    network = builder(**subject.arguments)
    if not isinstance(network, nn.Module):
        raise InvalidInputError(
            f'The builder "{subject.builder}" returned {type(network).__name__}, not a torch module.'
        )
    return network.eval().requires_grad_(False)


# ------------------------------------------------------------------ what is asked for, in torch's words


def _dtype(settings: Settings) -> torch.dtype:
    import torch

    kind: torch.dtype = getattr(torch, "float32" if settings.precision == "tf32" else settings.precision)
    return kind


def _memory_format(settings: Settings) -> torch.memory_format:
    import torch

    return torch.channels_last if settings.layout == "NHWC" else torch.contiguous_format


def _set_up_card(settings: Settings) -> None:
    """TF32 only where it is asked for, the fastest of cuDNN's kernels, and peaks that start here."""
    import torch

    rounding = "tf32" if settings.precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = rounding
    torch.backends.cudnn.conv.fp32_precision = rounding  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = True
    torch.cuda.reset_peak_memory_stats()


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    import torch

    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    return first, last


# ------------------------------------------------------------------ what torch reports


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _precision(network: nn.Module, *, on_card: bool) -> str:
    """What floating-point tensors hold, or the shortcut that torch may take instead of it."""
    import torch

    kinds = {
        str(tensor.dtype).removeprefix("torch.") for tensor in _tensors(network) if tensor.is_floating_point()
    }
    if on_card and kinds <= {"float32"} and _uses_tf32():
        return "tf32"
    if not on_card and kinds <= {"float32"} and torch.get_float32_matmul_precision() != "highest":
        return f"float32 with matrix products in {torch.get_float32_matmul_precision()} precision"
    return ", ".join(sorted(kinds)) or "float32"


def _uses_tf32() -> bool:
    import torch

    precisions = (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
    )
    return "tf32" in precisions


def _layout(network: nn.Module) -> str:
    """`NHWC` where every convolution's weights are in that layout; those of one input channel are in both."""
    import torch

    weights = [weight for weight in network.parameters() if weight.ndim == 4]
    first = all(weight.is_contiguous() for weight in weights)
    last = all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    return "NHWC" if last and not first else "NCHW"
