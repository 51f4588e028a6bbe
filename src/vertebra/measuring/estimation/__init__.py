"""FILL: estimates networks that never ran here from some that did, and says how large the errors may be."""

from vertebra.measuring.estimation.estimator import (
    ANCHORS,
    FEWEST_ANCHORS,
    Estimates,
    Estimator,
    Field,
    Learnt,
)
from vertebra.measuring.estimation.memory import MemoryModel
from vertebra.measuring.estimation.pricing import (
    LEARNT,
    Priced,
    anchors,
    field,
    price,
    price_forms,
    price_measured,
)

__all__ = [
    "ANCHORS", "FEWEST_ANCHORS", "LEARNT", "Estimates", "Estimator", "Field", "Learnt", "MemoryModel",
    "Priced", "anchors", "field", "price", "price_forms", "price_measured",
]  # fmt: skip
