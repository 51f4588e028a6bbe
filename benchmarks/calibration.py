"""Do the intervals hold? Of repeated surveys of one machine, does the interval of one hold the other's value?

    python benchmarks/calibration.py [--brief] [TABLE ...]
    python benchmarks/calibration.py --fit [TABLE ...]
    python benchmarks/calibration.py --keep FOLDER

The first prints, over the kept repeats (benchmarks/repeats.json.gz) and the tables given, how often that is
so for all ordered pairs of quiet runs, how wide the intervals are, and where the spread comes from: all
forms, and those that the prior wasn't fitted to. Each table is one survey of one machine.

`--brief` judges the same runs as if the first process of each had been the only one and had ended where a
survey's does (`Limits.brief`).

`--fit` fits the prior to every second form and writes it with its evidence to `spread.json`, which ships with
the package. `--keep` reduces the tables of a folder to `benchmarks/repeats.json.gz`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import vertebra
from vertebra.measurements import Measurement, Table, calibration, pooling, spread, statistics
from vertebra.measurements.blocks import by_process, pack, unpack
from vertebra.measurements.calibration import Calibration, Coverage, Run
from vertebra.measurements.record import record_of, row_of
from vertebra.measuring.benchmarking import Limits
from vertebra.measuring.benchmarking.timing import is_enough

KEPT = Path(__file__).parent / "repeats.json.gz"
PRIOR = Path(spread.__file__).parent / "shipped" / spread.FILE
#: The most degrees of freedom that one machine's runs give the prior: they say little of the next machine,
#: whose own repeats shall soon outweigh it.
OF_A_MACHINE = 12
#: What is asked of the quiet runs: coverage, and half-widths with one process and with three.
LEAST, MOST = 0.88, 0.97
HALF_WIDTHS = {1: 0.10, 3: 0.05}


# ------------------------------------------------------------------ the evidence


def keep(folder: Path) -> None:
    """Writes the latencies of the tables in `folder`, with their samples, of the forms that several have."""
    found = [(path.stem, *run) for path in sorted(folder.glob("*.sqlite")) for run in _with_samples(path)]
    tables: dict[tuple[str, str], set[str]] = {}
    for name, row, _ in found:
        tables.setdefault((row.model, str(row.engine)), set()).add(name)
    kept = [
        {"table": name, "row": _today(row, samples), "samples": _rounded(samples)}
        for name, row, samples in found if len(tables[row.model, str(row.engine)]) > 1
    ]  # fmt: skip
    KEPT.write_bytes(gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), 9, mtime=0))
    print(
        f"{len(kept)} runs of {len({name for name, *_ in found})} tables: {KEPT.stat().st_size / 1e3:.0f} kB"
    )


def _with_samples(path: Path) -> list[tuple[Measurement, dict[str, list[float]]]]:
    table = Table(path, create=False)
    rows = table.rows(metric=spread.METRIC, origin="benched")
    return [(row, table.samples(row.run or "")) for row in rows]


def _rounded(samples: dict[str, list[float]]) -> dict[str, list[float]]:
    blocks = pack(unpack(samples))
    return {name: [float(f"{one:.5g}") if name != "latency.started" else round(one, 1) for one in values]
            for name, values in blocks.items()}  # fmt: skip


def kept() -> list[tuple[str, Measurement, dict[str, list[float]]]]:
    """The kept runs: the table that each is of, its row and its samples."""
    stored = json.loads(gzip.decompress(KEPT.read_bytes()))
    return [(one["table"], row_of(one["row"]), one["samples"]) for one in stored]


def _today(row: Measurement, samples: dict[str, list[float]]) -> dict[str, Any]:
    """The row with the interval of today's statistics."""
    found = statistics.interval(unpack(samples))
    return {**record_of(row), "value": found.median, "low": found.low, "high": found.high}


def shortened(
    row: Measurement, samples: dict[str, list[float]]
) -> tuple[Measurement, dict[str, list[float]]]:
    """The run as if its first process had been the only one and had ended where a survey's does."""
    limits, blocks = Limits.quick().brief(), by_process(unpack(samples))[0]
    ends = (number for number in range(1, len(blocks)) if is_enough(blocks[:number], limits))
    taken = pack(blocks[: next(ends, len(blocks))])
    return row_of(_today(row, taken)), taken


