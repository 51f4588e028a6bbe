"""The site's pages of networks and of machines, made from what ships and from docs/survey.csv."""

# ruff: noqa: E501  (sentences and lines of tables)

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import vertebra
from vertebra import units, zoo
from vertebra.measurements import Measurement, WideRow, shipped
from vertebra.measurements.shipped.licences import TOLD as TERMS
from vertebra.measurements.shipped.licences import licences, terms
from vertebra.metrics import METRICS
from vertebra.reading.choice.rule import Pick
from vertebra.verbs.chart import compared
from vertebra.zoo import names, papers, weights

#: The published figures that these pages show; timm's rates on its own machines are left to `vertebra cite`.
SOURCES = ("paddleclas", "imagenet", "complexity", "bianco2018", "canziani2016")
#: The sides of a front: more than any network needs, so that none is excluded.
NO_LIMIT = {"operations": "1000T", "latency": "1000s"}
COUNTS = ("params", "macs", "operations", "activations", "weight_bytes")
#: Views of the report's charts that a machine's page shows.
CHARTS = {
    "accuracy-latency": "Top-1 accuracy against measured latency; the area of a ball is the parameters",
    "operations-latency": "Measured latency against operations, with the fitted power law",
}


def models() -> tuple[str, ...]:
    """The networks with a page: ours, and those that the two papers compared."""
    compared = (entry.model for paper in papers.PAPERS.values() for entry in paper.entries)
    return tuple(dict.fromkeys([*(one.name for one in names.models()), *sorted(compared)]))


def page_of(model: str) -> str:
    """The file of a network's page."""
    return f"{model.replace(':', '-')}.md"


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; a column whose head ends with a colon is set to the right. "" without lines."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    if not cells:
        return ""
    heads = [column.removesuffix(":") for column in columns]
    rules = ["--:" if column.endswith(":") else "---" for column in columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rules, *cells])


def shown(figure: Measurement | None) -> str:
    return "" if figure is None else units.show(figure.value, METRICS[figure.metric].unit)


def with_interval(figure: Measurement | None) -> str:
    if figure is None:
        return ""
    unit = METRICS[figure.metric].unit
    between = (
        f" ({units.show(figure.low, unit)} to {units.show(figure.high, unit)})"
        if figure.low and figure.high
        else ""
    )
    return units.show(figure.value, unit) + between


