"""`vertebra list`: models, engines, metrics, sources and charts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units
from vertebra.cli.limits import limit_options
from vertebra.cli.output import emit, format_options, pager_option
from vertebra.cli.terminal import say

if TYPE_CHECKING:
    from vertebra.engines import Engine, EngineInfo
    from vertebra.reading.directory import Network
    from vertebra.zoo import Model
    from vertebra.zoo.papers import Entry


#: The limits that the shipped figures can answer.
_LIMITS = ("top1", "top5", "params", "macs", "operations", "size")
_WHAT = ("models", "engines", "metrics", "sources", "charts")


@click.command("list")
@click.argument("words", nargs=-1, metavar="[models|engines|metrics|sources|charts] [PATTERN]")
@limit_options(_LIMITS)
@click.option("--family", multiple=True, metavar="NAME", help="Only this family: resnet, … Repeatable.")
@click.option("--licence", multiple=True, metavar="NAME",
              help="Only weights with this licence: apache-2.0, mit, …, or free (any use). "
              "Repeatable.")  # fmt: skip
@click.option("--input-size", type=click.IntRange(min=1), multiple=True,
              help="Only networks with this input size. Repeatable.")  # fmt: skip
@click.option("--by", default="top1", show_default=True, metavar="NAME",
              help="Best first by: name, top1, top5, params, macs, operations, size.")  # fmt: skip
@click.option("--source", type=click.Choice(["ours", "timm", "torchvision"]),
              help="Library of the models. [default: ours; all with PATTERN or a limit]")  # fmt: skip
@click.option("--paper", metavar="NAME", help="Models that a paper compared: bianco2018 or canziani2016.")
@format_options
@pager_option
def command(
    words: tuple[str, ...], family: tuple[str, ...], licence: tuple[str, ...], input_size: tuple[int, ...],
    by: str, source: str | None, paper: str | None, style: str, **limits: str | None,
) -> None:  # fmt: skip
    """List models (the default), engines, metrics, sources of published figures, or charts.

    With PATTERN or a limit, finds networks among all of vertebra's, timm's and torchvision's, with their
    published accuracies and counts; neither library needs to be installed. A PATTERN with * or ? must match
    the whole name, another one a part of it.

    \b
      vertebra list 'mobilenet*' --params 5M --top1 75%
      vertebra list resnet50 --source timm
      vertebra list engines onnx
    """
    what, pattern = _asked(words)
    given = {"source": source, "paper": paper, "family": family, "licence": licence, "input_size": input_size}
    for name, value in {**given, **limits}.items():
        if what != "models" and value:
            raise click.UsageError(f"--{name.replace('_', '-')} is for models, not for {what}.")
    bounds: dict[str, Any] = {name: bound for name, bound in limits.items() if bound is not None}
    found = vertebra.list(what, pattern, source=source, paper=paper, family=family, licence=licence,
                          input_size=input_size, by=by, **bounds)  # fmt: skip
    kind = what
    if what == "models":
        kind = type(found[0]).__name__ if found else "Model"
    emit([_LINES[kind](one) if style == "text" or kind != "Network" else asdict(one) for one in found], style)
    if kind == "Model" and style == "text":
        say("\nTo find timm's and torchvision's networks too: vertebra list PATTERN")


def _asked(words: tuple[str, ...]) -> tuple[str, str | None]:
    """What to list, and the pattern: a single word that isn't a list's name is a pattern of models."""
    if len(words) > 2:
        raise click.UsageError("At most two words are taken. Put a pattern in quotes: 'mobilenet*'")
    if not words or words[0] in _WHAT:
        return (words[0] if words else "models"), (words[1] if len(words) == 2 else None)
    if len(words) == 2:
        raise click.UsageError(f'"{words[0]}" is not a list: choose from {", ".join(_WHAT)}.')
    return "models", words[0]


def _network(network: Network) -> dict[str, Any]:
    return {
        "model": network.name,
        "top-1": _shown(network.top1, "fraction"),
        "parameters": _shown(network.params, "count"),
        "MACs": _shown(network.macs, "count"),
        "weights": _shown(network.weight_bytes, "B"),
        "input size": network.input_size,
        "licence": network.licence,
    }


def _shown(value: float | None, unit: str) -> str | None:
    return None if value is None else units.show(value, unit)


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
    "Model": _model,
    "Network": _network,
    "Entry": _entry,
    "str": _name,
    "engines": _engine,
    "metrics": lambda metric: {
        "metric": metric.name, "unit": metric.unit, "better": metric.better, "definition": metric.definition,
    },
    "sources": lambda source: {"source": source.name, "what it has": source.what, "from": source.origin},
    "charts": lambda view: {"chart": view.name, "what it shows": view.what},
}  # fmt: skip
