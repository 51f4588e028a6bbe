"""How far a latency can be trusted, with the reasons in words.

A   three processes or more that agree, and no sign of anything that could have changed the number
B   one process, or a sign that is too mild to make the number wrong
C   a defect, which is named, because of which the number can't be trusted

A sign counts by its effect on the number. Other processes on the machine are not a defect in themselves: the
blocks that they disturbed are compared with the quiet ones. It is a defect only if the number would differ
without the disturbed blocks, or if no block was quiet. Nothing is ever left out of a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vertebra.measurements import statistics
from vertebra.measurements.blocks import Block, Surroundings, by_process, latencies
from vertebra.measuring.benchmarking import steadiness
from vertebra.measuring.benchmarking.plan import GOOD_HALF_WIDTH, GOOD_SAMPLES
from vertebra.measuring.benchmarking.timing import Stopped, WarmUp

#: Processes that grade A needs: fewer can't show that one of them was unusual.
GOOD_PROCESSES = 3
#: With a wider interval, or processes further apart, networks of one family can't be ordered any more.
_WIDE, _DISAGREEING = 0.10, 0.10
#: Processes agree if their medians differ by no more than the whole width that one's interval may have.
_AGREEING = 2 * GOOD_HALF_WIDTH
#: With a larger change during the measurement, the median depends on when it was taken.
_DRIFTING = 0.05
#: With modes further apart than this, and more than this share in the smaller, the median is chance.
_SPLIT, _SPLIT_SHARE = 0.10, 0.25
#: Up to this share, disturbed blocks are few: they don't move a median.
_FEW = 0.10
#: With a smaller share of quiet blocks, there is nothing to compare the disturbed ones with.
_ENOUGH_QUIET = 0.20
#: How much the number may differ from that of the quiet blocks: as much as the interval of an A allows.
_MOVED = GOOD_HALF_WIDTH
#: A block ran on a slower machine if the canary took this much longer than in the quiet quarter of the
#: blocks, or if the clock was this far below the upper quarter's. The canary's time varies by a few percent.
_SLOW_CANARY, _HEAVY_CANARY = 0.10, 0.50
_SLOW_CLOCK, _HEAVY_CLOCK = 0.05, 0.20
#: The processors shared no cache in a block if one took this much longer to read what another had written.
_FAR = 0.30
#: Shares of a block's time above which others disturb it, and above which they must have changed the number.
#: The kernel counts in hundredths of a second, a few percent of a block of 0.25 s. Pressure also counts our
#: own threads waiting for each other, so its limit is half of the time, and it is never heavy.
_OTHERS, _HEAVY_OTHERS = 0.10, 0.30
_STEAL, _HEAVY_STEAL = 0.03, 0.10
_THROTTLED, _HEAVY_THROTTLED = 0.01, 0.10
_PRESSURE = 0.50
#: Tasks per core over a minute; used only if nothing better is known: it covers the past, and includes ours.
_LOAD = 2.0

Letter = Literal["A", "B", "C"]


@dataclass(frozen=True)
class Grade:
    """A letter, and why: first what is wrong, then what is worth knowing."""

    letter: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Sign:
    """One observation: the best grade that it allows, and its description."""

    leaves: Letter
    text: str


@dataclass(frozen=True)
class _Disturbance:
    """One way in which a block can be disturbed. `size` is how much; 0 or None is not at all. Above `mild` a
    block is disturbed; above `heavy` it can't be trusted without quiet blocks to compare it with."""

    text: str
    size: Callable[[Block], float | None]
    mild: float
    heavy: float


def grade(
    blocks: Sequence[Block],
    warm_ups: Sequence[WarmUp],
    stopped: Stopped,
    *,
    compared: bool,
    quick: bool = False,
) -> Grade:
    """The grade of a case's blocks, with the warm-up of each process and why sampling ended.

    `compared`: the outputs were compared with a reference's; `quick` is the mode that is never above B. The
    caller's limits don't change the rules.
    """
    signs = [
        *_of_interval(blocks, stopped),
        *_of_processes(blocks, quick),
        *_of_warm_up(blocks, warm_ups),
        *_of_drift(blocks),
        *_of_modes(blocks),
        *_of_disturbances(blocks),
        *_of_canary(blocks),
        *([] if compared else [_Sign("B", "outputs not compared: no reference")]),
        *_of_outliers(blocks),
    ]
    signs.sort(key=lambda sign: sign.leaves, reverse=True)
    return Grade(signs[0].leaves if signs else "A", tuple(sign.text for sign in signs))


def grade_looks(values: Sequence[float], notes: Sequence[str] = ()) -> Grade:
    """The grade of a value that each process has once, by the number of processes and how far apart their
    values are. `notes` are added to the reasons and don't change the grade."""
    middle = statistics.median(values)
    apart = (max(values) - min(values)) / middle if middle > 0 else 0.0
    text = f"{len(values)} processes {100 * apart:.1f} % apart"
    if len(values) == 1:
        return Grade("B", ("one process", *notes))
    if apart > _DISAGREEING:
        return Grade("C", (text, *notes))
    good = len(values) >= GOOD_PROCESSES and apart <= _AGREEING
    return Grade("A" if good else "B", (text, *notes))


