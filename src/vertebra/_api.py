"""The public verbs: take names, resolve them, call the room that does the work, append what it gives.

What is heavy (torch, the table's database) is imported by the verb that needs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import __version__, metrics, recommendation, units, zoo
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import ORIGINS, Measurement, Table, WideRow, depends_on_machine, latest, wide
from vertebra.zoo import names

if TYPE_CHECKING:
    from vertebra.assessment import Evaluated
    from vertebra.benchmarking import Case
    from vertebra.bundle import Bundle
    from vertebra.charts import Chart
    from vertebra.evaluation import Watcher as ImageWatcher
    from vertebra.prediction import Given, Prediction
    from vertebra.profiler import Profile
    from vertebra.rows import Layer, Stage
    from vertebra.surveying import Watcher

TableLike = Table | str | Path | None

#: `pick`'s limits: how one is called -> the metric that it bounds.
LIMITS = {
    "latency": "latency",
    "fps": "fps",
    "memory": "memory_total",
    "size": "weight_bytes",
    "params": "params",
    "macs": "macs",
    "operations": "operations",
    "top1": "top1",
    "top5": "top5",
    "probe": "probe_top1",
}


@dataclass(frozen=True)
class Survey:
    """What a survey did: cases measured now, cases known before, and how many of both failed."""

    measured: int
    known: int
    failed: int
    report: Path
    seconds: float


@dataclass(frozen=True)
class Portrait:
    """All that is known of one network without running it here: `layers` and `stages` at its native size."""

    model: names.Model
    figures: list[Measurement]
    stages: list[Stage]
    layers: list[Layer]


def cite(*files: str | Path, table: TableLike = None) -> int:
    """Append published figures (those that ship, where no file is named) and return how many rows were new.

    `files` are rows as `write` makes them (.csv, .json, .parquet) or other tables (.sqlite).
    """
    into = _open(table)
    if files:
        return sum(into.take_in(file) for file in files)
    from vertebra import citations

    before = len(into)
    into.append(citations.paddleclas())
    return len(into) - before


def write(rows: Iterable[Measurement], file: str | Path) -> None:
    """Write `rows` to a .csv, .json or .parquet file that `cite` takes in again, on any machine."""
    from vertebra.measurements import exchange

    writers = {".csv": exchange.write_csv, ".json": exchange.write_json, ".parquet": exchange.write_parquet}
    _by_suffix(Path(file), writers)(rows, Path(file))


def _by_suffix(file: Path, functions: dict[str, Any]) -> Any:
    if file.suffix not in functions:
        raise InvalidInputError(f'Can\'t tell the format of "{file}".', f"formats: {', '.join(functions)}")
    return functions[file.suffix]


def profile(*models: str, input_size: int | None = None, table: TableLike = None) -> list[Profile]:
    """Count parameters, MACs, activations and sizes of `models` (the classics where none is named).

    Nothing is allocated or run. The totals are appended to the table; the layers are in what is returned.
    """
    chosen = [zoo.find(model) for model in models or names.CLASSICS]
    profiles = [_profile(model, input_size) for model in chosen]
    into = _open(table)
    from vertebra import profiler

    for one in profiles:
        into.append(profiler.rows(one, measured_at=now()))
    return profiles


def _profile(model: names.Model, input_size: int | None) -> Profile:
    from vertebra import profiler, surveying
    from vertebra.zoo import build

    size = surveying.native_or(model, input_size)
    return profiler.profile(lambda: build(model.name), model=model.name, input_size=size)


def bench(
    *models: str,
    engines: Sequence[str] = (),
    batch_size: int = 1,
    input_size: int | None = None,
    threads: int | None = None,
    seconds: float = 10.0,
    table: TableLike = None,
    watcher: Watcher | None = None,
) -> list[Measurement]:
    """Measure `models` on `engines` (all that are here, where none is named), and append the rows.

    Each case runs in a fresh process for about `seconds` of samples, with untrained parameters, which
    are as fast as trained ones. A case that fails is a row of the metric `failure` with its reason, and
    the rest goes on.
    """
    from vertebra import surveying

    wanted = surveying.cases(
        models or names.CLASSICS, engines, batch_size=batch_size, input_size=input_size, threads=threads
    )
    return surveying.measure(wanted, _open(table), seconds=seconds, watcher=watcher)


def survey(
    *,
    models: Sequence[str] = (),
    engines: Sequence[str] = (),
    budget: str | float = "6m",
    output: str | Path = "vertebra-survey",
    again: bool = False,
    table: TableLike = None,
    watcher: Watcher | None = None,
) -> Survey:
    """Cite, profile and bench the classics on the engines found here, and write a report into `output`.

    What the table tells of this machine and these versions is not measured again, unless `again`.
    `budget` bounds the measuring; where it is short, rows have fewer samples and say so.
    """
    from vertebra import surveying

    start = time.monotonic()
    deadline = start + (units.parse(budget, "s") if isinstance(budget, str) else budget)
    chosen = [zoo.find(model).name for model in models or names.CLASSICS]
    wanted = surveying.cases(chosen, engines)
    into, folder = _open(table), Path(output)
    page = folder / "report.html"
    told = into.rows()
    todo = wanted if again else surveying.remaining(wanted, told)
    if todo or not page.exists():
        _check_before(todo, folder)
        cite(table=into)
        if watcher is not None:
            watcher(surveying.Progress(0, len(todo), "counting parameters and operations"))
        _profile_missing(chosen, told, into)
        surveying.measure(todo, into, deadline=deadline, watcher=watcher)
        _draw(folder, into)
    failed = len(surveying.remaining(wanted, into.rows(metric="latency")))
    return Survey(len(todo), len(wanted) - len(todo), failed, page, time.monotonic() - start)


def _check_before(todo: Sequence[Case], folder: Path) -> None:
    """Whatever would end a survey after minutes of measuring ends it before."""
    from vertebra import charts, surveying

    charts.require()
    surveying.check_room(todo)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"Can't make the folder {folder}: {error.strerror}.", "name another folder with --output"
        ) from error


def _profile_missing(chosen: Sequence[str], told: Sequence[Measurement], into: Table) -> None:
    """Count the networks that this version of vertebra hasn't counted yet at their own size.

    All classics are among them, surveyed or not: a chart doesn't put printed counts beside ours.
    """
    counted = {
        row.model for row in told if row.metric == "macs" and row.versions.get("vertebra") == __version__
    }
    missing = [model for model in dict.fromkeys([*names.CLASSICS, *chosen]) if model not in counted]
    if missing:
        profile(*missing, table=into)


def _draw(folder: Path, table: Table) -> None:
    """The report, and as files of their own a chart of operations and one of each engine's latency."""
    report(folder / "report.html", table=table)
    engines = {row.conditions.get("engine") for row in compared(table=table) if "latency" in row.figures}
    drawn = {"operations": chart(table=table)}
    drawn.update({f"latency-{name}": chart(x="latency", engine=name, table=table) for name in engines})
    for name, picture in drawn.items():
        picture.save(folder / f"{name}.svg")
        picture.save(folder / f"{name}.png")


