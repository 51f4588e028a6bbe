"""What an inspection finds: the pictures that count, those that don't, and why, also in sentences."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

#: How many files are named in a sentence.
_SHOWN = 3
#: Above this the largest class is much larger than the smallest.
_UNEVEN = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture that counts: its `place` in the data set, as iterated; its name and label; the `sha256` of
    its file, or of its pixels where the set has only those; and its `group`: pictures of one group are never
    in different folds."""

    place: int
    name: str
    label: int
    sha256: str
    group: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that can't be read, and why. `found` is what its content is, where that is known."""

    name: str
    label: int
    reason: str
    found: str | None = None


@dataclass(frozen=True, slots=True)
class Misnamed:
    """A picture that is used though the ending of its name is that of another format."""

    name: str
    named: str
    found: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A picture that doesn't count, for `first` is the same one. `exact` says that the files are equal, and
    not only the pixels."""

    name: str
    first: str
    exact: bool


@dataclass(frozen=True)
class Conflict:
    """One picture in several classes: its names, and the class of each."""

    names: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Alike:
    """Near-duplicates of each other: their names and classes."""

    names: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """A set of pictures as it was found.

    `identity` is its name with the beginning of `sha256`, which is of the content of all distinct pictures
    and their classes. `classes` are the names of labels 0 to C - 1 with the pictures that count, which are
    `kept`. `total` is the number of pictures in the set. `conflicts` lists pictures in several classes, none
    of which is kept. `divided` says how many groups of similar pictures were too large to be near-duplicates
    and were made again by stricter limits; `grouped` whether groups were given. `left_out` counts files that
    aren't part of the set by their kind; `assumed` are sentences about how the set was read.
    `transparent` counts the pictures, of those kept, with transparent pixels.
    """

    identity: str
    sha256: str
    format: str
    split: str | None
    total: int
    classes: tuple[tuple[str, int], ...]
    kept: tuple[Kept, ...] = field(repr=False)
    unreadable: tuple[Unreadable, ...] = ()
    misnamed: tuple[Misnamed, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    alike: tuple[Alike, ...] = ()
    divided: int = 0
    grouped: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    transparent: int = 0

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each picture that is kept."""
        return tuple(one.label for one in self.kept)

    @property
    def groups(self) -> tuple[int, ...]:
        """The group of each picture that is kept."""
        return tuple(one.group for one in self.kept)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names, by label."""
        return tuple(name for name, _ in self.classes)

    def filled(self) -> Inspection:
        """The same with only the classes that have pictures, numbered anew."""
        numbers = {label: number for number, label in enumerate(sorted(set(self.labels)))}
        kept = tuple(replace(one, label=numbers[one.label]) for one in self.kept)
        return replace(self, kept=kept, classes=tuple(self.classes[label] for label in numbers))

    def remarks(self) -> tuple[str, ...]:
        """What should be known before the pictures are used, in sentences, the gravest first."""
        return tuple(_remarks(self))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, with the remarks; the pictures that are kept are named with their class
        and group."""
        record = asdict(self)
        record["left_out"] = dict(self.left_out)
        record["classes"] = [{"name": name, "pictures": count} for name, count in self.classes]
        return {**record, "remarks": list(self.remarks())}


# ------------------------------------------------------------------ sentences


def _remarks(found: Inspection) -> Iterator[str]:
    """The sentences."""
    yield from _conflicts(found)
    yield from _classes(found)
    yield from _unreadable(found)
    yield from _alike(found)
    yield from _repeats(found)
    yield from _misnamed(found)
    if found.transparent:
        have = "picture has" if found.transparent == 1 else "pictures have"
        yield (
            f"{found.transparent:,} {have} transparent pixels: the colour stored below them counts; to have "
            "another ground, flatten them first."
        )
    if found.left_out:
        shown = ", ".join(f"{count:,} {kind}" for kind, count in found.left_out.items())
        yield f"Not part of the set: {shown}."
    yield from (f"Assumed: {sentence}." for sentence in found.assumed)


