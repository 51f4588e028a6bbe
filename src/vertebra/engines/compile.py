"""PyTorch's compiler: torch.compile, for the one shape of the settings.

On the processor it makes C++ for whole groups of operators; on a card it makes Triton kernels and replays
them as a CUDA graph. What it makes is kept in its own cache on disk: a second load is shorter.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vertebra.engines import Settings, Subject
from vertebra.engines.eager import EagerSession, placed
from vertebra.errors import MeasurementError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn


class CompileSession(EagerSession):
    """`network` remains the module as it was built; `compiled` runs it."""

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        import torch

        super().__init__(network, settings)
        self._marks_steps = settings.device == "cuda"
        # A CUDA graph overwrites the last answer with the next.
        mode = "reduce-overhead" if self._marks_steps else None
        self.compiled: Any = torch.compile(network, fullgraph=True, dynamic=False, mode=mode)

    def infer(self, prepared: Any) -> Any:
        with self._inference_mode():
            if self._events is None:
                return self.compiled(prepared)
            return self._on_card(prepared)

    def _on_card(self, prepared: Any) -> Any:
        import torch

        assert self._events is not None
        first, last = self._events
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        first.record()
        answer = self.compiled(prepared)
        last.record()
        last.synchronize()
        return answer

    def close(self) -> None:
        del self.compiled
        super().close()


def load(subject: Subject, settings: Settings) -> CompileSession:
    """Compiled before it returns: `compile_s` is how long that took."""
    import numpy as np

    session = CompileSession(placed(subject, settings), settings)
    images: npt.NDArray[np.float32] = np.zeros(settings.input_shape, np.float32)
    prepared = session.prepare(images)
    started = time.perf_counter()
    try:
        session.infer(prepared)
    except Exception as error:  # torch's compiler raises exceptions of many types.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise MeasurementError(f"torch can't compile {subject.model}: {lines[0]}") from error
    session.compile_s = time.perf_counter() - started
    return session
