"""Times networks on engines, in fresh processes and interleaved blocks, and grades how far the figures can be
trusted.

A case names an engine and a subject: a Bundle's folder, or the address of a builder. This package doesn't
know which networks exist.
"""

from vertebra.measuring.benchmarking.plan import SCENARIOS, Case, Limits
from vertebra.measuring.benchmarking.results import Result
from vertebra.measuring.benchmarking.runner import measure, measure_all

__all__ = ["SCENARIOS", "Case", "Limits", "Result", "measure", "measure_all"]
