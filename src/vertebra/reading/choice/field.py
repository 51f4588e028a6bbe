"""The field: every network with a published accuracy, with what is known of each, and estimates of the rest.

A network that exists only for its library's own tests is not of the field, nor is one whose accuracy nobody
published: it could never be chosen by its accuracy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

from vertebra.measurements import Measurement
from vertebra.metrics import METRICS

#: How the names of timm's own test networks begin: they are of no use, and unlike any other.
TOYS = "timm:test_"


def rows(
    known: Sequence[Measurement], metrics: Collection[str] = METRICS, told: list[str] | None = None
) -> list[Measurement]:
    """`known`, and the shipped rows and estimates of the networks of the field; only of `metrics`. What
    contradicts the networks that others are estimated from is left out, and said in `told`."""
    from vertebra.measuring.citations import libraries

    own = {row.model for row in known if not row.model.startswith(TOYS)}
    named = names() | own
    wanted = [row for row in known if row.metric in metrics]
    accuracies = published(tuple(one for one in libraries.ACCURACIES if one in metrics))
    found = [*accuracies, *libraries.counts(metrics, named), *_priced(wanted, told)]
    return [row for row in found if row.model in named and row.metric in metrics]


def _priced(known: Sequence[Measurement], told: list[str] | None) -> list[Measurement]:
    """`known`, as far as it counts, and the estimates from it."""
    from vertebra.measuring import estimation

    priced = estimation.price_measured(known, keep=True)
    if told is not None:
        told += priced.told
    return [*priced.measured, *priced.rows]


@cache
def names() -> frozenset[str]:
    """The networks of the field: those with a published accuracy."""
    return frozenset(row.model for row in published(("top1",)) if not row.model.startswith(TOYS))


@cache
def published(metrics: tuple[str, ...]) -> tuple[Measurement, ...]:
    """Published accuracies (`metrics`: top1, top5) on the whole of ImageNet's validation split; of the
    classics' page only these, not the latencies on its authors' machines."""
    from vertebra.measuring import citations
    from vertebra.measuring.citations import libraries

    page = citations.find("paddleclas").read()
    return (*libraries.accuracies(metrics), *(row for row in page if row.metric in metrics))
