"""The named views: every figure and table of the two papers, drawn from any wide rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from vertebra import units
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, WideRow
from vertebra.reading.charts.balls import ball_chart
from vertebra.reading.charts.bars import bar_chart
from vertebra.reading.charts.chart import Chart
from vertebra.reading.charts.grid import BEST, FPS_CLASSES, MEMORY_CLASSES, grid, grid_chart
from vertebra.reading.charts.heat import MOST, heat_table
from vertebra.reading.charts.lines import batch_chart


@dataclass(frozen=True)
class Settings:
    """The settings of a view: its upper bound ("front": steps, "line": straight), its classes of peak memory
    in bytes and of images per second (None: the paper's; in the grid from the rows if those don't divide
    them), how many networks a cell of the grid lists, and the worst grade of a
    figure that counts there."""

    bound: Literal["front", "line"] = "front"
    memory_classes: tuple[float, ...] | None = None
    fps_classes: tuple[float, ...] | None = None
    best: int = BEST
    least_grade: str | None = None


@dataclass(frozen=True)
class View:
    """A named chart. `batches` is True if it shows several batch sizes at once."""

    name: str
    what: str
    draw: Callable[[Sequence[WideRow], Settings], Chart]
    batches: bool = False

    @property
    def runs(self) -> bool:
        """Whether it needs figures that were measured on a machine."""
        return self.name not in _STATIC


#: Views of figures that don't depend on a machine.
_STATIC = ("accuracy", "accuracy-operations", "density", "accuracy-density")


def find(name: str) -> View:
    """The view called `name`. Raises UnknownNameError with close matches."""
    known = {**VIEWS, HISTORY.name: HISTORY}
    try:
        return known[name]
    except KeyError:
        raise UnknownNameError.of("chart", name, known, "vertebra list charts") from None


def draw(name: str, rows: Iterable[WideRow], settings: Settings | None = None) -> Chart:
    """The view called `name` of `rows`, drawn with `settings`.

    Raises UnknownNameError for an unknown view, and InvalidInputError if the rows are of different
    conditions, or lack figures.
    """
    return find(name).draw([per_image(row) for row in rows], settings or Settings())


def per_image(row: WideRow) -> WideRow:
    """`row` with its latency per image and throughput, computed from a latency and its batch size, or from a
    published throughput."""
    latency, throughput = row.figures.get("latency"), row.figures.get("throughput")
    derived: dict[str, Measurement] = {}
    if latency is not None and latency.batch_size and latency.value > 0:
        derived["latency_per_image"] = _scaled(latency, "latency_per_image", 1 / latency.batch_size)
        if throughput is None:
            derived["throughput"] = _inverse(latency, "throughput", latency.batch_size)
    elif throughput is not None and throughput.value > 0:
        derived["latency_per_image"] = _inverse(throughput, "latency_per_image", 1)
    return replace(row, figures={**row.figures, **derived}) if derived else row


def _scaled(figure: Measurement, metric: str, factor: float) -> Measurement:
    ends = {name: None if end is None else end * factor for name, end in _ends(figure).items()}
    return _changed(figure, metric=metric, value=figure.value * factor, **ends)


def _inverse(figure: Measurement, metric: str, over: float) -> Measurement:
    ends = _ends(figure)
    low, high = (over / end if end else None for end in (ends["high"], ends["low"]))
    return _changed(figure, metric=metric, value=over / figure.value, low=low, high=high)


def _ends(figure: Measurement) -> dict[str, float | None]:
    return {"low": figure.low, "high": figure.high}


def _changed(figure: Measurement, **columns: Any) -> Measurement:
    return Measurement.restored({**vars(figure), **columns})


def _bars(metric: str, rows: Sequence[WideRow], settings: Settings) -> Chart:
    return bar_chart(rows, metric=metric)


def _balls(
    x: str, y: str, size: str, line: Literal["front", "power", "linear"], rows: Sequence[WideRow],
    settings: Settings,
) -> Chart:  # fmt: skip
    log = {"power": True, "linear": False}.get(line)  # a straight line is one on its own axes only
    return ball_chart(rows, x=x, y=y, size=size, line=line, log=log)


def _speed(rows: Sequence[WideRow], settings: Settings) -> Chart:
    """Frames per second at batch size 1, images per second at another."""
    x = "fps" if any("fps" in row.figures for row in rows) else "throughput"
    return ball_chart(rows, x=x, size="operations", line="bound" if settings.bound == "line" else "front")


def _power(rows: Sequence[WideRow], settings: Settings) -> Chart:
    if not any("power" in row.figures for row in rows):
        raise InvalidInputError(
            "No network has a figure of power.",
            "power needs a machine with energy counters; choose one with --system",
        )
    return ball_chart(rows, x="operations", y="power", line="linear", log=False)


def _lines(metric: str, rows: Sequence[WideRow], settings: Settings) -> Chart:
    return batch_chart(rows, metric=metric)


def _latency_table(rows: Sequence[WideRow], settings: Settings) -> Chart:
    rates = sorted(_classes(settings.fps_classes, FPS_CLASSES, "speed"), reverse=True)
    return heat_table(
        rows,
        metric="latency_per_image",
        bounds=[1 / rate for rate in rates],
        words=[*(f"at least {rate:g} images/s" for rate in rates), f"below {rates[-1]:g} images/s"],
    )


def _memory_table(rows: Sequence[WideRow], settings: Settings) -> Chart:
    bounds = sorted(_classes(settings.memory_classes, MEMORY_CLASSES, "memory"))
    words = [f"at most {units.show(bound, 'B')}" for bound in bounds]
    words.append(f"above {units.show(bounds[-1], 'B')}")
    return heat_table(rows, metric="memory_total", bounds=bounds, words=words)


def _classes(given: Sequence[float] | None, usual: Sequence[float], what: str) -> Sequence[float]:
    given = usual if given is None else given
    if not 0 < len(set(given)) <= MOST or min(given) <= 0:
        raise InvalidInputError(
            f"{len(set(given))} classes of {what} can't be coloured.",
            f"pass 1 to {MOST} classes, all above 0",
        )
    return list(dict.fromkeys(given))


def _grid(rows: Sequence[WideRow], settings: Settings) -> Chart:
    cells = grid(
        rows,
        memory_classes=settings.memory_classes,
        fps_classes=settings.fps_classes,
        best=settings.best,
        least_grade=settings.least_grade,
    )
    return grid_chart(cells, best=settings.best)


_ENTRIES = (
    View("accuracy", "top-1 accuracy, the best first", partial(_bars, "top1")),
    View(
        "accuracy-operations", "top-1 accuracy against operations, the area the parameters: the ball chart",
        partial(_balls, "operations", "top1", "params", "front"),
    ),
    View(
        "accuracy-latency", "top-1 accuracy against latency per image, the area the parameters",
        partial(_balls, "latency_per_image", "top1", "params", "front"),
    ),
    View(
        "latency-batch", "latency per image against batch size, a line per network",
        partial(_lines, "latency_per_image"), True,
    ),
    View(
        "memory-batch", "peak memory against batch size, a line per network",
        partial(_lines, "memory_total"), True,
    ),
    View(
        "memory-size", "peak memory against the size of the weights, with the fitted straight line",
        partial(_balls, "weight_bytes", "memory_total", "params", "linear"),
    ),
    View(
        "operations-latency",
        "latency per image against operations, both logarithmic, with the fitted power law",
        partial(_balls, "operations", "latency_per_image", "params", "power"),
    ),
    View(
        "operations-power",
        "power against operations, with the fitted straight line; only networks with a measured power",
        _power,
    ),
    View(
        "accuracy-fps",
        "top-1 accuracy against images per second, with the Pareto front, or --bound line", _speed,
    ),
    View(
        "density", "accuracy density: top-1 accuracy per million parameters, the best first",
        partial(_bars, "accuracy_density"),
    ),
    View(
        "accuracy-density", "top-1 accuracy against accuracy density",
        partial(_balls, "accuracy_density", "top1", "params", "front"),
    ),
    View(
        "latency-table",
        "latency per image, one line per network and one column per batch size, in classes of speed",
        _latency_table, True,
    ),
    View(
        "memory-table",
        "peak memory, one line per network and one column per batch size, in classes of memory",
        _memory_table, True,
    ),
    View(
        "grid",
        "classes of memory against classes of speed, with the five networks of the best top-1 accuracy in "
        "each",
        _grid,
    ),
)  # fmt: skip


def _history(rows: Sequence[WideRow], settings: Settings) -> Chart:
    raise InvalidInputError(
        "A history needs every run of a network, which wide rows don't have.",
        'draw it from the table: vertebra.chart("history", "resnet50")',
    )


#: The view of one network over time, which is drawn from all of its runs.
HISTORY = View(
    "history", "latency of one network over dates and versions, with the steps between them", _history
)
#: The views of all networks at once.
VIEWS: dict[str, View] = {entry.name: entry for entry in _ENTRIES}
