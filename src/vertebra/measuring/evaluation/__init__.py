"""A network's accuracy over a data set, through any engine, in memory that doesn't grow with the set.

A data set's images become inputs on all cores, a callable answers them in batches, and only a few
counts are kept of each. docs/eval.md explains the results.
"""

from vertebra.measuring.evaluation.counting import Count
from vertebra.measuring.evaluation.described import Pictures, describe
from vertebra.measuring.evaluation.matching import match
from vertebra.measuring.evaluation.results import ClassResult, Evaluation, Share, protocol, rows
from vertebra.measuring.evaluation.running import (
    Answer,
    count,
    evaluate,
    reason,
    result,
    split_told,
    unreadable_in,
)
from vertebra.measuring.evaluation.statistics import wilson
from vertebra.measuring.evaluation.tally import Mistake

__all__ = [
    "Answer",
    "ClassResult",
    "Count",
    "Evaluation",
    "Mistake",
    "Pictures",
    "Share",
    "count",
    "describe",
    "evaluate",
    "match",
    "protocol",
    "reason",
    "result",
    "rows",
    "split_told",
    "unreadable_in",
    "wilson",
]
