"""Measure how decoding a JPEG at a fraction of its size changes a network's answers.

    python benchmarks/scaled_effect.py [--progressive] MODEL WEIGHTS PHOTOGRAPHS...

Prints, for each interpolation, how far the logits of scaled decoding lie from those of exact decoding, and
for how many photographs the first answer is the same. With --progressive each photograph is first converted
to a progressive JPEG. Exits with status 1 only if a logit isn't finite.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import vertebra
from vertebra.data.preprocess import preprocess
from vertebra.inference import loading

INTERPOLATIONS = ("bicubic", "bilinear", "opencv-bilinear")


def main() -> int:
    progressive = sys.argv[1] == "--progressive"
    model, weights, *paths = sys.argv[1 + progressive :]
    photographs = [as_progressive(path) if progressive else Path(path).read_bytes() for path in paths]
    kind = "progressive JPEGs" if progressive else "photographs"
    print(f"vertebra {vertebra.__version__}, {model}, {len(photographs)} {kind}")
    print("| interpolation | logits' deviation | difference, mean (max) | same top-1 |")
    print("| --- | --- | --- | --- |")
    with loading.load(model, weights=weights, engine="eager") as loaded:
        assert loaded.preprocess is not None
        for interpolation in INTERPOLATIONS:
            logits = {}
            for decode in ("exact", "scaled"):
                record = replace(loaded.preprocess, interpolation=interpolation, decode=decode)
                answers = [loaded.logits(preprocess(photo, record)[None]) for photo in photographs]
                logits[decode] = np.concatenate(answers)
            if not all(np.isfinite(answer).all() for answer in logits.values()):
                return 1
            off = np.abs(logits["scaled"] - logits["exact"])
            same = sum(logits["scaled"].argmax(1) == logits["exact"].argmax(1))
            print(
                f"| {interpolation} | {logits['exact'].std():.2f} | {off.mean():.3f} ({off.max():.2f}) "
                f"| {same} of {len(photographs)} |"
            )
    return 0


def as_progressive(path: str) -> bytes:
    stream = io.BytesIO()
    Image.open(path).convert("RGB").save(stream, "JPEG", quality=90, progressive=True)
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(main())
