"""READ: a training: what came of it, its curves, and all as files in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles import runs
from vertebra.machine.files import write_whole
from vertebra.measurements import Measurement, display
from vertebra.measuring.evaluation import wilson
from vertebra.reading import charts
from vertebra.reading.reports.markup import Html, items, joined, section, tag
from vertebra.reading.reports.pictures import picture

if TYPE_CHECKING:
    from vertebra.reading.charts import Chart
    from vertebra.reading.reports.evaluated import Evaluated

#: How a run ends that a signal ended, and one that is asked about while it runs or after its process died.
INTERRUPTED, UNDER_WAY, PLANNED = "interrupted", "not ended", "planned"


@dataclass(frozen=True, repr=False)
class Trained(display.Shown):
    """A training. `record` is its run.json, or with `dry_run` what would be done; `status` how it ended;
    `best` describes the weights that are kept: their epoch, "raw" or "averaged", top-1 and the counts.

    `evaluated` is the evaluation of those weights as they are on the disk, and `rows` what was appended to
    the table. `seconds` is the time that this process took, `waited` the share of it that the pictures
    weren't ready. `outcomes` say what compressing the network cost and bought, each in plain values and as a
    `line` for people.
    """

    record: Mapping[str, Any]
    folder: Path
    status: str = PLANNED
    log: tuple[Mapping[str, Any], ...] = ()
    best: Mapping[str, Any] | None = None
    evaluated: Evaluated | None = None
    rows: tuple[Measurement, ...] = ()
    seconds: float = 0.0
    waited: float = 0.0
    outcomes: tuple[Mapping[str, Any], ...] = ()

    @property
    def weights(self) -> Path:
        """The file of the best weights, with their preprocessing and classes."""
        return self.folder / runs.WEIGHTS

    @property
    def accuracy(self) -> float | None:
        """Top-1 of the best weights, as a share of 1; None before the first epoch ended."""
        return None if self.best is None else float(self.best["top1"])

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy."""
        return None if self.best is None else wilson(self.best["right"], self.best["total"])

    def summary(self) -> str:
        """The network, its accuracy and where the run is."""
        model, name = self.record.get("model"), self.record.get("recipe", {}).get("name")
        if self.best is None or self.interval is None:
            return f"{model}, recipe {name}: {self.status}; run {self.folder}"
        low, high = self.interval
        return (
            f"{model}, recipe {name}: top-1 {self.best['top1']:.1%} ({low:.1%} to {high:.1%}), the "
            f"{self.best['weights']} weights of epoch {self.best['epoch']}; {self.status}; run {self.folder}"
        )

    def tables(self) -> Iterable[list[display.Line]]:
        """The epochs."""
        yield epochs(self.log)

    def curves(self) -> Chart:
        """Loss, accuracy and rate over the epochs."""
        recipe = self.record["recipe"]
        pictures = self.record["pictures"]
        notes = [
            f"recipe {recipe['name']}", f"{pictures['training']:,} pictures of {pictures['name']}",
            f"evaluated on {pictures['validation']:,}", f"batch {recipe['batch']}",
        ]  # fmt: skip
        title = f"{self.record['model']} trained on {pictures['name']}"
        return charts.curves_chart(self.log, self.record["steps_per_epoch"], title=title, notes=notes)

    def save(self, folder: str | Path | None = None) -> list[Path]:
        """Write epochs.csv, curves.png and report.html into `folder`, by default the run's own, and what the
        evaluation has. Without vl-convert there are only the tables."""
        place = self.folder if folder is None else Path(folder)
        write_whole(place / "epochs.csv", _csv(epochs(self.log)).encode())
        written = [place / "epochs.csv"]
        if not charts.is_installed():
            return written
        written.append(self.curves().save(place / "curves.png"))
        write_whole(place / "report.html", self.html().encode())
        written.append(place / "report.html")
        return written + (self.evaluated.save(place) if self.evaluated is not None else [])

    def html(self) -> str:
        """The run as one HTML page that needs no network. Raises MissingRuntimeError without vl-convert."""
        title = f"{self.record['model']} trained on {self.record['pictures']['name']}"
        recipe = {name: value for name, value in self.record["recipe"].items() if value not in ("", [], ())}
        told = [*self.record.get("remarks", ()), *recipe.pop("changes", ())]
        body = joined([
            tag("header", tag("h1", title), tag("p", self.summary(), class_="summary")),
            tag("main",
                section("curves", "Curves", picture(self.curves())),
                section("epochs", "Epochs", _table(epochs(self.log))),
                self._confusion(),
                section("pictures", "Pictures and recipe", items(told)) if told else "",
                section("recipe", "Recipe", _table([{"field": name, "value": str(value)}
                                          for name, value in recipe.items()]))),
        ])  # fmt: skip
        from vertebra.reading.reports.accuracy import page

        return page(title, body)

    def _confusion(self) -> str:
        if self.evaluated is None:
            return ""
        return section("confusion", "Confusion matrix", picture(self.evaluated.confusion_chart()))


def epochs(log: Iterable[Mapping[str, Any]]) -> list[display.Line]:
    """A line for each epoch that was evaluated."""
    lines: list[display.Line] = []
    losses: dict[int, list[float]] = {}
    for line in log:
        if line.get("kind") == "step":
            losses.setdefault(line["epoch"], []).append(line["loss"])
        elif line.get("kind") == "epoch":
            shares = {one["weights"]: one["top1"] for one in line["evaluated"]}
            loss = losses.get(line["epoch"])
            best = line["best"] is not None and line["best"]["epoch"] == line["epoch"]
            lines.append(
                {
                    "epoch": line["epoch"],
                    "step": line["step"],
                    "loss": None if not loss else f"{sum(loss) / len(loss):.4f}",
                    "top-1": f"{shares['raw']:.2%}",
                    "averaged": f"{shares['averaged']:.2%}" if "averaged" in shares else None,
                    "best so far": "yes" if best else "",
                }
            )
    return lines


def of_folder(folder: str | Path) -> Trained:
    """The run in a folder, also one under way. Raises InvalidInputError where there is none."""
    kept = runs.read(folder)
    ended = kept.lines("epoch")
    best = ended[-1]["best"] if ended else None
    status = kept.result["status"] if kept.result is not None else UNDER_WAY
    return Trained(
        record=kept.record, folder=kept.folder, status=status, log=kept.log, best=best,
        outcomes=runs.outcomes(kept.folder),
    )  # fmt: skip


def _csv(lines: Sequence[display.Line]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _table(lines: Sequence[display.Line]) -> Html:
    return Html(display.table(lines))