def evaluate(
    model: str | Path,
    dataset: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    verify: bool = False,
    batch_size: int = 32,
    limit: int | None = None,
    strict: bool = False,
    table: TableLike = None,
    watcher: ImageWatcher | None = None,
    **loaded_by: Any,
) -> Evaluated:
    """Evaluate `model`, a network's name or a Bundle's folder, over the labelled pictures at `dataset`, and
    append its accuracy.

    `dataset`, `format`, `split`, `truth`, `name` and `verify` are those of `data.open`; `limit` bounds the
    images, `strict` ends the run at one that can't be read. `loaded_by` are the options of `loading.load`:
    weights, engine, threads, labels ("index" matches classes by their place), ...
    """
    from vertebra import assessment, data

    pictures = data.open(dataset, format=format, split=split, truth=truth, name=name, verify=verify)
    found = assessment.assess(
        model, pictures, batch_size=batch_size, limit=limit, strict=strict, watcher=watcher, **loaded_by
    )
    _open(table).append(found.rows)
    return found


def probe(
    dataset: str | Path,
    *models: str | Path,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    folds: int = 5,
    table: TableLike = None,
    watcher: Callable[[str], ImageWatcher] | None = None,
    **options: Any,
) -> list[Measurement]:
    """Accuracy of `models` on the labelled pictures at `dataset` without training: logistic regression on
    frozen features, cross-validated. Each network's row is appended as soon as it is known.

    `options` are batch_size, strict, and those of `loading.load`. See `probing` for the interval's meaning.
    """
    from vertebra import assessment, data

    if not models:
        raise InvalidInputError("No network was named to be probed.", "name some; vertebra list tells all")
    into = _open(table)
    pictures = data.open(dataset, format=format, split=split, truth=truth, name=name)
    told: list[Measurement] = []
    for _, rows in assessment.probe(models, pictures, folds=folds, watcher=watcher, **options):
        into.append(rows)
        told += rows
    return told


