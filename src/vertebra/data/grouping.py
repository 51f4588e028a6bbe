"""What pictures belong together, as their list or their folders say it: the same patient, plant or camera."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from vertebra.data.datasets import Dataset
from vertebra.data.datasets.folders import FORMAT as CLASS_FOLDERS
from vertebra.data.datasets.lists import FORMAT as LIST
from vertebra.data.datasets.shards import FORMAT as SHARDS
from vertebra.errors import InvalidInputError

#: What is asked for instead of a column to group by folders.
FOLDER = "folder"


def groups(data: Dataset, by: str) -> dict[str, str]:
    """The group of each picture, by its name, for `inspection.inspect`.

    `by` is a column of a list with a header or of a Parquet file. "folder" groups by the folders below those
    of the classes (`cat/garden/1.jpg` and `dog/garden/2.jpg` are of the group `garden`), or by those in the
    paths of a list or of shards. A picture without a text or a folder is a group of its own.

    Raises InvalidInputError where the layout has neither, where no picture would be in a group, and where
    all would be in one.
    """
    found = dict(_of_folders(data) if by == FOLDER else _of_column(data, by))
    where = "the folders" if by == FOLDER else f'the column "{by}"'
    given = [text for text in found.values() if text]
    if not given:
        raise InvalidInputError(f"{data.name} can't be grouped by {where}: there is nothing in it.", _HINT)
    if len(found) > 1 and len(set(given)) == 1 and len(given) == len(found):
        raise InvalidInputError(
            f'All {len(found)} pictures of {data.name} are of one group, "{given[0]}", by {where}.', _HINT
        )
    return {name: f"in {text}" if text else f"alone {name}" for name, text in found.items()}


_HINT = "group by a column of a list (path,label,…), or by folders below those of the classes"


def _of_column(data: Dataset, by: str) -> Iterator[tuple[str, str]]:
    if data.column is None:
        raise InvalidInputError(
            f'{data.name} is read as {data.format}, which has no column "{by}".',
            f"a list with a header and Parquet have columns; --group {FOLDER} groups by folders",
        )
    return data.column(by)


def _of_folders(data: Dataset) -> Iterator[tuple[str, str]]:
    if data.format not in (CLASS_FOLDERS, LIST, SHARDS):
        raise InvalidInputError(
            f"{data.name} is read as {data.format}, which has no folders to group by.",
            "class folders, lists and shards have them",
        )
    for name in _names(data):
        above = PurePosixPath(name.replace("\\", "/")).parent.parts
        below = above[1:] if data.format == CLASS_FOLDERS else above
        yield name, "/".join(below)


def _names(data: Dataset) -> Iterator[str]:
    return (sample.name for sample in data)
