"""The public verbs: take names, resolve them, call the room that does the work, append what it gives.

What is heavy (torch, the table's database) is imported by the verb that needs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import choosing, metrics, recommendation, units, zoo
from vertebra._version import __version__
from vertebra.errors import InvalidInputError, MeasurementError, UnknownNameError
from vertebra.measurements import ORIGINS, Measurement, Table, WideRow, depends_on_machine, latest, wide
from vertebra.measurements.views import FORM
from vertebra.zoo import names

if TYPE_CHECKING:
    from vertebra.assessment import Evaluated
    from vertebra.benchmarking import Case
    from vertebra.bundles import Bundle
    from vertebra.campaigns.campaign import Watcher
    from vertebra.charts import Chart, Settings
    from vertebra.comparison import Comparison, Side
    from vertebra.diagnosis import Diagnosis
    from vertebra.evaluation import Watcher as ImageWatcher
    from vertebra.prediction import Given, Prediction
    from vertebra.profiler import Profile
    from vertebra.reports.server import Server
    from vertebra.rows import Layer, Stage
    from vertebra.tuning import Found
    from vertebra.verification import Verified

TableLike = Table | str | Path | None


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
    """All that is known of one network without running it here: `layers` and `stages` at its native size, and
    for each of the figures its share of the machine's roofline, where that is known."""

    model: names.Model
    figures: list[Measurement]
    stages: list[Stage]
    layers: list[Layer]
    shares: list[float | None]


def cite(
    *sources: str | Path,
    mapping: str | None = None,
    source: str | None = None,
    table: TableLike = None,
    **columns: str | None,
) -> int:
    """Append published figures (PaddleClas's, where nothing is named) and return how many rows were new.

    `sources` are names of what ships (`citations.SOURCES`, or "all"), or files: rows as `write` makes them
    (.csv, .json, .parquet) or other tables (.sqlite). With `mapping` they are CSV tables of your own, and
    `source` and `columns` (system="…", precision="…") hold for all their rows; see `citations.read_table`.
    """
    from vertebra import citations

    if mapping is None and (source is not None or any(columns.values())):
        raise InvalidInputError(
            "A source, a system and columns can be given only for a table of your own.",
            'say which of its columns tells what: --map (mapping=) "model=…,top1=…"',
        )
    if mapping is not None:
        if not sources:
            raise InvalidInputError("A map was given, but no file.", "name the CSV file that it is of")
        read = [
            row for file in sources for row in citations.read_table(file, mapping, source=source, **columns)
        ]
        return _appended(_open(table), [read])
    chosen = sources or ("paddleclas",)
    named = (
        list(citations.SOURCES) if "all" in chosen else [name for name in chosen if name in citations.SOURCES]
    )
    files = [name for name in chosen if name != "all" and name not in citations.SOURCES]
    for file in files:
        if not Path(file).suffix:
            citations.find(str(file))
    into = _open(table)
    added = sum(into.take_in(file) for file in files)
    return added + _appended(into, [citations.SOURCES[str(name)].read() for name in named])


def _appended(into: Table, runs: Iterable[list[Measurement]]) -> int:
    """Append each of `runs`, and return how many rows were new."""
    before = len(into)
    for rows in runs:
        into.append(rows)
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
    from vertebra import profiler
    from vertebra.campaigns import cases
    from vertebra.zoo import build

    size = cases.native_or(model, input_size)
    return profiler.profile(lambda: build(model.name), model=model.name, input_size=size)


