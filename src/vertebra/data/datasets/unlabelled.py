"""Pictures without labels: any folder of them, whatever its folders are called."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from vertebra.data import walking
from vertebra.data.datasets import formats
from vertebra.data.datasets.dataset import BY_NAME, Dataset, of
from vertebra.data.names import from_address, printable
from vertebra.machine import files


def pictures(path: str | Path, *, name: str | None = None, **labelled: object) -> Dataset:
    """The pictures in the folder `path` and those below it, sorted, all of one class without a name; of a
    file, of a folder without pictures of its own, or where one of the options `labelled` of `formats.open` is
    given, those of that data set. Raises InvalidInputError where there are none."""
    place = (from_address(path) if isinstance(path, str) else None) or files.named(path)
    asked = {option: value for option, value in labelled.items() if value}
    found = [
        os.path.relpath(os.path.join(one.folder, file), place)
        for one in walking.walk(place) for file in one.pictures
    ] if place.is_dir() and not asked else []  # fmt: skip
    if not found:
        return formats.open(path, name=name, **asked)  # type: ignore[arg-type]
    return of(
        [(one, 0) for one in found], partial(os.path.join, place), name=name or formats.name_of(place),
        split=None, format="pictures", classes=("",), at=lambda place: printable(found[place]), order=BY_NAME,
    )  # fmt: skip
