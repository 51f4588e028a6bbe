"""What is counted of some pictures, by itself: counts of different pictures add up to that of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vertebra.measuring.evaluation.tally import Mistake, Tally

#: How many unreadable images are named; all are counted.
NAMED = 1000
#: How many of the most confident mistakes are kept.
MISTAKES = 24
_SUMS = ("total", "top1", "top5", "bin_counts", "bin_right", "bin_confidence")


@dataclass
class Count:
    """The answers to some pictures, and those that couldn't be read: the first of them with their reasons,
    how many, and how many there were of each label, read and missed."""

    tally: Tally
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    missed: int = 0
    read_of: Counter[int] = field(default_factory=Counter)
    missed_of: Counter[int] = field(default_factory=Counter)

    def miss(self, labels: Sequence[int], reasons: Sequence[tuple[str, str]]) -> None:
        """Count pictures that can't be read: their labels, and their names with the reasons."""
        self.missed += len(labels)
        self.missed_of.update(labels)
        self.unreadable += reasons[: NAMED - len(self.unreadable)]

    def merge(self, other: Count) -> None:
        """Add the counts of the pictures that follow."""
        self.tally.merge(other.tally)
        self.unreadable += other.unreadable[: NAMED - len(self.unreadable)]
        self.missed += other.missed
        self.read_of.update(other.read_of)
        self.missed_of.update(other.missed_of)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values. The mistakes' pictures must be files."""
        tally = self.tally
        return {
            **{name: getattr(tally, name) for name in _SUMS},
            "kept": tally.kept,
            "independent": tally.independent,
            "pairs": [[*pair, count] for pair, count in tally.pairs.items()],
            "top5_by_class": list(tally.top5_by_class.items()),
            "mistakes": [_told(one) for one in tally.mistakes()],
            "unreadable": self.unreadable,
            "missed": self.missed,
            "read_of": list(self.read_of.items()),
            "missed_of": list(self.missed_of.items()),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Count:
        """What `to_dict` gave."""
        tally = Tally(
            told["kept"], told["independent"], **{name: told[name] for name in _SUMS},
            pairs=Counter({(truth, predicted): count for truth, predicted, count in told["pairs"]}),
            top5_by_class=Counter(dict(told["top5_by_class"])),
        )  # fmt: skip
        for one in told["mistakes"]:
            name, truth, predicted, confidence, share, path = one
            tally.keep(Mistake(name, truth, predicted, confidence, share, Path(path)))
        return cls(
            tally, [(name, reason) for name, reason in told["unreadable"]], told["missed"],
            Counter(dict(told["read_of"])), Counter(dict(told["missed_of"])),
        )  # fmt: skip


def _told(one: Mistake) -> list[Any]:
    return [one.name, one.truth, one.predicted, one.confidence, one.share, str(one.source)]
