"""This machine's edition of PaddleClas's page "Other networks": the same tables, with the printed figures
next to those counted, evaluated and measured here.

Printed figures are kept digit for digit. A missing figure is numbered, and below the table is the command
that fills it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vertebra._version import __version__
from vertebra.errors import InvalidInputError
from vertebra.machine.files import write_whole
from vertebra.measurements import Measurement, latest, shipped
from vertebra.measurements.display import plain
from vertebra.measurements.shipped import published
from vertebra.measurements.views import FORM
from vertebra.measuring import citations
from vertebra.reading.reports import markup
from vertebra.reading.reports.markup import Column, Html, section, tag
from vertebra.reading.reports.page import whole
from vertebra.zoo import names

TITLE = "The classic networks on this machine"
_BATCHES = (1, 4, 8)
#: The precisions of the two tables, each with the engine to show if nothing was measured.
_TABLES = (
    (("float32",), "FP32", "onnxruntime"),
    (("bfloat16", "float16"), "FP16", "openvino"),
)
#: The other machines on the printed page: heading, its name for the device, and the engines it names.
_PRINTED = (
    ("V100", "V100 GPU", ("",)),
    ("V100, TensorRT", "V100 GPU", ("TensorRT",)),
    ("T4", "T4 GPU", ("", "TensorRT")),
)
#: The conditions that all cells of a table share.
_SHARED = tuple(name for name in FORM if name not in ("batch_size", "input_size"))


@dataclass(frozen=True)
class Cell:
    """A table's cell: a text with the number by which it sorts, or the command that would fill it."""

    shown: str = ""
    value: float | None = None
    command: str | None = None


@dataclass(frozen=True)
class Table:
    caption: str
    columns: Sequence[Column]
    lines: Sequence[Sequence[Cell]]

    def commands(self) -> list[str]:
        """The commands that fill the empty cells, each once."""
        return list(dict.fromkeys(cell.command for line in self.lines for cell in line if cell.command))


@dataclass(frozen=True)
class Part:
    name: str
    heading: str
    passages: Sequence[str] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Edition:
    summary: str
    parts: Sequence[Part]
    made_at: str | None = None

    def html(self) -> str:
        return whole(TITLE, self.summary, [_html(part) for part in self.parts], self.made_at)

    def markdown(self) -> str:
        made = f"Made by vertebra {__version__}" + (f" on {self.made_at}" if self.made_at else "") + "."
        return "\n\n".join([f"# {TITLE}", _plain(self.summary), *map(_markdown, self.parts), made]) + "\n"

    def write(self, path: str | Path) -> Path:
        """Write it as HTML or Markdown, by the name's ending. Raises InvalidInputError."""
        path = Path(path)
        makers = {".html": self.html, ".htm": self.html, ".md": self.markdown}
        if path.suffix.lower() not in makers:
            raise InvalidInputError(
                f"Can't write the page as {path.name}.", f"name a file that ends in {', '.join(makers)}"
            )
        write_whole(path, makers[path.suffix.lower()]().encode())
        return path


def edition(
    measured: Iterable[Measurement],
    system_name: str | None,
    *,
    system: Mapping[str, Any] | None = None,
    engine: str | None = None,
    made_at: str | None = None,
) -> Edition:
    """The page of the machine called `system_name`, from the rows `measured`.

    Each table's latencies are those of one engine with one setting: of `engine`, if it is given and has
    figures, else of the one with the most figures. `system` is the machine as `System.to_dict` describes it.
    """
    found = latest(measured)
    speeds = [_speed(found, system_name, engine, *table) for table in _TABLES]
    parts = [_overview(), _accuracy(found), _speeds(speeds), _sources()]
    return Edition(_summary(system_name, system), parts, made_at)


def _summary(name: str | None, system: Mapping[str, Any] | None) -> str:
    details = [str(system[key]) for key in ("cpu", "os") if system and system.get(key)]
    machine = ", ".join([name or "a machine without figures", *details])
    return f"The figures of PaddleClas's page “Other networks” next to those of {machine}."


# ------------------------------------------------------------------ what was printed


