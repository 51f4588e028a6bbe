"""Times a network on an engine, one fresh process a case, and says how far the figures can be trusted.

A case names an engine and a subject: a Bundle's folder, or the address of a builder. Which networks exist
is not known here.
"""

from vertebra.benchmarking.plan import Case, Limits
from vertebra.benchmarking.results import Result
from vertebra.benchmarking.runner import measure

__all__ = ["Case", "Limits", "Result", "measure"]
