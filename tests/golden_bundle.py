"""A Bundle of a trained network, exported once for all tests of a run: SqueezeNet 1.1 of 100 classes."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import vertebra

WEIGHTS = Path(__file__).parent / "golden" / "SqueezeNet1_1.classes100.pdparams"
CLASSES = [f"class number {number}" for number in range(100)]


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vertebra-test-")  # removed when Python ends


@cache
def labels_file() -> Path:
    path = Path(_scratch().name) / "classes.txt"
    path.write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    return path


@cache
def folder() -> Path:
    """The Bundle's folder; not to be changed."""
    path = Path(_scratch().name) / "squeezenet"
    vertebra.export("squeezenet1_1", path, weights=WEIGHTS, labels=labels_file())
    return path
