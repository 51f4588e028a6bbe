"""Rows of what was found at a server: each states what was asked of which server, and how far to trust it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vertebra import units
from vertebra._version import __version__
from vertebra.measurements import Measurement, now, statistics
from vertebra.measurements.blocks import Block
from vertebra.measurements.possible import plain, plain_names
from vertebra.measuring.benchmarking.grading import Grade, grade_looks
from vertebra.measuring.benchmarking.scenarios import Bound
from vertebra.measuring.requests.offering import LATE_SHARE, Offered
from vertebra.measuring.requests.searching import Search

#: What comes before a model's name in rows of a server: nothing shows which network it is.
PREFIX = "served:"
#: Parts of a run that count as blocks: requests that were sent one after another resemble each other.
_BLOCKS = 8
_UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked of which server, as its rows state it. `system` is the machine that it runs on, None if
    that isn't known; `sent` says what went how, such as "FP32 over HTTP". `server` and `version` are the
    names that it gives itself, `platform` what it says of the model. `notes` qualify the figures, `defects`
    are why they can't be trusted."""

    model: str
    address: str
    system: str | None
    server: str
    version: str | None
    platform: str | None
    sent: str
    batch_size: int
    input_size: int | None
    bound: Bound
    notes: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def protocol(self) -> str:
        """How it was asked, as rows state it."""
        return f"{self.bound.protocol}, {self.sent}"


def of_rate(asked: Asked, runs: Sequence[Offered]) -> list[Measurement]:
    """The rows of one rate that was offered once or several times: the times of requests, the share without a
    good answer in time, and of those the share without any."""
    rate, batch = runs[0].rate, runs[0].batch_size
    conditions = {"arrival_rate": rate, "batch_size": batch}
    samples = sum(len(one.latencies_s) for one in runs)
    graded = graded_runs(asked, runs)
    more = {"grade": graded.letter, "grade_reasons": graded.reasons, **conditions}
    rows = []
    if samples:
        found = statistics.interval(_blocks(runs))
        rows.append(
            _row(
                asked,
                "request_latency",
                found.median,
                low=found.low,
                high=found.high,
                samples=samples,
                **more,
            )
        )
    for percent in (90, 99):
        values = [one.percentile(percent) for one in runs]
        known = [value for value in values if value is not None]
        if len(known) == len(runs):
            rows.append(
                _row(asked, f"request_latency_p{percent}", statistics.median(known), samples=samples, **more)
            )
    sent = sum(one.planned for one in runs)
    for metric, count in (
        ("missed_requests", sum(one.missed for one in runs)),
        ("failed_requests", sum(one.failed for one in runs)),
    ):
        rows.append(_row(asked, metric, count / sent, samples=sent, **more))
    return rows


def of_search(asked: Asked, search: Search) -> list[Measurement]:
    """The rows of the greatest rate that was found, and those of the requests at that rate. None if no rate
    was kept, or if the generator and not the server bounds it."""
    if search.rate is None or (search.late is not None and search.ended == "found"):
        return []
    runs = search.at(search.rate)
    graded = graded_runs(asked, runs, search)
    high = search.broken
    row = _row(
        asked, "served_rate", search.rate, low=None if high is None else search.rate, high=high,
        samples=sum(one.planned for one in runs), grade=graded.letter, grade_reasons=graded.reasons,
    )  # fmt: skip
    return [row, *of_rate(asked, runs)]


def failure(asked: Asked, reason: str, hint: str | None = None) -> Measurement:
    """The row that records that a server gave no figure, and why."""
    reasons = tuple(map(plain, (reason,) if hint is None else (reason.removesuffix("."), hint)))
    return _row(asked, "failure", 1.0, grade_reasons=(*reasons, *asked.notes))


def samples_of(runs: Sequence[Offered]) -> dict[str, list[float]]:
    """What is kept of runs beside their rows: the times in order, by run, and how late each request left."""
    return {
        "request_latency": [latency for one in runs for latency in one.latencies_s],
        "request_latency.count": [float(len(one.latencies_s)) for one in runs],
        "request_latency.seed": [float(one.seed) for one in runs],
        "request_latency.rate": [one.rate for one in runs],
        "lag": [lag for one in runs for lag in one.lags_s],
        "lag.count": [float(len(one.lags_s)) for one in runs],
    }


