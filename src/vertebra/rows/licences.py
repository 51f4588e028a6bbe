"""Under which licence published weights are, as timm and torchvision state it; read without torch.

`python tools/licences.py` rewrites the file behind this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from vertebra.rows import published


@cache
def licences() -> Mapping[str, str]:
    """The licence of each set of weights, in SPDX's spelling, lower case; what isn't stated isn't in it."""
    return {line["weights"]: line["licence"] for line in published.printed("licences.csv.gz")}
