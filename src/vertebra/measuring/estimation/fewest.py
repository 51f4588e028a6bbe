"""How many networks must be measured before others can be estimated."""

from __future__ import annotations

#: How many anchors are measured by default, and how few are enough.
ANCHORS, FEWEST_ANCHORS = 20, 5
