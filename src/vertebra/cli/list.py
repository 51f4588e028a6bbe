"""`vertebra list`: what there is to choose from."""

from __future__ import annotations

from typing import Any

import click

from vertebra.cli.output import emit, format_options


@click.command("list")
@click.argument("what", type=click.Choice(["models", "engines", "metrics"]), default="models")
@click.option(
    "--source",
    type=click.Choice(["ours", "timm", "torchvision"]),
    default="ours",
    show_default=True,
    help="Whose models.",
)
@format_options
def command(what: str, source: str, style: str) -> None:
    """List models, engines or metrics (models where nothing is said)."""
    if what == "models" and source != "ours":
        emit(_others(source), style)
    else:
        emit({"models": _models, "engines": _engines, "metrics": _metrics}[what](), style)


def _others(source: str) -> list[dict[str, Any]]:
    """Another library's networks, by name alone: to know more of one takes its import."""
    from vertebra.zoo import adapters

    adapters.require(source)
    return [{"model": f"{source}:{name}"} for name in adapters.known(source)]


def _models() -> list[dict[str, Any]]:
    from vertebra.zoo import names

    return [
        {
            "model": model.name,
            "family": model.family,
            "year": model.year,
            "input size": model.input_size,
            "smallest": model.min_size,
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
            "what it is": info.summary,
            "not here because": engines.missing(info.name),
        }
        for info in engines.known()
    ]


def _metrics() -> list[dict[str, Any]]:
    from vertebra.metrics import METRICS

    return [
        {"metric": metric.name, "unit": metric.unit, "better": metric.better, "definition": metric.definition}
        for metric in METRICS.values()
    ]
