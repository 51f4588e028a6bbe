"""Pictures split into folds: each class in every fold, and no group on both sides of a cut.

>>> split([0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 3, 4], 2)
(0, 0, 1, 1, 1, 0)
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from vertebra.data.names import printable
from vertebra.errors import InvalidInputError
from vertebra.machine import files

#: How many orders of the groups are tried before there is one fold fewer.
_ORDERS = 20
_COLUMNS = ("name", "class", "fold", "group", "sha256")


class Counted(Protocol):
    """A picture that counts; see `inspection.Kept`."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def group(self) -> int: ...


def possible(
    labels: Sequence[int], groups: Sequence[int], folds: int, names: Sequence[str] | None = None
) -> tuple[int, str | None]:
    """The number of folds that each class has groups for, at most `folds`; and a sentence that says why there
    are fewer.

    `names` are what the labels are called. Raises InvalidInputError where there is no picture, one class, or
    a class of one picture or of one group.
    """
    if folds < 2:
        raise InvalidInputError(f"{folds} folds were asked for; there must be at least 2.")
    if len(labels) != len(groups):
        raise InvalidInputError(f"There are {len(labels)} labels and {len(groups)} groups.")
    pictures = Counter(labels)
    apart = Counter(label for label, _ in set(zip(labels, groups, strict=True)))

    def called(label: int) -> str:
        return str(label) if names is None else names[label]

    if len(apart) < 2:
        what = f"All {len(labels)} pictures are of one class, {called(labels[0])}" if labels else "No picture"
        raise InvalidInputError(
            f"{what}{'' if labels else ' counts'}.",
            "at least two classes are needed, each with several pictures: a folder for each class",
        )
    least, count = min(apart.items(), key=lambda item: (item[1], item[0]))
    if count < 2:
        raise _single(called(least), pictures[least], sum(number < 2 for number in apart.values()))
    if count >= folds:
        return folds, None
    of = "pictures" if pictures[least] == count else f"groups of pictures ({pictures[least]} pictures)"
    return count, f"{count} folds, not {folds}: the class {called(least)} has only {count} {of}"


def _single(name: str, pictures: int, classes: int) -> InvalidInputError:
    others = f" ({classes} classes are so)" if classes > 1 else ""
    if pictures < 2:
        return InvalidInputError(
            f"The class {name} has a single picture{others}.",
            "each class needs at least 2, one to fit and one to test; 20 are better",
        )
    return InvalidInputError(
        f"All {pictures} pictures of the class {name} are of one group{others}: near-duplicates of each "
        "other, or the same in what was given as groups.",
        "add pictures of other objects, taken at other times: each class needs at least 2 groups",
    )


def split(
    labels: Sequence[int],
    groups: Sequence[int],
    folds: int,
    seed: int = 0,
    *,
    names: Sequence[str] | None = None,
) -> tuple[int, ...]:
    """The fold of each picture, from 0; equal for equal arguments, on every machine.

    No group is in two folds, and every class is in all of them, as evenly as its groups allow. There are
    fewer folds than asked for where a class has fewer groups (`possible` says so). Raises InvalidInputError
    as `possible` does, and where groups that have several classes leave no two folds with all classes.
    """
    most, _ = possible(labels, groups, folds, names)
    whole: dict[int, Counter[int]] = {}
    for label, group in zip(labels, groups, strict=True):
        whole.setdefault(group, Counter())[label] += 1
    classes = len(set(labels))
    for count in range(most, 1, -1):
        for order in range(_ORDERS):
            chosen = _dealt(whole, count, random.Random(f"{seed} {order}"))
            if (
                len({(chosen[group], label) for group, of in whole.items() for label in of})
                == classes * count
            ):
                return tuple(chosen[group] for group in groups)
    raise InvalidInputError(
        "The groups hold pictures of several classes each, so that no two folds can have all classes.",
        "group by something else, or leave the groups out",
    )


