"""ExecuTorch on the processor, float32 through XNNPACK, for a fixed shape. Its Python runtime needs torch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.engines import Session, Settings, Subject, check_images, version
from vertebra.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_METHOD = "forward"
#: ExecuTorch's numbers of types
_KINDS = {5: "float16", 6: "float32", 7: "float64", 15: "bfloat16"}


class ExecutorchSession(Session):
    def __init__(self, program: Any, settings: Settings) -> None:
        import torch

        self._program = program
        self._method = program.load_method(_METHOD)
        self._settings = settings
        self._inference_mode = torch.inference_mode

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        import torch

        check_images(images, self._settings)
        return torch.tensor(images)

    def infer(self, prepared: Any) -> Any:
        with self._inference_mode():
            return self._method.execute([prepared])[0]

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw.numpy().copy()
        return logits

    def effective(self) -> dict[str, Any]:
        from executorch.extension.pybindings import portable_lib

        metadata = self._method.metadata
        kinds = {metadata.input_tensor_meta(0).dtype(), metadata.output_tensor_meta(0).dtype()}
        return {
            "precision": ", ".join(sorted(_KINDS.get(kind, f"type {kind}") for kind in kinds)),
            "threads": portable_lib._threadpool_get_thread_count(),
            "streams": None,
            "provider": "XnnpackBackend",
            "device": "cpu",
            "layout": None,
            "version": version("executorch"),
        }

    def close(self) -> None:
        del self._method, self._program


def load(subject: Subject, settings: Settings) -> ExecutorchSession:
    with warnings.catch_warnings():  # its own deprecation warnings don't concern the user
        warnings.simplefilter("ignore", DeprecationWarning)
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

    assert subject.bundle is not None
    path = bundles.read(subject.bundle, verify=False).network
    portable_lib._unsafe_reset_threadpool(settings.threads)
    try:
        program = Runtime.get().load_program(path)
    except (RuntimeError, OSError) as error:
        raise BundleError(f"ExecuTorch can't load {path}: {error}") from error
    return ExecutorchSession(program, settings)
