"""`vertebra.bench`: latency, throughput and memory of networks on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Rows
from vertebra.reading import roofline
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike
from vertebra.zoo import names

if TYPE_CHECKING:
    from vertebra.bundles import Bundle
    from vertebra.campaigns.load import Load
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
    pictures: str | Path | None = None,
    tensor: str | None = None,
    token_file: str | Path | None = None,
    processes: int | None = None,
    quick: bool = False,
    seconds: str | float | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    shard: str | None = None,
    on: str | None = None,
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
    `on` ("ray" or "ray://HOST:PORT") measures on the nodes of a Ray cluster (`campaigns.on_ray`).
    With `beside`, as many busy threads of ours run meanwhile, unpinned, which is a condition of the rows.
    A Bundle of native code that this machine didn't make is measured only with `trust_code`.

    With the scenario "server" a model may be the URL of a server of the Open Inference Protocol,
    "http://HOST:PORT/v2/models/NAME" or "grpc://…": requests of `batch_size` images are sent at random times,
    `processes` runs of a rate. They are tensors that fit the model's metadata, or the encoded pictures
    of the folder or file `pictures`; `tensor` states an input that the metadata lacks, such as
    "images:FP32:-1x3x224x224"; `token_file` has a bearer token. See docs/scenarios.md.

    `engines` is an earlier name of `engine`. A case that fails gives a row of the metric `failure` with its
    reason, and the others continue. Raises InvalidInputError, before anything runs, if options contradict
    each other or aren't possible here.
    """
    from vertebra import bundles
    from vertebra.campaigns import campaign, cases, on_ray, shares
    from vertebra.campaigns.load import Load, batches_of, streams_of
    from vertebra.inference import resolving
    from vertebra.inference.clients import addresses
    from vertebra.verbs import serving_load

    engines = given.several(given.renamed(engine, engines, ()))
    bound = None if latency_bound is None else given.seconds(latency_bound)
    served = streams_of(scenario, threads) if streams is None else given.several(streams)
    load = Load(scenario, arrival_rate, bound, served, end_to_end, beside)
    batches = batches_of(scenario) if batch_size is None else given.several(batch_size)
    urls = [str(model) for model in models if addresses.is_url(model)]
    if urls or any(one is not None for one in (pictures, tensor, token_file)):
        _check_server(
            models, urls, load,
            engine=engines, precision=precision, threads=threads, streams=streams, end_to_end=end_to_end,
            beside=beside, trust_code=trust_code, device=None if device == "cpu" else device,
            shard=shard, on=on,
        )  # fmt: skip
        budget_s, start = None if budget is None else given.seconds(budget), time.monotonic()
        works = serving_load.prepared(
            urls, load, batch_sizes=batches, input_size=input_size, pictures=pictures, tensor=tensor,
            token_file=token_file, seed=seed, progress=notebook.listener(progress),
            limits=campaign.limits(
                len(urls) * len(batches), processes=processes, quick=quick, budget_s=budget_s,
                seconds=None if seconds is None else given.seconds(seconds),
            ),
            deadline=None if budget_s is None else start + budget_s,
        )  # fmt: skip
        return Benched(serving_load.measure(works, given.table(table)))
    precisions = () if precision is None else given.several(precision)
    if on is not None:
        on_ray.checked(on)
    form: dict[str, Any] = {"input_size": input_size, "threads": threads, "device": device, "load": load}
    kept_bundles = [bundles.read(model) for model in models if resolving.is_bundle(model)]
    named = [str(model) for model in models if not resolving.is_bundle(model)]
    wanted = [
        case
        for kept in kept_bundles
        for case in cases.bundle_cases(
            kept, engines, precisions=precisions,
            batch_sizes=() if batch_size is None and kept.batch_size else batches, trust_code=trust_code,
            **form,
        )
    ]  # fmt: skip
    if named or not kept_bundles:
        wanted += cases.cases(
            named or names.CLASSICS,
            engines,
            batch_sizes=batches,
            precisions=precisions,
            **form,
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
    if on is not None:
        rows = on_ray.measure(
            wanted, into, on=on, limits=limits, deadline=deadline, seed=seed, progress=progress
        ).rows
    else:
        rows = campaign.measure(wanted, into, limits=limits, deadline=deadline, seed=seed, progress=progress)
    return Benched(rows, into.latest(model=metrics.MACHINE))


def _check_server(models: Sequence[str | Path], urls: Sequence[str], load: Load, **local: Any) -> None:
    """Raise InvalidInputError if the load on a server is combined with what only networks here have."""
    if not urls:
        raise InvalidInputError(
            "--pictures, --tensor and --token-file are for a server that is named by its URL.",
            "for example: --scenario server http://localhost:8000/v2/models/NAME",
        )
    others = [str(model) for model in models if str(model) not in urls]
    if others:
        raise InvalidInputError(
            f"{others[0]} is measured here, {urls[0]} over the network.", "measure them one after the other"
        )
    if load.scenario != "server":
        raise InvalidInputError(
            f"{urls[0]} is a server; the scenario is {load.scenario}.",
            "add: --scenario server --latency-bound 50ms",
        )
    asked = [f"--{name.replace('_', '-')}" for name, value in local.items() if value]
    if asked:
        raise InvalidInputError(
            f"{', '.join(asked)} can't be asked of a server over the network: it has its own.",
            "leave it out, or measure the network here",
        )


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
