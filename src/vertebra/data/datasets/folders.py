"""A folder for each class: the class is the folder's name, in the order of the names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vertebra.data.datasets.dataset import Dataset, Sample, empty, is_picture
from vertebra.errors import InvalidInputError

FORMAT = "class folders"


def open_class_folders(root: Path, *, name: str, split: str | None) -> Dataset:
    """Pictures in the folders of `root`, however deep; links to files are followed, links to folders aren't.

    Folders called 0, 1, 2, … without a gap are those indices. Raises InvalidInputError where there are
    no pictures.
    """
    folders = class_folders(root)
    found = {folder: _pictures(root / folder) for folder in folders}
    hollow = [folder for folder in folders if not found[folder]]
    if len(hollow) == len(folders):
        raise empty(root, FORMAT)
    if hollow:
        raise InvalidInputError(
            f"{root} has {len(hollow)} class folders without a picture, such as {hollow[0]}.",
            "remove the empty folders: each would count as a class",
        )

    def read() -> Iterator[Sample]:
        for label, folder in enumerate(folders):
            for picture in found[folder]:
                yield Sample(root / folder / picture, label, f"{folder}/{picture}")

    length = sum(map(len, found.values()))
    return Dataset(name, split, FORMAT, tuple(folders), len(folders), length, folders[-1], read)


def class_folders(root: Path) -> list[str]:
    """Names of the folders in `root`, hidden ones left out, in the order of the classes."""
    with os.scandir(root) as entries:
        folders = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if {*folders} == {str(index) for index in range(len(folders))}:
        return sorted(folders, key=int)
    return sorted(folders)


def _pictures(folder: Path) -> list[str]:
    """Paths of the pictures below `folder`, relative to it, in order."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = Path(parent).relative_to(folder)
        paths += [(inner / file).as_posix() for file in files if is_picture(file)]
    return sorted(paths)
