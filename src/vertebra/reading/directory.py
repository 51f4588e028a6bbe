"""READ: the networks of the catalogue by name and limits, from the figures that ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from vertebra import metrics
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, WideRow, wide
from vertebra.reading.choice import candidates, rule

#: The limits that the shipped figures can answer.
LIMITS = ("top1", "top5", "params", "macs", "operations", "size")
SOURCES = ("ours", "timm", "torchvision")
#: Shipped sources of a network's figures, the most trusted first.
_SHIPPED = ("imagenet", "paddleclas", "bianco2018", "catalogue")
_METRICS = ("top1", "top5", "params", "macs", "weight_bytes")


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of the catalogue. `top1` and `top5` (fractions of ImageNet's validation set) are the best
    published ones, of `weights` under `licence`, at `input_size` (side of the square, pixels); `macs` is for
    one image of that size. What isn't known is None."""

    name: str
    source: str
    input_size: int | None = None
    top1: float | None = None
    top5: float | None = None
    params: int | None = None
    macs: int | None = None
    weight_bytes: int | None = None
    weights: str | None = None
    licence: str | None = None


def networks(
    pattern: str | None = None,
    limits: Mapping[str, str | float] | None = None,
    *,
    source: str | None = None,
    family: Sequence[str] = (),
    licence: Sequence[str] = (),
    input_size: Sequence[int] = (),
    by: str = "top1",
) -> list[Network]:
    """The networks whose name matches `pattern` and that meet everything else, best by `by` first.

    A pattern with `*`, `?` or `[…]` must match the whole name, with or without its library; another must
    occur in it. Upper and lower case are the same. Raises UnknownNameError if no name matches, and
    InvalidInputError if no network of that name meets the rest.
    """
    limits = dict(limits or {})
    _check(limits, by)
    question = candidates.ask(limits, family=family, licence=licence, input_size=input_size)
    rows = wide(candidates.with_wanted_weights(_shipped(), question.demands))
    named = [row for row in rows if _matches(row.model, pattern) and source in (None, _source(row.model))]
    if not named and pattern is not None:
        raise UnknownNameError.of("network", pattern, [row.model for row in rows], "vertebra list '*'")
    found = [row for row in named if _meets(row, question)]
    if not found:
        raise InvalidInputError(
            f"None of the {len(named)} networks{_called(pattern)} meets all of: {_wanted(question)}.",
            "relax a limit; a figure that isn't known doesn't meet one",
        )
    return [_network(row) for row in sorted(found, key=lambda row: _rank(row, by))]


def _check(limits: Mapping[str, Any], by: str) -> None:
    for name in limits:
        if name not in LIMITS:
            known = ", ".join(LIMITS)
            raise InvalidInputError(
                f'list has no limit "{name}".', f"limits: {known}; for others: vertebra pick"
            )
    if by not in ("name", *LIMITS):
        raise UnknownNameError.of("order", by, ("name", *LIMITS), f"one of: name, {', '.join(LIMITS)}")


@cache
def _shipped() -> tuple[Measurement, ...]:
    from vertebra.measuring import citations

    rows = (row for name in _SHIPPED for row in citations.find(name).read())
    return tuple(row for row in rows if row.metric in _METRICS and candidates.is_of_imagenet(row))


def _matches(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    wanted, full = pattern.lower(), name.lower()
    if not set(wanted) & set("*?["):
        return wanted in full
    return any(fnmatchcase(one, wanted) for one in (full, full.partition(":")[2] or full))


def _source(name: str) -> str:
    return name.partition(":")[0] if ":" in name else "ours"


def _meets(row: WideRow, question: candidates.Question) -> bool:
    return all(limit.verdict(row) == "met" for limit in question.limits) and all(
        demand.holds(row) for demand in question.demands
    )


def _called(pattern: str | None) -> str:
    return "" if pattern is None else f' called "{pattern}"'


def _wanted(question: candidates.Question) -> str:
    return ", ".join(map(str, (*question.limits, *question.demands)))


def _rank(row: WideRow, by: str) -> tuple[bool, float, str]:
    """Unknown figures last, equal ones by name."""
    metric = metrics.METRICS.get(rule.LIMITS.get(by, by))
    value = None if metric is None else row.value(metric.name)
    if metric is None or value is None:
        return (True, 0.0, row.model)
    return (False, -value if metric.better == "higher" else value, row.model)


def _network(row: WideRow) -> Network:
    top1, macs = row.figures.get("top1"), row.figures.get("macs")
    sized = top1 or macs
    counts = {name: _whole(row.value(name)) for name in ("params", "macs", "weight_bytes")}
    weights = None if top1 is None else top1.weights
    return Network(
        name=row.model,
        source=_source(row.model),
        input_size=None if sized is None else sized.input_size,
        top1=row.value("top1"),
        top5=row.value("top5"),
        **counts,
        weights=weights,
        licence=candidates.licence_of(row.model, weights),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