def evidence(
    tables: Iterable[Path], *, brief: bool = False
) -> tuple[list[Measurement], dict[str, spread.Seen]]:
    """The kept rows and those of `tables`, each with a run of its own, and what their blocks say. If `brief`,
    they are `shortened`."""
    runs = [*kept(), *((path.name, *run) for path in tables for run in _with_samples(path))]
    if brief:
        runs = [(name, *shortened(row, samples)) for name, row, samples in runs if samples]
    rows = [
        Measurement.restored({**vars(row), "run": f"{number}"}) for number, (_, row, _) in enumerate(runs)
    ]
    seen = {
        f"{number}": spread.seen_of(unpack(samples)) for number, (*_, samples) in enumerate(runs) if samples
    }
    return rows, seen


def halves(forms: Sequence[list[Run]]) -> tuple[list[list[Run]], list[list[Run]]]:
    """The forms that the prior is fitted to, and those that judge it: every second, by name."""
    ordered = sorted(forms, key=lambda runs: (runs[0][0].model, str(runs[0][0].engine)))
    return ordered[::2], ordered[1::2]


# ------------------------------------------------------------------ the fit


def fit(forms: Sequence[list[Run]], every: Sequence[list[Run]]) -> dict[str, Any]:
    """The prior's numbers: their ratios by restricted maximum likelihood of the undisturbed runs, their size
    so that the intervals of these hold 95 % of each other's values. What others cost at most is taken from
    `every` form: it is a bound, which more runs can only raise."""
    from scipy.optimize import minimize

    quiet = [kept for runs in forms if len(kept := pooling.undisturbed(runs)) > 1]
    start = [math.log(0.02), math.log(0.03), math.log(0.04), math.log(0.3)]
    found = minimize(lambda logs: _surprise(quiet, logs), start, method="Nelder-Mead",
                     options={"maxiter": 4000, "xatol": 1e-3, "fatol": 1e-4})  # fmt: skip
    machines = {row.system for runs in quiet for row, _ in runs}
    freedom = min(sum(len(runs) - 1 for runs in quiet), OF_A_MACHINE * len(machines))
    factor = _factor(quiet, found.x) / spread.student(freedom)
    times, processes, blocks, own = (round(factor * math.exp(one), 4) for one in found.x)
    return {
        "times": times, "processes": processes, "blocks": blocks, "own": own, "slower": _slower(every),
        "far": _far(every), "freedom": freedom,
    }  # fmt: skip


#: What the parts are about before anything is seen (logarithms), and how surely: parts that few runs can't
#: tell apart stay near it.
_EXPECTED, _SURELY = (math.log(0.02), math.log(0.03), math.log(0.04), math.log(0.4)), 1.0


def _surprise(forms: Sequence[list[Run]], logs: Sequence[float]) -> float:
    import numpy as np

    parts = [math.exp(one) for one in logs]
    total = sum((one - usual) ** 2 / 2 / _SURELY**2 for one, usual in zip(logs, _EXPECTED, strict=True))
    for runs in forms:
        values = np.array([math.log(row.value) for row, _ in runs])
        single = [_single(row, one, parts) for row, one in runs]
        group = np.array([number for number, several in enumerate(calibration.times(runs)) for _ in several])
        covariance = np.diag(single) + parts[0] ** 2 * (group[:, None] == group)
        inverse = np.linalg.inv(covariance)
        weight = inverse.sum()
        off = values - (inverse @ values).sum() / weight
        total += 0.5 * (np.linalg.slogdet(covariance)[1] + math.log(weight) + off @ inverse @ off)
    return float(total)


def _factor(forms: Sequence[list[Run]], logs: Sequence[float]) -> float:
    """How many standard deviations 95 % of the ordered pairs are within."""
    parts = [math.exp(one) for one in logs]
    apart = sorted(
        abs(math.log(row.value / other.value)) / math.sqrt(2 * (parts[0] ** 2 + _single(row, one, parts)))
        for runs in forms for (row, one), (other, _) in permutations(runs, 2)
    )  # fmt: skip
    return apart[math.ceil(0.95 * len(apart)) - 1]


def _single(row: Measurement, one: spread.Seen, parts: Sequence[float]) -> float:
    _, processes, blocks, own = parts
    between = processes**2 / one.processes + blocks**2 / one.blocks
    return between + (own * spread.own_deviation(row)) ** 2


