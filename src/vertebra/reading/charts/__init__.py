"""READ: figures drawn from wide rows, as Vega-Lite specs that become PNG or SVG without a browser.

Every chart compares like with like, names its conditions under its title, and can be read as a
table (`Chart.data`). `VIEWS` are the named charts; `claims` tests what the papers claimed, in sentences.
"""

from vertebra.reading.charts.balls import ball_chart
from vertebra.reading.charts.bars import bar_chart
from vertebra.reading.charts.chart import Chart, is_installed, require
from vertebra.reading.charts.claims import claims
from vertebra.reading.charts.confusion import confusion_chart
from vertebra.reading.charts.curves import curves_chart
from vertebra.reading.charts.grid import grid, grid_chart
from vertebra.reading.charts.heat import heat_table
from vertebra.reading.charts.history import history_chart
from vertebra.reading.charts.lines import batch_chart
from vertebra.reading.charts.views import HISTORY, VIEWS, Settings, View, draw, per_image

__all__ = [
    "HISTORY",
    "VIEWS",
    "Chart",
    "Settings",
    "View",
    "ball_chart",
    "bar_chart",
    "batch_chart",
    "claims",
    "confusion_chart",
    "curves_chart",
    "draw",
    "grid",
    "grid_chart",
    "heat_table",
    "history_chart",
    "is_installed",
    "per_image",
    "require",
]
