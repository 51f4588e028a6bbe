"""The engine that does nothing: every call returns the same constant, so that a measurement shows the
harness's own time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vertebra.engines import Session, Settings, Subject, check_images, version

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class NullSession(Session):
    def __init__(self, settings: Settings) -> None:
        import numpy as np

        self._settings = settings
        self._logits = np.zeros(settings.output_shape, dtype=np.float32)

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        check_images(images, self._settings)
        return images

    def infer(self, prepared: Any) -> Any:
        return self._logits

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw.copy()
        return logits

    def effective(self) -> dict[str, Any]:
        return {
            "precision": "float32",
            "threads": None,
            "streams": None,
            "provider": None,
            "device": "cpu",
            "layout": None,
            "version": version("null"),
        }

    def close(self) -> None:
        """Nothing is held."""


def load(subject: Subject, settings: Settings) -> NullSession:
    return NullSession(settings)