def table(*, path: TableLike = None, every: bool = False, **filters: Any) -> list[Measurement]:
    """The rows that match `filters` (column=value or column=(values)): the latest of each, or `every` one."""
    if isinstance(filters.get("model"), str):
        filters["model"] = zoo.canonical(filters["model"])
    if isinstance(filters.get("metric"), str):
        metrics.find(filters["metric"])
    if isinstance(filters.get("origin"), str) and filters["origin"] not in ORIGINS:
        raise UnknownNameError.of("origin", filters["origin"], ORIGINS, "docs/table.md")
    rows = _open(path, create=False).rows(**filters)
    return rows if every else latest(rows)


def compared(
    *, table: TableLike = None, dataset: str | None = None, probed: str | None = None, **filters: Any
) -> list[WideRow]:
    """Wide rows of one load: of this machine at batch size 1, where `filters` don't say otherwise.

    Accuracies are those of `dataset` (the whole of ImageNet's validation split, where None), a probe's those
    of the images `probed`. Networks that were never run are among them, with what is known without running
    them.
    """
    every = _open(table, create=False).rows()
    rows = [row for row in every if _is_of(row, dataset, probed)]
    load = {"batch_size": 1, "system": _system(rows), **filters}
    load = {name: value for name, value in load.items() if value is not None}
    return wide(row for row in rows if not depends_on_machine(row) or _matches(row, load))


def _is_of(row: Measurement, dataset: str | None, probed: str | None = None) -> bool:
    """Whether a row is no accuracy, or one of the images that are compared: sets never stand together."""
    if row.metric == "probe_top1":
        return probed is None or row.dataset == probed or str(row.dataset).rpartition("@")[0] == probed
    if "dataset" not in metrics.find(row.metric).conditions or row.origin != "evaluated":
        return True
    return row.dataset == dataset if dataset else (row.dataset, row.split) == ("imagenet-1k", "val")


