"""Compare the time from JPEG bytes to a network's input with torchvision, timm and PaddleClas, on one core.

    python benchmarks/decode_speed.py [--rounds 5] [--photos 20] [FOLDER ...]

Needs torch, torchvision, Pillow and opencv-python-headless, and photographs of 2 megapixels or more: those in
FOLDER, or those of Debian's packages mate-backgrounds and plasma-workspace-wallpapers. The 500×375 ones are
made from them.

All pipelines take turns on the same photograph, in a rotating order. A figure is the median over photographs
of the ratio of CPU times, each the median of its rounds; next to it is the ratio of the sums. Exits with
status 1 only if an output is wrong: exact output must equal the library's own.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

FOLDERS = ("/usr/share/backgrounds/mate", "/usr/share/wallpapers")
MEGAPIXELS = 2_000_000

Path_ = Callable[[bytes], object]


def main() -> int:
    arguments = _arguments()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    large = list(_photographs(arguments.folders or FOLDERS, arguments.photos))
    if not large:
        sys.exit(
            "No photographs of 2 megapixels or more: apt-get install mate-backgrounds, or pass a folder."
        )
    baseline = [data for data, progressive in large if not progressive]
    sets = {
        "large, baseline JPEG": baseline,
        "large, progressive JPEG": [data for data, progressive in large if progressive],
        "500×375": [_small(data) for data, _ in large],
    }
    wrong = 0
    for title, photographs in sets.items():
        if photographs:
            print(f"\n{title}: {len(photographs)} photographs")
            wrong += _compare(photographs, arguments.rounds)
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("folders", nargs="*", metavar="FOLDER")
    return parser.parse_args()


# ------------------------------------------------------------------ photographs


def _photographs(folders: tuple[str, ...], count: int) -> Iterator[tuple[bytes, bool]]:
    """Bytes of distinct JPEGs of 2 MP or more, and whether each is progressive."""
    from PIL import Image

    found = {path.resolve() for folder in folders for path in Path(folder).rglob("*.jp*g")}
    paths = sorted(found)
    random.Random(0).shuffle(paths)
    for path in paths:
        if count == 0:
            return
        data = path.read_bytes()
        image = Image.open(io.BytesIO(data))
        if image.width * image.height >= MEGAPIXELS:
            count -= 1
            yield data, "progressive" in image.info


def _small(data: bytes) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize((500, 375), Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=90, subsampling="4:2:0"
    )
    return stream.getvalue()


# ------------------------------------------------------------------ paths


def _ours(protocol: str, decode: str) -> Path_:
    from vertebra.data.preprocess import preprocess, protocols

    record = replace(protocols.find(protocol), decode=decode)
    return lambda data: preprocess(data, record)


def _torchvision(interpolation: str) -> Path_:
    import torch
    from PIL import Image
    from torchvision import transforms

    torch.set_num_threads(1)
    pipeline = transforms.Compose(
        [
            transforms.Resize(256, getattr(transforms.InterpolationMode, interpolation)),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return lambda data: pipeline(Image.open(io.BytesIO(data)).convert("RGB")).numpy()


def _opencv(swap_first: bool) -> Path_:
    """With `swap_first` BGR becomes RGB by a reversed view before the resize, as PaddleClas does it, which
    costs OpenCV a copy; without it the crop alone is swapped, as OpenCV is best used."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    mean = np.array((0.485, 0.456, 0.406), np.float32)
    std = np.array((0.229, 0.224, 0.225), np.float32)

    def run(data: bytes) -> object:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if swap_first:
            image = image[:, :, ::-1]
        height, width = image.shape[:2]
        scale = 256 / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)))
        top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
        image = image[top : top + 224, left : left + 224]
        if not swap_first:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        values = (image.astype(np.float32) * np.float32(1 / 255) - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    return run


def _paths() -> dict[str, Path_]:
    return {
        "torchvision": _torchvision("BILINEAR"),
        "timm": _torchvision("BICUBIC"),  # its evaluation transform is torchvision's with another filter
        "paddleclas": _opencv(swap_first=True),
        "opencv": _opencv(swap_first=False),
        **{
            f"{protocol} {decode}": _ours(protocol, decode)
            for protocol in ("torchvision", "timm", "paddleclas")
            for decode in ("exact", "scaled")
        },
    }


#: theirs, ours
PAIRS = (
    ("torchvision", "torchvision exact"),
    ("torchvision", "torchvision scaled"),
    ("timm", "timm exact"),
    ("timm", "timm scaled"),
    ("paddleclas", "paddleclas exact"),
    ("paddleclas", "paddleclas scaled"),
    ("opencv", "paddleclas exact"),
    ("opencv", "paddleclas scaled"),
)

# ------------------------------------------------------------------ comparison


def _compare(photographs: list[bytes], rounds: int) -> int:
    paths = _paths()
    wrong = sum(_check(paths, data) for data in photographs)
    times = [_time(paths, data, rounds) for data in photographs]
    print(f"  {'theirs':<14}{'ours':<20}{'theirs ms':>10}{'ours ms':>10}{'median ratio':>14}{'of sums':>9}")
    for theirs, ours in PAIRS:
        ratio = statistics.median(time_[theirs] / time_[ours] for time_ in times)
        sums = sum(time_[theirs] for time_ in times) / sum(time_[ours] for time_ in times)
        middle = [1e3 * statistics.median(time_[name] for time_ in times) for name in (theirs, ours)]
        print(f"  {theirs:<14}{ours:<20}{middle[0]:>10.2f}{middle[1]:>10.2f}{ratio:>13.2f}×{sums:>8.2f}×")
    return wrong


def _check(paths: dict[str, Path_], data: bytes) -> int:
    """How many outputs are wrong. Scaled decoding gives other pixels on purpose (docs/preprocess.md)."""
    import numpy as np

    tolerance = {"torchvision": 0.0, "timm": 0.0, "paddleclas": 1e-6, "opencv": 1e-6}
    wrong = 0
    for theirs, allowed in tolerance.items():
        ours = "paddleclas" if theirs == "opencv" else theirs
        difference = np.abs(np.asarray(paths[theirs](data)) - np.asarray(paths[f"{ours} exact"](data))).max()
        if difference > allowed:
            print(f"  WRONG: {ours} exact differs from {theirs} by {difference}")
            wrong += 1
    return wrong


def _time(paths: dict[str, Path_], data: bytes, rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in paths}
    names = list(paths)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin = time.process_time()
            paths[name](data)
            times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    sys.exit(main())
