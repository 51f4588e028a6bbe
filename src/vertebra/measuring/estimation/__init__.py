"""FILL: estimates networks that never ran here from some that did, and says how large the errors may be."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vertebra.measuring.estimation.fewest import ANCHORS, FEWEST_ANCHORS
from vertebra.measuring.estimation.pricing import (
    LEARNT,
    Priced,
    anchors,
    field,
    price,
    price_forms,
    price_measured,
    whole_estimator,
)

if TYPE_CHECKING:
    from vertebra.measuring.estimation.estimator import Estimates, Estimator, Field, Learnt
    from vertebra.measuring.estimation.memory import MemoryModel

__all__ = [
    "ANCHORS", "FEWEST_ANCHORS", "LEARNT", "Estimates", "Estimator", "Field", "Learnt", "MemoryModel",
    "Priced", "anchors", "field", "price", "price_forms", "price_measured", "whole_estimator",
]  # fmt: skip

#: What is imported when it is used: where prices are kept, nothing is computed.
_LATER = {
    "Estimates": "estimator", "Estimator": "estimator", "Field": "estimator", "Learnt": "estimator",
    "MemoryModel": "memory",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
