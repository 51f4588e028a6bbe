"""The licence of a network's weights, and what it allows in a word."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

from vertebra.measurements import WideRow
from vertebra.measurements.shipped.licences import licences

Terms = Literal["free", "non-commercial", "own terms", "not stated"]

#: Licences that allow any use, also in what is sold; each asks at most for its text and the authors' names.
FREE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0")

#: What to say of weights that are not free.
TOLD: Mapping[Terms, str] = {
    "non-commercial": "non-commercial use only",
    "own terms": "terms of its own: read them before use",
    "not stated": "no licence is stated: ask its authors before use",
}


def licence_of(model: str, weights: str | None) -> str | None:
    """The licence of a network's weights, in SPDX's spelling, lower case; None if it isn't stated."""
    if weights is None:
        return None
    return licences().get(weights) or _our_licences().get(f"{model}.{weights}")


@cache
def _our_licences() -> Mapping[str, str]:
    from vertebra.zoo import weights

    return {record.name: record.licence.lower() for record in weights.records()}


def licence(row: WideRow) -> str | None:
    """The licence of the weights that a network's accuracy is of."""
    accuracy = row.figures.get("top1")
    return None if accuracy is None else licence_of(row.model, accuracy.weights)


def terms(named: str | None) -> Terms:
    """What a licence allows.

    >>> terms("apache-2.0"), terms("cc-by-nc-4.0"), terms("seer-license"), terms(None)
    ('free', 'non-commercial', 'own terms', 'not stated')
    """
    if named is None:
        return "not stated"
    if named in FREE:
        return "free"
    return "non-commercial" if "-nc" in named else "own terms"


def is_public(row: WideRow) -> bool:
    """Whether a row's accuracy is of published weights: those of one's own have one's own licence."""
    accuracy = row.figures.get("top1")
    return accuracy is not None and accuracy.origin in ("published", "derived")