@cache
def _lines() -> dict[tuple[str, str, str, str, str, str], tuple[str, ...]]:
    """The printed figures of all editions, without repetition: by network, metric, device, engine, precision,
    batch."""
    found: dict[tuple[str, str, str, str, str, str], dict[str, None]] = defaultdict(dict)
    for line in published.printed("paddleclas.csv"):
        is_latency = line["metric"] == "latency"
        # the editions that name no device print the figures that another one has under V100
        device = (line["device"] or "V100 GPU") if is_latency else ""
        engine, precision, batch = (line[name] for name in ("engine", "precision", "batch_size"))
        key = names.find(line["model"]).name, line["metric"], device, engine, precision, batch
        found[key][line["printed"]] = None
    return {key: tuple(values) for key, values in found.items()}


def _printed(model: str, metric: str, device: str = "", engines: Sequence[str] = ("",), precision: str = "",
             batch: int | str = "") -> Cell:  # fmt: skip
    keys = [(model, metric, device, engine, precision, str(batch)) for engine in engines]
    values = list(dict.fromkeys(value for key in keys for value in _lines().get(key, ())))
    return Cell(" / ".join(values), float(values[0])) if values else Cell()


def _heading(model: str) -> Cell:
    return Cell(names.find(model).aliases[0])


# ------------------------------------------------------------------ overview, accuracy and counts


def _overview() -> Part:
    families: dict[str, list[str]] = defaultdict(list)
    for model in names.CLASSICS:
        families[model.partition("_deploy")[0] if "acnet" in model else names.find(model).family].append(
            model
        )
    passages = []
    for members in families.values():
        one = names.find(members[0])
        who = ", ".join(_heading(model).shown for model in members)
        passages.append(f"{who}: {one.title} ({one.first_author}, {one.year}). {one.idea} {one.place}")
    return Part("overview", "Overview", passages)


def _accuracy(found: Sequence[Measurement]) -> Part:
    columns = [
        Column("Models", number=False), Column("Top1"), Column("Top5"), Column("Reference top1"),
        Column("Reference top5"), Column("Top1", "Evaluated here"), Column("Top5", "Evaluated here"),
        Column("printed", "FLOPs (G)"), Column("by its rule", "FLOPs (G)"), Column("true", "FLOPs (G)"),
        Column("printed", "Parameters (M)"), Column("by its rule", "Parameters (M)"),
        Column("true", "Parameters (M)"),
    ]  # fmt: skip
    by_rule = {(row.model, row.metric): row for row in found if row.origin == "profiled"}
    evaluated = {(row.model, row.metric): row for row in found if row.origin == "evaluated"}
    lines = []
    for model in names.CLASSICS:
        counted = shipped.totals(model)
        lines.append([
            _heading(model),
            *(_printed(model, name) for name in ("top1", "top5", "reference_top1", "reference_top5")),
            *(_evaluated(evaluated.get((model, name)), model) for name in ("top1", "top5")),
            _printed(model, "flops"), _by_rule(by_rule.get((model, "model_stat_operations")), model, 1e9),
            _count(2 * counted["macs"], 1e9),
            _printed(model, "params"), _by_rule(by_rule.get((model, "model_stat_params")), model, 1e6),
            _count(counted["params"], 1e6),
        ])  # fmt: skip
    passages = [
        "Accuracy is the share of ImageNet's validation images. FLOPs are operations, two for each "
        "multiply-accumulate. The page counted some of them differently: “by its rule” is its rule applied "
        "to our networks."
    ]
    return Part("accuracy", "Accuracy, FLOPs and parameters", passages,
                [Table("Accuracy, FLOPs and parameters", columns, lines)])  # fmt: skip


def _evaluated(row: Measurement | None, model: str) -> Cell:
    if row is None:
        return Cell(command=f"vertebra eval {model} imagenet/val")
    return Cell(f"{row.value:.3f}{_interval(row, 1, 3)}", row.value)


def _by_rule(row: Measurement | None, model: str, unit: float) -> Cell:
    return Cell(command=f"vertebra profile {model}") if row is None else _count(row.value, unit)


def _count(value: float, unit: float) -> Cell:
    return Cell(f"{value / unit:.3f}", value)


def _interval(row: Measurement, unit: float, decimals: int) -> str:
    if row.low is None or row.high is None:
        return ""
    return f" ({row.low / unit:.{decimals}f} to {row.high / unit:.{decimals}f})"


