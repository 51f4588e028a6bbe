"""The parts of a data set, as people name them, and which of them is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vertebra.data.names import printable
from vertebra.errors import InvalidInputError

#: The splits that are read where none is named, in this order: what a network was not trained on.
DEFAULTS = ("val", "test")

#: split -> its spellings
_SPELLED = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tests", "tst", "t10k", "holdout"),
}
_SPLITS = {spelling: split for split, spellings in _SPELLED.items() for spelling in spellings}

#: Words beside a split's in a name: "training_set", "seg_train", "val_images".
_BESIDE = {"set", "split", "seg", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos"}


class NoSplitError(InvalidInputError):
    """The data set doesn't have the split that was asked for."""


_YEAR = re.compile(r"(?<=[a-z])_?(19|20)?\d{1,2}$")


def named(name: str) -> str | None:
    """The split that a folder's or a file's name means: "train", "val" or "test"; None if it means none.

    >>> [named(name) for name in ("Testing", "training_set", "val2017", "seg_train", "latest")]
    ['test', 'train', 'val', 'train', None]
    """
    word = _YEAR.sub("", name.lower())
    if name.lower() in _SPLITS:
        return _SPLITS[name.lower()]
    parts = [part for part in re.split(r"[-_ .]+", word) if part]
    parts = [part.removesuffix("set") if part.removesuffix("set") in _SPLITS else part for part in parts]
    words = [part for part in parts if part not in _BESIDE]
    return _SPLITS.get(words[0]) if len(words) == 1 else None


def asked(name: str) -> str:
    """The split that a user asks for: one of the known spellings, or any name, in lower case."""
    return named(name) or name.lower()


def of_path(place: Path) -> str | None:
    """The split that a folder's name means, or that a file's name begins with (`val-00000.tar`,
    `test_list.txt`), or its folder's name."""
    if place.is_dir():
        return named(place.name)
    stem = place.name.partition(".")[0]
    words = [stem, stem.partition("-")[0], stem.partition("_")[0], place.parent.name]
    return next((split for split in map(named, words) if split is not None), None)


def chosen(place: str | Path, there: Sequence[str], split: str | None) -> str:
    """The split asked for; without one validation's, else test's, else the only one.

    Raises InvalidInputError if it isn't there, or can't be chosen.
    """
    shown = ", ".join(word or "unnamed" for word in there)
    if split is not None:
        if split not in there:
            raise NoSplitError(f"{printable(place)} has no split {split}.", f"its splits: {shown}")
        return split
    for word in DEFAULTS:
        if word in there:
            return word
    if len(there) == 1:
        return there[0]
    raise InvalidInputError(f"{printable(place)} has the splits {shown}.", "choose one: --split NAME")


def unasked(there: Sequence[str], split: str, asked: str | None) -> tuple[str, ...]:
    """A sentence that says that `split` was read of the several that are there, where none was asked for."""
    if asked is not None or len(there) < 2:
        return ()
    others = ", ".join(word or "unnamed" for word in there if word != split)
    return (f"the split {split or 'unnamed'} is read, not {others}; to choose: --split",)


def check(place: str | Path, own: str | None, split: str | None) -> None:
    """Raise InvalidInputError unless the split asked for is the set's `own`."""
    if split is None or split == own:
        return
    what = f"it is the split {own}" if own else "nothing in it names a split"
    raise NoSplitError(
        f"{printable(place)} has no split {split}: {what}.",
        "leave out --split, or pass the split's folder or file",
    )
