"""LiteRT (once TensorFlow Lite) on the processor, float32 through XNNPACK, for a fixed shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.engines import Session, Settings, Subject, check_images, version
from vertebra.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class LitertSession(Session):
    def __init__(self, interpreter: Any, settings: Settings) -> None:
        self._interpreter = interpreter
        self._settings = settings
        self._input = interpreter.get_input_details()[0]
        self._output = interpreter.get_output_details()[0]

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """A copy of the images, which each call copies into the interpreter: it has one place for them."""
        check_images(images, self._settings)
        return images.copy()

    def infer(self, prepared: Any) -> Any:
        self._interpreter.set_tensor(self._input["index"], prepared)
        self._interpreter.invoke()
        return self._interpreter

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = raw.get_tensor(self._output["index"])
        return logits

    def effective(self) -> dict[str, Any]:
        """Without threads: the interpreter takes their number, but doesn't report it."""
        kinds = {detail["dtype"].__name__ for detail in (self._input, self._output)}
        return {
            "precision": ", ".join(sorted(kinds)),
            "threads": None,
            "streams": None,
            "provider": None,
            "device": "cpu",
            "layout": None,
            "version": version("litert"),
        }

    def close(self) -> None:
        del self._interpreter


def load(subject: Subject, settings: Settings) -> LitertSession:
    from ai_edge_litert.interpreter import Interpreter

    assert subject.bundle is not None
    path = bundles.read(subject.bundle, verify=False).network
    try:
        interpreter = Interpreter(str(path), num_threads=settings.threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"LiteRT can't load {path}: {error}") from error
    return LitertSession(interpreter, settings)