# ------------------------------------------------------------------ latency


@dataclass(frozen=True)
class _Speed:
    """The latencies of one table: one way of running the networks, at several batch sizes."""

    word: str
    precision: str
    engine: str
    conditions: Mapping[str, Any]
    cells: Mapping[tuple[str, int], Measurement] = field(default_factory=dict)


def _speed(
    found: Sequence[Measurement], system: str | None, engine: str | None, precisions: Sequence[str],
    word: str, usual: str,
) -> _Speed:  # fmt: skip
    groups: dict[tuple[Any, ...], dict[tuple[str, int], Measurement]] = defaultdict(dict)
    for row in found:
        if _is_of_table(row, system, precisions):
            key = tuple(getattr(row, name) for name in _SHARED)
            groups[key][row.model, row.batch_size or 1] = row
    if not groups:
        return _Speed(word, precisions[0], usual, {})
    place = _SHARED.index("engine")
    best = max(groups, key=lambda key: (key[place] == engine, len(groups[key]), _pace(groups[key].values())))
    conditions = dict(zip(_SHARED, best, strict=True))
    return _Speed(word, conditions["precision"], conditions["engine"], conditions, groups[best])


def _is_of_table(row: Measurement, system: str | None, precisions: Sequence[str]) -> bool:
    return (
        (row.metric, row.origin, row.system) == ("latency", "benched", system)
        and row.model in names.CLASSICS
        and row.precision in precisions
        and row.batch_size in _BATCHES
        and row.scenario in (None, "single-stream")
        and not row.beside
        and row.input_size == names.find(row.model).input_size
    )


def _pace(latencies: Iterable[Measurement]) -> float:
    """Larger is faster over all rows."""
    return -sum(row.value for row in latencies)


def _speeds(tables: Sequence[_Speed]) -> Part:
    passages = [
        "Milliseconds for a whole batch: the median of all runs that agree, with the 95 % interval that an "
        "independent survey falls into, and its grade. A is reliable, B less so, C can't be believed. The "
        "printed figures are from other machines and other programs. Storage is the size of the parameters "
        "and buffers in float32.",
        *(_conditions(one) for one in tables),
    ]
    made = [_speed_table(one, has_storage=not place) for place, one in enumerate(tables)]
    doubts = [
        f"{_heading(model).shown}, {one.precision}, batch {batch}: grade C: {'; '.join(row.grade_reasons)}."
        for one in tables
        for (model, batch), row in sorted(
            one.cells.items(), key=lambda cell: names.CLASSICS.index(cell[0][0])
        )
        if row.grade == "C"
    ]
    return Part("speed", "Latency and storage size", passages, made, doubts)


def _conditions(one: _Speed) -> str:
    if not one.conditions:
        return f"Nothing has been measured in {one.precision} yet."
    stated = [f"{name} {value}" for name, value in one.conditions.items() if value is not None]
    versions = {f"{name} {value}" for row in one.cells.values() for name, value in row.versions.items()}
    return f"Measured in {one.precision}: {', '.join(stated)}; {', '.join(sorted(versions))}."


def _speed_table(one: _Speed, has_storage: bool) -> Table:
    columns = [Column("Models", number=False), Column("Crop size"), Column("Resize short size")]
    here = f"This machine, {one.precision}, {one.engine} (ms)"
    columns += [Column(f"Batch {batch}", here) for batch in _BATCHES]
    there = [
        (head, device, engines, batch)
        for head, device, engines in _PRINTED
        for batch in _BATCHES
        if any(_printed(model, "latency", device, engines, one.word, batch).shown for model in names.CLASSICS)
    ]
    columns += [Column(f"Batch {batch}", f"{head} {one.word}, printed (ms)") for head, _, _, batch in there]
    columns += [Column("Storage (MB)")] if has_storage else []
    commands = _commands(one)
    lines = [
        [
            _heading(model), *_sizes(model),
            *(_latency(one.cells.get((model, batch)), commands.get(model)) for batch in _BATCHES),
            *(_printed(model, "latency", device, engines, one.word, batch)
              for _, device, engines, batch in there),
            *([_count(shipped.totals(model)["weight_bytes"], 1e6)] if has_storage else []),
        ]
        for model in names.CLASSICS
    ]  # fmt: skip
    return Table(f"Latency in {one.precision}", columns, lines)


