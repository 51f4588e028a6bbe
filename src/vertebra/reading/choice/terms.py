"""The licence of a network's weights, and what it allows in a word."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from vertebra.measurements import WideRow
from vertebra.measurements.shipped.licences import FREE, TOLD, Terms, licences, terms
from vertebra.measurements.subjects import under_head

__all__ = ["FREE", "TOLD", "Terms", "is_public", "licence", "licence_of", "terms"]


def licence_of(model: str, weights: str | None) -> str | None:
    """The licence of a network's weights, in SPDX's spelling, lower case; None if it isn't stated."""
    if weights is None:
        return None
    weights = under_head(weights)
    return licences().get(weights) or _our_licences().get(f"{model}.{weights}")


@cache
def _our_licences() -> Mapping[str, str]:
    from vertebra.zoo import weights

    return {record.name: record.licence.lower() for record in weights.records()}


def licence(row: WideRow) -> str | None:
    """The licence of the weights that a network's accuracy is of."""
    accuracy = row.figures.get("top1")
    return None if accuracy is None else licence_of(row.model, accuracy.weights)


def is_public(row: WideRow) -> bool:
    """Whether a row's accuracy is of published weights: those of one's own have one's own licence."""
    accuracy = row.figures.get("top1")
    return accuracy is not None and accuracy.origin in ("published", "derived")