def _dealt(groups: Mapping[int, Counter[int]], folds: int, chance: random.Random) -> dict[int, int]:
    """The fold of each group: those of several classes first, then the large ones, each to the fold that has
    the least of its classes."""
    order = list(groups)
    chance.shuffle(order)
    order.sort(key=lambda group: (-len(groups[group]), -groups[group].total()))
    of_class = [Counter[int]() for _ in range(folds)]
    of_all = [0] * folds
    chosen = {}
    for group in order:
        classes = groups[group]
        fold = min(
            range(folds),
            key=lambda one: (sum(of_class[one][label] * classes[label] for label in classes), of_all[one]),
        )
        chosen[group] = fold
        of_class[fold].update(classes)
        of_all[fold] += classes.total()
    return chosen


# ------------------------------------------------------------------ the saved split


def write(
    path: Path, kept: Sequence[Counted], folds: Sequence[int], *, classes: Sequence[str] | None = None
) -> None:
    """Save the split as CSV: name, class, fold, group and sha256 of each picture. `classes` are what the
    labels are called. Raises InvalidInputError where it can't be written."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for one, fold in zip(kept, folds, strict=True):
        rows.writerow([one.name, _class(one, classes), fold, one.group, one.sha256])
    files.write_whole(Path(path), text.getvalue().encode())


def _class(one: Counted, classes: Sequence[str] | None) -> str:
    return str(one.label) if classes is None else classes[one.label]


def read(path: Path, kept: Sequence[Counted], *, classes: Sequence[str] | None = None) -> tuple[int, ...]:
    """The fold of each of the pictures `kept`, from a split that `write` saved.

    Raises InvalidInputError unless it is of just these pictures, with the same classes and content, and keeps
    each of their groups in one fold.
    """
    saved = _saved(Path(path))
    hint = "split these pictures again, or pass the folder that the split is of"
    place = printable(path)
    missing = [one.name for one in kept if one.name not in saved]
    gone = saved.keys() - {one.name for one in kept}
    if missing or gone:
        what = f"lacks {missing[0]}" if missing else f"has {min(gone)}, which isn't among the pictures"
        more = len(missing or gone) - 1
        raise InvalidInputError(f"The split {place} {what}{f', and {more} more' if more else ''}.", hint)
    fold_of: dict[int, tuple[int, str]] = {}
    for one in kept:
        of_class, fold, content = saved[one.name]
        if content != one.sha256:
            raise InvalidInputError(f"{one.name} isn't the picture that the split {place} is of.", hint)
        if of_class != _class(one, classes):
            raise InvalidInputError(
                f"{one.name} is of the class {_class(one, classes)}; in the split {place} of {of_class}.",
                hint,
            )
        earlier = fold_of.setdefault(one.group, (fold, one.name))
        if earlier[0] != fold:
            raise InvalidInputError(
                f"{earlier[1]} and {one.name} are of one group, and the split {place} has them in two folds.",
                hint,
            )
    return tuple(saved[one.name][1] for one in kept)


def _saved(path: Path) -> dict[str, tuple[str, int, str]]:
    """Name -> class, fold and sha256."""
    place = printable(path)
    hint = "pass a file that was saved with a result"
    try:
        text = path.read_bytes().decode()
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except OSError as error:
        raise InvalidInputError(f"Can't read {place}: {error.strerror or error}.", hint) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{place} isn't a saved split: {error}.", hint) from error
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise InvalidInputError(
            f"{place} isn't a saved split: its columns aren't {', '.join(_COLUMNS)}.", hint
        )
    found: dict[str, tuple[str, int, str]] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(_COLUMNS) or not row[2].isdecimal() or not row[2].isascii() or row[0] in found:
            raise InvalidInputError(
                f"{place}, row {number}: not a picture and its fold, or a second time.", hint
            )
        found[row[0]] = (row[1], int(row[2]), row[4])
    return found
