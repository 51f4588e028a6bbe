"""NumPy's best rates here. `python -m vertebra.campaigns.diagnosis.arithmetic THREADS SECONDS` prints JSON.

It needs its own process, because a BLAS takes its number of threads from the environment when it is loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from vertebra.errors import MeasurementError
from vertebra.machine import processes
from vertebra.machine.processes import Child, HungError, LostError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers: TypeAlias = npt.NDArray[np.float64]

#: Side of the square matrices: 6.6 MB each, far more arithmetic than memory traffic.
_SIDE = 1280
#: Larger than any processor's caches; at most this part of the memory.
_ARRAY_BYTES, _MEMORY_SHARE = 512 * 2**20, 1 / 16
_FEWEST = 3
_TIMEOUT_S = 120.0
#: What the usual BLAS libraries read.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
            "VECLIB_MAXIMUM_THREADS")  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """The best rates, and the number of runs: float32 operations and bytes per second."""

    operations_rate: float
    operations_runs: int
    bandwidth: float
    bandwidth_runs: int


def measure(threads: int, seconds: float) -> Rates:
    """NumPy's rates with `threads` threads, about `seconds` for each. Raises MeasurementError with the reason
    if the process fails."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "vertebra.campaigns.diagnosis.arithmetic",
        str(threads),
        str(seconds),
    ]
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)),
                   "PYTHONPATH": processes.import_path()}  # fmt: skip
    try:
        with Child(command, env=environment) as child:
            return Rates(**child.receive(_TIMEOUT_S + 2 * seconds))
    except HungError:
        raise MeasurementError("NumPy's rates: hung") from None
    except LostError as error:
        raise MeasurementError(f"NumPy's rates: {error.message}") from None


def rates(
    threads: int, seconds: float, room_bytes: int, clock: Callable[[], float], *, side: int = _SIDE
) -> Rates:
    """The same in this process, with arrays of at most `room_bytes` and matrices of side `side`."""
    import numpy as np

    product, products = fastest(_product(side), seconds, clock)
    size = min(_ARRAY_BYTES, room_bytes) // 8 * 8
    source, target = np.ones(size // 8), np.zeros(size // 8)  # float64: the widest plain copy
    with ThreadPoolExecutor(threads) as pool:
        copy, copies = fastest(partial(_copy, source, target, threads, pool), seconds, clock)
    # A copy reads every byte once and writes it once.
    return Rates(2 * side**3 / product, products, 2 * size / copy, copies)


def fastest(call: Callable[[], Any], seconds: float, clock: Callable[[], float]) -> tuple[float, int]:
    """The shortest time of one `call` among those that fit `seconds`, at least three after one that isn't
    counted, and their number."""
    call()
    start = now = clock()
    best, runs = float("inf"), 0
    while runs < _FEWEST or now - start < seconds:
        before = now
        call()
        now = clock()
        best, runs = min(best, now - before), runs + 1
    return best, runs


def _product(side: int) -> Callable[[], Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((side, side), dtype=np.float32) for _ in range(2))
    return partial(np.matmul, left, right, out=np.empty_like(left))


def _copy(source: Numbers, target: Numbers, threads: int, pool: ThreadPoolExecutor) -> None:
    """Copy in as many parts as there are threads; NumPy releases the interpreter's lock meanwhile."""
    import numpy as np

    parts = zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)
    list(pool.map(lambda part: np.copyto(*part), parts))


def main() -> None:
    from vertebra.machine import system

    channel = processes.answers()
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    room = int((system.describe().memory_bytes or 2**33) * _MEMORY_SHARE)
    print(json.dumps(asdict(rates(threads, seconds, room, time.perf_counter))), file=channel, flush=True)


if __name__ == "__main__":
    main()