def _of_interval(blocks: Sequence[Block], stopped: Stopped) -> Iterator[_Sign]:
    count = len(latencies(blocks))
    found = statistics.interval(blocks)
    if found.low is None:
        yield _Sign("C", f"no interval: {count} samples, at least {statistics.FEWEST_FOR_INTERVAL} needed")
        return
    if found.half_width > GOOD_HALF_WIDTH:
        leaves: Letter = "C" if found.half_width > _WIDE else "B"
        yield _Sign(
            leaves, f"interval ±{100 * found.half_width:.1f} %, wider than ±{100 * GOOD_HALF_WIDTH:.0f} %"
        )
    if count < GOOD_SAMPLES:
        why = f": {stopped}" if stopped != "sure" else ""
        yield _Sign("B", f"{count} samples of {GOOD_SAMPLES}{why}")


def _of_processes(blocks: Sequence[Block], quick: bool) -> Iterator[_Sign]:
    processes = [latencies(process) for process in by_process(blocks)]
    if len(processes) == 1:
        yield _Sign("B", "one process")
        return
    if len(processes) < GOOD_PROCESSES:
        yield _Sign("B", f"{len(processes)} processes of {GOOD_PROCESSES}")
    elif quick:
        yield _Sign("B", "quick mode")
    apart = steadiness.disagreement(processes)
    spread = steadiness.spread(processes)
    assert spread.between is not None
    text = (
        f"{len(processes)} processes {100 * apart:.1f} % apart "
        f"(σ {100 * spread.between:.1f} % between them, {100 * spread.within:.1f} % within)"
    )
    leaves: Letter = "A" if apart <= _AGREEING else "B" if apart <= _DISAGREEING else "C"
    yield _Sign(leaves, text)


def _of_warm_up(blocks: Sequence[Block], warm_ups: Sequence[WarmUp]) -> Iterator[_Sign]:
    """A warm-up that didn't settle is a defect if the samples go on drifting, otherwise a mild sign."""
    restless = [warm_up for warm_up in warm_ups if not warm_up.settled]
    if restless:
        longest = max(restless, key=lambda warm_up: warm_up.seconds)
        leaves: Letter = "C" if steadiness.drift_of_blocks(blocks) else "B"
        of = f" ({len(restless)} of {len(warm_ups)} processes)" if len(warm_ups) > 1 else ""
        yield _Sign(leaves, f"warm-up did not settle in {longest.runs} runs and {longest.seconds:.1f} s{of}")


def _of_drift(blocks: Sequence[Block]) -> Iterator[_Sign]:
    drift = steadiness.drift_of_blocks(blocks)
    if drift:
        way = "slower" if drift > 0 else "faster"
        leaves: Letter = "C" if abs(drift) > _DRIFTING else "B"
        yield _Sign(leaves, f"still drifting: second half {100 * abs(drift):.1f} % {way}")


def _of_modes(blocks: Sequence[Block]) -> Iterator[_Sign]:
    """Two modes inside processes; processes that differ from each other are left to `_of_processes`."""
    found = [steadiness.modes(latencies(process)) for process in by_process(blocks)]
    seen = [modes for modes in found if modes is not None]
    if 2 * len(seen) > len(found):
        worst = max(seen, key=lambda modes: modes.ratio)
        least = min(worst.share, 1 - worst.share)
        leaves: Letter = "C" if worst.ratio - 1 > _SPLIT and least > _SPLIT_SHARE else "B"
        text = f"two modes {100 * (worst.ratio - 1):.0f} % apart"
        yield _Sign(leaves, f"{text}, {100 * worst.share:.0f} % of the samples in the slower one")


def _of_outliers(blocks: Sequence[Block]) -> Iterator[_Sign]:
    found = steadiness.outliers(latencies(blocks))
    if found.mild + found.severe:
        yield _Sign("A", f"outliers kept: {found.mild} mild, {found.severe} severe")


# ------------------------------------------------------------------ surroundings


def _of_disturbances(blocks: Sequence[Block]) -> Iterator[_Sign]:
    """What disturbed the blocks, and its effect on the number."""
    kinds = _disturbances(blocks)
    disturbed = {id(block) for block in blocks for kind in kinds if (kind.size(block) or 0) > kind.mild}
    quiet = [block for block in blocks if id(block) not in disturbed]
    has_quiet = len(quiet) >= _ENOUGH_QUIET * len(blocks)
    moved = _moved(blocks, quiet) if has_quiet and disturbed else 0.0
    for kind in kinds:
        sizes = [size for size in (kind.size(block) for block in blocks) if size is not None]
        above = [size for size in sizes if size > kind.mild]
        if not above:
            continue
        heavy = statistics.median(sizes) > kind.heavy
        few = len(above) <= _FEW * len(blocks)
        is_defect = (abs(moved) > _MOVED and not few) or (not has_quiet and heavy)
        leaves: Letter = "C" if is_defect else "A" if few else "B"
        size = f"{100 * statistics.median(above):.0f} %"
        yield _Sign(
            leaves, f"{kind.text.format(size)} in {len(above)} of {len(blocks)} blocks{_shift(moved)}"
        )


