"""READ: the table's rows as one self-contained HTML page that opens offline."""

from vertebra.reading.reports.page import html, write

__all__ = ["html", "write"]
