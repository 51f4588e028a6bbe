"""The load that `bench --scenario server URL` puts on a server, and the rows that it gives."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import units
from vertebra.errors import InvalidInputError, MeasurementError, OutOfTimeError
from vertebra.inference.clients import addresses, inputs
from vertebra.inference.clients.addresses import Address
from vertebra.inference.clients.client import About, Answer, Client, Refused
from vertebra.inference.clients.opening import client
from vertebra.inference.serving.access import is_loopback, token_in
from vertebra.machine import files, system
from vertebra.measurements import Measurement, Table
from vertebra.measuring.benchmarking import scenarios
from vertebra.measuring.benchmarking.scenarios import Bound
from vertebra.measuring.requests import offering, results
from vertebra.measuring.requests.offering import Offered
from vertebra.measuring.requests.results import Asked
from vertebra.measuring.requests.searching import Search
from vertebra.progress import Listener, Progress, silent

if TYPE_CHECKING:
    from vertebra.campaigns.load import Load
    from vertebra.measuring.benchmarking import Limits

#: A search has about this many runs, which share its time.
_RUNS = 10
#: The first rate of a search, as a share of what one request after another would give.
_FIRST = 0.5
#: Requests one after another before the load begins: at least so many, for at least so long.
_ALONE, _ALONE_S = 10, 0.5
#: Seconds after a run in which a server may work off its queue: until a request alone takes no longer than
#: twice what it took before, or this share of the bound.
_SETTLE_S, _SETTLED, _SETTLED_SHARE = 10.0, 2.0, 0.1
#: Connections that are open before the load begins.
_AT_ONCE = 32
#: Largest difference between the answers before and after, relative to their spread.
_SAME = 1e-2


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked of each server: `rate` is None to search for the greatest. A run lasts `run_s` if that is
    enough requests, and there are `runs` of a rate."""

    bound: Bound
    rate: float | None
    batch_size: int
    input_size: int | None
    pictures: str | Path | None
    tensor: inputs.Input | None
    token: str | None
    runs: int
    run_s: float
    seed: int


def prepared(
    urls: Sequence[str], load: Load, *, batch_sizes: Sequence[int], input_size: int | None,
    pictures: str | Path | None, tensor: str | None, token_file: str | Path | None, limits: Limits,
    deadline: float | None, seed: int, progress: Listener | None,
) -> list[Work]:  # fmt: skip
    """The work on each server with each batch size. Raises InvalidInputError, before any load, if a server
    can't be reached or hasn't the model."""
    assert load.latency_bound_s is not None
    found = [addresses.parsed(url) for url in urls]
    orders = [
        Order(
            bound=Bound(load.latency_bound_s), rate=load.arrival_rate, batch_size=size, input_size=input_size,
            pictures=pictures, tensor=None if tensor is None else inputs.stated(tensor),
            token=None if token_file is None else token_in(Path(token_file)),
            runs=limits.processes, run_s=limits.seconds / _RUNS, seed=seed,
        )
        for size in batch_sizes
    ]  # fmt: skip
    works = [Work(address, order, deadline, progress or silent) for address in found for order in orders]
    for work in works:
        _run(work.look())
    return works


def measure(works: Sequence[Work], table: Table) -> list[Measurement]:
    """Do it, and append each one's rows to `table` at once; returns all. An interruption leaves what was
    found until then."""
    rows: list[Measurement] = []
    for work in works:
        with files.sole_use(table.path, wait=work.wait):
            try:
                _run(work.measure())
            finally:
                rows += work.append_to(table)
    return rows


def _run(work: Any) -> None:
    with asyncio.Runner(loop_factory=offering.loop) as runner:
        runner.run(work)