def bench(
    *models: str | Path,
    engines: Sequence[str] = (),
    precision: str | Sequence[str] | None = None,
    device: str = "cpu",
    batch_size: int | Sequence[int] | None = None,
    input_size: int | None = None,
    threads: int | None = None,
    scenario: str = "single-stream",
    arrival_rate: float | None = None,
    latency_bound: str | float | None = None,
    streams: int | Sequence[int] | None = None,
    end_to_end: bool = False,
    processes: int | None = None,
    quick: bool = False,
    seconds: str | float | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    table: TableLike = None,
    watcher: Watcher | None = None,
) -> list[Measurement]:
    """Measure `models` (the classics, where none is named) on `engines` (all that are here), each with every
    one of the precisions, batch sizes and streams, and append the rows.

    A model is a name, or a Bundle's folder, which is measured as it is. Where no precision is asked for, a
    name is measured in float32 and a Bundle in its own. Of a name untrained parameters are measured, which
    are as fast as trained ones. Each case runs in `processes` fresh processes (3; with `quick` 1) for
    `seconds` in all (30; with `quick` 10), or all cases share `budget`; `seed` makes the order of their
    blocks repeatable. `scenario`, `arrival_rate`, `latency_bound`, `streams` and `end_to_end` are those of
    `campaigns.load.Load`. Batch size and streams are 1 where they are left open; of an offline load all that
    are worth trying are measured then, and `best_loads` tells the best.

    A case that fails is a row of the metric `failure` with its reason, and the rest goes on. Raises
    InvalidInputError, before anything runs, where what is asked for contradicts itself or can't be had here.
    """
    from vertebra import bundles
    from vertebra.campaigns import campaign, cases
    from vertebra.campaigns.load import Load, batches_of, streams_of
    from vertebra.inference import resolving

    bound = None if latency_bound is None else _seconds(latency_bound)
    served = streams_of(scenario, threads) if streams is None else _several(streams)
    load = Load(scenario, arrival_rate, bound, served, end_to_end)
    batches = batches_of(scenario) if batch_size is None else _several(batch_size)
    precisions = () if precision is None else _several(precision)
    asked: dict[str, Any] = {"input_size": input_size, "threads": threads, "device": device, "load": load}
    kept_bundles = [bundles.read(model) for model in models if resolving.is_bundle(model)]
    named = [str(model) for model in models if not resolving.is_bundle(model)]
    wanted = [
        case
        for kept in kept_bundles
        for case in cases.bundle_cases(
            kept, engines, precisions=precisions,
            batch_sizes=() if batch_size is None and kept.batch_size else batches, **asked,
        )
    ]  # fmt: skip
    if named or not kept_bundles:
        wanted += cases.cases(
            named or names.CLASSICS,
            engines,
            batch_sizes=batches,
            precisions=precisions or ("float32",),
            **asked,
        )
    start = time.monotonic()
    given = None if budget is None else _seconds(budget)
    limits = campaign.limits(
        len(wanted), processes=processes, quick=quick, seconds=None if seconds is None else _seconds(seconds),
        budget_s=given,
    )  # fmt: skip
    deadline = None if given is None else start + given
    return campaign.measure(
        wanted, _open(table), limits=limits, deadline=deadline, seed=seed, watcher=watcher
    )


def best_loads(rows: Iterable[Measurement]) -> list[Measurement]:
    """Of offline `rows`, the throughput of each network on each engine with the batch and streams that serve
    best."""
    from vertebra.campaigns import load

    return load.best_loads(rows)


def _seconds(text: str | float) -> float:
    return units.parse(text, "s") if isinstance(text, str) else text


def _several(one: Any) -> tuple[Any, ...]:
    return (one,) if isinstance(one, int | str) else tuple(one)


def survey(
    *,
    models: Sequence[str] = (),
    engines: Sequence[str] = (),
    budget: str | float = "6m",
    output: str | Path = "vertebra-survey",
    again: bool = False,
    seed: int = 0,
    table: TableLike = None,
    watcher: Watcher | None = None,
) -> Survey:
    """Cite, profile and bench the classics on the engines found here, and write a report into `output`.

    This is the quick mode: one process a case, never graded above B. What the table tells of this machine
    and these versions is not measured again, unless `again`. `budget` bounds the measuring; where it is
    short, rows have fewer samples and say so. Raises InvalidInputError where it is too short for any.
    """
    from vertebra.campaigns import campaign, cases

    start, given = time.monotonic(), _seconds(budget)
    chosen = [zoo.find(model).name for model in models or names.CLASSICS]
    wanted = cases.cases(chosen, engines)
    into, folder = _open(table), Path(output)
    page = folder / "report.html"
    told = into.rows()
    todo = wanted if again else cases.remaining(wanted, told)
    limits = campaign.limits(len(todo), quick=True, budget_s=given)
    measured: list[Measurement] = []
    if todo or not page.exists():
        _check_before(todo, folder)
        cite(table=into)
        if watcher is not None:
            watcher(campaign.Progress(0, len(todo), "counting parameters and operations"))
        _profile_missing(chosen, told, into)
        measured = campaign.measure(
            todo, into, limits=limits, deadline=start + given, seed=seed, anew=again, watcher=watcher
        )
        _draw(folder, into)
    failed = len(cases.remaining(wanted, into.rows(metric="latency")))
    count = sum(row.metric in ("latency", "failure") for row in measured)
    return Survey(count, len(wanted) - count, failed, page, time.monotonic() - start)


