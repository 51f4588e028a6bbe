"""Compare the peak memory of evaluating a thousand, ten thousand and a hundred thousand images.

    python benchmarks/eval_memory.py [IMAGES ...]

Images are JPEGs of 64 × 64 pixels in tar shards of ten thousand, evaluated by the null engine, so that
only reading, decoding, batching and counting are measured. Each count runs in its own process, which reports
its peak memory. Goal: the largest and the smallest peak differ by less than 16 MB. Exits with status 1 if
they differ by more, or a result is wrong.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vertebra._version import __version__
from vertebra.data import datasets
from vertebra.data.preprocess import Preprocess
from vertebra.inference import loading
from vertebra.machine.system import describe
from vertebra.measuring.evaluation import evaluate

COUNTS = (1_000, 10_000, 100_000)
ASKED_BYTES = 16_000_000
CLASSES, SHARD = 10, 10_000
RECORD = Preprocess(input_size=(32, 32), resize=36, interpolation="bilinear")


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        return one(Path(sys.argv[2]))
    counts = [int(text) for text in sys.argv[1:]] or COUNTS
    print(f"machine   {describe().id}, {platform.platform()}\nversions  vertebra {__version__}")
    peaks = []
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            made(Path(scratch), count)
            command = [sys.executable, __file__, "--one", scratch]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        total, peak, seconds = run.stdout.split()
        if int(total) != count:
            print(f"failed    {total} of {count} images were counted", file=sys.stderr)
            return 1
        peaks.append(int(peak))
        print(f"{count:>9,} images   peak {peaks[-1] / 1e6:7.1f} MB   {float(seconds):7.1f} s", flush=True)
    apart = max(peaks) - min(peaks)
    print(f"apart     {apart / 1e6:.1f} MB (goal: under {ASKED_BYTES / 1e6:.0f})")
    return int(apart >= ASKED_BYTES)


def made(folder: Path, count: int) -> None:
    """Write shards that repeat a few pictures: image and class of a sample share its name."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(CLASSES):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(stream, "JPEG")
        pictures.append(stream.getvalue())
    for first in range(0, count, SHARD):
        path = folder / f"val-{first // SHARD:05}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
            for number in range(first, min(first + SHARD, count)):
                label = number % CLASSES
                for ending, content in (("jpg", pictures[label]), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{number:08}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def one(folder: Path) -> int:
    """Evaluate the shards; print how many images were counted, the peak in bytes and the seconds."""
    import resource

    with loading.load(
        "squeezenet1_1", engine="null", untrained=True, batch_size=32, preprocess=RECORD
    ) as loaded:
        found = evaluate(
            datasets.open(folder), loaded.logits, RECORD, num_classes=loaded.num_classes, by_index=True
        )
    kilo = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS only
    print(found.total, kilo * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, found.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
