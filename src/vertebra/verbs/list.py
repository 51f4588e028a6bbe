"""`vertebra.list`: models, engines, metrics, sources and charts."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

from vertebra.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from vertebra.engines import Engine
    from vertebra.measuring.citations import Source
    from vertebra.metrics import Metric
    from vertebra.reading.charts import View
    from vertebra.zoo import Model
    from vertebra.zoo.papers import Entry


@overload
def list(what: Literal["models"] = "models", *, source: Literal["ours"] = "ours") -> builtins.list[Model]: ...
@overload
def list(
    what: Literal["models"] = "models", *, source: Literal["timm", "torchvision"]
) -> builtins.list[str]: ...
@overload
def list(what: Literal["models"] = "models", *, paper: str) -> builtins.list[Entry]: ...
@overload
def list(what: Literal["engines"]) -> builtins.list[Engine]: ...
@overload
def list(what: Literal["metrics"]) -> builtins.list[Metric]: ...
@overload
def list(what: Literal["sources"]) -> builtins.list[Source]: ...
@overload
def list(what: Literal["charts"]) -> builtins.list[View]: ...
@overload
def list(what: str, *, source: str | None = None, paper: str | None = None) -> builtins.list[Any]: ...
def list(what: str = "models", *, source: str | None = None, paper: str | None = None) -> builtins.list[Any]:
    """Models, engines, metrics, sources of published figures, or charts.

    Models are vertebra's own; with `source` the names of timm's or torchvision's, with `paper` ("bianco2018",
    "canziani2016") the networks that the paper compared. Raises InvalidInputError if either is given for
    another list, and MissingRuntimeError if the library isn't installed.
    """
    if what not in _LISTS:
        raise UnknownNameError.of("list", what, _LISTS, "vertebra list --help")
    for name, value in (("source", source), ("paper", paper)):
        if what != "models" and value is not None:
            raise InvalidInputError(f"--{name} is for models, not for {what}.", "leave it out")
    if paper is not None:
        return _compared(paper)
    return _LISTS[what]() if source in (None, "ours") else _others(source)


def _compared(paper: str) -> builtins.list[Entry]:
    from vertebra.zoo import papers

    return [*papers.find(paper).entries]


def _others(source: str) -> builtins.list[str]:
    """The names of another library's networks; more than the name needs its import."""
    from vertebra.zoo import adapters

    if source not in adapters.LIBRARIES:
        raise UnknownNameError.of("source", source, ("ours", *adapters.LIBRARIES), "vertebra list --help")
    adapters.require(source)
    return [f"{source}:{name}" for name in adapters.known(source)]


def _models() -> builtins.list[Model]:
    from vertebra.zoo import names

    return [*names.models()]


def _engines() -> builtins.list[Engine]:
    from vertebra import engines

    return engines.here()


def _metrics() -> builtins.list[Metric]:
    from vertebra.metrics import METRICS

    return [*METRICS.values()]


def _sources() -> builtins.list[Source]:
    from vertebra.measuring.citations import SOURCES

    return [*SOURCES.values()]


def _charts() -> builtins.list[View]:
    from vertebra.reading.charts import VIEWS

    return [*VIEWS.values()]


_LISTS: dict[str, Callable[[], builtins.list[Any]]] = {
    "models": _models, "engines": _engines, "metrics": _metrics, "sources": _sources, "charts": _charts,
}  # fmt: skip
