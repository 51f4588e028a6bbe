"""`vertebra list`: models, engines, metrics, sources and charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra.cli.output import emit, format_options

if TYPE_CHECKING:
    from vertebra.engines import Engine, EngineInfo
    from vertebra.zoo import Model
    from vertebra.zoo.papers import Entry


@click.command("list")
@click.argument(
    "what", type=click.Choice(["models", "engines", "metrics", "sources", "charts"]), default="models"
)
@click.option(
    "--source",
    type=click.Choice(["ours", "timm", "torchvision"]),
    help="Library of the models. [default: ours]",
)
@click.option("--paper", metavar="NAME", help="Models that a paper compared: bianco2018 or canziani2016.")
@format_options
def command(what: str, source: str | None, paper: str | None, style: str) -> None:
    """List models (the default), engines, metrics, sources of published figures, or charts."""
    for name, value in (("source", source), ("paper", paper)):
        if what != "models" and value is not None:
            raise click.UsageError(f"--{name} is for models, not for {what}.")
    found = vertebra.list(what, source=source, paper=paper)
    if what == "models" and (paper is not None or source not in (None, "ours")):
        what = "entries" if paper is not None else "names"
    emit([_LINES[what](one) for one in found], style)


def _name(name: str) -> dict[str, Any]:
    return {"model": name}


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "network": entry.network,
        "model": entry.model,
        "weights of the paper's accuracy": entry.weights,
        "note": entry.note,
    }


def _model(model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "family": model.family,
        "year": model.year,
        "input size": model.input_size,
        "smallest": model.min_size,
        "collection": model.collection,
        "also called": ", ".join(model.aliases),
    }


def _engine(engine: Engine) -> dict[str, Any]:
    return {
        "engine": engine.info.name,
        "version": engine.version,
        "precisions": ", ".join(engine.info.precisions),
        "reads": _reads(engine.info),
        "what it is": engine.info.summary,
        "missing": engine.missing,
    }


def _reads(info: EngineInfo) -> str:
    return {"any": "anything", "builder": "a network"}.get(info.reads) or f"Bundle: {', '.join(info.formats)}"


_LINES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "models": _model,
    "names": _name,
    "entries": _entry,
    "engines": _engine,
    "metrics": lambda metric: {
        "metric": metric.name, "unit": metric.unit, "better": metric.better, "definition": metric.definition,
    },
    "sources": lambda source: {"source": source.name, "what it has": source.what, "from": source.origin},
    "charts": lambda view: {"chart": view.name, "what it shows": view.what},
}  # fmt: skip
