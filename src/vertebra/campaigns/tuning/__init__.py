"""The fastest form of one network on this machine: engine, precision, threads, layout and batch.

`forms` lists them, `race` decides which may still win, `search` the order in which they are tried, and
`heats` runs the search within a budget.
"""

from vertebra.campaigns.tuning.forms import Form, cases, form_of, left_out, needed_bundle
from vertebra.campaigns.tuning.heats import Found, fastest
from vertebra.campaigns.tuning.search import Trial

__all__ = ["Form", "Found", "Trial", "cases", "fastest", "form_of", "left_out", "needed_bundle"]