def _row(asked: Asked, metric: str, value: float, **more: Any) -> Measurement:
    names = {
        "model": f"{PREFIX}{asked.model}", "engine": asked.server, "provider": asked.platform,
        "protocol": asked.protocol, "source": plain(asked.address),
        "system": asked.system or f"{_UNKNOWN} ({_host_of(asked.address)})",
    }  # fmt: skip
    server = {} if not asked.version else {f"server {asked.server}": asked.version}
    return Measurement(
        metric=metric, value=value, origin="benched", scenario="server", input_size=asked.input_size,
        measured_at=now(),
        versions={
            plain(name).strip() or _UNKNOWN: plain(version)
            for name, version in {
                "vertebra": __version__, "python": platform.python_version(), **asked.versions, **server
            }.items()
        },
        **plain_names({**names, "batch_size": asked.batch_size, **more}),
    )  # fmt: skip


def _host_of(address: str) -> str:
    return address.partition("://")[2].partition("/")[0]


def _blocks(runs: Sequence[Offered]) -> list[Block]:
    """Each run's times in consecutive parts, so that the interval counts parts and not requests."""
    blocks: list[Block] = []
    for process, run in enumerate(runs):
        size = -(-len(run.latencies_s) // _BLOCKS) or 1
        for begin in range(0, len(run.latencies_s), size):
            part = run.latencies_s[begin : begin + size]
            blocks.append(Block(process=process, order=len(blocks), started_s=0.0, latencies=part))
    return blocks


# ------------------------------------------------------------------ grades


def graded_runs(asked: Asked, runs: Sequence[Offered], search: Search | None = None) -> Grade:
    """B at best, since answers aren't compared with a reference's: C if the runs contradict each other, if
    the search ended before it was done, or if answers changed."""
    medians = [statistics.median(one.latencies_s) for one in runs if one.latencies_s]
    agreement = grade_looks(medians) if medians else Grade("C", ("no answers",))
    reasons = [text.replace("processes", "runs").replace("process", "run") for text in agreement.reasons]
    letter = "C" if asked.defects else max(agreement.letter, "B")
    if search is not None and search.ended != "found":
        letter = "C"
        why = "interrupted" if search.ended == "interrupted" else "ended because the time was up"
        reasons.insert(0, f"the search was {why}: a higher rate may be served")
    reasons = [*asked.defects, *reasons, *_of_failures(runs), *_of_lag(runs)]
    reasons += ["answers not compared: no reference", *asked.notes]
    return Grade(letter, tuple(map(plain, reasons)))


def _of_failures(runs: Sequence[Offered]) -> list[str]:
    counts: Counter[str] = Counter()
    for one in runs:
        counts.update(one.failures)
    if not counts:
        return []
    listed = ", ".join(f"{reason} ({count})" for reason, count in counts.most_common(3))
    more = "" if len(counts) <= 3 else f" and {len(counts) - 3} more reasons"
    return [f"{sum(counts.values())} of {sum(one.sent for one in runs)} requests failed: {listed}{more}"]


def _of_lag(runs: Sequence[Offered]) -> list[str]:
    worst = max(one.lag_s for one in runs)
    return [f"1 % of the requests left {units.show(worst, 's')} late or more"] if worst > 0 else []


def late_text(run: Offered) -> str:
    """Why a run in which the generator was late is refused."""
    return (
        f"the load generator was late at {units.show(run.rate, '1/s')}: 1 % of the requests left "
        f"{units.show(run.lag_s, 's')} or more after their moments, over {LATE_SHARE:.0%} of the bound"
    )


def broken_text(run: Offered) -> str:
    """Why a rate that was asked for gives no figures."""
    failures = "; ".join(_of_failures([run]))
    return (
        f"{units.show(run.rate, '1/s')} can't keep {run.bound.protocol}: {run.missed} of the first "
        f"{run.sent} requests were late or failed" + (f" ({failures})" if failures else "")
    )
