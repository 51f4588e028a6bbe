"""MNN on the processor, in float32 (what it calls high precision), for a fixed shape."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.engines import Session, Settings, Subject, check_images, version
from vertebra.engines.standard_output import kept_clean
from vertebra.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: code of MNN's session info for the number of threads, a whole number in the bits of the float that it gives
_THREADS = 4
#: MNN's hint for Winograd convolutions, and its level at which their tiles stay small: with the large ones of
#: the level it starts with, VGG11's answers are further from eager's than float32 may be.
_WINOGRAD, _SMALL_TILES = 3, 2


class MnnSession(Session):
    def __init__(self, interpreter: Any, session: Any, settings: Settings) -> None:
        self._interpreter, self._session = interpreter, session
        self._settings = settings
        self._output = interpreter.getSessionOutput(session)

    def prepare(self, images: npt.NDArray[np.float32]) -> Any:
        """The images as a tensor, which a call copies into the session's own."""
        import MNN

        check_images(images, self._settings)
        shape = self._settings.input_shape
        return MNN.Tensor(shape, MNN.Halide_Type_Float, images.copy(), MNN.Tensor_DimensionType_Caffe)

    def infer(self, prepared: Any) -> Any:
        self._interpreter.getSessionInput(self._session).copyFrom(prepared)
        self._interpreter.runSession(self._session)
        return self._output

    def outputs(self, raw: Any) -> npt.NDArray[np.float32]:
        import MNN
        import numpy as np

        shape = self._settings.output_shape
        place = np.zeros(shape, np.float32)
        logits = MNN.Tensor(shape, MNN.Halide_Type_Float, place, MNN.Tensor_DimensionType_Caffe)
        raw.copyToHostTensor(logits)
        return np.array(logits.getNumpyData(), dtype=np.float32).reshape(shape)

    def effective(self) -> dict[str, Any]:
        """Without precision: MNN doesn't report which one it uses."""
        bits = struct.pack("f", self._interpreter.getSessionInfo(self._session, _THREADS))
        return {
            "precision": None,
            "threads": struct.unpack("i", bits)[0],
            "streams": None,
            "provider": None,
            "device": "cpu",
            "layout": None,
            "version": version("mnn"),
        }

    def close(self) -> None:
        del self._output, self._session, self._interpreter


def load(subject: Subject, settings: Settings) -> MnnSession:
    assert subject.bundle is not None
    path = bundles.read(subject.bundle, verify=False).network
    with kept_clean():  # MNN prints what it finds on the processor, and what it was asked for
        return MnnSession(*open_network(path, settings.input_shape, settings.threads), settings)


def open_network(path: Path, shape: tuple[int, ...], threads: int) -> tuple[Any, Any]:
    """MNN's interpreter, and a session of it for images of this shape. Raises BundleError."""
    import MNN

    try:
        interpreter = MNN.Interpreter(str(path))
    except Exception as error:  # MNN's exceptions have no class of their own.
        raise BundleError(f"MNN can't load {path}: {error}") from error
    interpreter.setSessionHint(_WINOGRAD, _SMALL_TILES)
    session = interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
    interpreter.resizeTensor(interpreter.getSessionInput(session), shape)
    interpreter.resizeSession(session)
    return interpreter, session
