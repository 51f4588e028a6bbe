"""Reference pictures: what a Bundle's preprocessing, network and labels must make of them.

Noise straight into a network tells nothing of how a picture gets there, nor of what the answer is called. So
a Bundle whose preprocessing is known also keeps `proof.npz`: of a few drawn pictures a sample of the
`tensors` (N, 3, k, k) that the preprocessing makes, and the `logits` (N, num_classes) that eager float32
gives. The pictures themselves are drawn again anywhere. Whoever writes a Bundle asks it photographs besides.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import parity
from vertebra.bundles.bundle import Bundle
from vertebra.bundles.manifest import EXPORT_AGAIN, PROOF
from vertebra.errors import BundleError, MeasurementError
from vertebra.labels import LabelSet
from vertebra.preprocess import Preprocess, preprocess

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Run = Callable[[Images], Images]
    Asked = tuple[Images, Images]

_SEED = 0
#: (height, width): broad and tall, so that both edges of the crop are seen
_SIZES = ((300, 400), (420, 320))
#: photographs that scikit-learn carries, 640x427
_PHOTOGRAPHS = ("china.jpg", "flower.jpg")
#: Of each edge of a tensor at most so many places are kept.
_PLACES = 32

#: How far the preprocessing's grey levels may be off in the mean: antialiased kernels round in their own
#: ways by a level at most, and a crop that is one pixel off moves them by several.
LEVELS_LIMIT = 0.5

#: How far float32's answers may be off, of what the pictures make them differ by.
CONTENT_LIMIT = 0.02


def pictures(seed: int = _SEED, sizes: tuple[tuple[int, int], ...] = _SIZES) -> list[npt.NDArray[np.uint8]]:
    """RGB pixels (height, width, 3), the same on every machine and for ever: coloured patches of two scales,
    from PCG64's raw numbers and whole-number arithmetic alone."""
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
    levels[..., 2] //= 2  # the channels must differ in their mean, or their order wouldn't show
    return (levels // 4).astype(np.uint8)


def inputs(record: Preprocess) -> Images:
    """The drawn pictures (N, 3, H, W) as the preprocessing makes them."""
    import numpy as np

    return np.stack([preprocess(picture, record) for picture in pictures()])


def photographs(record: Preprocess) -> Images | None:
    """The two photographs (2, 3, H, W) that scikit-learn carries, as the preprocessing makes them: noise and
    patches lack the statistics of the real thing. They are read as files; None where it isn't installed."""
    import numpy as np

    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "datasets" / "images"
    return np.stack([preprocess((folder / name).read_bytes(), record) for name in _PHOTOGRAPHS])


def write(folder: Path, record: Preprocess, labels: LabelSet | None, logits: Images) -> dict[str, Any]:
    """Put `proof.npz` into a Bundle's folder: `logits` (N, num_classes) are eager's of `inputs(record)`.
    What the manifest is to say of it."""
    import numpy as np

    np.savez(folder / PROOF, tensors=_sample(inputs(record)), logits=logits.astype(np.float32))
    return {
        "seed": _SEED,
        "sizes": [list(size) for size in _SIZES],
        "labels_sha256": None if labels is None else _digest(labels),
    }


@dataclass(frozen=True)
class Outcome:
    """How far a network is from eager float32 on so many reference `pictures`, and the share of them whose
    first class is eager's: None where the network is untrained, and its classes mean nothing."""

    output_error: float
    pictures: int
    top1_agreement: float | None


def check(kept: Bundle, run: Run | None = None, asked: Asked | None = None) -> Outcome | None:
    """What the Bundle's network, asked by `run` (images to logits, of the Bundle's own batch size), makes of
    the reference pictures, and of what else it is `asked`: images (N, 3, H, W), each with eager's logits.
    None without `run`, or where the Bundle has no proof or doesn't tell its preprocessing.

    Raises MeasurementError, saying which, where the preprocessing, the labels or the network make something
    else of them, and BundleError where the proof can't be read.
    """
    import numpy as np

    if kept.proof is None or kept.preprocess is None:
        return None
    if list(map(list, _SIZES)) != kept.proof["sizes"] or kept.proof["seed"] != _SEED:
        raise BundleError(
            f"{kept.folder} has reference pictures that this vertebra can't draw.", EXPORT_AGAIN
        )
    tensors, logits = _read(kept)
    images = inputs(kept.preprocess)
    _check_tensors(tensors, images, kept.preprocess)
    _check_labels(kept)
    if run is None:
        return None
    if asked is not None:
        images, logits = np.concatenate([images, asked[0]]), np.concatenate([logits, asked[1]])
    return _check_logits(kept, logits, _answers(run, images, kept.batch_size))


def _check_tensors(expected: Images, images: Images, record: Preprocess) -> None:
    import numpy as np

    scale = 255 * np.reshape(record.std, (3, 1, 1))
    off = np.abs(_sample(images) - expected) * scale
    if not off.mean() <= LEVELS_LIMIT:
        raise MeasurementError(
            f"Wrong preprocessing: the reference pictures' grey levels are {off.mean():.2g} off in the mean, "
            f"and {LEVELS_LIMIT} is allowed.",
            EXPORT_AGAIN,
        )


def _check_labels(kept: Bundle) -> None:
    assert kept.proof is not None
    labels = kept.label_set()
    if (None if labels is None else _digest(labels)) != kept.proof["labels_sha256"]:
        raise MeasurementError(
            "Wrong labels: they are not those, in the order, that the network was exported with.",
            EXPORT_AGAIN,
        )


def _check_logits(kept: Bundle, expected: Images, got: Images) -> Outcome:
    error = parity.check_outputs(expected, got, kept.precision)
    agreed = float((expected.argmax(axis=1) == got.argmax(axis=1)).mean())
    if kept.precision == "float32":
        content = parity.content_error(expected, got)
        if content > CONTENT_LIMIT:
            raise MeasurementError(
                f"Wrong outputs: they differ from the reference by {content:.2g} of what the pictures make "
                f"it differ by, and {CONTENT_LIMIT} is allowed in float32."
            )
        if agreed < 1 and kept.weights is not None:
            raise MeasurementError("Wrong outputs: another class is first for a reference picture.")
    return Outcome(error, len(got), None if kept.weights is None else agreed)


def _answers(run: Run, images: Images, batch_size: int | None) -> Images:
    """The logits of `images` in batches of `batch_size`, the last one filled up by repeating."""
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
    import numpy as np

    path = kept.folder / PROOF
    places = len(range(0, kept.input_size, -(-kept.input_size // _PLACES)))
    shapes = {"tensors": (len(_SIZES), 3, places, places), "logits": (len(_SIZES), kept.num_classes)}
    try:
        with zipfile.ZipFile(path) as archive:
            size_bytes = sum(entry.file_size for entry in archive.infolist())
        if size_bytes > 4096 + 4 * sum(int(np.prod(shape)) for shape in shapes.values()):
            raise ValueError(f"it unpacks to {size_bytes:,} bytes")
        with np.load(path, allow_pickle=False) as archive:
            found = {name: np.asarray(archive[name], dtype=np.float32) for name in shapes}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"The reference in {path} can't be read: {error}.", EXPORT_AGAIN) from error
    if {name: array.shape for name, array in found.items()} != shapes:
        raise BundleError(
            f"{path} holds arrays of other shapes than the Bundle's network gives.", EXPORT_AGAIN
        )
    return found["tensors"], found["logits"]
