"""READ: a page that prices every network on the visitor's own device, from a few that run in the browser."""

from __future__ import annotations

from vertebra.reading.first_answer.folder import LIMITS, MANIFEST, Runtime, files
from vertebra.reading.first_answer.timed import ANCHORS, Timed, anchors, timed

__all__ = ["ANCHORS", "LIMITS", "MANIFEST", "Runtime", "Timed", "anchors", "files", "timed"]
