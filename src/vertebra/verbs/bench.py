"""`vertebra.bench`: latency, throughput and memory of networks on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import metrics
from vertebra.measurements import Measurement, Rows
from vertebra.reading import roofline
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike
from vertebra.zoo import names

if TYPE_CHECKING:
    from vertebra.bundles import Bundle
    from vertebra.progress import Listener


class Benched(Rows):
    """The rows that were measured. `shares` has, for each row, the share of a latency that the machine's
    roofline explains; None for other metrics, or if `doctor` hasn't measured the machine."""

    def __init__(self, rows: Iterable[Measurement], machine: Sequence[Measurement] = ()) -> None:
        super().__init__(rows)
        self.shares = roofline.shares_of(self, machine)

    def best_loads(self) -> list[Measurement]:
        """The offline throughput of each network on each engine, at its best batch size and number of
        streams."""
        from vertebra.campaigns import load

        return load.best_loads(self)


def bench(
    *models: str | Path,
    engine: str | Sequence[str] = (),
    precision: str | Sequence[str] | None = None,
    device: str = "cpu",
    batch_size: int | Sequence[int] | None = None,
    input_size: int | None = None,
    threads: int | None = None,
    scenario: str = "single-stream",
    arrival_rate: float | None = None,
    latency_bound: str | float | None = None,
    streams: int | Sequence[int] | None = None,
    end_to_end: bool = False,
    beside: int | None = None,
    processes: int | None = None,
    quick: bool = False,
    seconds: str | float | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    shard: str | None = None,
    trust_code: bool = False,
    table: TableLike = None,
    progress: Listener | None = None,
    engines: str | Sequence[str] | None = None,
) -> Benched:
    """Measure `models` (by default the classics) on each `engine` (by default all installed), in each
    combination of precision, batch size and streams, and append the rows.

    A model is a name, or the folder of a Bundle. The default precision is float32, and a Bundle's or a file's
    own. A name
    is measured with untrained parameters, which are as fast as trained ones. Each case runs in `processes`
    fresh processes (3; with `quick` 1) for `seconds` in all (30; with `quick` 10), or all cases share
    `budget`; `seed` makes the order of their blocks repeatable. `scenario`, `arrival_rate`, `latency_bound`,
    `streams` and `end_to_end` are those of `load.Load`. Batch size and streams are 1 by default; for an
    offline load, all useful ones are measured by default, and `best_loads` of the result has the best.
    `shard` ("3/8") leaves all cases but those of that share to other machines (`campaigns.shares`).
    With `beside`, as many busy threads of ours run meanwhile, unpinned, which is a condition of the rows.
    A Bundle of native code that this machine didn't make is measured only with `trust_code`.

    `engines` is an earlier name of `engine`. A case that fails gives a row of the metric `failure` with its
    reason, and the others continue. Raises InvalidInputError, before anything runs, if options contradict
    each other or aren't possible here.
    """
    from vertebra import bundles
    from vertebra.campaigns import campaign, cases, shares
    from vertebra.campaigns.load import Load, batches_of, streams_of
    from vertebra.inference import resolving

    engines = given.several(given.renamed(engine, engines, ()))
    bound = None if latency_bound is None else given.seconds(latency_bound)
    served = streams_of(scenario, threads) if streams is None else given.several(streams)
    load = Load(scenario, arrival_rate, bound, served, end_to_end, beside)
    batches = batches_of(scenario) if batch_size is None else given.several(batch_size)
    precisions = () if precision is None else given.several(precision)
    asked: dict[str, Any] = {"input_size": input_size, "threads": threads, "device": device, "load": load}
    kept_bundles = [bundles.read(model) for model in models if resolving.is_bundle(model)]
    named = [str(model) for model in models if not resolving.is_bundle(model)]
    wanted = [
        case
        for kept in kept_bundles
        for case in cases.bundle_cases(
            kept, engines, precisions=precisions,
            batch_sizes=() if batch_size is None and kept.batch_size else batches, trust_code=trust_code,
            **asked,
        )
    ]  # fmt: skip
    if named or not kept_bundles:
        wanted += cases.cases(
            named or names.CLASSICS,
            engines,
            batch_sizes=batches,
            precisions=precisions,
            **asked,
        )
    progress = notebook.listener(progress)
    wanted = shares.of_cases(wanted, shard, progress)
    if end_to_end and progress is not None:
        _tell_assumed(named, kept_bundles, progress)
    start = time.monotonic()
    budget_s = None if budget is None else given.seconds(budget)
    limits = campaign.limits(
        len(wanted), processes=processes, quick=quick,
        seconds=None if seconds is None else given.seconds(seconds), budget_s=budget_s,
    )  # fmt: skip
    deadline = None if budget_s is None else start + budget_s
    into = given.table(table)
    rows = campaign.measure(wanted, into, limits=limits, deadline=deadline, seed=seed, progress=progress)
    return Benched(rows, into.latest(model=metrics.MACHINE))


def _tell_assumed(names_: Sequence[str], kept_bundles: Sequence[Bundle], progress: Listener) -> None:
    """Say what preprocessing is timed of networks that don't state theirs."""
    from vertebra import zoo
    from vertebra.bundles import Card
    from vertebra.inference import resolving
    from vertebra.progress import Progress

    cards = {
        kept.model: Card(preprocess=kept.preprocess, assumed=tuple(kept.assumed)) for kept in kept_bundles
    }
    for name in names_:
        facts = zoo.facts(name)
        cards[facts.model] = Card(preprocess=facts.preprocess, assumed=facts.assumed)
    for model, card in cards.items():
        told = resolving.assumptions(model, card)
        if told is not None:
            progress(Progress(told.partition("; to change it")[0]))