@dataclass(frozen=True)
class Gallery:
    """What the pages are made from: the survey's rows, and the published figures with them."""

    survey: Path
    folder: Path

    @cached_property
    def measured(self) -> vertebra.Table:
        """The survey's rows only."""
        found = vertebra.Table(self.folder / "measured.sqlite")
        found.read_csv(self.survey)
        return found

    @cached_property
    def every(self) -> vertebra.Table:
        """The survey's rows and the published figures."""
        found = vertebra.Table(self.folder / "every.sqlite")
        found.read_csv(self.survey)
        vertebra.cite(*SOURCES, table=found)
        return found

    @cached_property
    def systems(self) -> tuple[str, ...]:
        """The machines of the survey."""
        return tuple(sorted({row.system for row in self.measured.rows(origin="benched") if row.system}))

    @cached_property
    def field(self) -> Pick:
        """All networks with a published accuracy, against operations."""
        return vertebra.pick(operations=NO_LIMIT["operations"], among="catalogue", table=self.every)

    def picked(self, system: str) -> Pick:
        """What ran on a machine, against latency."""
        return vertebra.pick(latency=NO_LIMIT["latency"], among="table", system=system, table=self.every)

    @cached_property
    def forms(self) -> dict[str, list[WideRow]]:
        """What ran on each machine, the quickest form first; intervals as a chart or README gives them."""
        engines = sorted(
            {row.engine for row in self.measured.rows(origin="benched", metric="latency") if row.engine}
        )
        found = [
            row for system in self.systems for engine in engines
            for row in compared(table=self.every, engine=engine, system=system) if "system" in row.conditions
        ]  # fmt: skip
        timed = sorted(
            (row for row in found if "latency" in row.figures), key=lambda row: row.figures["latency"].value
        )
        return {
            system: [row for row in timed if row.conditions["system"] == system] for system in self.systems
        }

    def runs(self, system: str) -> list[WideRow]:
        return self.forms[system]

    # ------------------------------------------------------------------ networks

    def model(self, model: str) -> str:
        """The page of one network."""
        known = zoo.find(model)
        parts = [f"# {model}", *_described(known), self._of_papers(model), self._front(model)]
        for title, section in (
            ("Accuracy and licence", self._accuracy), ("Counts", self._counts), ("Measured", self._measured),
            ("Latency that others published", self._published_latency),
        ):  # fmt: skip
            if made := section(model):
                parts += [f"## {title}", made]
        parts += ["## Commands", _commands(known)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _of_papers(self, model: str) -> str:
        lines = [
            f"- **{entry.network}** in [{paper.title}]({paper.url}) ({paper.first_author} and others, {paper.year})"
            + (f": {entry.note}" if entry.note else "")
            for paper in papers.PAPERS.values() for entry in paper.entries if entry.model == model
        ]  # fmt: skip
        return "\n".join(lines)

    def _front(self, model: str) -> str:
        own = next((row for row in self.field.ranked if row.model == model), None)
        if own is None:
            return "**Front.** No accuracy is published for weights of this network at the size that its counts are of, so it is on no front."
        cost, gain = own.figures["operations"].value, own.figures["top1"].value
        beaten = [
            row for row in self.field.ranked
            if row.value("operations") <= cost and row.value("top1") >= gain and row.model != model
            and (row.value("operations"), row.value("top1")) != (cost, gain)
        ]  # fmt: skip
        of = f"{len(self.field.ranked)} networks with a published accuracy"
        if not beaten:
            return f"**Front.** Of the {of}, none has at most its operations and at least its top-1 accuracy: it is on the Pareto front."
        best = max(beaten, key=lambda row: (row.figures["top1"].value, -row.figures["operations"].value))
        return (
            f"**Front.** Of the {of}, {len(beaten)} have at most its operations and at least its top-1 accuracy "
            f"({shown(own.figures['top1'])} for {shown(own.figures['operations'])}): the most accurate of these is "
            f"`{best.model}`, {shown(best.figures['top1'])} for {shown(best.figures['operations'])}. Operations "
            "aren't time: [measure](../five-minutes.md) before you choose."
        )

    def _accuracy(self, model: str) -> str:
        found = self.every.rows(model=model, origin="published", metric="top1")
        top5 = {
            (row.weights, row.input_size, row.source, row.protocol): row
            for row in self.every.rows(model=model, origin="published", metric="top5")
        }
        lines: dict[tuple[str, ...], None] = {}
        for row in sorted(found, key=lambda row: (-row.value, row.source or "")):
            licence = _licence(model, row.weights)
            lines[
                f"`{row.weights}`" if row.weights else "not stated", shown(row),
                shown(top5.get((row.weights, row.input_size, row.source, row.protocol))),
                str(row.input_size or ""), licence, row.source or "",
            ] = None  # fmt: skip
        return table(("weights", "top-1:", "top-5:", "input:", "licence", "source"), lines)

    def _counts(self, model: str) -> str:
        counted = shipped.catalogue.find(model)
        if counted is None:
            return ""
        totals: dict[str, float] = {**counted.totals(), "operations": 2 * counted.macs}
        lines = [
            [
                f"**vertebra**, for one image of {counted.input_size} px",
                *(f"{totals[name]:,}" for name in COUNTS),
                "exact",
            ]
        ]
        published = [row for row in self.every.rows(model=model, origin="published") if row.metric in COUNTS]
        for cells, notes, sources in _merged(published):
            lines.append(
                [
                    " · ".join(sources),
                    *(precise(cells[name]) if name in cells else "" for name in COUNTS),
                    "; ".join(notes),
                ]
            )
        heads = [f"{METRICS[name].label}:" for name in COUNTS]
        return table(("source", *heads, "note"), lines) + (
            "\n\nWhy such figures differ: [Why our FLOPs differ](../flops.md)."
        )

    def _measured(self, model: str) -> str:
        lines = [
            (f"[`{system}`](../results/{system}.md)", str(row.conditions["engine"]), str(row.conditions["precision"]), str(row.conditions["threads"]),
             with_interval(row.figures["latency"]), shown(row.figures.get("memory_total")), row.figures["latency"].grade or "")
            for system in self.systems for row in self.runs(system) if row.model == model
        ]  # fmt: skip
        if not lines:
            return (
                "It isn't among the networks of [these results](../results/index.md). `vertebra pick` prices it from "
                "those that ran on your machine, marked as an estimate, and the command below measures it."
            )
        heads = (
            "machine",
            "engine",
            "precision",
            "threads:",
            "latency, 95 % interval:",
            "peak memory:",
            "grade",
        )
        return (
            table(heads, lines)
            + "\n\nAt batch size 1. What a grade means: [How to read an answer](../answer.md)."
        )

    def _published_latency(self, model: str) -> str:
        found: dict[tuple[str, ...], dict[str, None]] = {}
        for row in self.every.rows(model=model, origin="published", metric="latency"):
            key = (str(row.system), str(row.precision), str(row.batch_size), f"{row.value * 1000:g} ms")
            found.setdefault(key, {})[
                (row.source or "") + (f" (⚠ {row.disputed})" if row.disputed else "")
            ] = None
        lines = [(*key, " · ".join(sources)) for key, sources in found.items()]
        return table(("machine", "precision", "batch:", "latency:", "source"), lines)

    def models_index(self) -> str:
        """The list of networks with a page."""
        best = {row.model: row for row in self.field.ranked}
        lines = []
        for model in models():
            known, count = zoo.find(model), shipped.catalogue.find(model)
            top1 = best[model].figures["top1"] if model in best else None
            counted = (
                ("", "")
                if count is None
                else (units.show(count.params, "count"), units.show(2 * count.macs, "count"))
            )
            on = "yes" if any(row.model == model for row in self.field.front) else ""
            lines.append(
                (
                    f"[`{model}`]({page_of(model)})",
                    known.family,
                    str(known.year or ""),
                    shown(top1),
                    *counted,
                    on,
                )
            )
        return (
            "# Models\n\nA page for each network of ours, and of the papers of "
            + " and ".join(f"[{paper.first_author} and others, {paper.year}]({paper.url})" for paper in papers.PAPERS.values())
            + ": figures, front, licences and commands. vertebra can also use every network of timm and torchvision and any ONNX "
            "file ([Find a network](../catalogue.md)).\n\n"
            + table(("network", "family", "year", "top-1, published:", "parameters:", "operations:", "on the front of the whole field"), lines)
            + "\n\nTop-1 is that of the weights that `vertebra pick` takes for the network: the best ones published at the size that "
            "the operations are counted at.\n"
        )  # fmt: skip

    # ------------------------------------------------------------------ machines

    def system(self, system: str) -> str:
        """The page of one machine, whose charts are beside it."""
        runs, picked = self.runs(system), self.picked(system)
        first = runs[0].figures["latency"]
        on_front = {(row.model, row.conditions["engine"]) for row in picked.front}
        versions = sorted(
            {
                f"{name} {version}"
                for row in runs
                for name, version in row.figures["latency"].versions.items()
                if name != "graph"
            }
        )
        lines = [
            (_linked(row.model), str(row.conditions["engine"]), shown(row.figures.get("top1")), with_interval(row.figures["latency"]),
             shown(row.figures.get("memory_total")), row.figures["latency"].grade or "", "yes" if (row.model, row.conditions["engine"]) in on_front else "")
            for row in runs
        ]  # fmt: skip
        days = sorted({(row.figures["latency"].measured_at or "")[:10] for row in runs})
        heads = (
            "network",
            "engine",
            "top-1, published:",
            "latency, 95 % interval:",
            "peak memory:",
            "grade",
            "on the front",
        )
        return "\n\n".join([
            f"# {system}",
            f"{len(runs)} forms of {len({row.model for row in runs})} networks, {' to '.join(dict.fromkeys((days[0], days[-1])))}; {first.precision}, "
            f"batch size {first.batch_size}, {first.threads} threads, {first.scenario}. Versions: {', '.join(versions)}.",
            f"[Open these results in the explorer](explorer-{system}.html): set limits of speed and memory, and the best network changes with them. "
            "It is the page that `vertebra report` writes.",
            *(f"![{text}]({system}-{view}.svg)" for view, text in CHARTS.items()),
            "## All that ran", table(heads, lines),
            "The front: what no other form beats in both accuracy and latency. Grades are explained in [How to read an answer](../answer.md), and how "
            "this was measured in [How we measure](../measure.md).",
        ]) + "\n"  # fmt: skip

    def results_index(self) -> str:
        """The list of machines."""
        lines = []
        for system in self.systems:
            runs = self.runs(system)
            front = self.picked(system).front
            lines.append(
                (
                    f"[`{system}`]({system}.md)",
                    str(len({row.model for row in runs})),
                    ", ".join(sorted({str(row.conditions["engine"]) for row in runs})),
                    str(len(front)),
                )
            )
        return (
            "# Results\n\nOne page for each machine whose measurements are in this repository (`docs/survey.csv`).\n\n"
            + table(("machine", "networks:", "engines", "on its front:"), lines)
            + "\n\nYour own machine's page is one command away: `vertebra survey` writes it ([Choose in five minutes](../five-minutes.md)). "
            "[Submit](../submit.md) shows how to give what you measured to others.\n"
        )  # fmt: skip

    def draw(self, system: str, folder: Path) -> None:
        """A machine's charts and explorer, as files in `folder`."""
        engine = str(self.runs(system)[0].conditions["engine"])
        for view in CHARTS:
            vertebra.chart(view, engine=engine, system=system, table=self.measured).save(
                folder / f"{system}-{view}.svg"
            )
        vertebra.report(folder / f"explorer-{system}.html", system=system, table=self.measured, among="table")

    def pages(self) -> dict[str, Callable[[], str]]:
        """Every page by its place in the site -> what makes it."""
        found: dict[str, Callable[[], str]] = {
            "models/index.md": self.models_index,
            "results/index.md": self.results_index,
        }
        found |= {f"models/{page_of(one)}": (lambda one=one: self.model(one)) for one in models()}  # type: ignore[misc]
        return found | {f"results/{one}.md": (lambda one=one: self.system(one)) for one in self.systems}  # type: ignore[misc]


def gallery(survey: Path) -> Gallery:
    """The pages' maker, with its tables in a folder that is removed when the program ends."""
    folder = tempfile.mkdtemp(prefix="vertebra-site-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Gallery(survey, Path(folder))


def precise(value: float) -> str:
    """A count as it was printed.

    >>> precise(138340000.0), precise(1370000000.0), precise(1240.0)
    ('138.34 M', '1.37 G', '1.24 k')
    """
    for letter, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.9g} {letter}"
    return f"{value:g}"


def _merged(rows: Iterable[Measurement]) -> list[tuple[dict[str, float], list[str], list[str]]]:
    """Published counts by line: values by metric, notes, and the sources that print just these."""
    lines: dict[str, list[tuple[dict[str, float], dict[str, None]]]] = {}
    for row in rows:
        of_source = lines.setdefault(row.source or "", [])
        fitting = (one for one in of_source if one[0].get(row.metric, row.value) == row.value)
        cells, notes = next(fitting, ({}, {}))
        if not cells:
            of_source.append((cells, notes))
        cells[row.metric] = row.value
        notes |= dict.fromkeys(
            filter(None, (f"⚠ {row.disputed}" if row.disputed else "", row.convention or ""))
        )
    merged: dict[tuple[tuple[str, float], ...], tuple[dict[str, float], list[str], list[str]]] = {}
    for source, found in lines.items():
        for cells, notes in found:
            known = merged.setdefault(tuple(sorted(cells.items())), (cells, list(notes), []))
            known[2].append(source)
    return list(merged.values())


def _described(known: names.Model) -> list[str]:
    if not known.idea:
        return [f"A network of {known.source}: `vertebra show {known.name}` prints its layers."]
    paper = (
        f"[{known.title}]({known.url}), {known.first_author} and others, {known.year}." if known.title else ""
    )
    also = f"This form: {known.further}." if known.further else ""
    return [" ".join(filter(None, (paper, also))), known.idea, known.place]


def _licence(model: str, named: str | None) -> str:
    own = (
        {one.name.split(".", 1)[-1]: one.licence for one in weights.records(model)}
        if ":" not in model
        else {}
    )
    licence = own.get(named or "") or licences().get(named or "")
    known = licence.lower() if licence else None
    what = terms(known)
    return known or TERMS["not stated"] if what in ("free", "not stated") else f"{known}: {TERMS[what]}"


def _linked(model: str) -> str:
    return f"[`{model}`](../models/{page_of(model)})" if model in models() else f"`{model}`"


def _commands(known: names.Model) -> str:
    lines = [
        f"vertebra show {known.name}",
        f"vertebra profile {known.name}",
        f"vertebra bench {known.name} --budget 1m",
    ]
    held = weights.records(known.name) if ":" not in known.name else ()
    if known.collection == "classics" or ":" in known.name or held:
        lines.append(f"vertebra export {known.name} -o {known.name.split(':')[-1]}")
    else:
        lines.append(f"vertebra export {known.name} --weights mine.pth -o {known.name}")
    return "\n".join(["```console", *(f"$ {line}" for line in lines), "```"])
