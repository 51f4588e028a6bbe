"""The fastest form of one network on this machine: engine, precision, threads, layout and batch.

`forms` tells which there are, `race` which may still win, `search` in which order they are tried, and `heats`
runs it all inside a budget.
"""

from vertebra.tuning.forms import Form, cases, form_of, left_out, needed_bundle
from vertebra.tuning.heats import Found, fastest
from vertebra.tuning.search import Trial

__all__ = ["Form", "Found", "Trial", "cases", "fastest", "form_of", "left_out", "needed_bundle"]
