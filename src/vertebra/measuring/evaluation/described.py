"""What an evaluation or a probe was of: the classes and their order, the pictures, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vertebra.data.datasets import Dataset

#: How many classes and files are named.
_SHOWN = 5


@dataclass(frozen=True)
class Pictures:
    """What was evaluated: `images` of `covered` classes, of the set's `classes`, of which `first` come first
    in their `order`. `total` is the number of pictures in the set.

    `matched` says how classes became outputs, None for a probe. `left_out` counts files by their kind, `lost`
    are classes of which no picture could be read, `assumed` are sentences about what was taken for granted.
    """

    classes: int
    covered: int
    first: tuple[str, ...]
    order: str
    matched: str | None
    images: int
    total: int
    left_out: Mapping[str, int]
    lost: tuple[str, ...]
    assumed: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {**asdict(self), "left_out": dict(self.left_out)}

    def lines(self) -> Iterator[str]:
        """The same in sentences."""
        part = "" if self.covered == self.classes else f"{self.covered:,} of "
        names = ", ".join(self.first) + (", …" if self.classes > len(self.first) else "")
        matched = "" if self.matched is None else f"; {self.matched}"
        classes = f"{part}{_counted(self.classes, 'class', 'classes')}"
        yield f"Data: {self.images:,} images of {classes}, {self.order}: {names}{matched}."
        shown = [f"{count:,} {kind}" for kind, count in self.left_out.items()]
        yield f"Left out: {', '.join(shown) or 'nothing'}."
        if self.lost:
            lost = _counted(len(self.lost), "class", "classes")
            yield f"No image could be read of {lost}: {_some(self.lost)}."
        yield from (f"Assumed: {sentence}." for sentence in self.assumed)


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def describe(
    data: Dataset,
    *,
    read: Mapping[int, int],
    missed: Mapping[int, int],
    matched: str | None = None,
    left_out: Mapping[str, int] | None = None,
    assumed: Iterable[str] = (),
) -> Pictures:
    """The description of a run over `data`, in which `read` and `missed` count each label's pictures that
    could be read, and those that couldn't."""
    covered = sorted(label for label, count in read.items() if count)
    lost = sorted(label for label, count in missed.items() if count and not read.get(label))
    kinds = {**data.left_out, "unreadable": sum(missed.values()), **(left_out or {})}
    labels = covered if data.classes is None else range(len(data.classes))
    count = len({*covered, *lost}) if data.classes is None else len(data.classes)
    return Pictures(
        classes=count,
        covered=len(covered),
        first=tuple(data.class_name(label) for label in labels[:_SHOWN]),
        order=data.order if data.classes is not None else f"{data.order} up to {data.num_classes - 1}",
        matched=matched,
        images=sum(read.values()),
        total=len(data),
        left_out={kind: number for kind, number in kinds.items() if number},
        lost=tuple(data.class_name(label) for label in lost),
        assumed=(*data.assumed, *assumed),
    )
