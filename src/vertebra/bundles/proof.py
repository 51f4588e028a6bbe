"""Reference pictures: the outputs that a Bundle's preprocessing, network and labels must give for them.

The reference images are noise and go straight into the network, so they show no fault in the preprocessing
or the labels. A Bundle whose preprocessing is known therefore also keeps `proof.npz`: for two drawn pictures
a sample of the `tensors` (N, 3, k, k) that the preprocessing makes, and the `logits` (N, num_classes) that
eager float32 gives. The pictures aren't stored; they can be drawn again on any machine. An export also
compares photographs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import parity
from vertebra.bundles import arrays
from vertebra.bundles.bundle import Bundle
from vertebra.bundles.manifest import EXPORT_AGAIN, PROOF
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess, preprocess
from vertebra.errors import BundleError, MeasurementError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Run = Callable[[Images], Images]
    Added = tuple[Images, Images]

_SEED = 0
#: (height, width): one wide and one tall, so that both edges of the crop are checked
_SIZES = ((300, 400), (420, 320))
#: photographs that come with scikit-learn, 640x427
_PHOTOGRAPHS = ("china.jpg", "flower.jpg")
#: A sample keeps at most this many values along each edge of a tensor.
_PLACES = 32

#: The largest mean difference of the preprocessing's grey levels. Antialiased kernels round differently, by
#: one level at most; a crop that is one pixel off changes several levels.
LEVELS_LIMIT = 0.5

#: The largest difference of outputs in float32, as a share of how much they differ between the pictures.
CONTENT_LIMIT = 0.02


def pictures(seed: int = _SEED, sizes: tuple[tuple[int, int], ...] = _SIZES) -> list[npt.NDArray[np.uint8]]:
    """RGB pixels (height, width, 3), the same on every machine: coloured patches of two scales, made from
    PCG64's raw numbers with whole-number arithmetic only."""
    return [_picture(seed + number, *size) for number, size in enumerate(sizes)]


