"""A folder for each class: the class is the folder's name, in the order of the names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vertebra.data.datasets.dataset import BY_NAME, BY_VALUE, Dataset, Sample, empty, whole_number
from vertebra.data.names import printable
from vertebra.data.walking import BESIDE, HIDDEN, UNREADABLE, is_hidden, kind_of, walk
from vertebra.errors import InvalidInputError

FORMAT = "class folders"


def open_class_folders(root: Path, *, name: str, split: str | None) -> Dataset:
    """Pictures in the folders of `root`, however deep; links to files are followed, links to folders aren't.

    Folders called 0, 1, 2, … without a gap are those indices. Raises InvalidInputError where there are
    no pictures.
    """
    folders = class_folders(root)
    left_out = _beside(root)
    found = {folder: _pictures(root / folder, left_out) for folder in folders}
    hollow = [folder for folder in folders if not found[folder]]
    if len(hollow) == len(folders):
        raise _none(root, folders, left_out)
    if hollow:
        raise InvalidInputError(
            f"{printable(root)} has {len(hollow)} class folders without a picture, such as "
            f"{printable(hollow[0])}{_held(root / hollow[0])}.",
            "remove these folders or convert their pictures: each would count as a class",
        )

    def read() -> Iterator[Sample]:
        for label, folder in enumerate(folders):
            for picture in found[folder]:
                yield Sample(root / folder / picture, label, printable(f"{folder}/{picture}"))

    length = sum(map(len, found.values()))
    classes = tuple(map(printable, folders))
    order = BY_NAME if folders == sorted(folders) else BY_VALUE
    return Dataset(
        name, split, FORMAT, classes, len(folders), length, classes[-1], read, order=order, left_out=left_out
    )


def class_folders(root: Path) -> list[str]:
    """Names of the folders in `root`, hidden ones left out, in the order of the classes."""
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))
    numbers = {folder: whole_number(folder) for folder in folders}
    if {*numbers.values()} == {*range(len(folders))}:
        return sorted(folders, key=lambda folder: numbers[folder] or 0)
    return folders


def _none(root: Path, folders: list[str], left_out: Counter[str]) -> InvalidInputError:
    unread = ", ".join(f"{count} {kind}" for kind, count in left_out.items() if kind in UNREADABLE)
    if not unread:
        return empty(root, FORMAT)
    return InvalidInputError(
        f"The {len(folders)} folders in {printable(root)} hold only {unread}.",
        "convert them to PNG or JPEG, keeping the folders",
    )


def _held(folder: Path) -> str:
    """What a folder without pictures holds, as a few words in brackets."""
    counts: Counter[str] = Counter()
    _pictures(folder, counts)
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()) if count)
    return f" ({words})" if words else ""


def _beside(root: Path) -> Counter[str]:
    """What is in `root` itself beside the class folders, by kind."""
    counts: Counter[str] = Counter()
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.is_dir():
                counts[kind_of(entry.name) or BESIDE] += 1
            elif is_hidden(entry.name):
                counts[HIDDEN] += 1
    return counts


def _pictures(folder: Path, left_out: Counter[str]) -> list[str]:
    """Paths of the pictures below `folder`, relative to it, in order; what isn't one is counted."""
    paths = []
    for found in walk(folder):
        left_out.update(found.left_out)
        inner = Path(found.folder).relative_to(folder)
        paths += [(inner / file).as_posix() for file in found.pictures]
    return sorted(paths)
