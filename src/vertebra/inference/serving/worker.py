"""A process that holds one engine: it takes batches through shared memory and answers in lines of JSON.

Its parent writes the images of a batch into the shared file and sends where they are; the answers are written
into the same file. A byte for each image says whether it is still needed.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles.manifest import EXPORT_AGAIN
from vertebra.errors import ImageError, MeasurementError, VertebraError
from vertebra.inference.serving.tensors import ENCODED, PIXELS, PLANES, READY
from vertebra.machine import processes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.inference.loading import Loaded

    Array = npt.NDArray[np.float32]

#: Positions in the shared file are multiples of this.
ALIGNED = 64


@dataclass(frozen=True)
class Slab:
    """Where things are in the shared file, in bytes: a flag for each image, the images, the answers."""

    most_images: int
    input_bytes: int
    num_classes: int

    @property
    def inputs(self) -> int:
        return aligned(self.most_images)

    @property
    def outputs(self) -> int:
        return self.inputs + aligned(self.input_bytes)

    @property
    def size(self) -> int:
        return self.outputs + 2 * self.most_images * self.num_classes * 4

    def answers(self, memory: mmap.mmap) -> Array:
        """Probabilities and logits in the shared file: (2, most_images, num_classes)."""
        import numpy as np

        shape = (2, self.most_images, self.num_classes)
        return np.ndarray(shape, np.float32, memory, self.outputs)


def aligned(size_bytes: int) -> int:
    """The next multiple of ALIGNED."""
    return -(-size_bytes // ALIGNED) * ALIGNED


class Engine:
    """A Bundle loaded for any batch up to `most_images`."""

    def __init__(self, bundle: str, *, engine: str, threads: int, most_images: int) -> None:
        from vertebra import bundles
        from vertebra.inference import loading

        self._kept = bundles.read(bundle)
        self._fixed = self._kept.batch_size
        size = self._fixed or most_images

        def load(size: int) -> Loaded:
            return loading.load(bundle, engine=engine, threads=threads, batch_size=size)

        self._by_size: dict[int, Loaded] = {size: load(size)}
        self.loaded = self._by_size[size]
        if self._fixed is None and self.loaded.resized(1) is None:  # one network for each of a few sizes
            for step in _steps(most_images):
                self._by_size[step] = self._by_size.get(step) or load(step)
        # as `vertebra predict` does it
        self.record = replace(self.loaded.preprocess, apply_orientation=True)

    def logits(self, images: Array) -> Array:
        """Logits (N, C) of as many images as there are."""
        return self._for(len(images)).logits(images)

    def shares(self, logits: Array) -> npt.NDArray[np.float64]:
        from vertebra.inference import prediction

        return prediction.sigmoids(logits) if self.loaded.independent else prediction.probabilities(logits)

    def _for(self, count: int) -> Loaded:
        if count in self._by_size or self._fixed is not None:
            return self._by_size.get(count, self.loaded)
        resized = self.loaded.resized(count)
        if resized is not None:
            self._by_size[count] = resized
            return resized
        return self._by_size[min(size for size in self._by_size if size >= count)]

    def check(self) -> str | None:
        """Why the engine doesn't give what the Bundle's reference says; None if it does."""
        import numpy as np

        from vertebra import parity

        images, expected = self._kept.reference_pair(1)
        found = self._for(1).given(images)
        if self._kept.precision not in parity.LIMITS or self.loaded.engine == "null":
            return None if np.isfinite(found).all() else "Wrong outputs: they are not finite."
        try:
            parity.check_outputs(expected, found, self._kept.precision)
        except MeasurementError as error:
            return error.message
        return None


def _steps(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    steps = [1]
    while steps[-1] * 2 < most:
        steps.append(steps[-1] * 2)
    return sorted({*steps, most})


class Server:
    """Carries out what the parent sends."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._slab = Slab(**asked["slab"])
        with Path(asked["memory"]).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), self._slab.size)
        self._answers = self._slab.answers(self._memory)
        self._max_pixels = asked["max_pixels"]
        self._engine = Engine(
            asked["bundle"], engine=asked["engine"], threads=asked["threads"],
            most_images=asked["slab"]["most_images"],
        )  # fmt: skip
        self._pool = ThreadPoolExecutor(asked["threads"], thread_name_prefix="preprocess")

    def ready(self) -> dict[str, Any]:
        """Two calls, one of them with the largest batch, and the check against the reference."""
        import numpy as np

        fault = self._engine.check()
        if fault is not None:
            return {"error": f"{self._engine.loaded.model} can't be served: {fault}", "hint": EXPORT_AGAIN}
        size = self._engine.record.input_size
        self._engine.logits(np.zeros((self._slab.most_images, 3, *size), np.float32))
        loaded = self._engine.loaded
        return {"ready": True, "threads": loaded.settings.threads}

    def canary(self) -> dict[str, Any]:
        return {"fault": self._engine.check()}

    def run(self, rows: list[list[Any]]) -> dict[str, Any]:
        """One batch: which images had errors, how many the engine was given, and the times."""
        import numpy as np

        begin = time.monotonic_ns()
        inputs = list(self._pool.map(self._input, range(len(rows)), rows))
        errors: dict[int, tuple[str, str]] = {}
        ready: list[int] = []
        taken: list[Array] = []
        for place, made in enumerate(inputs):
            if isinstance(made, str):
                errors[place] = ("invalid", made)
            elif made is not None and not self._memory[place]:
                ready.append(place)
                taken.append(made)
        if not ready:
            return {"errors": errors, "ran": 0, "input_ns": time.monotonic_ns() - begin, "infer_ns": 0}
        images = np.stack(taken)
        middle = time.monotonic_ns()
        logits = self._engine.logits(images)
        infer_ns = time.monotonic_ns() - middle
        finite = [bool(np.isfinite(row).all()) for row in logits]
        with np.errstate(all="ignore"):
            self._answers[0][ready] = self._engine.shares(logits)
        self._answers[1][ready] = logits
        for place, is_finite in zip(ready, finite, strict=True):
            if not is_finite and rows[place][0] != READY:  # a client's own tensor may hold anything
                errors[place] = ("internal", "the network answered with values that are not finite")
        return {"errors": errors, "ran": len(ready), "input_ns": middle - begin, "infer_ns": infer_ns}

    def _input(self, place: int, row: list[Any]) -> Array | str | None:
        """A network's input (3, H, W), the reason why there is none, or None if it isn't needed."""
        import numpy as np

        from vertebra.data.preprocess import preprocess
        from vertebra.data.preprocess.pipeline import normalise

        if self._memory[place]:
            return None
        kind, offset, length, shape = row
        record = self._engine.record
        begin = self._slab.inputs + offset
        if kind == ENCODED:
            return self._preprocessed(self._memory[begin : begin + length])
        if kind == PIXELS:
            pixels = np.ndarray((*shape, 3), np.uint8, self._memory, begin)
            return preprocess(pixels, record)
        size = (3, *record.input_size)
        if kind == PLANES:
            levels = np.ndarray(size, np.uint8, self._memory, begin).astype(np.float32)
            normalise(levels, record)
            return levels
        return np.ndarray(size, np.float32, self._memory, begin)

    def _preprocessed(self, content: bytes) -> Array | str:
        from vertebra.data.preprocess import preprocess

        try:
            return preprocess(content, self._engine.record, max_pixels=self._max_pixels)
        except ImageError as error:
            return re.sub(r"^<[\d,]+ bytes>: ", "", error.message)
        except MemoryError:
            return "the picture needs more memory than there is"


def main() -> None:
    """Lines of JSON in, lines of JSON out, until the parent ends it."""
    channel = processes.answers()

    def say(answer: dict[str, Any]) -> None:
        channel.write(json.dumps(answer) + "\n")
        channel.flush()

    server: Server | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if server is None:
                server = Server(asked["load"])
                say(server.ready())
            elif "canary" in asked:
                say(server.canary())
            else:
                say(server.run(asked["run"]))
        except VertebraError as error:
            say({"error": error.message, "hint": error.hint})
        except MemoryError:
            say({"error": "there is not enough memory for this batch", "hint": None})


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
