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
    """Where things are in the shared file, in bytes: a flag for each image, the images, the answers; each for
    two batches, the one that runs and the one that is written meanwhile."""

    most_images: int
    input_bytes: int
    num_classes: int

    def flags(self, half: int) -> int:
        return half * self.most_images

    def inputs(self, half: int) -> int:
        return aligned(2 * self.most_images) + half * aligned(self.input_bytes)

    @property
    def outputs(self) -> int:
        return self.inputs(2)

    @property
    def size(self) -> int:
        return self.outputs + 2 * 2 * self.most_images * self.num_classes * 4

    def answers(self, memory: mmap.mmap) -> Array:
        """Probabilities and logits in the shared file: (half, 2, most_images, num_classes)."""
        import numpy as np

        shape = (2, 2, self.most_images, self.num_classes)
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
            # threads that spin between requests would take the cores of the server and of other processes
            return loading.load(bundle, engine=engine, threads=threads, batch_size=size, spins=False)

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
        import numpy as np

        self._slab = Slab(**asked["slab"])
        with Path(asked["memory"]).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), self._slab.size)
        self._answers = self._slab.answers(self._memory)
        self._max_pixels = asked["max_pixels"]
        self._engine = Engine(
            asked["bundle"], engine=asked["engine"], threads=asked["threads"],
            most_images=asked["slab"]["most_images"],
        )  # fmt: skip
        self._threads = asked["threads"]
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="preprocess")
        shape = (self._slab.most_images, 3, *self._engine.record.input_size)
        self._buffer: Array = np.zeros(shape, np.float32)

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

    def run(self, half: int, rows: list[list[Any]]) -> dict[str, Any]:
        """The batch in one half: which images had errors, how many the engine was given, and the times."""
        import numpy as np

        begin = time.monotonic_ns()
        faults = self._inputs(half, rows)
        flags, answers = self._slab.flags(half), self._answers[half]
        errors = {place: ("invalid", fault) for place, fault in enumerate(faults) if fault}
        ready = [
            place for place in range(len(rows)) if place not in errors and not self._memory[flags + place]
        ]
        if not ready:
            return {"errors": errors, "ran": 0, "input_ns": time.monotonic_ns() - begin, "infer_ns": 0}
        images = self._images(half, rows, ready)
        middle = time.monotonic_ns()
        logits = self._engine.logits(images)
        infer_ns = time.monotonic_ns() - middle
        finite = [bool(np.isfinite(row).all()) for row in logits]
        with np.errstate(all="ignore"):
            answers[0][ready] = self._engine.shares(logits)
        answers[1][ready] = logits
        for place, is_finite in zip(ready, finite, strict=True):
            if not is_finite and rows[place][0] != READY:  # a client's own tensor may hold anything
                errors[place] = ("internal", "the network answered with values that are not finite")
        return {"errors": errors, "ran": len(ready), "input_ns": middle - begin, "infer_ns": infer_ns}

    def _inputs(self, half: int, rows: list[list[Any]]) -> list[str | None]:
        """Make the networks' inputs of pictures and pixels, in the buffer; why one can't be made. A thread of
        its own for each costs more than it gains where there is one, or nothing to do."""
        places = range(len(rows))
        if len(rows) == 1 or self._threads == 1 or all(row[0] == READY for row in rows):
            return [self._input(half, place, row) for place, row in zip(places, rows, strict=True)]
        return list(self._pool.map(self._input, [half] * len(rows), places, rows))

    def _images(self, half: int, rows: list[list[Any]], ready: list[int]) -> Array:
        """The inputs of the images that are `ready`, in one array: those of clients that sent no others are
        taken where they are."""
        import numpy as np

        count = len(ready)
        one = self._buffer[0].nbytes
        if count == len(rows) and all(
            row[0] == READY and row[1] == place * one for place, row in enumerate(rows)
        ):
            begin = self._slab.inputs(half)
            return np.ndarray((count, *self._buffer.shape[1:]), np.float32, self._memory, begin)
        for place in ready:
            if rows[place][0] == READY:
                begin = self._slab.inputs(half) + rows[place][1]
                self._buffer[place] = np.ndarray(self._buffer.shape[1:], np.float32, self._memory, begin)
        return self._buffer[:count] if count == len(rows) else self._buffer[ready]

    def _input(self, half: int, place: int, row: list[Any]) -> str | None:
        """Make one network's input, in its place of the buffer; the reason why there is none. One that isn't
        needed isn't made, and the client's own is left where it is."""
        import numpy as np

        from vertebra.data.preprocess import preprocess
        from vertebra.data.preprocess.pipeline import normalise

        kind, offset, length, shape = row
        if kind == READY or self._memory[self._slab.flags(half) + place]:
            return None
        record, into = self._engine.record, self._buffer[place]
        begin = self._slab.inputs(half) + offset
        if kind == ENCODED:
            made = self._preprocessed(self._memory[begin : begin + length])
            if isinstance(made, str):
                return made
            into[:] = made
        elif kind == PIXELS:
            into[:] = preprocess(np.ndarray((*shape, 3), np.uint8, self._memory, begin), record)
        else:
            assert kind == PLANES
            into[:] = np.ndarray(into.shape, np.uint8, self._memory, begin)
            normalise(into, record)
        return None

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
                say(server.run(asked["half"], asked["run"]))
        except VertebraError as error:
            say({"error": error.message, "hint": error.hint})
        except MemoryError:
            say({"error": "there is not enough memory for this batch", "hint": None})


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