def _conflicts(found: Inspection) -> Iterator[str]:
    if found.conflicts:
        shown = [
            " and ".join(f"{name} ({of})" for name, of in zip(one.names, one.classes, strict=True))
            for one in found.conflicts
        ]
        yield (f"{_counted(len(shown), 'picture')} in several classes, left out: {some(shown, '; ')}.")


def _classes(found: Inspection) -> Iterator[str]:
    filled = {name: count for name, count in found.classes if count}
    empty = [name for name, count in found.classes if not count]
    single = [name for name, count in filled.items() if count == 1]
    if len(filled) == 1:
        yield f"All pictures are of one class, {next(iter(filled))}."
    if empty:
        yield f"{_classes_counted(len(empty))} without a picture: {some(empty)}."
    alike: dict[str, list[str]] = {}
    for name in filled:
        plain = unicodedata.normalize("NFKC", name.replace("_", " ").casefold())
        alike.setdefault(" ".join(plain.split()), []).append(name)
    twins = [" and ".join(names) for names in alike.values() if len(names) > 1]
    if twins:
        yield f"Classes with nearly the same name, taken for different ones: {some(twins, '; ')}."
    if single:
        yield f"{_classes_counted(len(single))} of a single picture: {some(single)}."
    if len(filled) > 1:
        most, least = max(filled, key=filled.__getitem__), min(filled, key=filled.__getitem__)
        share = filled[most] / sum(filled.values())
        if filled[most] > _UNEVEN * filled[least]:
            yield (
                f"The classes are uneven: {most} has {filled[most]:,} pictures ({100 * share:.1f} % of all), "
                f"{least} {filled[least]:,}."
            )


def _unreadable(found: Inspection) -> Iterator[str]:
    if found.unreadable:
        shown = [f"{one.name}: {one.reason.rstrip('.')}" for one in found.unreadable]
        yield f"{_counted(len(shown), 'picture')} can't be read: {some(shown, '; ')}."


def _alike(found: Inspection) -> Iterator[str]:
    torn = [one for one in found.alike if len(set(one.classes)) > 1]
    if torn:
        shown = [
            " and ".join(f"{name} ({of})" for name, of in _apart(one.names, one.classes)) for one in torn
        ]
        of = "group of near-duplicates is" if len(torn) == 1 else "groups of near-duplicates are"
        yield f"{len(torn):,} {of} in several classes: {some(shown, '; ')}."
    if found.alike:
        count = sum(len(one.names) for one in found.alike)
        shown = [" and ".join(one.names[:2]) for one in found.alike]
        yield (
            f"{count:,} pictures are near-duplicates, in {_counted(len(found.alike), 'group')}, each kept in "
            f"one fold: {some(shown, '; ')}."
        )
    if found.divided:
        yield (
            f"Many pictures are similar: in {_counted(found.divided, 'large group')} only almost equal ones "
            "count as near-duplicates."
        )


def _apart(names: Sequence[str], classes: Sequence[str]) -> list[tuple[str, str]]:
    """The first of each class."""
    first: dict[str, str] = {}
    for name, of in zip(names, classes, strict=True):
        first.setdefault(of, name)
    return [(name, of) for of, name in first.items()]


def _repeats(found: Inspection) -> Iterator[str]:
    if found.repeats:
        shown = [f"{one.name} is {one.first}" for one in found.repeats]
        saved = sum(not one.exact for one in found.repeats)
        again = f" ({saved:,} of them in another file, with the same pixels but for transparency)" * bool(
            saved
        )
        yield f"{_counted(len(shown), 'picture')} twice, counted once{again}: {some(shown, '; ')}."


def _misnamed(found: Inspection) -> Iterator[str]:
    kinds = Counter((one.named, one.found) for one in found.misnamed)
    if kinds:
        first = {(one.named, one.found): one.name for one in reversed(found.misnamed)}
        shown = [
            f"{count:,} {of} named as {named} ({first[named, of]})"
            for (named, of), count in kinds.most_common()
        ]
        count = _counted(len(found.misnamed), "picture")
        yield f"{count} with the ending of another format, used: {some(shown)}."


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _classes_counted(count: int) -> str:
    return f"{count:,} {'class' if count == 1 else 'classes'}"


def some(names: Sequence[str], between: str = ", ") -> str:
    """The first of the names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more
