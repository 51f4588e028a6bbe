"""The server's counts and times as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vertebra._version import __version__
from vertebra.inference.serving.models import READY, Entry, Repository, state_of
from vertebra.inference.serving.refusals import KINDS
from vertebra.inference.serving.statistics import BOUNDS_S, STAGES, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = {
    "request": "Time from a request to its answer.",
    "queue": "Time that answered requests waited for an engine.",
    "compute_input": "Time to decode and preprocess an answered request's batch.",
    "compute_infer": "Time in the engine of an answered request's batch.",
    "compute_output": "Time from the engine to the answer.",
}

#: a number of each model: its name, what it means, and how it is found
_NUMBERS: tuple[tuple[str, str, Callable[[Entry], float]], ...] = (
    ("model_ready", "Whether the model can answer.", lambda one: float(state_of(one) == READY)),
    ("requests_success_total", "Requests that were answered.", lambda one: one.statistics.success.count),
    ("images_total", "Images of answered requests.", lambda one: one.statistics.images),
    ("engine_calls_total", "Calls of the engine.", lambda one: one.statistics.calls),
    ("workers_lost_total", "Processes that crashed or hung, or whose check failed.",
     lambda one: one.statistics.lost),
    ("queue_images", "Images that wait.", lambda one: one.model.batcher.waiting if one.model else 0),
    ("running_images", "Images in an engine.", lambda one: one.model.batcher.running if one.model else 0),
)  # fmt: skip


def text(repository: Repository) -> str:
    """All metrics in the text format."""
    return "\n".join([*_families(repository), ""])


def _families(repository: Repository) -> Iterator[str]:
    entries = repository.entries()
    labelled = [({"model": one.spec.name, "version": one.spec.version}, one) for one in entries]
    version = [({"version": __version__}, 1.0)]
    yield from _family("vertebra_build_info", "gauge", "Version of the server.", version)
    for name, help_, value in _NUMBERS:
        kind = "counter" if name.endswith("_total") else "gauge"
        yield from _family(
            f"vertebra_{name}", kind, help_, [(labels, value(one)) for labels, one in labelled]
        )
    yield from _family(
        "vertebra_requests_failure_total", "counter", "Requests that were refused, by reason.",
        [
            ({**labels, "reason": reason}, one.statistics.reasons[reason])
            for labels, one in labelled
            for reason in KINDS
            if reason in one.statistics.reasons
        ],
    )  # fmt: skip
    for stage in ("request", *STAGES):
        name = f"vertebra_{stage}_seconds"
        yield from _head(name, "histogram", _SECONDS[stage])
        for labels, one in labelled:
            yield from _histogram(name, labels, one.statistics.histograms[stage])
    yield from _sizes(labelled)


def _sizes(labelled: Iterable[tuple[Mapping[str, str], Any]]) -> Iterator[str]:
    """Images in each call of the engine, as a histogram by powers of two."""
    name = "vertebra_batch_images"
    yield from _head(name, "histogram", "Images in one call of the engine.")
    for labels, one in labelled:
        counts = {size: infer.count for size, (_, infer, _) in one.statistics.batches.items()}
        for bound in (1, 2, 4, 8, 16, 32, 64, 128):
            total = sum(count for size, count in counts.items() if size <= bound)
            yield _line(f"{name}_bucket", {**labels, "le": str(bound)}, total)
        yield _line(f"{name}_bucket", {**labels, "le": "+Inf"}, sum(counts.values()))
        yield _line(f"{name}_sum", labels, sum(size * count for size, count in counts.items()))
        yield _line(f"{name}_count", labels, sum(counts.values()))


def _histogram(name: str, labels: Mapping[str, str], histogram: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), histogram.buckets, strict=True):
        total += count
        yield _line(f"{name}_bucket", {**labels, "le": bound}, total)
    yield _line(f"{name}_sum", labels, histogram.ns / 1e9)
    yield _line(f"{name}_count", labels, total)


def _family(
    name: str, kind: str, help_: str, samples: Iterable[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    yield from _head(name, kind, help_)
    for labels, value in samples:
        yield _line(name, labels, value)


def _head(name: str, kind: str, help_: str) -> Iterator[str]:
    yield f"# HELP {name} {help_}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
