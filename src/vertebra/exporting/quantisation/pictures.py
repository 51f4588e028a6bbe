"""The pictures for a network's calibration, and those held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.data import walking
from vertebra.data.preprocess import Preprocess, preprocess_many
from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images

#: Fewer pictures show neither the range of the activations nor whether the answers stay the same.
LEAST_PICTURES = 16
#: More would take time and memory, and change little.
_MOST_PICTURES = 256


@dataclass(frozen=True)
class Split:
    """The pictures as the network sees them, (N, 3, H, W): to `calibrate` with, and `held_out` for the guard.
    `broken` is the number that couldn't be read; `seen` are the files used to calibrate."""

    calibrate: Images
    held_out: Images
    broken: int
    seen: frozenset[Path]


def check_count(folder: Path) -> None:
    """Raise InvalidInputError if `folder` has too few files with a picture's name."""
    found = len(_paths(folder))
    if found < LEAST_PICTURES:
        raise _too_few(folder, found)


def _paths(folder: Path) -> list[Path]:
    return sorted(Path(one.folder, name) for one in walking.walk(folder) for name in one.pictures)


def _too_few(folder: Path, found: int, broken: int = 0) -> InvalidInputError:
    unread = f", and {broken} can't be read" if broken else ""
    return InvalidInputError(
        f"{folder} holds {found} pictures{unread}: too few to calibrate with.",
        f"pass a folder with at least {LEAST_PICTURES} readable pictures, better 100 or more",
    )


def read(folder: Path, record: Preprocess, *, calibrates: bool = True) -> Split:
    """The pictures in `folder` and its subfolders: every second one is held out, or all unless the precision
    `calibrates`. Raises InvalidInputError if too few can be read."""
    import numpy as np

    paths = _paths(folder)
    step = max(1, len(paths) / _MOST_PICTURES)
    chosen = [paths[int(number * step)] for number in range(min(len(paths), _MOST_PICTURES))]
    made = zip(chosen, preprocess_many(chosen, record), strict=True)
    good = [(path, image) for path, image in made if isinstance(image, np.ndarray)]
    broken = len(chosen) - len(good)
    if len(good) < LEAST_PICTURES:
        raise _too_few(folder, len(chosen), broken)
    images = np.stack([image for _, image in good])
    if not calibrates:
        return Split(images[:0], images, broken, frozenset())
    seen = frozenset(path.resolve() for path, _ in good[::2])
    return Split(images[::2], images[1::2], broken, seen)
