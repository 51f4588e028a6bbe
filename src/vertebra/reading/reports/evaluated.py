"""READ: an evaluation as files: tables, the confusion matrix, the worst mistakes, a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError
from vertebra.machine.files import write_whole
from vertebra.measurements import Measurement, display
from vertebra.measuring.evaluation import Evaluation, Mistake
from vertebra.metrics import METRICS
from vertebra.reading.names import encoded

if TYPE_CHECKING:
    from vertebra.data.preprocess.decode import Pixels
    from vertebra.measuring.evaluation.parts import Joined
    from vertebra.reading.charts import Chart
    from vertebra.reading.reports.sheet import Tile

_ENCODED = (bytes, bytearray, memoryview, str, Path)


@dataclass(frozen=True, repr=False)
class Evaluated(display.Shown):
    """An evaluation with the network that it is of, and the rows that it gives. Of a share of the pictures,
    `joined` says which shares the table lacks, or has the rows of the whole."""

    model: str
    weights: str | None
    engine: str
    evaluation: Evaluation
    rows: list[Measurement]
    joined: Joined | None = None

    def summary(self) -> str:
        """The network, its accuracy and the pictures."""
        shares = (f"{METRICS[row.metric].label} {display.quantity(row)}" for row in self.rows
                  if row.metric in ("top1", "top5"))  # fmt: skip
        return (
            f"{self.model} on {self.evaluation.dataset}: {', '.join(shares)} ({self.evaluation.total} images)"
        )

    def tables(self) -> Iterable[list[display.Line]]:
        """The rows."""
        yield [display.readable(row) for row in self.rows]

    def save(self, folder: str | Path) -> list[Path]:
        """Write into `folder`: classes.csv, confusion.csv, confusion.svg and .png, mistakes.png where there
        were any, and unreadable.csv likewise.

        Raises InvalidInputError where it can't be written, and MissingRuntimeError without vl-convert.
        """
        place = Path(folder)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"Can't make the folder {place}: {error.strerror}.") from error
        files = {"classes.csv": classes_csv(self.evaluation), "confusion.csv": confusion_csv(self.evaluation)}
        if self.evaluation.unreadable:
            files["unreadable.csv"] = _csv(("image", "reason"), self.evaluation.unreadable)
        for name, content in files.items():
            write_whole(place / name, encoded(content))
        drawn = [self.confusion_chart().save(place / f"confusion.{kind}") for kind in ("svg", "png")]
        if self.evaluation.mistakes:
            drawn.append(write_mistakes(self.evaluation, place / "mistakes.png"))
        return [*(place / name for name in files), *drawn]

    def confusion_chart(self) -> Chart:
        """The confusion matrix as a picture."""
        from vertebra.reading import charts

        title = f"{self.model} on {self.evaluation.dataset}"
        return charts.confusion_chart(self.evaluation.confusion, self.evaluation.name_of, title=title)

    def report(self, path: str | Path) -> Path:
        """Write the evaluation as one HTML page that needs no network.

        Raises InvalidInputError where it can't be written, and MissingRuntimeError without vl-convert.
        """
        from vertebra.reading.reports import accuracy

        pictures = self.evaluation.pictures
        data = None if pictures is None else " ".join(pictures.lines()).removeprefix("Data: ")
        conditions = {"engine": self.engine, "weights": self.weights, "data": data}
        upright = self.evaluation.preprocess.apply_orientation
        page = accuracy.html(
            self.model, self.evaluation, self.rows, self.confusion_chart(),
            [(one, _thumbnail(one, upright)) for one in self.evaluation.mistakes], conditions,
        )  # fmt: skip
        write_whole(Path(path), page.encode())
        return Path(path)


# ------------------------------------------------------------------ files


def classes_csv(evaluation: Evaluation) -> str:
    """One line a class, in the order of the outputs; shares are fractions."""
    heads = (
        "class", "name", "images", "top1", "top1_low", "top1_high", "top5", "precision", "confused_with",
    )  # fmt: skip
    lines = []
    for one in evaluation.classes():
        low, high = evaluation.interval_of(one)
        top5 = None if evaluation.top5 is None else one.top5 / one.images
        lines.append(
            (one.index, one.name, one.images, one.recall, low, high, top5, one.precision, one.confused_with)
        )
    return _csv(heads, lines)


def confusion_csv(evaluation: Evaluation) -> str:
    """One line for each pair of true class and answer that occurred."""
    lines = [
        (truth, evaluation.name_of(truth), answer, evaluation.name_of(answer), count)
        for (truth, answer), count in sorted(evaluation.confusion.items())
    ]
    return _csv(("class", "name", "answer", "answer_name", "images"), lines)


def _csv(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(lines)
    return text.getvalue()


def write_mistakes(evaluation: Evaluation, path: Path) -> Path:
    """The most confident mistakes as a contact sheet: the answer, and the truth below it."""
    from vertebra.reading.reports.sheet import Sheet

    sheet = Sheet()
    for mistake in evaluation.mistakes:
        sheet.add(_tile(evaluation, mistake))
    sheet.write(path)
    return path


def _tile(evaluation: Evaluation, mistake: Mistake) -> Tile:
    from vertebra.reading.reports.sheet import Tile

    answers = ((mistake.predicted, mistake.confidence), (mistake.truth, mistake.share))
    lines = tuple((share, evaluation.name_of(index)) for index, share in answers)
    title = f"is {evaluation.name_of(mistake.truth).partition(',')[0]}"
    picture = _pixels(mistake, evaluation.preprocess.apply_orientation)
    return Tile(title, lines, picture=picture, marks=(False, True))


def _pixels(mistake: Mistake, upright: bool) -> Pixels:
    """The picture of a mistake as it was. Raises ImageError where it can't be read any more."""
    from vertebra.data.preprocess import decode

    source = mistake.source
    return decode(source, apply_orientation=upright) if isinstance(source, _ENCODED) else source


def _thumbnail(mistake: Mistake, upright: bool, side: int = 160) -> bytes:
    """The picture of a mistake as a small JPEG."""
    from PIL import Image

    image = Image.fromarray(_pixels(mistake, upright))
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()