def _sizes(model: str) -> tuple[Cell, Cell]:
    """The crop, and the short side before it, if the page prints it."""
    size = names.find(model).input_size
    return Cell(str(size), size), _printed(model, "resize_short")


def _latency(row: Measurement | None, command: str | None) -> Cell:
    if row is None:
        return Cell(command=command)
    milliseconds = 1e3 * row.value
    decimals = max(0, 3 - len(f"{milliseconds:.0f}"))
    shown = f"{milliseconds:.{decimals}f}{_interval(row, 1e-3, decimals)} {row.grade or ''}"
    return Cell(shown.strip(), row.value)


def _commands(one: _Speed) -> dict[str, str]:
    """By network, the command that fills its line; lines that lack the same figures share one."""
    lacking: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for model in names.CLASSICS:
        batches = tuple(batch for batch in _BATCHES if (model, batch) not in one.cells)
        if batches:
            lacking[batches].append(model)
    options = [f"--engine {one.engine}"]
    options += [f"--precision {one.precision}"] if one.precision != "float32" else []
    for name, usual in (("device", "cpu"), ("threads", None)):
        value = one.conditions.get(name)
        options += [f"--{name} {value}"] if value not in (None, usual) else []
    return {
        model: " ".join(
            ["vertebra bench", *models, *options, *(f"--batch-size {batch}" for batch in batches)]
        )
        for batches, models in lacking.items()
        for model in models
    }


# ------------------------------------------------------------------ sources


def _sources() -> Part:
    notes = [f"{_heading(model).shown}, {'FLOPs' if metric == 'operations' else 'parameters'}: {fault}."
             for (model, metric), fault in citations.DISPUTED.items()]  # fmt: skip
    sources = [one.source for one in citations.EDITIONS.values()]
    faults = [one.latency_disputed for one in citations.EDITIONS.values() if one.latency_disputed]
    return Part("sources", "Sources", ["The printed sources, and their known mistakes:"],
                notes=[*(f"{one}." for one in (*sources, *faults)), *notes])  # fmt: skip


# ------------------------------------------------------------------ as HTML, and as Markdown


def _html(part: Part) -> Html:
    content: list[Html] = [tag("p", passage) for passage in part.passages]
    for table in part.tables:
        commands = table.commands()
        lines = [[_html_cell(cell, commands) for cell in line] for line in table.lines]
        content.append(markup.table(table.caption, table.columns, lines))
        content += _html_commands(commands)
    return section(part.name, part.heading, *content, *([markup.items(part.notes)] if part.notes else []))


def _html_cell(cell: Cell, commands: Sequence[str]) -> markup.Cell:
    if cell.command is None:
        return markup.Cell(cell.shown, cell.value)
    number = commands.index(cell.command) + 1
    return markup.Cell(tag("span", _mark(number), title=cell.command, class_="note"))


def _html_commands(commands: Sequence[str]) -> list[Html]:
    if not commands:
        return []
    listed = [
        tag("li", f"{_mark(number)}: ", tag("code", command)) for number, command in enumerate(commands, 1)
    ]
    return [tag("p", "Not measured yet; to fill it, run:"), tag("ul", *listed)]


def _mark(number: int) -> str:
    return f"run {number}"


def _markdown(part: Part) -> str:
    blocks = [f"## {part.heading}", *map(_plain, part.passages)]
    for table in part.tables:
        commands = table.commands()
        blocks.append(_markdown_table(table, commands))
        if commands:
            lines = [f"- {_mark(number)}: `{command}`" for number, command in enumerate(commands, 1)]
            blocks += ["Not measured yet; to fill it, run:", "\n".join(lines)]
    if part.notes:
        blocks.append("\n".join(f"- {_plain(note)}" for note in part.notes))
    return "\n\n".join(blocks)


def _markdown_table(table: Table, commands: Sequence[str]) -> str:
    heads = [
        f"{column.group}: {column.heading}" if column.group else column.heading for column in table.columns
    ]
    rule = ["--:" if column.number else "---" for column in table.columns]
    body = [
        [_mark(commands.index(cell.command) + 1) if cell.command else _plain(cell.shown) for cell in line]
        for line in table.lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *body))


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