def _check_before(todo: Sequence[Case], folder: Path) -> None:
    """Whatever would end a survey after minutes of measuring ends it before."""
    from vertebra import charts
    from vertebra.campaigns import exports

    charts.require()
    exports.check_room(todo)
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
    batch_size: int | None = None,
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
    if isinstance(filters.get("model"), str) and filters["model"] != metrics.MACHINE:
        filters["model"] = zoo.canonical(filters["model"])
    if isinstance(filters.get("metric"), str):
        metrics.find(filters["metric"])
    if isinstance(filters.get("origin"), str) and filters["origin"] not in ORIGINS:
        raise UnknownNameError.of("origin", filters["origin"], ORIGINS, "vertebra table --help")
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
    source = _open(table, create=False)
    return wide(choosing.comparable(source, dataset=dataset, probed=probed, **filters))


def chart(
    view: str | None = None,
    *,
    x: str = "operations",
    y: str = "top1",
    sources: Sequence[str] = (),
    settings: Settings | None = None,
    table: TableLike = None,
    **filters: Any,
) -> Chart:
    """The named `view` (a key of `charts.VIEWS`), or metric `y` against metric `x`, one ball per network, its
    area the parameters.

    Figures of this machine at batch size 1, where `filters` don't say otherwise, or of all batch sizes where
    the view is of them, or where none is at 1. With `sources`, names as `cite` takes them, of what was
    published, and not of the table. Figures of several engines don't stand in one chart, so `engine` must be
    given where several were measured and the chart is of them.
    """
    from vertebra import charts

    named = None if view is None else charts.views.find(view)
    of = partial(_of_sources, sources) if sources else partial(compared, table=table)
    if named is not None and named.batches:
        filters.setdefault("batch_size", None)
    rows = of(**filters)
    if named is not None and named.runs and "batch_size" not in filters:
        rows = rows if any(row.conditions for row in rows) else of(**filters, batch_size=None)
    if view is None:
        return charts.ball_chart(map(charts.per_image, rows), x=x, y=y)
    return charts.draw(view, rows, settings)


def _of_sources(sources: Sequence[str], **filters: Any) -> list[WideRow]:
    """Wide rows of one load, of published figures that ship."""
    from vertebra import citations

    load = {name: value for name, value in {"batch_size": 1, **filters}.items() if value is not None}
    for name in load:
        if name not in FORM:
            raise UnknownNameError.of("column", name, FORM, ", ".join(FORM))
    told = [row for name in sources for row in citations.find(name).read()]
    return wide(
        row
        for row in told
        if not depends_on_machine(row) or all(getattr(row, name) == value for name, value in load.items())
    )


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
    trust: str = "B",
    among: str = "table",
    verify: str | float | None = None,
    licence: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    input_size: int | Sequence[int] = (),
    **limits: str | float,
) -> recommendation.Pick:
    """Choose a network under `limits`, such as latency="10ms", memory="700MB", top1="75%".

    Limits are named as the keys of `recommendation.LIMITS`; text is read with its unit, a number is in base
    units. `objective` is a metric or such a key. `licence` (of the weights, "apache-2.0"), `family` and
    `input_size` say which may be chosen. `filters` are conditions (column=value); dataset="folder" and
    probed="folder" say which images the accuracies are of, origin="evaluated" who found them out. A network
    for which a figure graded worse than `trust` speaks isn't chosen. With `among="catalogue"`, every network
    whose accuracy is published is a candidate, priced from those that were measured on this machine; with
    `verify`, a time, those that the answer hangs on are measured first (see `verified`).
    """
    asked: dict[str, Any] = {"objective": objective, "trust": trust, "filters": filters or {}, **limits}
    asked |= {"licence": licence, "family": family, "input_size": input_size}
    if verify is not None:
        return verified(verify, table=table, **asked).pick
    return choosing.pick(_open(table, create=False), _question(among=among, **asked))


