"""The licences of published weights, as timm and torchvision state them; read without torch.

`python tools/licences.py` rewrites the file that this module reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from vertebra.measurements.shipped import published


@cache
def licences() -> Mapping[str, str]:
    """The licence of each set of weights, in SPDX's spelling, lower case; weights without a stated licence
    are missing."""
    return {line["weights"]: line["licence"] for line in published.printed("licences.csv.gz")}