class Work:
    """One server under one order."""

    def __init__(self, address: Address, order: Order, deadline: float | None, progress: Listener) -> None:
        self._address, self._order, self._deadline, self._progress = address, order, deadline, progress
        self._search = Search(runs=order.runs)
        self._asked: Asked | None = None
        self._failed: tuple[str, str | None] | None = None
        self._is_done = False
        self._busy_s = self._wall_s = 0.0
        self._single_s = 0.0

    def wait(self) -> None:
        self._progress(Progress("waiting for another process to measure"))

    async def look(self) -> None:
        """Raises InvalidInputError if the server doesn't answer as it should."""
        asked = await self._opened()
        await asked.close()

    async def _opened(self) -> Client:
        """The client, ready to send."""
        opened = client(self._address, self._order.token)
        try:
            await opened.opened()
            about = await opened.about(self._order.tensor)
            questions = self._questions(about)
            try:
                sent = await opened.prepare(questions, at_once=_AT_ONCE)
            except Refused as refused:
                raise InvalidInputError(
                    f"{self._address.shown(about.model)} doesn't answer a {questions[0].datatype} tensor "
                    f"of shape {list(questions[0].shape)}: {refused}.",
                    "send what its model takes: --pictures FOLDER for photographs, --input-size PIXELS",
                ) from refused
        except BaseException:
            await opened.close()
            raise
        self._asked = self._stated(about, sent)
        return opened

    def _questions(self, about: About) -> list[inputs.Question]:
        order = self._order
        if order.pictures is None and about.taken.datatype != "BYTES":
            return inputs.tensors(
                about.taken, batch_size=order.batch_size, input_size=order.input_size, seed=order.seed
            )
        pictures = scenarios.photographs() if order.pictures is None else inputs.pictures_in(order.pictures)
        return inputs.photographs(about.taken, pictures, batch_size=order.batch_size)

    def _stated(self, about: About, sent: str) -> Asked:
        is_here = is_loopback(self._address.host)
        notes = (
            "the server is taken to run on this machine, which it shares with the load generator: its "
            "address is a loopback address"
            if is_here
            else "the server's machine isn't known, and the network is part of the times",
            *(["synthetic photographs"] if "BYTES" in sent and self._order.pictures is None else []),
        )
        return Asked(
            model=about.model, address=self._address.shown(about.model),
            system=system.describe().id if is_here else None, server=about.server, version=about.version,
            platform=about.platform, sent=sent, batch_size=self._order.batch_size,
            input_size=self._order.input_size or inputs.image_size(about.taken), bound=self._order.bound,
            notes=notes, versions=system.library_versions(("httptools", "grpcio")),
        )  # fmt: skip

    # -------------------------------------------------------------- the load

    async def measure(self) -> None:
        """Put the load on. What was found is in `append_to`, also after an interruption."""
        opened = await self._opened()
        try:
            before = await self._alone(opened)
            if self._single_s > self._order.bound.seconds:
                raise MeasurementError(
                    f"a request alone takes {units.show(self._single_s, 's')}, longer than the bound",
                    "give a longer --latency-bound",
                )
            await self._offer(opened)
            await self._compare(opened, before)
            self._is_done = True
        except OutOfTimeError:
            self._search.ended = "the time was up"
        except MeasurementError as error:
            self._failed = (error.message, error.hint)
        finally:
            await opened.close()

    async def _offer(self, opened: Client) -> None:
        async def trial(rate: float, seed: int) -> Offered:
            return await self._trial(opened, rate, seed)

        if self._order.rate is None:
            await self._search.find(trial, _FIRST * self._order.batch_size / self._single_s)
            return
        for seed in range(self._order.runs):
            self._search.trials.append(await trial(self._order.rate, seed))
            if not self._search.trials[-1].is_whole or self._search.trials[-1].verdict == "late":
                return

    async def _trial(self, opened: Client, rate: float, seed: int) -> Offered:
        order = self._order
        queries = max(order.bound.queries(), math.ceil(rate / order.batch_size * order.run_s))
        takes_s = queries * order.batch_size / rate
        if self._deadline is not None and time.monotonic() + takes_s > self._deadline:
            raise OutOfTimeError(f"{takes_s:.0f} s are needed for one more rate")
        assert self._asked is not None
        self._progress(
            Progress(f"{self._asked.address}: {units.show(rate, '1/s')}, {queries} requests", left_s=takes_s)
        )
        found = await self._offered(opened, rate, seed, queries)
        if found.verdict == "late":  # once more: what made it late may be over
            await self._settled(opened)
            found = await self._offered(opened, rate, seed, queries)
        await self._settled(opened)
        return replace(found, seed=seed)

    async def _offered(self, opened: Client, rate: float, seed: int, queries: int) -> Offered:
        order = self._order
        busy, began = time.process_time(), time.monotonic()
        found = await offering.offer(
            opened.ask, rate=rate, bound=order.bound, queries=queries, batch_size=order.batch_size,
            seed=order.seed + seed,
        )  # fmt: skip
        self._busy_s += time.process_time() - busy
        self._wall_s += time.monotonic() - began
        return found

    async def _alone(self, opened: Client) -> list[Answer]:
        """Ask requests one after another, which also warms the server up; returns their answers."""
        answers: list[Answer] = []
        taken: list[float] = []
        began, failures = time.monotonic(), 0
        while len(taken) < _ALONE or time.monotonic() - began < _ALONE_S:
            start = time.monotonic()
            try:
                answers.append(await opened.answer(len(taken)))
            except Refused as refused:
                failures += 1
                if failures == _ALONE:
                    raise MeasurementError(f"the server fails without load: {refused}") from refused
            else:
                taken.append(time.monotonic() - start)
        latter = sorted(taken[len(taken) // 2 :])
        self._single_s = latter[len(latter) // 2]
        return answers[:_ALONE]

    async def _settled(self, opened: Client) -> None:
        """Wait until what a run left in the server's queue is done."""
        until = time.monotonic() + _SETTLE_S
        settled_s = max(_SETTLED * self._single_s, _SETTLED_SHARE * self._order.bound.seconds)
        while True:
            start = time.monotonic()
            try:
                await opened.answer(0)
                why = None
            except Refused as refused:
                why = str(refused)
            now = time.monotonic()
            if why is None and (now - start <= settled_s or now >= until):
                return
            if now >= until:
                raise MeasurementError(f"the server no longer answers: {why}")
            await asyncio.sleep(0.05)

    async def _compare(self, opened: Client, before: Sequence[Answer]) -> None:
        """Note it if a request has another answer than before the load."""
        assert self._asked is not None
        try:
            after = [await opened.answer(number) for number in range(len(before))]
        except Refused as refused:
            raise MeasurementError(f"the server no longer answers: {refused}") from refused
        if not all(_is_same(one, other) for one, other in zip(before, after, strict=True)):
            defect = "the server's answers to the same requests were others after the load than before"
            self._asked = replace(self._asked, defects=(defect,))

    # -------------------------------------------------------------- what it gave

    def append_to(self, table: Table) -> list[Measurement]:
        """The rows, which are appended; none if it was interrupted before anything was found."""
        if self._asked is None:
            return []
        if self._wall_s > 0:
            used = f"the load generator used {self._busy_s / self._wall_s:.0%} of a core"
            self._asked = replace(self._asked, notes=(*self._asked.notes, used))
        rows = self._rows(self._asked)
        if rows:
            is_here = self._asked.system is not None
            table.append(
                rows, samples=results.samples_of(self._kept()), system=system.describe() if is_here else None
            )
        return rows

    def _kept(self) -> list[Offered]:
        """The runs that the rows are of."""
        rate = self._search.rate if self._order.rate is None else self._order.rate
        return [] if rate is None else self._search.at(rate)

    def _rows(self, asked: Asked) -> list[Measurement]:
        search, runs = self._search, self._kept()
        if self._failed is not None:
            return [results.failure(asked, *self._failed), *(results.of_rate(asked, runs) if runs else [])]
        if self._order.rate is not None:
            late = next((one for one in runs if one.verdict == "late"), None)
            broken = next((one for one in runs if not one.is_whole), None)
            if late is not None or broken is not None:
                return [self._refused(asked, late, broken)]
            return results.of_rate(asked, runs) if runs else []
        found = results.of_search(asked, search)
        if found or search.ended != "found":
            return found
        kept = results.of_rate(asked, runs) if runs else []
        return [self._refused(asked, search.late, search.trials[-1]), *kept]

    def _refused(self, asked: Asked, late: Offered | None, broken: Offered | None) -> Measurement:
        if late is not None:
            hint = "run it on another machine than the server, or one that is less busy"
            return results.failure(asked, results.late_text(late), hint)
        assert broken is not None
        if self._order.rate is not None:
            return results.failure(asked, results.broken_text(broken))
        lowest = min(self._search.trials, key=lambda one: one.rate)
        return results.failure(
            asked, f"no rate down to {units.show(lowest.rate, '1/s')} was kept: {results.broken_text(lowest)}"
        )


def _is_same(one: Answer, other: Answer) -> bool:
    """Whether two answers are equal but for rounding, which depends on the batch."""
    import numpy as np

    if one.keys() != other.keys():
        return False
    for name, values in one.items():
        if isinstance(values, list) or values.dtype.kind not in "fiu":
            continue  # texts, which may hold rounded numbers
        again = other[name]
        if isinstance(again, list) or again.shape != values.shape:
            return False
        spread = float(np.std(values.astype(np.float64))) or 1.0
        if not np.allclose(values, again, rtol=0, atol=_SAME * spread, equal_nan=True):
            return False
    return True
