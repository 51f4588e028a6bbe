"""An inspection of pictures as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vertebra.data.findings import Inspection

#: How many classes have a line of their own; of more, the largest and the smallest are named.
_CLASSES = 6
#: How many lines there are at most.
_LINES = 20


def lines(found: Inspection) -> list[str]:
    """At most 20 lines: how many pictures of which classes, and then the remarks, the gravest first. What is
    cut off is counted; `Inspection.to_json` has everything."""
    remarks = list(found.remarks())
    head = [_first(found), *_classes(found)]
    room = _LINES - len(head)
    if len(remarks) > room:
        cut = len(remarks) - room + 1
        remarks = [*remarks[: room - 1], f"{cut} more remarks: see the JSON."]
    return [*head, *remarks]


def _first(found: Inspection) -> str:
    filled = sum(1 for _, count in found.classes if count)
    of = f", split {found.split}" if found.split else ""
    groups = len(set(found.groups))
    apart = f" in {groups:,} groups" if groups < len(found.kept) else ""
    return (
        f"{found.identity}{of}: {len(found.kept):,} pictures{apart} of {filled:,} "
        f"{'class' if filled == 1 else 'classes'}, of {found.total:,} in the set ({found.format})."
    )


def _classes(found: Inspection) -> list[str]:
    total = max(1, len(found.kept))
    by_size = sorted(found.classes, key=lambda one: -one[1])
    if len(by_size) <= _CLASSES:
        name_width = max(_breadth(name) for name, _ in by_size)
        width = len(f"{by_size[0][1]:,}")
        return [
            f"  {name}{' ' * (name_width - _breadth(name))}  {count:{width},}  {100 * count / total:5.1f} %"
            for name, count in by_size
        ]
    largest = ", ".join(f"{name} {count:,}" for name, count in by_size[:3])
    smallest = ", ".join(f"{name} {count:,}" for name, count in by_size[-3:])
    return [f"  largest: {largest}", f"  smallest: {smallest}"]


def _breadth(name: str) -> int:
    """How many columns a name takes on a terminal, where some characters take two and others none."""
    from rich.cells import cell_len

    return len(name) if name.isascii() else cell_len(name)
