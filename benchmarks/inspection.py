"""Pictures per second of an inspection against plain decoding, and the memory at 1,000 and 60,000 pictures.

    python benchmarks/inspection.py [--photos 400] [FOLDER]

FOLDER has a folder of photographs for each class; without it JPEGs of 640 × 480 are made. The memory is the
most of a process that inspects an idx set of random pictures. Exits with status 1 if 60,000 pictures need
over 150 MB more than 1,000.
"""

from __future__ import annotations

import argparse
import io
import resource
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MOST_MORE_MB = 150


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?")
    arguments = parser.parse_args()
    if arguments.memory_of:
        return _inspect_idx(arguments.memory_of)
    with tempfile.TemporaryDirectory() as place:
        _speed(arguments.folder or _photographs(Path(place), arguments.photos))
    used = {}
    for count in (1_000, 60_000):
        command = [sys.executable, __file__, "--memory-of", str(count)]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
        used[count], seconds = map(float, made.stdout.split())
        print(
            f"{count:,} pictures of 28 × 28: {used[count]:.0f} MB at most, {count / seconds:.0f} pictures/s"
        )
    more = used[60_000] - used[1_000]
    print(f"60,000 need {more:.0f} MB more than 1,000")
    return int(more > MOST_MORE_MB)


def _photographs(place: Path, count: int) -> str:
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for number in range(count):
        cells = chance.integers(0, 255, (60, 80, 3), np.uint8)
        folder = place / f"class{number % 4}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(cells).resize((640, 480)).save(folder / f"{number}.jpg", quality=90)
    return str(place)


def _speed(folder: str) -> None:
    import vertebra.data
    from vertebra.data.inspection import inspect
    from vertebra.data.preprocess import decode
    from vertebra.machine import system

    data = vertebra.data.open(folder, format="folders")
    sources = [sample.source for sample in data]
    kept: dict[bytes, bytes] = {}
    times = {}
    for what in ("plain decoding", "inspection", "second inspection"):
        start = time.perf_counter()
        if what == "plain decoding":
            with ThreadPoolExecutor(system.default_threads()) as pool:
                for _ in pool.map(lambda source: decode(source).shape, sources):
                    pass
        else:
            inspect(data, conflicts="leave out", kept=kept)
        times[what] = time.perf_counter() - start
        ratio = times["plain decoding"] / times[what]
        print(f"{what}: {len(sources) / times[what]:.0f} pictures/s, {ratio:.2f} of plain decoding")


def _inspect_idx(count: int) -> int:
    import numpy as np

    import vertebra.data
    from vertebra.data.inspection import inspect

    with tempfile.TemporaryDirectory() as place:
        chance = np.random.default_rng(0)
        with (Path(place) / "t10k-images-idx3-ubyte").open("wb") as stream:
            stream.write(struct.pack(">4I", 0x803, count, 28, 28))
            for _ in range(count):
                stream.write(chance.integers(0, 255, (28, 28), np.uint8).tobytes())
        labels = io.BytesIO(struct.pack(">2I", 0x801, count) + bytes(n % 10 for n in range(count)))
        (Path(place) / "t10k-labels-idx1-ubyte").write_bytes(labels.getvalue())
        start = time.perf_counter()
        inspect(vertebra.data.open(place))
        seconds = time.perf_counter() - start
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
