"""READ: what `fit` made: the winner, the networks that were compared, the classes, and all as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.data import folds
from vertebra.errors import InvalidInputError, VertebraError
from vertebra.machine.files import write_whole
from vertebra.measurements import Measurement, WideRow, display
from vertebra.measuring.evaluation.paired import Pair
from vertebra.reading.choice.precisions import USUAL

if TYPE_CHECKING:
    from vertebra.bundles import Bundle
    from vertebra.data.datasets import Dataset
    from vertebra.data.findings import Inspection
    from vertebra.measuring.evaluation.crossing import Held
    from vertebra.measuring.evaluation.racing import Race
    from vertebra.reading.choice.contender import Contender
    from vertebra.reading.choice.rule import Limit
    from vertebra.reading.reports.sheet import Sheet


#: Mistakes in a notebook.
_SHOWN = 12


@dataclass(frozen=True)
class Finetuned:
    """A network of the race that was trained on for `epochs` in the same folds: its answers to pictures that
    it hadn't seen, how much more often it was right than the network with the fitted head, with the interval,
    and `why` it ships or not. Without any epoch there are neither."""

    name: str
    epochs: int
    held: Held | None
    difference: Pair | None
    why: str
    ships: bool = False


@dataclass(frozen=True, repr=False)
class Fitted(display.Shown):
    """What `fit` made. `bundle` is the winner with its head, on disk; `row` has its figures on this machine,
    each of which meets its limit, and `rows` is all that was appended to the table.

    `held` are the winner's answers to pictures that its head hadn't seen. `quoted` are those to quote: there
    the network, too, was chosen without the pictures that it was tested on, unless the one that the pictures
    chose missed a limit, and this one took its place. `contenders` were
    compared, the fastest first; `failures` are networks that were left out, with the reasons. `unmet` are
    those that won but missed a limit once their head was on. `inspection` says what the pictures are.
    `rounded` are the answers in the Bundle's precision, if that isn't float32, by networks and heads that
    hadn't seen the pictures; then they are the ones to quote. `finetuned` are networks that were trained on;
    where one of them ships, `held` are its answers, and the ones to quote.
    """

    data: Dataset
    bundle: Bundle
    winner: Contender
    row: WideRow
    limits: tuple[Limit, ...]
    held: Held
    race: Race
    inspection: Inspection
    contenders: tuple[Contender, ...]
    failures: Mapping[str, VertebraError]
    rows: tuple[Measurement, ...]
    unmet: Mapping[str, str] = field(default_factory=dict)
    rounded: Held | None = None
    finetuned: tuple[Finetuned, ...] = ()

    @property
    def is_finetuned(self) -> bool:
        """Whether the network that ships was trained on, and not only its head."""
        return any(one.ships for one in self.finetuned)

    @property
    def is_first_choice(self) -> bool:
        """Whether the network that ships is the one that the pictures chose."""
        return self.winner.label == self.race.winner

    @property
    def preparation(self) -> Pair | None:
        """How much more often the network is right with its pictures prepared as they are than in the other
        way that was tried; None where none was, or another network ships."""
        other = self.race.otherwise
        if other is None or other.difference is None or not self.is_first_choice:
            return None
        found = other.difference
        return Pair(-found.difference, -found.high, -found.low)

    @property
    def quoted(self) -> Held:
        """The answers that the accuracy is of: the choice's, or those of the network in its place."""
        return self.rounded or (self.held if self.is_finetuned else self.in_float32)

    @property
    def answers(self) -> Held:
        """The answers of the network that ships, in its precision: what classes and mistakes are told by."""
        return self.rounded or self.held

    @property
    def in_float32(self) -> Held:
        """The same, of the network in float32."""
        return self.race.nested if self.is_first_choice else self.held

    @property
    def accuracy(self) -> float:
        """Top-1 on pictures that the head hadn't seen, as a share of 1; see `quoted`."""
        return self.quoted.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return self.quoted.low, self.quoted.high

    def summary(self) -> str:
        """The winner, its accuracy, its figures and where it is."""
        low, high = self.interval
        line = display.glance(self.row)
        precision = "" if self.rounded is None else f" in {self.bundle.precision}"
        figures = ", ".join(f"{name} {line[name]}" for name in ("latency", "memory") if line.get(name))
        return (
            f"{self.winner.name} on {self.winner.engine}{precision}: top-1 {self.accuracy:.1%} ({low:.1%} to "
            f"{high:.1%}) on {self.inspection.identity}, {figures}; Bundle {self.bundle.folder}"
        )

    def tables(self) -> Iterable[list[display.Line]]:
        """The networks that were compared, and the classes."""
        yield compared(self)
        yield by_class(self.answers, self.inspection)

    def _repr_html_(self) -> str:
        """The tables, and the worst mistakes as small pictures."""
        page = super()._repr_html_()
        if not self.answers.mistakes(1):
            return page
        style = "display:grid;grid-template-columns:repeat(auto-fill,minmax(208px,1fr));gap:1rem"
        return f'{page}<p>The worst mistakes</p><div style="{style}">{_sheet(self, _SHOWN).html()}</div>'

    def save(self, folder: str | Path) -> list[Path]:
        """Write into `folder`: classes.csv, confusion.csv, networks.csv, split.csv and pictures.json, and
        mistakes.png where there were any. Raises InvalidInputError where it can't be written."""
        return _saved(self, Path(folder))


