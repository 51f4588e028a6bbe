"""READ: figures drawn from wide rows, as Vega-Lite specs that become PNG or SVG without a browser.

Every chart compares like with like, names its conditions under its title, and can be read as a
table (`Chart.data`).
"""

from vertebra.charts.balls import ball_chart
from vertebra.charts.bars import bar_chart
from vertebra.charts.chart import Chart, require
from vertebra.charts.confusion import confusion_chart

__all__ = ["Chart", "ball_chart", "bar_chart", "confusion_chart", "require"]