def verified(
    budget: str | float, *, table: TableLike = None, watcher: Watcher | None = None, **asked: Any
) -> Verified:
    """`pick` (whose other options are taken here) among every network whose accuracy is published, measuring
    what the answer hangs on; see `picking.verified`.

    The candidates that could change the answer are measured, best promise first, until none is left or
    `budget` is spent. What is measured is appended to the table.
    """
    from vertebra.verbs import picking

    filters = dict(asked.pop("filters", {}))
    engine = filters.pop("engine", None)
    question = _question(**asked, filters=filters)
    engines = () if engine is None else _several(engine)
    return picking.verified(_open(table), question, _seconds(budget), engines=engines, watcher=watcher)


def _question(
    *,
    objective: str,
    trust: str,
    filters: Mapping[str, Any],
    licence: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    input_size: int | Sequence[int] = (),
    among: str = "catalogue",
    **limits: str | float,
) -> choosing.Question:
    return choosing.ask(
        limits, objective=objective, licence=_several(licence), family=_several(family),
        input_size=_several(input_size), trust=trust, among=among, filters=filters,
    )  # fmt: skip


def fastest(
    model: str,
    *,
    engines: str | Sequence[str] = (),
    precision: str | Sequence[str] = "float32",
    batch_size: int | Sequence[int] = 1,
    threads: int | Sequence[int] = (),
    input_size: int | None = None,
    budget: str | float = "60s",
    seed: int = 0,
    export: str | Path | None = None,
    table: TableLike = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> Found:
    """The fastest form of one network on this machine: engine, precision, threads, layout and batch size.

    Tried are the forms of `engines` (of all that are here), in each `precision` ("all": every one but eight
    bits), of each `batch_size`, with numbers of `threads` from one to all cores; they are compared by their
    time for an image. Slower ones are dropped on the way, and it ends within `budget`. Every form is compared
    with eager's float32 before it is timed, and what is measured is appended to the table.

    With `export`, the fastest form that a Bundle can hold is written into that folder, with weights as
    `options` say, which are those of `resolving.resolve`: without published weights, untrained must be said.
    """
    from vertebra import tuning
    from vertebra.inference import resolving

    if resolving.is_bundle(model):
        raise InvalidInputError(f"{model} is a Bundle, whose form is chosen.", "name the network")
    if export is None and options:
        raise InvalidInputError(
            "Weights are for a Bundle that is exported.", "name a folder: --export FOLDER"
        )
    if export is not None and input_size is not None:
        raise InvalidInputError("A Bundle has its network's own input size.", "leave the input size out")
    cases = tuning.cases(
        model, _several(engines), precisions=_several(precision), batch_sizes=_several(batch_size),
        threads=_several(threads), input_size=input_size,
    )  # fmt: skip
    if export is not None:
        resolving.resolve(model, **options)  # whatever is wrong with the weights is told before the search
        if not any(tuning.form_of(case).has_bundle for case in cases):
            raise InvalidInputError(
                "None of these engines opens Bundles, so nothing can be exported.",
                "name one that does: vertebra list engines",
            )
    search = partial(
        tuning.fastest, cases, _open(table), budget_s=_seconds(budget), seed=seed, watcher=watcher
    )
    found = search() if export is None else _shipped(search, Path(export), options)
    if not engines and not zoo.find(model).is_file:
        found = replace(found, notes=tuple(tuning.left_out()))
    return found


def _shipped(search: Callable[[], Found], folder: Path, options: dict[str, Any]) -> Found:
    """What `search` finds, with the best form that a Bundle can hold written into `folder`, its rows beside
    it."""
    from vertebra import bundles, tuning

    with bundles.draft(folder) as draft:  # first of all: nothing is searched for a place that can't be
        found = search()
        best = found.to_ship()
        if best is None:
            raise MeasurementError(
                "No form that a Bundle can hold gave a figure, so nothing was exported.",
                "give the search more time, or export one yourself: vertebra export",
            )
        engine, precision, batch_size = tuning.needed_bundle(best.form)
        made: dict[str, Any] = {"engine": engine, "precision": precision, "batch_size": batch_size}
        kept = export(found.model, draft, **made, **options)
        bundles.write_rows(kept, found.rows_of(best))
    return replace(found, bundle=folder)


def compare(
    first: str | Path | Mapping[str, Any],
    second: str | Path | Mapping[str, Any],
    *,
    table: TableLike = None,
    metric: Sequence[str] = (),
    trust: str = "B",
    **filters: Any,
) -> list[Comparison]:
    """Two sides of the table figure by figure, the second against the first; see `comparison.side` for how a
    side is named.

    `filters` (column=value) hold for both sides, `metric` bounds the figures; where neither side names a
    machine, both are of this one. Figures graded worse than `trust` aren't judged. Raises InvalidInputError
    where the sides have no figure in common.
    """
    from vertebra import comparison

    for name in metric:
        metrics.find(name)
    source = _open(table, create=False)
    sides = [comparison.side(choice, source) for choice in (first, second)]
    if not any({"system", "file", "run"} & side.chosen.keys() for side in sides):
        filters = {"system": choosing.this_system(source), **filters}
    left, right = (comparison.narrowed(side, filters) for side in sides)
    told = comparison.compare(left, right, floor=_floor(source.rows(metric="aa_floor"), left), trust=trust)
    told = [one for one in told if not metric or one.metric in metric or one.verdict in ("failed", "mended")]
    if not told:
        raise InvalidInputError(
            f'"{left.name}" and "{right.name}" have no figure in common.',
            "they are compared where nothing differs but what the sides name; see them with: vertebra table",
        )
    return told


def _floor(rows: Sequence[Measurement], side: Side) -> float:
    """The smallest difference that the side's machine could show when it was last asked."""
    systems = {row.system for row in side.rows}
    return max((row.value for row in latest(rows) if row.system in systems), default=0.0)


def show(model: str | Path, *, table: TableLike = None) -> Portrait | Bundle:
    """All that is known of one network: its paper and idea, the table's figures, its stages and layers; or a
    Bundle, every file of it checked.

    The layers of our own networks ship; those of other libraries' are counted now, those of a file aren't.
    """
    from vertebra import bundles, roofline, rows
    from vertebra.inference import resolving

    if resolving.is_bundle(model):
        return bundles.read(model)
    model = str(model)

    found = zoo.find(model)
    source = _open(table, create=False)
    figures = [row for row in source.latest(model=found.name) if row.metric != "failure"]
    ours = found.source == "vertebra"
    shares = roofline.shares(
        figures, source.latest(model=metrics.MACHINE), rows.totals(found.name) if ours else None
    )
    if ours:
        return Portrait(found, figures, rows.stages(found.name), rows.layers(found.name), shares)
    if found.is_file:
        return Portrait(found, figures, [], [], shares)
    counted = _profile(found, None)
    return Portrait(found, figures, list(counted.stages), list(counted.layers), shares)


def roofline_shares(measured: Sequence[Measurement], *, table: TableLike = None) -> list[float | None]:
    """For each of the rows, in order, which share of it the machine's roofline explains, where it is a
    latency of one of our networks at its own size and `doctor` has measured the machine; None elsewhere."""
    from vertebra import roofline, rows

    machine = _open(table, create=False).latest(model=metrics.MACHINE)
    ours = set(rows.models())
    return [
        roofline.shares([row], machine, rows.totals(row.model))[0] if row.model in ours else None
        for row in measured
    ]


def doctor(
    *, quick: bool = False, table: TableLike = None, watcher: Callable[[str], None] | None = None
) -> Diagnosis:
    """Examine this machine: what it is, what disturbs it now and what is missing; its peak arithmetic rate
    and memory bandwidth; and the smallest difference between two latencies that it can show.

    What is measured is appended under the model `machine`, which no comparison of networks contains. `quick`
    takes less time, and shows less.
    """
    from vertebra import diagnosis, system

    into = _open(table)
    told = diagnosis.examine(quick=quick, tell=watcher)
    if told.rows:
        into.append(told.rows, samples=told.samples, system=system.describe())
    return told


#: Headings of the report's picks, and their limits.
_PICKS: dict[str, dict[str, Any]] = {
    "The most accurate": {},
    "At least 15 frames per second": {"fps": "15"},
    "Real time: at least 30 frames per second": {"fps": "30"},
    "At least 60 frames per second": {"fps": "60"},
    "At most 700 MB of memory": {"memory": "700MB"},
}


def report(
    path: str | Path = "vertebra-report.html",
    *,
    system: str | None = None,
    table: TableLike = None,
    among: str = "table",
) -> Path:
    """Write what the table tells of one machine (this one, where none is named) as one HTML page.

    With `among="catalogue"`, its explorer and its picks have every network whose accuracy is published,
    priced from those that were measured on that machine. The page needs no network. Raises InvalidInputError
    where the table is empty or the path can't be written, and MissingRuntimeError where what draws its charts
    isn't installed.
    """
    from vertebra import reports

    return reports.write(path, **_reportable(_open(table, create=False), system, among))


def live_report(
    *, port: int = 0, system: str | None = None, table: TableLike = None, among: str = "table"
) -> Server:
    """`report`'s page on the loopback address, made anew when the table grows; `run` the server that comes.

    Raises what `report` raises, and InvalidInputError where the port can't be had.
    """
    from vertebra import reports
    from vertebra.reports.server import LivePage, Server

    source = _open(table, create=False)

    def made(version: str) -> str:
        return reports.html(**_reportable(source, system, among), version=version)

    return Server(LivePage(made, source.path), port)


def edition(
    path: str | Path = "vertebra-page.html",
    *,
    system: str | None = None,
    engine: str | None = None,
    table: TableLike = None,
) -> Path:
    """Write PaddleClas's published page for one machine (this one, where none is named): its tables, with
    what was printed beside what was counted, evaluated and measured here, as HTML or as Markdown by the
    path's end.

    Latencies are those of `engine`, or of the one that tells most. What is missing names the command that
    fills it. Raises InvalidInputError where the path can't be written, or ends in neither.
    """
    from vertebra import engines
    from vertebra.reports.edition import edition

    if engine is not None:
        engines.find(engine)
    source = _open(table, create=False)
    chosen = system or choosing.this_system(source)
    told = [row for row in source.latest() if choosing.is_of_imagenet(row)]
    described = source.systems().get(chosen or "")
    return edition(told, chosen, system=described, engine=engine, made_at=now()[:10]).write(path)


def _reportable(source: Table, system: str | None, among: str) -> dict[str, Any]:
    """What the report of one machine is made of, as `reports.html` takes it."""
    rows = [row for row in source.latest() if row.model != metrics.MACHINE]
    if not rows:
        raise InvalidInputError("The table is empty.", "fill it with: vertebra survey")
    chosen = system or choosing.this_system(source)
    filters = {"system": chosen}
    picks = [
        (heading, recommendation.sentences(pick(table=source, filters=filters, among=among, **limits)))
        for heading, limits in _PICKS.items()
    ]
    told = _reported(rows, chosen)
    return {
        "rows": choosing.with_catalogue(told) if among == "catalogue" else told,
        "system": source.systems().get(chosen or ""),
        "pick": picks,
        "made_at": now()[:10],
    }


def _reported(rows: Iterable[Measurement], system: str | None) -> list[Measurement]:
    """What a page of one machine tells: its own figures, what needs no machine, and what was published of the
    classics on others; the tens of thousands of published rates of the rest say nothing about this one."""
    from vertebra.zoo import names

    rows = [row for row in rows if choosing.is_of_imagenet(row)]
    told = [row for row in rows if not depends_on_machine(row)]
    run = [row for row in rows if depends_on_machine(row)]
    told += [row for row in run if row.origin == "published" and row.model in names.CLASSICS]
    return told + [row for row in run if row.origin != "published" and row.system == system]


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
    upright: bool = True,
    **loaded_by: Any,
) -> Iterator[Prediction]:
    """`predict`'s answers, each when its batch is done: for endless sources, or more than memory holds."""
    from vertebra import prediction
    from vertebra.inference import loading

    absent = prediction.absent(sources)
    if absent:  # before weights are fetched and a network is loaded
        yield from absent
        return
    with loading.load(model, **loaded_by) as loaded:
        yield from prediction.predict(
            sources, loaded, top=top, features=features, pictures=pictures, every=every, upright=upright
        )


