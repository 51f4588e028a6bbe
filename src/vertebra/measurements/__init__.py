"""The table of measurements: rows, views of them, and where they are kept.

Every verb fills this table or reads it; rows are all that passes between the two sides.
"""

from vertebra.measurements.exchange import Rows
from vertebra.measurements.measurement import COLUMNS, CONDITIONS, GRADES, ORIGINS, Measurement, now
from vertebra.measurements.store import Table, default_path
from vertebra.measurements.views import WideRow, depends_on_machine, latest, wide

__all__ = [
    "COLUMNS",
    "CONDITIONS",
    "GRADES",
    "ORIGINS",
    "Measurement",
    "Rows",
    "Table",
    "WideRow",
    "default_path",
    "depends_on_machine",
    "latest",
    "now",
    "wide",
]
