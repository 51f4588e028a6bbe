"""`vertebra.show`: everything known about one network or a Bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra import metrics, zoo
from vertebra.errors import MeasurementError, MissingRuntimeError
from vertebra.measurements import Measurement, display
from vertebra.verbs import given
from vertebra.verbs.given import TableLike
from vertebra.verbs.profile import counted

if TYPE_CHECKING:
    from vertebra.bundles import Bundle
    from vertebra.measurements.shipped import Layer, Stage
    from vertebra.measuring.graphs import GraphProfile
    from vertebra.reading.reports.trained import Trained
    from vertebra.zoo import names


@dataclass(frozen=True, repr=False)
class Portrait(display.Shown):
    """All that is known of one network without running it here: `layers` and `stages` at its native size, and
    for each of the figures its share of the machine's roofline, where that is known. Of a network in a file
    `counted` has the counts and what the file states. `counted_not` is why it couldn't be counted."""

    model: names.Model
    figures: list[Measurement]
    stages: list[Stage]
    layers: list[Layer]
    shares: list[float | None]
    counted: GraphProfile | None = None
    counted_not: str | None = None

    def summary(self) -> str:
        """The network's name, family and year."""
        return f"{self.model.name}: {self.model.family}, {self.model.year}, {self.model.input_size} px"

    def tables(self) -> Iterable[list[display.Line]]:
        """The table's figures, and the stages."""
        yield [display.readable(row) for row in self.figures]
        yield [{**one._asdict(), "output_shape": "x".join(map(str, one.output_shape))} for one in self.stages]


def show(model: str | Path, *, table: TableLike = None) -> Portrait | Bundle | Trained:
    """Everything known about one network: its paper and idea, the table's figures, its stages and layers; or
    a Bundle with every file checked; or the run in a folder that `train` wrote, also while it is under way.

    The layers of vertebra's own networks ship with it; those of other libraries' and of files are counted
    now.
    """
    from vertebra import bundles
    from vertebra.bundles import runs
    from vertebra.inference import resolving
    from vertebra.measurements import shipped
    from vertebra.reading import roofline
    from vertebra.zoo import adapters

    if runs.is_run(model):
        from vertebra.reading.reports import trained

        return trained.of_folder(model)
    if resolving.is_bundle(model):
        return bundles.read(model)
    model = str(model)

    found = zoo.find(model)
    source = given.table(table, create=False)
    content = adapters.content_sha256(found.name) if found.is_file else None
    known = source.latest(model=zoo.name_in_rows(found), network_sha256=content)
    figures = [row for row in known if row.metric != "failure"]
    ours = found.source == "vertebra"
    shares = roofline.shares(
        figures, source.latest(model=metrics.MACHINE), shipped.totals(found.name) if ours else None
    )
    if ours:
        return Portrait(found, figures, shipped.stages(found.name), shipped.layers(found.name), shares)
    if found.is_file:
        return _of_file(found, figures, shares)
    try:
        profile = counted(found, None)
    except MissingRuntimeError as error:
        why = f"{error.message.rstrip('.')}; {error.hint}"
        return Portrait(found, figures, [], [], shares, counted_not=why)
    return Portrait(found, figures, list(profile.stages), list(profile.layers), shares)


def _of_file(found: names.Model, figures: list[Measurement], shares: list[float | None]) -> Portrait:
    from vertebra.measuring.graphs import GraphProfile

    try:
        profile = counted(found, None)
    except (MeasurementError, MissingRuntimeError) as error:
        return Portrait(found, figures, [], [], shares, counted_not=error.message)
    assert isinstance(profile, GraphProfile)
    return Portrait(found, figures, [], list(profile.layers), shares, counted=profile)
