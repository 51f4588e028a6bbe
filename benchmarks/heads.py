"""How long heads take to fit, and in how much memory.

    python benchmarks/heads.py [--sizes 500x1280x7,10000x1280x10,60000x512x10] [--networks 1] [--folds 5]

Each size (pictures x features x classes) is drawn, written to a file and mapped into memory, as kept features
are; a process of its own then races that many networks over it on one thread: the penalty chosen inside the
folds, every picture answered out of fold, the learning curve, the head of all pictures. Printed are the
seconds, the processor's seconds, and the highest memory beside what the process had before and beside the
file's own pages, which the system can take back.

Goals: 500 pictures in 5 s; with 60,000 pictures less than 600 MB of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZES = "500x1280x7,10000x1280x10,60000x512x10"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        measure(Path(asked.inside), asked.sizes, asked.networks, asked.folds)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        for size in asked.sizes.split(","):
            path = draw(Path(scratch), size)
            subprocess.run(
                [
                    sys.executable, __file__, "--inside", str(path), "--sizes", size, "--networks",
                    str(asked.networks), "--folds", str(asked.folds),
                ],
                check=True,
            )  # fmt: skip
            path.unlink()
    return 0


def shape(size: str) -> tuple[int, int, int]:
    pictures, features, classes = map(int, size.split("x"))
    return pictures, features, classes


def draw(folder: Path, size: str) -> Path:
    """A file of features as networks give them: not negative, of few directions, of very different spread."""
    import numpy as np

    pictures, features, classes = shape(size)
    drawn = np.random.default_rng(0)
    path = folder / "features.npy"
    file = np.lib.format.open_memmap(path, "w+", np.float32, (pictures, features))
    centres = drawn.normal(size=(classes, 64)) * 0.5
    mixing = drawn.normal(size=(64, features)) * np.geomspace(1, 0.05, features)
    for start in range(0, pictures, 4096):
        count = min(4096, pictures - start)
        looks = centres[np.arange(start, start + count) % classes] + drawn.normal(size=(count, 64))
        file[start : start + count] = np.maximum(
            looks @ mixing + 0.3 * drawn.normal(size=(count, features)), 0
        )
    file.flush()
    return path


def measure(path: Path, size: str, networks: int, folds: int) -> None:
    import numpy as np
    import scipy.optimize  # loaded before, so that it does not count
    import scipy.stats  # noqa: F401
    import threadpoolctl

    from vertebra.measuring.evaluation import heads, racing

    pictures, _, classes = shape(size)
    labels = (np.arange(pictures) % classes).tolist()
    places = heads.dealt(labels, None, folds).tolist()

    def features(rows: list[int]) -> np.ndarray:
        mapped = np.load(path, mmap_mode="r")
        return mapped if len(rows) == pictures else mapped[rows]

    entries = [racing.Entry(f"network {number}", 1.0 + number, features) for number in range(networks)]
    with threadpoolctl.threadpool_limits(1), Watch() as watch:
        start, busy = time.perf_counter(), time.process_time()
        found = racing.race(entries, labels, places)
        seconds, used = time.perf_counter() - start, time.process_time() - busy
    print(
        f"{size}, {networks} networks: {seconds:.1f} s ({used:.1f} s of one core), {watch.most / 1e6:.0f} MB "
        f"of its own; right {100 * found.nested.accuracy:.1f} %, penalty {found.head.penalty:g}",
        flush=True,
    )


class Watch:
    """The highest memory of this process's own since it began, in bytes, looked at 50 times a second."""

    def __init__(self) -> None:
        self.before, self.most, self._done = own(), 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, own() - self.before)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._done.set()
        self._thread.join()


def own() -> int:
    """Resident memory without pages of files, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/self/status, which only Linux has")


if __name__ == "__main__":
    sys.exit(main())