def _slower(forms: Sequence[list[Run]]) -> float:
    """How many times the logarithm of the processors' remaining share a disturbed run is slower than quiet
    ones at most, rounded up to a tenth."""
    found = []
    for runs in forms:
        quiet = [math.log(row.value) for row, one in runs if not spread.slowed(one)]
        for row, one in runs:
            if quiet and spread.slowed(one):
                found.append((math.log(row.value) - statistics.median(quiet)) / -math.log(1 - one.others))
    return math.ceil(10 * max(found)) / 10 if found else spread.prior().slower


def _apart(forms: Sequence[list[Run]]) -> list[float]:
    """How many times as long each run on processors far apart took as its form's undisturbed ones."""
    found = []
    for runs in forms:
        near = [row.value for row, one in runs if not spread.slowed(one)]
        alone = [
            row.value for row, one in runs if spread.slowed(one) == spread.slowed(spread.Seen(apart=1.0))
        ]
        found += [value / statistics.median(near) for value in alone if near]
    return found


def _far(forms: Sequence[list[Run]]) -> float:
    """What being far apart costs at most, rounded up to a tenth."""
    found = _apart(forms)
    return math.ceil(10 * max(found)) / 10 if found else spread.prior().far


# ------------------------------------------------------------------ the report


def told(name: str, found: Calibration) -> list[str]:
    """The coverage and the split, in lines."""
    lines = [f"{name}: {found.forms} forms with repeats"]
    for count, one in found.quiet.items():
        processes = "1 process" if count == 1 else f"{count} processes"
        lines.append(f"  quiet, {processes} a run: {_covered(one)}{_judged(count, one)}")
    lines.append(f"  disturbed runs, a quiet one's value: {_covered(found.disturbed)}")
    parts = {"samples": found.split.samples, "processes": found.split.processes, "times": found.split.times}
    shown = ", ".join(f"{name} {'not known' if one is None else f'{one:.1%}'}" for name, one in parts.items())
    return [*lines, f"  spread of quiet runs (standard deviations): {shown}"]


def _covered(one: Coverage) -> str:
    if not one.pairs:
        return "no pairs"
    widths = [
        ("not known" if width is None else f"±{width:.1%}") for width in (one.own_half_width, one.half_width)
    ]
    return (
        f"own interval {one.own} of {one.pairs} ({one.own / one.pairs:.0%}, {widths[0]}), "
        f"survey interval {one.survey} of {one.pairs} ({one.survey / one.pairs:.0%}, {widths[1]})"
    )


def _judged(count: int, one: Coverage) -> str:
    asked = HALF_WIDTHS.get(count)
    if asked is None or one.half_width is None:
        return ""
    covered = "met" if LEAST <= one.survey / one.pairs <= MOST else "missed"
    width = "met" if one.half_width <= asked else "missed"
    return f"; asked {LEAST:.0%} to {MOST:.0%}: {covered}, at most ±{asked:.0%}: {width}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", type=Path, nargs="*", metavar="TABLE")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--brief", action="store_true", help="as if each run had ended where a survey's does")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.brief and options.fit:
        parser.error("the prior is fitted to whole runs: leave --brief out")
    if options.keep:
        keep(options.keep)
        return
    rows, seen = evidence(options.tables, brief=options.brief)
    forms = calibration.repeated(rows, seen)
    fitted, judging = halves(forms)
    if options.fit:
        found = fit(fitted, forms)
        names = ", ".join(f"{runs[0][0].model} on {runs[0][0].engine}" for runs in fitted)
        machines = ", ".join(sorted({str(runs[0][0].system) for runs in forms}))
        count = sum(map(len, fitted))
        found["evidence"] = (
            f"{count} runs of {len(fitted)} forms on {machines}: {names}; benchmarks/calibration.py"
        )
        PRIOR.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        spread.prior.cache_clear()
    print(f"vertebra {vertebra.__version__}; prior: {spread.prior()}")
    if apart := _apart(forms):
        print(f"{len(apart)} runs on processors far apart, at most {max(apart):.2f} times as slow as others")
    for name, some in (("all forms", forms), ("forms that the prior wasn't fitted to", judging)):
        own = [row for runs in some for row, _ in runs]
        for learn in (False, True):
            by = "by the prior and the other forms' repeats" if learn else "by the prior alone"
            print("\n".join(told(f"{name}, {by}", calibration.examine(own, seen, learn=learn))))


if __name__ == "__main__":
    main()
