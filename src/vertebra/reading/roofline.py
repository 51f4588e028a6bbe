"""How near a network's latency is to the best that the machine can do: its share of the roofline.

The roofline (Williams, Waterman and Patterson 2009) is the least time that work takes on a machine: its
arithmetic at the peak rate, or its memory traffic at the full bandwidth, whichever takes longer. Both rates
are measured on the machine itself, by `vertebra doctor`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vertebra.measurements import Measurement
from vertebra.metrics import MACHINE

_BYTES = {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Work:
    """The work for one image: operations, elements of parameters, and elements that layers write."""

    operations: float
    params: float
    activations: float

    def bytes_moved(self, batch_size: int, element_bytes: int) -> float:
        """The least traffic: every parameter read once a batch, every activation written and read once."""
        return element_bytes * (self.params + 2 * self.activations * batch_size)


@dataclass(frozen=True)
class Roof:
    """A machine's peak rate of operations, and its bandwidth in bytes, a second."""

    operations_rate: float
    bandwidth: float

    def least_s(self, work: Work, batch_size: int, element_bytes: int = 4) -> float:
        """The least time in which the machine can do a batch of `work`."""
        arithmetic = batch_size * work.operations / self.operations_rate
        return max(arithmetic, work.bytes_moved(batch_size, element_bytes) / self.bandwidth)


def roof(machine: Iterable[Measurement], latency: Measurement) -> Roof | None:
    """The roof over `latency`, from the machine's own rows: of the same system, device and threads, by the
    best engine. None if they weren't measured."""
    rows = [row for row in machine if row.model == MACHINE and _is_like(row, latency)]
    rates = [row.value for row in rows if row.metric == "peak_operations_rate"
             and row.precision == latency.precision]  # fmt: skip
    bandwidths = [row.value for row in rows if row.metric == "memory_bandwidth"]
    return Roof(max(rates), max(bandwidths)) if rates and bandwidths else None


def share(latency: Measurement, machine: Iterable[Measurement], work: Work) -> float | None:
    """The part of `latency` that the machine's roofline explains, 1 being as fast as the machine allows.

    None if the machine wasn't measured with the latency's device, precision and threads. It may exceed 1 if
    an engine needs fewer operations than are counted, as with Winograd's convolutions.
    """
    if latency.batch_size is None or latency.value <= 0 or latency.scenario not in (None, "single-stream"):
        return None
    over = roof(machine, latency)
    element = _BYTES.get(latency.precision or "")
    if over is None or element is None:
        return None
    return over.least_s(work, latency.batch_size, element) / latency.value


#: Forward, the gradients of what goes in, and the gradients of the parameters: each as much arithmetic.
_PASSES = 3


def training_share(throughput: Measurement, machine: Iterable[Measurement], work: Work) -> float | None:
    """The part of a training's time that the machine's roofline explains; `work` is one image's forward pass.

    A step is counted as three forward passes in arithmetic and in traffic, its loading and its optimizer as
    nothing. None where the machine wasn't measured with the same device, precision and threads.
    """
    if throughput.batch_size is None or throughput.value <= 0:
        return None
    over = roof(machine, throughput)
    element = _BYTES.get(throughput.precision or "")
    if over is None or element is None:
        return None
    step = _PASSES * over.least_s(work, throughput.batch_size, element)
    return step * throughput.value / throughput.batch_size


#: metric -> its share, of rows that were measured here
_SHARES = {"latency": share, "training_throughput": training_share}


def shares(
    figures: Sequence[Measurement],
    machine: Sequence[Measurement],
    shipped: Mapping[str, float] | None = None,
) -> list[float | None]:
    """For each of one network's `figures`, in order, its share if it is a latency or a training's throughput
    measured here and the network was counted at its input size; None for the others.

    Counts come from the figures, or are those `shipped`: macs, params and activations at `input_size`.
    """
    return [
        _SHARES[row.metric](row, machine, work)
        if row.metric in _SHARES and row.origin == "benched" and (work := _work(row, figures, shipped))
        else None
        for row in figures
    ]


def shares_of(measured: Sequence[Measurement], machine: Sequence[Measurement]) -> list[float | None]:
    """`shares` for rows of several networks, by the counts that ship; None for a network that has none."""
    from vertebra.measurements import shipped

    ours = set(shipped.models())
    return [
        shares([row], machine, shipped.totals(row.model))[0] if row.model in ours else None
        for row in measured
    ]


def _work(
    row: Measurement, figures: Sequence[Measurement], shipped: Mapping[str, float] | None
) -> Work | None:
    if shipped is not None and shipped["input_size"] == row.input_size:
        counts = dict(shipped)
    else:
        counts = {
            other.metric: other.value
            for other in figures
            if other.origin == "profiled" and other.input_size in (None, row.input_size)
        }
    if not {"macs", "params", "activations"} <= set(counts):
        return None
    return Work(2 * counts["macs"], counts["params"], counts["activations"])


def _is_like(row: Measurement, latency: Measurement) -> bool:
    return all(getattr(row, name) == getattr(latency, name) for name in ("system", "device", "threads"))
