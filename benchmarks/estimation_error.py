"""Measure the error of estimated latencies: each published table is held out, with all of its device's.

    python benchmarks/estimation_error.py [--pairs] [--most-macs N] [--anchors N]

Estimates every network of each of timm's tables from 20 of its networks and the other devices' tables, and
prints the errors of the rest; with --pairs, also from one other table at a time; with --most-macs, from
networks of at most so many multiply-accumulates, as `vertebra pick` measures them first. Exits with status 1
if the medians over devices exceed 10 % (median error) or 25 % (90th percentile), or if the intervals cover
less than 87 % or more than 93 %.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vertebra.measurements import shipped
from vertebra.measuring.estimation import ANCHORS, Estimator, Field, field

#: Two names of one card.
_SAME = {"rtx4090": "4090"}


class Errors(NamedTuple):
    """Relative errors of the networks that were not anchors, and the share inside the interval."""

    median: float
    p90: float
    covered: float
    networks: int


def device(table: str) -> str:
    """The device that a table's name ends with."""
    name = table.removesuffix("-dynamo").rpartition("-")[2]
    return _SAME.get(name, name)


def errors(
    whole: Field, table: str, others: Sequence[str], anchors: int = ANCHORS, most_macs: float = math.inf
) -> Errors:
    """The errors on `table`, estimated from `anchors` of its networks and the tables `others`."""
    target = whole.published[:, whole.tables.index(table)]
    columns = [whole.tables.index(other) for other in others]
    kept = np.flatnonzero(~np.isnan(target) & ~np.isnan(whole.published[:, columns]).all(axis=1))
    names = tuple(whole.names[number] for number in kept)
    truth = target[kept]
    estimator = Estimator(
        Field(names, whole.counts[kept], tuple(whole.families[number] for number in kept),
              whole.published[np.ix_(kept, columns)], tuple(others))
    )  # fmt: skip
    counts = shipped.counts()
    chosen = estimator.choose(anchors, among=[name for name in names if counts[name].macs <= most_macs])
    found = estimator.estimate({name: float(truth[names.index(name)]) for name in chosen})
    rest = ~np.isin(names, chosen)
    wrong = np.abs(found.values / truth - 1)[rest]
    inside = ((found.low <= truth) & (truth <= found.high))[rest]
    return Errors(
        float(np.median(wrong)), float(np.quantile(wrong, 0.9)), float(inside.mean()), int(rest.sum())
    )


def over_devices(found: dict[str, Errors]) -> tuple[float, float]:
    """The medians over devices of the devices' median errors and 90th percentiles."""
    by_device = defaultdict(list)
    for table, one in found.items():
        by_device[device(table)].append(one)
    medians = [(np.median([e.median for e in some]), np.median([e.p90 for e in some]))
               for some in by_device.values()]  # fmt: skip
    return float(np.median([one for one, _ in medians])), float(np.median([one for _, one in medians]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", action="store_true", help="also each table from each single other one")
    parser.add_argument("--anchors", type=int, default=ANCHORS, help="how many networks are measured")
    parser.add_argument("--most-macs", type=float, default=math.inf, help="of the largest one measured")
    arguments = parser.parse_args()
    chosen = arguments.anchors, arguments.most_macs
    whole = field()
    found = {}
    for table in whole.tables:
        others = [other for other in whole.tables if device(other) != device(table)]
        found[table] = errors(whole, table, others, *chosen)
        show(table, "all other devices", found[table])
        for other in others if arguments.pairs else ():
            show(table, other, errors(whole, table, [other], *chosen))
    median, p90 = over_devices(found)
    covered = float(np.mean([one.covered for one in found.values()]))
    print(f"medians over devices: {median:.1%} (median error), {p90:.1%} (90th percentile); "
          f"intervals cover {covered:.1%}")  # fmt: skip
    sys.exit(not (median <= 0.10 and p90 <= 0.25 and 0.87 <= covered <= 0.93))


def show(table: str, source: str, one: Errors) -> None:
    print(f"{table:40} from {source:40} median {one.median:6.1%}  p90 {one.p90:6.1%}  "
          f"covered {one.covered:6.1%}  of {one.networks}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