def export(
    model: str | Path,
    output: str | Path,
    *,
    embed_preprocess: bool = False,
    web: bool = False,
    runtime: str | Path | None = None,
    tell: Callable[[str], None] | None = None,
    engine: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    calibrate: str | Path | None = None,
    guard: float | None = None,
    quantiser: str | None = None,
    labelled: str | Path | None = None,
    format: str | None = None,
    split: str | None = None,
    most_lost: str | float | None = None,
    **options: Any,
) -> Bundle:
    """Write the network called `model` with its weights, preprocessing and labels as a Bundle in `output`.

    `options` are those of `resolving.resolve`: weights, untrained, labels, preprocess, ... An older Bundle
    there is replaced. With `embed_preprocess` the Bundle also has a graph from a picture's pixels on. With
    `web` the folder is a page that runs the network in its visitor's browser, with the Bundle inside;
    `runtime` is the npm package onnxruntime-web, as npm's archive or unpacked: without it npm fetches the
    tested version once. With either, `model` may be a Bundle too.

    The Bundle is one of `engine` (onnxruntime, and what else opens ONNX, where none is named) in `precision`.
    It takes any batch size where the engine's can and no `batch_size` is given. Precision int8 is quantised
    with the pictures in the folder `calibrate` by a `quantiser`; `guard` must hold on half of them: the share
    whose first class stays (0.99), or of an untrained network the signal-to-noise of its logits in dB (10).
    Precision int8-weights rounds the parameters alone and needs no pictures. On `labelled` pictures, which
    `data.open` opens with `format` and `split`, the accuracy lost is measured: at most `most_lost` ("0.5%").
    """
    if runtime is not None and not web:
        raise InvalidInputError("A runtime is part of a web page only.", "say --web too")
    if web or embed_preprocess:
        _check_holds_onnx(engine)
    made = {"engine": engine, "precision": precision, "batch_size": batch_size}
    made["calibration"] = _calibration(
        precision, calibrate=calibrate, guard=guard, quantiser=quantiser, labelled=labelled, format=format,
        split=split, most_lost=most_lost,
    )  # fmt: skip
    options |= {name: value for name, value in made.items() if value is not None}
    if not web:
        return _packed(model, Path(output), embed_preprocess, options)
    import tempfile

    from vertebra import bundles
    from vertebra.exporting import web as page

    with page.draft(Path(output)) as draft, tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
        kept = _packed(model, Path(scratch) / "bundle", embed_preprocess, options)
        page.publish(draft, kept, runtime=runtime, tell=tell)
    return bundles.read(Path(output) / page.INNER, verify=False)


