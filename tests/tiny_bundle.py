"""A Bundle made without PyTorch: the mean of each colour times a matrix, worked out here too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tiny_onnx
from vertebra import bundles
from vertebra.bundles import Bundle, Card
from vertebra.bundles.bundle import reference_images
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess

SIZE = 16
RECORD = Preprocess((SIZE, SIZE), SIZE, "bilinear", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
NAMES = ("rose", "daisy", "tulip", "a:b ü")


def logits(images: np.ndarray) -> np.ndarray:
    """What the network gives for images (N, 3, H, W)."""
    return images.mean(axis=(2, 3), dtype=np.float64).astype(np.float32) @ tiny_onnx.WEIGHT


def make(
    folder: Path, *, batch: int | None = None, preprocess: Preprocess | None = RECORD,
    weights: str | None = "tiny.pth", assumed: tuple[str, ...] = (), apart: bool = False,
) -> Bundle:  # fmt: skip
    """It takes batches of `batch` only, or any. Its parameters may be `apart`, in a file of their own."""

    def put(draft: Path) -> None:
        shape = (batch or "n", 3, SIZE, SIZE)
        saved = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0}
        tiny_onnx.network(draft / "model.onnx", shape=shape, opset=18, **(saved if apart else {}))

    images = reference_images(batch_size=2, in_channels=3, input_size=SIZE, seed=5)
    return bundles.write(
        folder, put, model="tiny", logits=logits(images), reference_seed=5, input_size=SIZE, in_channels=3,
        versions={}, batch_size=batch,
        card=Card(
            weights=weights, preprocess=preprocess, labels=LabelSet("four", NAMES), assumed=assumed
        ),
    )  # fmt: skip
