"""What measuring a case gives: short blocks of samples, spread over time and over processes.

A block is a fraction of a second of one worker's samples, with the canary that was timed just before it and
what went on around it. The blocks of all cases of a cohort are taken in one random order, so that whatever
changes on the machine meanwhile meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise

#: How a value that is not known is stored among numbers that can't be negative.
_UNKNOWN = -1.0
#: The lists of what was timed before each block. Earlier versions wrote a "canary", whose threads often
#: waited for each other: it isn't comparable.
CANARY, HANDOVER = "canary.together", "handover"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What others did while a block ran, and what state the machine was in. None is: not known here.

    `wall_s` is the time looked at. `others_cpu` is the share (0 to 1) of the usable cores' time that went to
    processes other than the harness and its workers. `steal` is the share of the machine's time that the
    hypervisor gave to others, `pressure` the share of `wall_s` in which some task waited for a processor
    (PSI), `throttled_s` the seconds for which a container's quota held its processes back. `clock_hz` is the
    frequency of the fastest usable core just after the block, `throttle_events` how often a processor slowed
    down for heat, and `load` the mean number of runnable tasks per usable core over the last minute.
    `card_clock_hz` is the clock of the graphics card that was used, just after the block, and `card_slowed`
    is 1 where its driver then held it back for heat or power.
    """

    wall_s: float
    others_cpu: float | None = None
    steal: float | None = None
    pressure: float | None = None
    throttled_s: float | None = None
    clock_hz: float | None = None
    throttle_events: float | None = None
    load: float | None = None
    card_clock_hz: float | None = None
    card_slowed: float | None = None


@dataclass(frozen=True, kw_only=True)
class Block:
    """Samples that one worker took in one go.

    `process` numbers the case's fresh processes from 0, which are the rounds of its cohort: blocks of two
    cases with the same number were taken in the same stretch of time. `order` is the place in the cohort's
    whole sequence, `started_s` when it began (seconds since 1970), `latencies` are seconds, in order, and
    `canary_s` is what the canary took just before, and `handover_s` how long a processor then took to read
    what another had just written.
    """

    process: int
    order: int
    started_s: float
    latencies: tuple[float, ...]
    canary_s: float | None = None
    handover_s: float | None = None
    surroundings: Surroundings | None = None


_SURROUNDINGS = tuple(field.name for field in fields(Surroundings))


def pack(blocks: Iterable[Block]) -> dict[str, list[float]]:
    """Blocks as the lists of numbers that the table keeps as a run's samples.

    `latency` holds all samples, block after block; the other lists hold one number a block.
    """
    ordered = sorted(blocks, key=lambda block: block.order)
    lists = {
        "latency": [latency for block in ordered for latency in block.latencies],
        "latency.count": [float(len(block.latencies)) for block in ordered],
        "latency.process": [float(block.process) for block in ordered],
        "latency.block": [float(block.order) for block in ordered],
        "latency.started": [block.started_s for block in ordered],
    }
    optional = {
        CANARY: [block.canary_s for block in ordered],
        HANDOVER: [block.handover_s for block in ordered],
    }
    for name in _SURROUNDINGS:
        optional[f"surroundings.{name}"] = [getattr(block.surroundings, name, None) for block in ordered]
    for name, values in optional.items():
        if any(value is not None for value in values):
            lists[name] = [_UNKNOWN if value is None else value for value in values]
    return lists


def unpack(samples: Mapping[str, Sequence[float]]) -> list[Block]:
    """The blocks that `pack` wrote. Samples that were kept without their blocks are one block of one process,
    with nothing known around it; no samples are no blocks."""
    latencies = samples.get("latency", ())
    if not latencies:
        return []
    if "latency.count" not in samples:
        return [Block(process=0, order=0, started_s=0.0, latencies=tuple(latencies))]
    bounds = pairwise(accumulate((int(count) for count in samples["latency.count"]), initial=0))
    return [
        Block(
            process=int(samples["latency.process"][index]),
            order=int(samples["latency.block"][index]),
            started_s=samples["latency.started"][index],
            latencies=tuple(latencies[start:end]),
            canary_s=_known(samples, CANARY, index),
            handover_s=_known(samples, HANDOVER, index),
            surroundings=_surroundings(samples, index),
        )
        for index, (start, end) in enumerate(bounds)
    ]


def by_process(blocks: Iterable[Block]) -> list[list[Block]]:
    """The blocks of each process, processes and blocks in the order in which they ran."""
    processes: dict[int, list[Block]] = {}
    for block in sorted(blocks, key=lambda block: block.order):
        processes.setdefault(block.process, []).append(block)
    return list(processes.values())


def latencies(blocks: Iterable[Block]) -> list[float]:
    """All samples of `blocks` in one list, in the order in which they were taken."""
    return [one for block in sorted(blocks, key=lambda block: block.order) for one in block.latencies]


def _known(samples: Mapping[str, Sequence[float]], name: str, index: int) -> float | None:
    value = samples[name][index] if name in samples else _UNKNOWN
    return None if value == _UNKNOWN else value


def _surroundings(samples: Mapping[str, Sequence[float]], index: int) -> Surroundings | None:
    values = {name: _known(samples, f"surroundings.{name}", index) for name in _SURROUNDINGS}
    wall_s = values.pop("wall_s")
    return None if wall_s is None else Surroundings(wall_s=wall_s, **values)
