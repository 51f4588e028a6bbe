"""A network that competes for one's own pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import InvalidInputError
from vertebra.machine import files
from vertebra.measurements import WideRow


class MissedLimitError(InvalidInputError):
    """A network that surely misses a limit here; `misses` says which and by how much."""

    def __init__(self, misses: str) -> None:
        super().__init__(f"it misses the limits: {misses}.", "relax a limit, or name faster networks")
        self.misses = misses


@dataclass(frozen=True)
class Contender:
    """A network with the weights `source` (None: the published ones), which were found with the options
    `checks`, and its fastest form among those that may meet the limits: `row` has its figures here. Pictures
    are prepared as `preprocess` says (None: as for its weights); `tried` is such a way that was tried beside
    that."""

    name: str
    source: str | None
    row: WideRow
    checks: Mapping[str, Any]
    preprocess: str | Preprocess | None = None
    tried: str | None = None

    @property
    def label(self) -> str:
        """What it is called in a race."""
        return self.name if self.tried is None else f"{self.name}, {self.tried} pictures"

    @property
    def options(self) -> dict[str, Any]:
        """The options that find it, with its preprocessing."""
        return {**self.checks, "preprocess": self.tried or self.preprocess}

    def otherwise(self) -> Contender:
        """The same network on whole pictures, squeezed to its size."""
        return replace(self, tried=protocols.WHOLE)

    @property
    def is_own(self) -> bool:
        """Whether its weights are a file of one's own."""
        return self.source is not None and files.named(self.source).exists()

    @property
    def engine(self) -> str:
        return str(self.row.conditions["engine"])

    @property
    def latency_s(self) -> float:
        return self.row.figures["latency"].value
