"""The licences of published weights, as timm and torchvision state them, read without torch; and what a
licence allows in a word.

`python tools/licences.py` rewrites the file that this module reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

from vertebra.measurements.shipped import published

Terms = Literal["free", "non-commercial", "own terms", "not stated"]

#: Licences that allow any use, also in what is sold; each asks at most for its text and the authors' names.
FREE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0")

#: What to say of weights that are not free.
TOLD: Mapping[Terms, str] = {
    "non-commercial": "non-commercial use only",
    "own terms": "terms of its own: read them before use",
    "not stated": "no licence is stated: ask its authors before use",
}


@cache
def licences() -> Mapping[str, str]:
    """The licence of each set of weights, in SPDX's spelling, lower case; weights without a stated licence
    are missing."""
    return {line["weights"]: line["licence"] for line in published.printed("licences.csv.gz")}


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