def compared(done: Fitted) -> list[display.Line]:
    """A line for each network that was compared, the best first."""
    of_name = {one.name: one for one in done.contenders}
    lines: list[display.Line] = []
    for outcome in done.race.outcomes:
        held, one = outcome.held, of_name[outcome.network or outcome.name]
        lines.append(
            {
                "model": outcome.name,
                "engine": one.engine,
                **({} if done.rounded is None else {"precision": USUAL}),
                "latency": display.quantity(one.row.figures["latency"]),
                "top-1": None if held is None else f"{held.accuracy:.1%}",
                "95 % interval": None if held is None else f"{held.low:.1%} to {held.high:.1%}",
                "pictures": outcome.pictures,
                "why": done.unmet.get(outcome.name) or outcome.why,
            }
        )
    return lines


def by_class(held: Held, inspection: Inspection) -> list[display.Line]:
    """A line for each class, the worst first."""
    names = [name for name, _ in inspection.classes]
    worst_first = sorted(held.per_class, key=lambda one: (one.recall, -one.pictures, one.label))
    lines: list[display.Line] = [
        {
            "class": names[one.label],
            "pictures": one.pictures,
            "top-1": f"{one.recall:.1%}",
            "95 % interval": f"{one.low:.1%} to {one.high:.1%}",
            "most often taken for": None if one.confused_with is None else names[one.confused_with],
        }
        for one in worst_first
    ]
    return lines


def _saved(done: Fitted, folder: Path) -> list[Path]:
    """The details as files in `folder`."""
    from vertebra.reading.names import encoded

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"Can't make the folder {folder}: {error.strerror}.") from error
    names = [name for name, _ in done.inspection.classes]
    confusion = [{"class": names[truth], "answer": names[answer], "images": count}
                 for (truth, answer), count in done.answers.confusion.items()]  # fmt: skip
    texts = {
        "classes.csv": _csv(by_class(done.answers, done.inspection)),
        "confusion.csv": _csv(confusion),
        "networks.csv": _csv(compared(done)),
        "pictures.json": json.dumps(done.inspection.to_json(), indent=2) + "\n",
    }
    for name, text in texts.items():
        write_whole(folder / name, encoded(text))
    split = folder / "split.csv"
    folds.write(split, done.inspection.kept, done.held.folds.tolist(), classes=names)
    sheet = [_mistakes(done, folder / "mistakes.png")] if done.answers.mistakes(1) else []
    return [*(folder / name for name in texts), split, *sheet]


def _mistakes(done: Fitted, path: Path) -> Path:
    _sheet(done, 24).write(path)
    return path


def _sheet(done: Fitted, most: int) -> Sheet:
    """The most confident mistakes as a contact sheet: the answer, and the truth below it."""
    from vertebra.data.preprocess import decode
    from vertebra.reading.reports.sheet import Sheet, Tile

    names = [name for name, _ in done.inspection.classes]
    wrong = {done.inspection.kept[one.row].place: one for one in done.answers.mistakes(most)}
    tiles = {}
    for place, sample in enumerate(done.data.first(max(wrong) + 1)):
        if place in wrong:
            one = wrong[place]
            picture = decode(sample.source, apply_orientation=True)
            classes = ((one.confidence, names[one.answered]), (one.share, names[one.truth]))
            tiles[place] = Tile(f"is {names[one.truth]}", classes, picture=picture, marks=(False, True))
    sheet = Sheet()
    for place in wrong:
        sheet.add(tiles[place])
    return sheet


def _csv(lines: Sequence[display.Line]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