def _matches(row: Measurement, load: dict[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in load.items())


def _system(rows: Iterable[Measurement]) -> str | None:
    """This machine where it has rows, else the only machine that was benched, else whatever is filtered."""
    from vertebra import system

    benched = {row.system for row in rows if row.origin == "benched"}
    here = system.describe().id
    return here if here in benched or len(benched) != 1 else benched.pop()


def chart(*, x: str = "operations", y: str = "top1", table: TableLike = None, **filters: Any) -> Chart:
    """Metric `y` against metric `x`, one ball per network, its area the parameters.

    Figures of this machine at batch size 1, where `filters` don't say otherwise; those of several engines
    don't stand in one chart, so `engine` must be given where several were measured and the chart is of them.
    """
    from vertebra import charts

    return charts.ball_chart(compared(table=table, **filters), x=x, y=y)


def fastest_forms(rows: Iterable[WideRow]) -> list[WideRow]:
    """Of each network the form with the lowest latency; a network that never ran as it is."""
    best: dict[str, WideRow] = {}
    for row in rows:
        known = best.get(row.model)
        if known is None or _latency(row) < _latency(known):
            best[row.model] = row
    return list(best.values())


def _latency(row: WideRow) -> float:
    latency = row.value("latency")
    return float("inf") if latency is None else latency


def pick(
    *,
    objective: str = "top1",
    table: TableLike = None,
    filters: dict[str, Any] | None = None,
    **limits: str | float,
) -> recommendation.Pick:
    """Choose a network under `limits`, such as latency="10ms", memory="700MB", top1="75%".

    Limits are named as the keys of `LIMITS`; text is read with its unit, a number is in base units.
    Where several sets of images were probed, `filters` must say which (probed="folder").
    """
    bounds = []
    for name, bound in limits.items():
        if name not in LIMITS:
            raise InvalidInputError(f'There is no limit "{name}".', f"limits: {', '.join(LIMITS)}")
        metric = metrics.find(LIMITS[name])
        value = units.parse(bound, metric.unit) if isinstance(bound, str) else float(bound)
        bounds.append(recommendation.Limit(metric.name, value))
    candidates = compared(table=table, **(filters or {}))
    if "probe_top1" in (objective, *(limit.metric for limit in bounds)):
        _check_one_probe(candidates)
    return recommendation.pick(candidates, bounds, objective)


def _check_one_probe(candidates: Iterable[WideRow]) -> None:
    """Raise InvalidInputError where probes of several sets of images would be compared."""
    told = [row.figures["probe_top1"] for row in candidates if "probe_top1" in row.figures]
    told += [other for row in candidates for other in row.conflicts.get("probe_top1", ())]
    sets = sorted({str(row.dataset) for row in told})
    if len(sets) > 1:
        raise InvalidInputError(
            f"{len(sets)} sets of images were probed: {', '.join(sets)}.", "say which: --probed NAME"
        )


def show(model: str, *, table: TableLike = None) -> Portrait:
    """All that is known of one network: its paper and idea, the table's figures, its stages and layers.

    The layers of our own networks ship; those of other libraries' are counted now, those of a file aren't.
    """
    from vertebra import rows

    found = zoo.find(model)
    figures = [row for row in _open(table, create=False).latest(model=found.name) if row.metric != "failure"]
    if found.source == "vertebra":
        return Portrait(found, figures, rows.stages(found.name), rows.layers(found.name))
    if found.source == "onnx":
        return Portrait(found, figures, [], [])
    counted = _profile(found, None)
    return Portrait(found, figures, list(counted.stages), list(counted.layers))


#: Headings of the report's picks, and their limits.
_PICKS: dict[str, dict[str, str]] = {
    "The most accurate": {},
    "At least 15 frames per second": {"fps": "15"},
    "Real time: at least 30 frames per second": {"fps": "30"},
    "At least 60 frames per second": {"fps": "60"},
    "At most 700 MB of memory": {"memory": "700MB"},
}


def report(
    path: str | Path = "vertebra-report.html", *, system: str | None = None, table: TableLike = None
) -> Path:
    """Write what the table tells of one machine (this one, where none is named) as one HTML page.

    The page needs no network. Raises InvalidInputError where the table is empty or the path can't be
    written, and MissingRuntimeError where what draws its charts isn't installed.
    """
    from vertebra import reports

    source = _open(table, create=False)
    rows = source.latest()
    if not rows:
        raise InvalidInputError("The table is empty.", "fill it with: vertebra survey")
    chosen = system or _system(rows)
    told = [row for row in rows if _is_of(row, None)]
    told = [row for row in told if not depends_on_machine(row) or row.origin == "published"]
    told += [row for row in rows if row.system == chosen and row.origin != "published"]
    filters = {"system": chosen}
    picks = [
        (heading, recommendation.sentences(pick(table=source, filters=filters, **limits)))
        for heading, limits in _PICKS.items()
    ]
    return reports.write(
        path, told, system=source.systems().get(chosen or ""), pick=picks, made_at=now()[:10]
    )  # fmt: skip


def predict(*sources: Given, model: str | Path, **options: Any) -> list[Prediction]:
    """What `model`, a network's name or a Bundle's folder, says of the pictures in `sources`.

    A source is a picture's path, a folder, a pattern, an address, "-" for standard input, a video, bytes or
    pixels (H, W, 3); see `prediction.predict`, whose options are taken here (top=5), as are those of
    `loading.load` (weights, engine, batch_size, labels, ...). A picture that can't be read has an `error`.

        [cat] = vertebra.predict("cat.jpg", model="squeezenet1_1")
        print(cat.top[0].name, cat.top[0].probability)
    """
    return list(predictions(*sources, model=model, **options))


def predictions(
    *sources: Given,
    model: str | Path,
    top: int = 5,
    features: bool = False,
    pictures: bool = False,
    every: int = 1,
    **loaded_by: Any,
) -> Iterator[Prediction]:
    """`predict`'s answers, each when its batch is done: for endless sources, or more than memory holds."""
    from vertebra import loading, prediction

    with loading.load(model, **loaded_by) as loaded:
        yield from prediction.predict(
            sources, loaded, top=top, features=features, pictures=pictures, every=every
        )


def export(model: str, output: str | Path, **options: Any) -> Bundle:
    """Write the network called `model` with its weights, preprocessing and labels as a Bundle in `output`.

    `options` are those of `loading.resolve`: weights, untrained, labels, preprocess, ... An older Bundle
    there is replaced.
    """
    from vertebra import loading

    return loading.export(loading.resolve(model, **options), output)


def now() -> str:
    """The time as rows state it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _open(table: TableLike, *, create: bool = True) -> Table:
    return table if isinstance(table, Table) else Table(table, create=create)
