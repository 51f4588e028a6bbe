"""PyTorch's eager mode: one operator after the other, float32 without TF32 or bfloat16.

Denormal numbers are kept, as in the other engines here: flushing them would be faster on a network whose
activations fade, and would change its answers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vertebra.engines import Session, Settings, Subject, check_images
from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn


class EagerSession(Session):
    """`network` is the torch module itself, for those who want more of it than its answers."""

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        import torch

        self.network = network
        self._settings = settings
        self._inference_mode = torch.inference_mode

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        import torch

        check_images(images, self._settings)
        return torch.tensor(images)

    def infer(self, prepared: Any) -> Any:
        with self._inference_mode():
            return self.network(prepared)

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw.numpy().copy()
        return logits

    def effective(self) -> dict[str, Any]:
        import torch

        return {
            "precision": _precision(self.network),
            "threads": torch.get_num_threads(),
            "streams": None,
            "provider": None,
            "device": ", ".join(sorted({tensor.device.type for tensor in _tensors(self.network)})) or "cpu",
            "layout": "NCHW",
            "version": str(torch.__version__),
        }

    def close(self) -> None:
        del self.network


def load(subject: Subject, settings: Settings) -> EagerSession:
    import torch

    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("highest")
    return EagerSession(build(subject), settings)


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
            'a builder is written as "package.module:function"',
        ) from error
    network = builder(**subject.arguments)
    if not isinstance(network, nn.Module):
        raise InvalidInputError(
            f'The builder "{subject.builder}" gave {type(network).__name__}, not a torch module.'
        )
    return network.eval().requires_grad_(False)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _precision(network: nn.Module) -> str:
    """What floating-point tensors hold, or the shortcut that torch may take instead of it."""
    import torch

    kinds = {
        str(tensor.dtype).removeprefix("torch.") for tensor in _tensors(network) if tensor.is_floating_point()
    }
    if kinds <= {"float32"} and torch.get_float32_matmul_precision() != "highest":
        return f"float32 with matrix products in {torch.get_float32_matmul_precision()} precision"
    return ", ".join(sorted(kinds)) or "float32"
