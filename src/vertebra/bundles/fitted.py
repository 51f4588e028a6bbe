"""What a Bundle's head was fitted on: its pictures, folds and cross-validated accuracy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vertebra.errors import BundleError, InvalidInputError
from vertebra.measurements.subjects import with_head

_HEAD = "sha256,fold"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]{64}),(\d{1,6})")
_MOST_SIGNS = 1000
#: A longer list of pictures is no real one.
_MOST_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """How a head came to be.

    `pictures` is the identity of the data set, "photos@3fa2b1c4d5", and `pictures_sha256` its whole digest;
    `classes` are names with the number of pictures, in the order of the outputs. `accuracy` is top-1,
    cross-validated over `folds`, as a share of 1, with its 95 % interval `low` to `high`. `how` says how the
    head was fitted, `remarks` what else has to be known. `network_weights` are the weights under the head and
    `network_sha256` the digest of their file, None if it isn't known; `permits` is what their licence allows.
    `precision` is what the accuracy is of.
    """

    pictures: str
    pictures_sha256: str
    classes: tuple[tuple[str, int], ...]
    folds: int
    accuracy: float
    low: float
    high: float
    how: str
    network_weights: str | None = None
    network_sha256: str | None = None
    permits: str | None = None
    remarks: tuple[str, ...] = ()
    precision: str = "float32"

    @property
    def total(self) -> int:
        """How many pictures it was fitted on."""
        return sum(count for _, count in self.classes)

    @property
    def name(self) -> str:
        """What the weights with the head are called: those under it, and the pictures."""
        return with_head(self.network_weights, self.pictures)

    def record(self) -> dict[str, Any]:
        """The same for a manifest; `read` takes it."""
        record = {**asdict(self), "classes": [list(one) for one in self.classes]}
        record["remarks"] = list(self.remarks)
        if self.precision == "float32":  # earlier versions refuse what they don't know
            del record["precision"]
        return record


_TEXTS = ("pictures", "pictures_sha256", "how")
_MAYBE = ("network_weights", "network_sha256", "permits")
_SHARES = ("accuracy", "low", "high")


def read(value: Mapping[str, Any]) -> Fitted:
    """The record in a manifest. Raises InvalidInputError, which names what is wrong with it."""
    known = Fitted.__dataclass_fields__
    value = {"precision": "float32", **value}
    strange = sorted(set(value) ^ set(known))
    wrong = strange[:1] or [key for key in known if not _is_right(key, value[key])]
    if wrong:
        raise InvalidInputError(f'"fitted" has a wrong or missing value: {wrong[0][:100]}.')
    classes = tuple((name, count) for name, count in value["classes"])
    return Fitted(**{**value, "classes": classes, "remarks": tuple(value["remarks"])})


def _is_right(key: str, value: Any) -> bool:
    if key in _MAYBE and value is None:
        return True
    if key in _SHARES:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    if key == "folds":
        return _is_count(value)
    if key == "remarks":
        return isinstance(value, list | tuple) and all(map(_is_text, value))
    if key == "classes":
        pairs = value if isinstance(value, list | tuple) else [None]
        return all(
            isinstance(one, list | tuple) and len(one) == 2 and isinstance(one[0], str) and _is_count(one[1])
            for one in pairs
        )
    if key.endswith("sha256"):
        return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
    return _is_text(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= _MOST_SIGNS


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check(fitted: Fitted) -> None:
    """Raise InvalidInputError for a record that no manifest can hold: two classes of one name, an accuracy
    outside its interval, a text that can't be printed."""
    read(fitted.record())
    ends = (fitted.low, fitted.accuracy, fitted.high)
    if not all(map(math.isfinite, ends)) or not fitted.low <= fitted.accuracy <= fitted.high:
        raise InvalidInputError(
            f"The accuracy {fitted.accuracy:g} isn't within its interval, {fitted.low:g} to {fitted.high:g}."
        )


def check_names(names: Sequence[str]) -> None:
    """Raise InvalidInputError for classes whose names no Bundle can hold: one that can't be printed, or two
    of one name but for blanks around it."""
    known: dict[str, int] = {}
    for place, name in enumerate(names):
        plain = name.strip()
        if not plain or not plain.isprintable():
            raise InvalidInputError(
                f"Class {place} has no name that can be printed: {ascii(name)[:80]}.", "rename it"
            )
        if known.setdefault(plain, place) != place:
            raise InvalidInputError(
                f'The classes {known[plain]} and {place} have the same name, "{plain}".',
                "give them different names",
            )


# ------------------------------------------------------------------ the pictures


def split_text(split: Sequence[tuple[str, int]]) -> str:
    """The list of pictures as a file's text: the digest of each one's content, and the fold of its test."""
    return "\n".join([_HEAD, *(f"{digest},{fold}" for digest, fold in sorted(split))]) + "\n"


def read_split(path: Path) -> dict[str, int]:
    """The pictures that a head was fitted on, by digest, with their folds. Raises BundleError if the list
    can't be read."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too long")
        head, *lines = path.read_text(encoding="ascii").splitlines() or [""]
        found = [one for one in map(_LINE.fullmatch, lines) if one is not None]
        if head != _HEAD or len(found) != len(lines):
            raise ValueError(f"lines of {_HEAD} were expected")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} can't be read: {error}.", "make the Bundle again") from error
    return {one[1]: int(one[2]) for one in found}
