"""The diagnosis: the machine's state, then its peak rates and the smallest difference that it can detect."""

from __future__ import annotations

import importlib.util
import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vertebra import engines
from vertebra._version import __version__
from vertebra.campaigns.diagnosis import arithmetic, state
from vertebra.campaigns.diagnosis.state import State
from vertebra.engines import EngineInfo, Subject
from vertebra.errors import MeasurementError
from vertebra.exporting.process import Exporter
from vertebra.machine import leftovers, system
from vertebra.measurements import Measurement, blocks, display, now, statistics
from vertebra.measuring import benchmarking
from vertebra.measuring.benchmarking import Case, Limits, Result
from vertebra.metrics import MACHINE, METRICS
from vertebra.progress import Listener, Progress, silent

#: `network.dense`; importing its module needs torch.
_BUILDER, _CHANNELS, _SIDE, _OPERATIONS = (
    "vertebra.campaigns.diagnosis.network:dense",
    512,
    16,
    2 * 8 * 16**2 * 512**2,
)
_SEED = 0
#: Images at a time: enough rows for every core of a processor, and for a card.
_BATCH, _CARD_BATCH = 8, 256


@dataclass(repr=False)
class Diagnosis(display.Shown):
    """`rows` are of the model `machine`, `samples` their raw latencies; `notes` say what couldn't be
    measured, and why."""

    state: State
    rows: list[Measurement] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """What was measured of this machine."""
        return ", ".join(f"{METRICS[row.metric].label} {display.quantity(row)}" for row in self.rows)

    def tables(self) -> Iterable[list[display.Line]]:
        """The rows, and the notes."""
        yield [display.readable(row) for row in self.rows]
        yield [{"note": note} for note in self.notes]

    def value(self, metric: str) -> float | None:
        """The best value of `metric` among the rows."""
        return max((row.value for row in self.rows if row.metric == metric), default=None)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**asdict(self.state), "rows": [asdict(row) for row in self.rows], "notes": list(self.notes)}


def examine(*, quick: bool = False, progress: Listener | None = None) -> Diagnosis:
    """Check the machine, measure the peak rates of arithmetic and memory, and one small case against itself.

    `quick` takes less time, and only one process for the comparison, which then detects less. What can't be
    measured here is named in the notes, never guessed.
    """
    listener = progress or silent
    listener(Progress("checking the machine"))
    found = Diagnosis(state.look(0.5 if quick else 1.0))
    threads = found.state.default_threads
    listener(Progress("measuring arithmetic and memory with NumPy"))
    _with_numpy(found, threads, 0.5 if quick else 1.0)
    if not _has_torch():
        found.notes.append("Measuring the engines' rates and the smallest detectable difference needs torch.")
        return found
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch, Exporter() as exporter:
        listener(Progress("exporting a network of matrix products"))
        folder = Path(scratch) / "bundle"
        try:
            exporter.export(_subject(), folder, input_size=_SIDE, in_channels=_CHANNELS)
        except MeasurementError as error:
            found.notes.append(error.message)
            return found
        _with_engines(found, folder, threads, quick, listener)
        _against_itself(found, folder, threads, quick, listener)
    return found


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _subject() -> Subject:
    return Subject(model=MACHINE, builder=_BUILDER, arguments={"seed": _SEED})


# ------------------------------------------------------------------ peak rates


def _with_numpy(found: Diagnosis, threads: int, seconds: float) -> None:
    try:
        rates = arithmetic.measure(threads, seconds)
    except MeasurementError as error:
        found.notes.append(error.message)
        return
    found.rows += [
        _row("peak_operations_rate", rates.operations_rate, rates.operations_runs, threads=threads,
             engine="numpy", precision="float32"),
        _row("memory_bandwidth", rates.bandwidth, rates.bandwidth_runs, threads=threads),
    ]  # fmt: skip


def _row(metric: str, value: float, samples: int, **conditions: Any) -> Measurement:
    versions = {
        "vertebra": __version__,
        "python": platform.python_version(),
        **system.library_versions(("numpy",)),
    }
    return Measurement(
        model=MACHINE, metric=metric, value=value, origin="benched", samples=samples,
        grade_reasons=("the best of the samples",), device="cpu", system=system.describe().id,
        versions=versions, measured_at=now(), **conditions,
    )  # fmt: skip


