"""Bundles made once for all tests of a run: SqueezeNet 1.1 of 100 classes, trained, and with another head."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

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


OWN_CLASSES = ("chat noir", "Straße", "<b>третий</b>")


@cache
def with_head() -> Path:
    """The folder of a Bundle with a head for three classes of one's own; not to be changed."""
    from vertebra import bundles, zoo
    from vertebra.bundles import Card
    from vertebra.bundles.fitted import Fitted
    from vertebra.exporting import joined
    from vertebra.zoo import arrays
    from vertebra.zoo.graphs import store

    kept = bundles.read(folder(), verify=False)
    draw = np.random.default_rng(3).normal
    head = SimpleNamespace(weights=draw(size=(512, 3)).astype(np.float32) / 8, bias=np.zeros(3, np.float32))
    made = Fitted(
        pictures="photos@0123456789", pictures_sha256="0123456789" + "0" * 54,
        classes=tuple((name, 9) for name in OWN_CLASSES), folds=3, accuracy=0.9, low=0.7, high=0.97,
        how="by hand",
    )  # fmt: skip
    taken = arrays.take(zoo.find("squeezenet1_1"), WEIGHTS).arrays
    path = Path(_scratch().name) / "with_head"
    card = Card(weights=WEIGHTS.name, weights_sha256=kept.weights_sha256, preprocess=kept.preprocess)
    joined.join(
        store.find("squeezenet1_1"), path, head=head, made=made, model="squeezenet1_1", card=card,
        arrays=taken, split=[("a" * 64, 0)],
    )  # fmt: skip
    return path
