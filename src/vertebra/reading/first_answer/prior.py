"""What the estimator knows before anything is measured, as data for `estimator.js`, which does the same."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Any

from vertebra.measuring import estimation


def prior(names: Collection[str]) -> dict[str, Any]:
    """Of each of `names`, in their order, what `Estimator` prices it by, to the last bit: `numbers` has one
    row of float64 (little-endian, base64) per network, in parts whose widths are in `widths`."""
    import numpy as np

    known = estimation.whole_estimator().prior()
    places = [known.names.index(name) for name in names]
    columns = [known.base[:, None], known.alone[:, None], known.features, known.near]
    table = np.hstack(columns)[places]
    return {
        "names": list(names),
        "families": [int(known.families[place]) for place in places],
        "widths": [column.shape[1] for column in columns],
        "numbers": base64.b64encode(np.ascontiguousarray(table, "<f8").tobytes()).decode(),
        "constants": known.constants,
    }
