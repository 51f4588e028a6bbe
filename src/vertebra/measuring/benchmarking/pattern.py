"""One block of a case's load pattern: the calls of a loaded network that are timed together.

A block of a single stream is a fraction of a second of single calls, and with a Preprocess as long again for
photographs. A block of an offline load lets every stream run for that long. A block of a server is a whole
run of queries, because their percentile needs hundreds of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vertebra.errors import MeasurementError
from vertebra.measuring.benchmarking import scenarios
from vertebra.measuring.benchmarking.plan import Case, Limits
from vertebra.measuring.benchmarking.timing import Clock, Infer, take_block

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.engines import Session

#: How often a server's rate is halved at most in the search for the greatest that keeps its latency bound.
_HALVINGS = 4


class Pattern:
    """Runs `session` as the case's scenario says. `calls` are the streams' prepared forward passes, and
    `alive` is called during long blocks."""

    def __init__(
        self,
        case: Case,
        limits: Limits,
        session: Session,
        calls: Sequence[Infer],
        clock: Clock,
        alive: Callable[[], None],
    ) -> None:
        self._case, self._limits, self._session = case, limits, session
        self._calls, self._clock, self._alive = calls, clock, alive
        self._pictures = [] if case.preprocess is None else scenarios.photographs()

    def block(self, request: dict[str, Any]) -> dict[str, Any]:
        """`latencies_ns`, `runs` (all calls), and further values of the scenario."""
        kinds = {"single-stream": self._single, "offline": self._offline, "server": self._server}
        return kinds[self._case.scenario](request)

    def _single(self, request: dict[str, Any]) -> dict[str, Any]:
        on_device: list[float] = []

        def ask_device() -> None:
            latency_s = self._session.device_latency_s()
            if latency_s is not None:
                on_device.append(latency_s)

        run_in, taken = take_block(
            self._calls[0],
            self._clock,
            run_in_s=self._limits.run_in_s,
            seconds=request["seconds"],
            least=request["least"],
            most=request["most"],
            afterwards=ask_device,
        )
        answer: dict[str, Any] = {"latencies_ns": taken, "runs": run_in + len(taken), "device_s": on_device}
        return {**answer, **self._end_to_end(request)} if self._pictures else answer

    def _end_to_end(self, request: dict[str, Any]) -> dict[str, Any]:
        from vertebra.data.preprocess import Preprocess, preprocess

        assert self._case.preprocess is not None
        record = Preprocess.from_dict(self._case.preprocess)

        def infer(image: npt.NDArray[np.float32]) -> Any:
            return self._session.infer(self._session.prepare(image[None]))

        ask = partial(
            scenarios.end_to_end, self._pictures, partial(preprocess, record=record), infer, clock=self._clock
        )
        ask(seconds=self._limits.run_in_s)
        timed = ask(seconds=request["seconds"], samples=request["least"])
        return {"end_to_end_ns": timed.latencies_ns, "preprocess_ns": timed.preprocess_ns}

    def _offline(self, request: dict[str, Any]) -> dict[str, Any]:
        ask = partial(scenarios.offline, self._calls, batch_size=self._case.batch_size, clock=self._clock)
        before = ask(seconds=self._limits.run_in_s)
        timed = ask(seconds=request["seconds"])
        flat = [latency for stream in timed.latencies_ns for latency in stream]
        runs = (before.images + timed.images) // self._case.batch_size
        return {"latencies_ns": flat[: request["most"]], "runs": runs, "throughput": timed.throughput}

    def _server(self, request: dict[str, Any]) -> dict[str, Any]:
        case = self._case
        assert case.latency_bound_s is not None
        bound = scenarios.Bound(case.latency_bound_s)

        def ask(rate: float) -> scenarios.Served:
            self._alive()
            return scenarios.serve(
                self._calls, rate, bound, batch_size=case.batch_size, seed=request["seed"], clock=self._clock
            )

        if case.arrival_rate is not None:
            return _served(ask(case.arrival_rate))
        offline = scenarios.offline(
            self._calls, batch_size=case.batch_size, seconds=request["seconds"], clock=self._clock
        )
        found = scenarios.greatest_rate(ask, ceiling=offline.throughput, halvings=_HALVINGS)
        if found.best is None:
            raise MeasurementError(
                f"no arrival rate down to {found.trials[-1].rate:.3g} images/s kept {bound.protocol}"
            )
        answer = _served(found.best)
        del answer["missed"]  # the rate was found, not asked for
        return {**answer, "sustained_rate": found.best.rate}


def _served(trial: scenarios.Served) -> dict[str, Any]:
    if len(trial.latencies_ns) < trial.planned:
        raise MeasurementError(
            f"{trial.rate:g} images/s can't keep {trial.bound.protocol}: {trial.missed} of the first "
            f"{len(trial.latencies_ns)} queries were late"
        )
    return {
        "latencies_ns": list(trial.latencies_ns),
        "runs": len(trial.latencies_ns),
        "missed": trial.missed,
    }
