"""Count how often the comparison reports a difference that isn't there, and how often it finds one of 3 %.

    python benchmarks/false_alarms.py [COMPARISONS]

Each comparison is of two cases whose blocks are interleaved at random over three rounds. One machine is
simulated with a seed: its speed drifts and jumps between rounds, every process has its own offset, samples
have a heavy tail, and bursts hit whole blocks. The other is real: an engine that sleeps, timed by the
harness's own loop. For each, prints how many of 200 comparisons report a difference between equal cases, how
many find a true 3 %, and how often the 95 % interval holds the truth. Exits with status 1 if more than 18 of
200 equal cases are reported as different, or fewer than 160 of 200 differences are found.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from vertebra._version import __version__
from vertebra.machine.system import describe
from vertebra.measurements import statistics
from vertebra.measurements.blocks import Block
from vertebra.measuring.benchmarking.timing import take_block

COMPARISONS, MOST_FALSE, LEAST_FOUND = 200, 18, 160
EFFECT = 0.03
ROUNDS, BLOCKS = 3, 8

Pair = tuple[list[Block], list[Block]]


def orders(generator: np.random.Generator, rounds: int = ROUNDS, blocks: int = BLOCKS) -> Iterator[list[int]]:
    """For each round, the case of each block: one block of each case in random order, again and again."""
    for _ in range(rounds):
        yield [int(case) for _ in range(blocks) for case in generator.permutation(2)]


def drawn(
    seed: int, effect: float, *, process_spread: float = 0.005, drift: float = 0.01, rounds: int = ROUNDS
) -> Pair:
    """A comparison on the simulated machine; the second case takes `1 + effect` times as long.

    `process_spread` is the standard deviation of the processes' offsets, `drift` that of the machine's speed,
    which varies over about ten blocks, jumps between rounds and drifts by as much over the whole.
    """
    generator = np.random.default_rng(seed)
    cases: Pair = ([], [])
    speed, slide, order = 0.0, generator.normal(0, drift), 0
    for process, sequence in enumerate(orders(generator, rounds)):
        offsets = generator.normal(0, process_spread, 2)
        jump = generator.normal(0, drift)
        for case in sequence:
            speed = 0.9 * speed + generator.normal(0, drift * math.sqrt(1 - 0.9**2))
            along = order / (rounds * len(sequence))
            level = offsets[case] + jump + speed + slide * along + case * math.log1p(effect)
            cases[case].append(_drawn_block(generator, process, order, level))
            order += 1
    return cases


def _drawn_block(generator: np.random.Generator, process: int, order: int, level: float) -> Block:
    """25 samples of about 10 ms: noise with a heavy tail, and sometimes a burst over the whole block."""
    burst = generator.uniform(0.05, 0.3) if generator.random() < 0.06 else 0.0
    noise = 0.003 * generator.normal() + 0.01 * generator.standard_t(3, 25) + burst
    noise += np.where(generator.random(25) < 0.02, generator.uniform(0.3, 2.0, 25), 0.0)
    latencies = tuple(float(latency) for latency in 0.01 * np.exp(level + noise))
    return Block(process=process, order=order, started_s=0.3 * order, latencies=latencies)


def slept(
    seed: int, effect: float, *, seconds: float = 0.002, block_s: float = 0.025, blocks: int = 4
) -> Pair:
    """A comparison of two real engines that sleep, timed by the harness's loop in this process."""
    generator = np.random.default_rng(seed)
    cases: Pair = ([], [])
    calls = [partial(time.sleep, seconds), partial(time.sleep, seconds * (1 + effect))]
    order = 0
    for process, sequence in enumerate(orders(generator, blocks=blocks)):
        for case in sequence:
            started = time.time()
            _, taken = take_block(
                calls[case], time.perf_counter_ns, run_in_s=0.0, seconds=block_s, least=3, most=1000
            )
            latencies = tuple(latency / 1e9 for latency in taken)
            cases[case].append(Block(process=process, order=order, started_s=started, latencies=latencies))
            order += 1
    return cases


def counts(pair: Callable[[int, float], Pair], effect: float, comparisons: int) -> tuple[int, int]:
    """How many comparisons report a difference in the right direction (in any, for equal cases), and in how
    many the interval holds the true ratio."""
    reported = held = 0
    for seed in range(comparisons):
        found = statistics.compare(*pair(seed, effect))
        reported += found.detected and (effect == 0 or found.ratio > 1)
        held += found.low <= 1 + effect <= found.high
    return reported, held


def main() -> int:
    comparisons = int(sys.argv[1]) if len(sys.argv) > 1 else COMPARISONS
    print(f"vertebra {__version__}, {describe().id}, {comparisons} comparisons each, {ROUNDS} rounds")
    machines: dict[str, Callable[[int, float], Pair]] = {"asleep, real": slept}
    for spread in (0.003, 0.005, 0.007, 0.01):
        machines[f"drawn, processes σ {100 * spread:.1f} %"] = partial(drawn, process_spread=spread)
    machines["drawn, processes σ 1.0 %, 6 rounds"] = partial(drawn, process_spread=0.01, rounds=6)
    print("| machine | equal, reported as different | 3 % apart, found | interval holds equal | holds 3 % |")
    print("| --- | --- | --- | --- | --- |")
    wrong = False
    for name, pair in machines.items():
        false, held = counts(pair, 0.0, comparisons)
        found, held_apart = counts(pair, EFFECT, comparisons)
        print(f"| {name} | {false} | {found} | {held} | {held_apart} |", flush=True)
        asked = name in ("asleep, real", "drawn, processes σ 0.5 %")
        wrong |= false * COMPARISONS > MOST_FALSE * comparisons
        wrong |= asked and found * COMPARISONS < LEAST_FOUND * comparisons
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
