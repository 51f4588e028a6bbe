"""What is known of a case while it is measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from vertebra.engines import EngineInfo
from vertebra.measurements.blocks import Block
from vertebra.measuring.benchmarking.plan import Case
from vertebra.measuring.benchmarking.results import Figures


@dataclass
class Record:
    """What is known of a case so far."""

    case: Case
    info: EngineInfo
    figures: Figures = field(default_factory=Figures)
    failure: str | None = None
    is_alone: bool = False
    is_crowded_out: bool = False
    is_behind: bool = False
    is_stopped: bool = False
    spent_s: list[float] = field(default_factory=list)
    granted_s: float = 0.0
    finished: int = 0

    @property
    def name(self) -> str:
        return f"{self.case.model} on {self.case.engine}"

    def blocks(self) -> list[Block]:
        """Those of the running process."""
        return [block for block in self.figures.blocks if block.process == len(self.spent_s) - 1]

    def taken(self) -> int:
        """How many samples the running process's blocks hold."""
        return sum(len(block.latencies) for block in self.blocks())

    def done(self, processes: int) -> float:
        """The part of the case that is finished, where it is to run in `processes`: more add nothing."""
        if self.failure is not None or self.is_stopped:
            return 0.0 if self.is_crowded_out else 1.0
        under_way = len(self.spent_s) > self.finished
        part = min(1.0, self.spent_s[-1] / self.granted_s) if under_way else 0.0
        return min(1.0, (self.finished + part) / processes)