def _with_engines(found: Diagnosis, folder: Path, threads: int, quick: bool, progress: Listener) -> None:
    """The best rate of every engine on every device here, in one quick process each."""
    progress(Progress("measuring arithmetic with the engines"))
    cases = [_case(info, folder, threads, device) for info in _runners() for device in _devices(info)]
    seconds = 1.5 if quick else 2.0
    limits = Limits.quick(seconds=seconds * len(cases), samples=16, warm_up_least_s=0.3)
    here = system.describe().id
    for result in benchmarking.measure_all(cases, limits, system=here, progress=_new_only(progress)):
        if result.failure is None:
            found.rows.append(_peak(result))
        else:
            found.notes.append(f"{result.case.engine} on {result.case.device}: {result.failure}")


def _new_only(progress: Listener) -> Listener:
    """A listener that passes on each new text, without its count, which is of one part of the examination."""
    last = ""

    def hear(event: Progress) -> None:
        nonlocal last
        if event.text != last:
            last = event.text
            progress(Progress(event.text))

    return hear


def _runners() -> list[EngineInfo]:
    """The engines that can run here and are measured if none is named."""
    found = [engines.find(name) for name in engines.available()]
    return [info for info in found if info.usual and info.name != "null"]


def _devices(info: EngineInfo) -> list[str]:
    """The processor, and a card if the machine has one that the engine can use."""
    return [device for device in info.devices if device == "cpu" or system.describe().gpus]


def _case(info: EngineInfo, folder: Path, threads: int, device: str = "cpu", batch_size: int = 0) -> Case:
    reads_bundle = info.reads == "bundle"
    return Case(
        model=MACHINE,
        engine=info.name,
        subject=Subject(model=MACHINE, bundle=str(folder)) if reads_bundle else _subject(),
        reference=None if reads_bundle else str(folder),
        input_size=_SIDE,
        in_channels=_CHANNELS,
        num_classes=_CHANNELS,
        batch_size=batch_size or (_BATCH if device == "cpu" else _CARD_BATCH),
        threads=threads,
        device=device,
        operations=_OPERATIONS,
    )


def _peak(result: Result) -> Measurement:
    """The row of the rate of the shortest latency."""
    latency = next(row for row in result.rows if row.metric == "latency")
    samples = result.samples["latency"]
    rate = result.case.batch_size * _OPERATIONS / min(samples)
    return replace(
        latency, metric="peak_operations_rate", value=rate, low=None, high=None, scenario=None, grade=None,
        grade_reasons=("the best of the samples",), input_size=None, batch_size=None, streams=None,
    )  # fmt: skip


# ------------------------------------------------------------------ the smallest difference


def _against_itself(found: Diagnosis, folder: Path, threads: int, quick: bool, progress: Listener) -> None:
    """One case twice, interleaved: whatever differs is the machine's doing."""
    runner = next((info for info in _runners() if info.reads == "bundle"), None)
    if runner is None:
        found.notes.append("Measuring the smallest detectable difference needs an engine that reads Bundles.")
        return
    progress(Progress(f"comparing {runner.name} with itself"))
    same = [_case(runner, folder, threads, batch_size=1)] * 2
    processes = 1 if quick else 3
    limits = Limits(
        seconds=processes * 1.5, processes=processes, least_s=0.8, half_width=1e-4, samples=64,
        warm_up_least_s=0.3,
    )  # fmt: skip
    here = system.describe().id
    results = list(benchmarking.measure_all(same, limits, system=here, progress=_new_only(progress)))
    failure = next((result.failure for result in results if result.failure), None)
    if failure is not None:
        found.notes.append(f"{runner.name} compared with itself: {failure}")
        return
    found.rows.append(_floor(results))
    for name, result in zip(("first", "second"), results, strict=True):
        found.samples[f"aa.{name}"] = result.samples["latency"]


def _floor(results: Sequence[Result]) -> Measurement:
    """The row of how far from 1 the ratio of two equal cases may lie, by its interval."""
    first, second = (blocks.unpack(result.samples) for result in results)
    difference = statistics.compare(first, second)
    reach = max(abs(difference.low - 1), abs(difference.high - 1))
    latency = next(row for row in results[0].rows if row.metric == "latency")
    return replace(
        latency, metric="aa_floor", value=reach, low=None, high=None, grade=None, scenario=None,
        samples=sum(len(result.samples["latency"]) for result in results),
        grade_reasons=(f"ratio {difference.ratio:.4f}, from {difference.low:.4f} to {difference.high:.4f}",),
    )  # fmt: skip
