"""Waiting for others: a latency that was taken while others used the processors says little.

Before a measurement whose answer matters, the machine is looked at for a moment. Where others take a fifth of
the processors or more, that is said, and the measurement waits, for a bounded time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from vertebra.measuring.benchmarking import surroundings

#: The share of the usable cores' time from which on others are waited for; for how long at most; and for how
#: long the machine is looked at each time (the kernel counts in hundredths of a second).
BUSY, LONGEST_S, LOOK_S = 0.20, 60.0, 1.0


@dataclass(frozen=True)
class Waited:
    """How busy others kept the processors at first and at the end (shares, None if unknown here), and the
    seconds spent waiting."""

    before: float | None
    after: float | None
    seconds: float

    @property
    def is_busy(self) -> bool:
        """Whether others still take `BUSY` or more."""
        return self.after is not None and self.after >= BUSY

    def __str__(self) -> str:
        if self.before is None or self.before < BUSY:
            return ""
        used = f"Others used {100 * self.before:.0f} % of the processors: {self.seconds:.0f} s of waiting"
        after = f"{100 * (self.after or 0):.0f} %"
        if self.is_busy:
            return f"{used}, and they still used {after}. Latencies measured then have wider intervals"
        return f"{used} until they used {after}"


def others_now(seconds: float = LOOK_S) -> float | None:
    """The share of the processors that others use, over the next `seconds`; None where the system doesn't
    say."""
    before = surroundings.snapshot()
    time.sleep(seconds)
    return surroundings.between(before, surroundings.snapshot()).others_cpu


def wait(
    longest_s: float = LONGEST_S,
    say: Callable[[str], None] = lambda text: None,
    *,
    look: Callable[[], float | None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Waited:
    """Wait until others use less than `BUSY` of the processors, at most `longest_s`, and `say` so first."""
    look = look or others_now
    start = clock()
    before = after = look()
    if before is None or before < BUSY:
        return Waited(before, before, 0.0)
    say(
        f"Others use {100 * before:.0f} % of the processors, which makes latencies longer: waiting up to "
        f"{longest_s:.0f} s until they use less than {100 * BUSY:.0f} %"
    )
    while after is not None and after >= BUSY and clock() - start < longest_s:
        after = look()
    return Waited(before, after, clock() - start)