def _calibration(precision: str | None, **asked: Any) -> Any:
    """How it is quantised and guarded; None for a precision that isn't. Checked before all else."""
    if precision is None and not any(value is not None for value in asked.values()):
        return None
    from vertebra.exporting import quantisation

    return quantisation.asked(precision, **asked)


def _check_holds_onnx(engine: str | None) -> None:
    """Refuse, before anything is exported, an engine whose own Bundles hold no ONNX."""
    from vertebra import engines

    if engine is not None and engines.find(engine).formats[:1] != ("onnx",):
        raise InvalidInputError(
            f"A page, and a graph from the picture on, are made of ONNX; {engine} has a format of its own.",
            "leave the engine out",
        )


#: options of `exporting.export`, where the others are those of `resolving.resolve`
_MADE = ("engine", "precision", "batch_size", "calibration")


def _packed(model: str | Path, folder: Path, embed: bool, options: dict[str, Any]) -> Bundle:
    """The Bundle of `model` in `folder`, with the graph from the picture on if it is to be embedded."""
    from vertebra import bundles
    from vertebra.exporting import conversion, picture
    from vertebra.inference import kept_exports, resolving

    if resolving.is_bundle(model):
        given = sorted(name for name, value in options.items() if value and name != "progress")
        if given:
            raise InvalidInputError(f"{model} is a Bundle and has its {', '.join(given)}.", "leave them out")
        kept = bundles.read(model)
        if not embed:
            return bundles.copy(kept, folder)
        picture.check(kept.preprocess)
        with bundles.draft(folder) as draft:
            picture.embed(bundles.copy(kept, draft))
        return bundles.read(folder, verify=False)
    made = {name: options.pop(name) for name in _MADE if name in options}
    if not zoo.find(str(model)).is_file:
        conversion.check_order(**made)
    with bundles.draft(folder) as draft:  # first of all: weights needn't be fetched for a place that can't be
        resolved = resolving.resolve(str(model), **options)
        if embed:
            picture.check(resolved.card.preprocess)
        kept = kept_exports.export(resolved, draft, **made)
        if embed:
            picture.embed(kept)
    return bundles.read(folder, verify=False)


def now() -> str:
    """The time as rows state it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _open(table: TableLike, *, create: bool = True) -> Table:
    return table if isinstance(table, Table) else Table(table, create=create)
