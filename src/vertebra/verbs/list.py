"""`vertebra.list`: models, engines, metrics, sources and charts."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, overload

from vertebra.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from vertebra.engines import Engine
    from vertebra.measuring.citations import Source
    from vertebra.metrics import Metric
    from vertebra.reading.charts import View
    from vertebra.reading.directory import Network
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
def list(what: Literal["models"], pattern: str, **filters: Any) -> builtins.list[Network]: ...
@overload
def list(
    what: str = "models",
    pattern: str | None = None,
    *,
    source: str | None = None,
    paper: str | None = None,
    **filters: Any,
) -> builtins.list[Any]: ...
def list(
    what: str = "models",
    pattern: str | None = None,
    *,
    source: str | None = None,
    paper: str | None = None,
    family: Sequence[str] = (),
    licence: Sequence[str] = (),
    input_size: Sequence[int] = (),
    by: str = "top1",
    **limits: str | float,
) -> builtins.list[Any]:
    """Models, engines, metrics, sources of published figures, or charts; `pattern` finds some of them.

    Models are vertebra's own; with `source` the names of timm's or torchvision's, with `paper` ("bianco2018",
    "canziani2016") the networks that the paper compared. With a pattern, limits (`params="5M"`, `top1="75%"`)
    or another filter they are networks of the whole catalogue, from the figures that ship: see
    `reading.directory.networks`. Raises InvalidInputError for what the list can't filter by, UnknownNameError
    if nothing matches, and MissingRuntimeError if the library of `source` isn't installed.
    """
    if what not in _LISTS:
        raise UnknownNameError.of("list", what, _LISTS, "vertebra list --help")
    filters = {"family": family, "licence": licence, "input_size": input_size, **limits}
    filters = {name: value for name, value in filters.items() if value not in (None, (), [])}
    if what != "models":
        _refuse_filters(what, {"source": source, "paper": paper, **filters})
        return _called(what, pattern)
    if paper is not None:
        return _compared(paper, pattern, {"source": source, **filters})
    if pattern is not None or filters:
        return _catalogued(pattern, source, by, filters)
    return _LISTS[what]() if source in (None, "ours") else _others(source)


def _refuse_filters(what: str, filters: Mapping[str, Any]) -> None:
    for name, value in filters.items():
        if value is not None:
            option = name.replace("_", "-")
            raise InvalidInputError(f"--{option} is for models, not for {what}.", "leave it out")


def _called(what: str, pattern: str | None) -> builtins.list[Any]:
    """The items of a short list whose name matches."""
    every = _LISTS[what]()
    if pattern is None:
        return every
    names = [str(getattr(one, "name", None) or one.info.name) for one in every]
    wanted = pattern.lower() if set(pattern) & set("*?[") else f"*{pattern.lower()}*"
    found = [one for one, name in zip(every, names, strict=True) if fnmatchcase(name.lower(), wanted)]
    if not found:
        raise UnknownNameError.of(what.removesuffix("s"), pattern, names, f"vertebra list {what}")
    return found


def _catalogued(
    pattern: str | None, source: str | None, by: str, filters: dict[str, Any]
) -> builtins.list[Network]:
    from vertebra.reading import directory

    if source not in (None, *directory.SOURCES):
        raise UnknownNameError.of("source", source, directory.SOURCES, "vertebra list --help")
    several = {name: filters.pop(name) for name in ("family", "licence", "input_size") if name in filters}
    return directory.networks(pattern, filters, source=source, by=by, **several)


def _compared(paper: str, pattern: str | None, filters: Mapping[str, Any]) -> builtins.list[Entry]:
    from vertebra.zoo import papers

    if pattern is not None or any(value is not None for value in filters.values()):
        raise InvalidInputError(
            "--paper lists all networks of the paper.", "leave out the pattern and filters"
        )
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
    from vertebra.reading.charts import HISTORY, VIEWS

    return [*VIEWS.values(), HISTORY]


_LISTS: dict[str, Callable[[], builtins.list[Any]]] = {
    "models": _models, "engines": _engines, "metrics": _metrics, "sources": _sources, "charts": _charts,
}  # fmt: skip