def _shift(moved: float) -> str:
    if abs(moved) <= _MOVED:
        return ""
    return f"; the undisturbed blocks are {100 * abs(moved):.1f} % {'slower' if moved > 0 else 'faster'}"


def _moved(blocks: Sequence[Block], quiet: Sequence[Block]) -> float:
    """By how much the median of the quiet blocks exceeds that of all."""
    every = statistics.interval(blocks).median
    return statistics.interval(quiet).median / every - 1 if every else 0.0


def _disturbances(blocks: Sequence[Block]) -> list[_Disturbance]:
    """The ways in which one of these blocks could have been disturbed, as sizes from 0 up."""
    canary = _quiet([block.canary_s for block in blocks])
    handover = _quiet([block.handover_s for block in blocks])
    seen = [block.surroundings for block in blocks if block.surroundings]
    clock, card_clock = _upper([one.clock_hz for one in seen]), _upper([one.card_clock_hz for one in seen])
    never = float("inf")
    return [
        _Disturbance("other processes used {} of the processors", _of(lambda seen: seen.others_cpu),
                     _OTHERS, _HEAVY_OTHERS),
        _Disturbance("the hypervisor gave {} of the time to other machines", _of(lambda seen: seen.steal),
                     _STEAL, _HEAVY_STEAL),
        _Disturbance("the container's CPU quota stopped the process for {} of the time", _of(_throttled),
                     _THROTTLED, _HEAVY_THROTTLED),
        _Disturbance("tasks waited for a processor for {} of the time", _of(lambda seen: seen.pressure),
                     _PRESSURE, never),
        _Disturbance("the processor's clock was {} lower", _of(lambda seen: _below(seen.clock_hz, clock)),
                     _SLOW_CLOCK, _HEAVY_CLOCK),
        _Disturbance("the processor was slowed down by heat", _of(lambda seen: seen.throttle_events), 0.0,
                     0.0),
        _Disturbance("the card's clock was {} lower",
                     _of(lambda seen: _below(seen.card_clock_hz, card_clock)), _SLOW_CLOCK, _HEAVY_CLOCK),
        _Disturbance("the card was slowed down by heat or power", _of(lambda seen: seen.card_slowed), 0.0,
                     0.0),
        _Disturbance("the canary (a fixed piece of work) took {} longer",
                     lambda block: _above(block.canary_s, canary), _SLOW_CANARY, _HEAVY_CANARY),
        _Disturbance("reading what another processor wrote took {} longer",
                     lambda block: _above(block.handover_s, handover), _FAR, never),
        _Disturbance("the system load was {} of the cores", _of(_load_alone), _LOAD, never),
    ]  # fmt: skip


def _of(reader: Callable[[Surroundings], float | None]) -> Callable[[Block], float | None]:
    return lambda block: None if block.surroundings is None else reader(block.surroundings)


def _throttled(seen: Surroundings) -> float | None:
    return None if seen.throttled_s is None or not seen.wall_s else seen.throttled_s / seen.wall_s


def _load_alone(seen: Surroundings) -> float | None:
    return seen.load if seen.others_cpu is None else None


def _below(clock_hz: float | None, usual: float | None) -> float | None:
    return None if clock_hz is None or not usual else max(0.0, 1 - clock_hz / usual)


def _above(seconds: float | None, quiet: float | None) -> float | None:
    return None if seconds is None or not quiet else max(0.0, seconds / quiet - 1)


def _quiet(times: Sequence[float | None]) -> float | None:
    """A time when nothing makes it longer: the lower quartile."""
    seen = sorted(one for one in times if one is not None)
    return seen[len(seen) // 4] if seen else None


def _upper(clocks: Sequence[float | None]) -> float | None:
    """A clock when nothing slows it down: its upper quartile, because single readings vary."""
    seen = sorted(clock for clock in clocks if clock is not None)
    return seen[-1 - len(seen) // 4] if seen else None


def _of_canary(blocks: Sequence[Block]) -> Iterator[_Sign]:
    """A machine that became slower or faster during the measurement."""
    ordered = sorted(blocks, key=lambda block: block.order)
    seen = [block.canary_s for block in ordered if block.canary_s is not None]
    drift = steadiness.drift(seen, least=GOOD_HALF_WIDTH)
    if drift:
        yield _Sign("B", f"the machine became {100 * abs(drift):.1f} % {'slower' if drift > 0 else 'faster'}")
