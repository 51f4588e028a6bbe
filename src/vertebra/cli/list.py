"""`vertebra list`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from vertebra.cli.output import emit, format_options

if TYPE_CHECKING:
    from vertebra.engines import EngineInfo


@click.command("list")
@click.argument(
    "what", type=click.Choice(["models", "engines", "metrics", "sources", "charts"]), default="models"
)
@click.option(
    "--source",
    type=click.Choice(["ours", "timm", "torchvision"]),
    default="ours",
    show_default=True,
    help="Whose models.",
)
@click.option(
    "--paper", metavar="NAME", help="Models that a paper compared, by its names: bianco2018 or canziani2016."
)
@format_options
def command(what: str, source: str, paper: str | None, style: str) -> None:
    """List models, engines, metrics, sources of published figures or charts (models by default)."""
    if paper is not None:
        if what != "models":
            raise click.UsageError(f"--paper lists models, not {what}.")
        emit(_compared(paper), style)
    elif what == "models" and source != "ours":
        emit(_others(source), style)
    else:
        emit(_LISTS[what](), style)


def _others(source: str) -> list[dict[str, Any]]:
    """Another library's networks, by name alone: to know more of one takes its import."""
    from vertebra.zoo import adapters

    adapters.require(source)
    return [{"model": f"{source}:{name}"} for name in adapters.known(source)]


def _compared(paper: str) -> list[dict[str, Any]]:
    from vertebra.zoo import papers

    return [
        {
            "network": entry.network,
            "model": entry.model,
            "weights of the paper's accuracy": entry.weights,
            "note": entry.note,
        }
        for entry in papers.find(paper).entries
    ]


def _models() -> list[dict[str, Any]]:
    from vertebra.zoo import names

    return [
        {
            "model": model.name,
            "family": model.family,
            "year": model.year,
            "input size": model.input_size,
            "smallest": model.min_size,
            "collection": model.collection,
            "also called": ", ".join(model.aliases),
        }
        for model in names.models()
    ]


def _engines() -> list[dict[str, Any]]:
    from vertebra import engines

    return [
        {
            "engine": info.name,
            "version": engines.version(info.name),
            "precisions": ", ".join(info.precisions),
            "reads": _reads(info),
            "what it is": info.summary,
            "not here because": engines.missing(info.name),
        }
        for info in engines.known()
    ]


def _reads(info: EngineInfo) -> str:
    return {"any": "anything", "builder": "a network"}.get(info.reads) or f"Bundle: {', '.join(info.formats)}"


def _metrics() -> list[dict[str, Any]]:
    from vertebra.metrics import METRICS

    return [
        {"metric": metric.name, "unit": metric.unit, "better": metric.better, "definition": metric.definition}
        for metric in METRICS.values()
    ]


def _sources() -> list[dict[str, Any]]:
    from vertebra.citations import SOURCES

    return [
        {"source": source.name, "what it tells": source.what, "from": source.origin}
        for source in SOURCES.values()
    ]


def _charts() -> list[dict[str, Any]]:
    from vertebra.charts import VIEWS

    return [{"chart": view.name, "what it shows": view.what} for view in VIEWS.values()]


_LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "models": _models, "engines": _engines, "metrics": _metrics, "sources": _sources, "charts": _charts,
}  # fmt: skip
