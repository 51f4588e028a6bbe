"""AOTInductor: a network that torch compiled to machine code when its Bundle was made.

The package runs on processors like the one that it was made on, with a torch like the one that made it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.engines import Session, Settings, check_images
from vertebra.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class AotinductorSession(Session):
    def __init__(self, package: Any, settings: Settings) -> None:
        import torch

        self._package = package
        self._settings = settings
        self._inference_mode = torch.inference_mode

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        import torch

        check_images(images, self._settings)
        return torch.tensor(images)

    def infer(self, prepared: Any) -> Any:
        with self._inference_mode():
            return self._package(prepared)

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw.numpy().copy()
        return logits

    def effective(self) -> dict[str, Any]:
        """Without precision: the package doesn't report the type that it computes in."""
        import torch

        metadata = self._package.get_metadata()
        return {
            "precision": None,
            "threads": torch.get_num_threads(),
            "streams": None,
            "provider": None,
            "device": metadata.get("AOTI_DEVICE_KEY"),
            "layout": None,
            "version": str(torch.__version__),
            "instructions": metadata.get("AOTI_CPU_ISA"),
        }

    def close(self) -> None:
        del self._package


def load(path: Path, settings: Settings) -> AotinductorSession:
    """The package at `path`, which is native code: `engines.load` gives only files that may be loaded."""
    import torch
    from torch import _inductor

    torch.set_num_threads(settings.threads)
    try:
        package = _inductor.aoti_load_package(str(path))
    except RuntimeError as error:
        raise BundleError(f"torch can't load {path}: {error}") from error
    return AotinductorSession(package, settings)