def _picture(seed: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    import numpy as np

    generator = np.random.PCG64(seed)
    levels = np.zeros((height, width, 3), dtype=np.int64)
    for cell, share in ((40, 3), (5, 1)):
        rows, columns = -(-height // cell), -(-width // cell)
        raw = (generator.random_raw(rows * columns * 3) >> np.uint64(56)).astype(np.int64)
        patches = raw.reshape(rows, columns, 3).repeat(cell, 0).repeat(cell, 1)
        levels += share * patches[:height, :width]
    levels[..., 2] //= 2  # different means, so that a wrong order of channels shows
    return (levels // 4).astype(np.uint8)


def inputs(record: Preprocess) -> Images:
    """The drawn pictures (N, 3, H, W) as the preprocessing makes them."""
    import numpy as np

    return np.stack([preprocess(picture, record) for picture in pictures()])


def photographs(record: Preprocess) -> Images | None:
    """The two photographs that come with scikit-learn, preprocessed to (2, 3, H, W): noise and patches lack
    the statistics of photographs. None if scikit-learn isn't installed."""
    import numpy as np

    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "datasets" / "images"
    return np.stack([preprocess((folder / name).read_bytes(), record) for name in _PHOTOGRAPHS])


def write(folder: Path, record: Preprocess, labels: LabelSet | None, logits: Images) -> dict[str, Any]:
    """Write `proof.npz` into a Bundle's folder and return the manifest's `proof`. `logits` (N, num_classes)
    are eager's for `inputs(record)`."""
    import numpy as np

    np.savez(folder / PROOF, tensors=_sample(inputs(record)), logits=logits.astype(np.float32))
    return {
        "seed": _SEED,
        "sizes": [list(size) for size in _SIZES],
        "labels_sha256": None if labels is None else _digest(labels),
    }


@dataclass(frozen=True)
class Outcome:
    """How far a network is from eager float32 on `pictures` reference pictures. `top1_agreement` is the share
    with the same first class as eager; None for an untrained network, since its classes mean nothing."""

    output_error: float
    pictures: int
    top1_agreement: float | None


def check(kept: Bundle, run: Run | None = None, added: Added | None = None) -> Outcome | None:
    """Compare preprocessing, labels and network with the outputs recorded for the reference pictures.

    `run` maps images to logits in the Bundle's own batch size; without it the network isn't compared, and the
    result is None. `added` are more images (N, 3, H, W) and eager's logits for them. A Bundle without a proof
    or a preprocessing isn't compared at all. Raises MeasurementError, naming the part that differs, and
    BundleError if the proof can't be read.
    """
    import numpy as np

    if kept.proof is None or kept.preprocess is None:
        return None
    if list(map(list, _SIZES)) != kept.proof["sizes"] or kept.proof["seed"] != _SEED:
        raise BundleError(
            f"{kept.folder} has reference pictures that this version of vertebra can't draw.", EXPORT_AGAIN
        )
    tensors, logits = _read(kept)
    images = inputs(kept.preprocess)
    _check_tensors(tensors, images, kept.preprocess)
    _check_labels(kept)
    if run is None:
        return None
    if added is not None:
        images, logits = np.concatenate([images, added[0]]), np.concatenate([logits, added[1]])
    return _check_logits(kept, logits, answers(run, images, kept.batch_size))


def _check_tensors(expected: Images, images: Images, record: Preprocess) -> None:
    import numpy as np

    scale = 255 * np.reshape(record.std, (3, 1, 1))
    off = np.abs(_sample(images) - expected) * scale
    if not off.mean() <= LEVELS_LIMIT:
        raise MeasurementError(
            "Wrong preprocessing: on the reference pictures its grey levels differ from the recorded ones by "
            f"{off.mean():.2g} on average; {LEVELS_LIMIT} is allowed.",
            EXPORT_AGAIN,
        )


def _check_labels(kept: Bundle) -> None:
    assert kept.proof is not None
    labels = kept.label_set()
    if (None if labels is None else _digest(labels)) != kept.proof["labels_sha256"]:
        raise MeasurementError(
            "Wrong labels: their names or their order differ from those at the export.",
            EXPORT_AGAIN,
        )


def _check_logits(kept: Bundle, expected: Images, got: Images) -> Outcome:
    error = parity.check_outputs(expected, got, kept.precision)
    agreed = float((expected.argmax(axis=1) == got.argmax(axis=1)).mean())
    if kept.precision == "float32":
        content = parity.content_error(expected, got)
        if content > CONTENT_LIMIT:
            raise MeasurementError(
                f"Wrong outputs: on the reference pictures they differ from eager float32's by {content:.2g} "
                f"of the spread between pictures; {CONTENT_LIMIT} is allowed in float32."
            )
        if agreed < 1 and kept.weights is not None:
            raise MeasurementError(
                "Wrong outputs: for a reference picture, another class is first than in eager float32."
            )
    return Outcome(error, len(got), None if kept.weights is None else agreed)


def answers(run: Run, images: Images, batch_size: int | None) -> Images:
    """The logits of `images` in batches of `batch_size`; the last batch is filled by repeating images."""
    import numpy as np

    size = batch_size or len(images)
    whole = -(-len(images) // size) * size
    filled = images[np.arange(whole) % len(images)]
    return np.concatenate([run(filled[start : start + size]) for start in range(0, whole, size)])[
        : len(images)
    ]


def _sample(images: Images) -> Images:
    stride = -(-images.shape[-1] // _PLACES)
    return images[:, :, ::stride, ::stride]


def _digest(labels: LabelSet) -> str:
    return hashlib.sha256(json.dumps([label.name for label in labels]).encode()).hexdigest()


def _read(kept: Bundle) -> tuple[Images, Images]:
    path = kept.folder / PROOF
    places = len(range(0, kept.input_size, -(-kept.input_size // _PLACES)))
    shapes = {"tensors": (len(_SIZES), 3, places, places), "logits": (len(_SIZES), kept.num_classes)}
    found = arrays.read(path, shapes)
    return found["tensors"], found["logits"]
