"""The dictionary of metrics: what each number in the table means.

Axis labels, limits, validation and the documentation all read it, so adding a metric is one
entry here. A metric's `conditions` are the columns that must be known for a value of our own to mean
anything: such a row that lacks one is refused. A published figure may lack some, and says less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vertebra.errors import UnknownNameError

_RUNTIME = ("system", "engine", "device", "precision", "batch_size", "input_size")
_ACCURACY = ("dataset", "split")


@dataclass(frozen=True)
class Metric:
    """One kind of number. `unit` is a key of `vertebra.units.SUFFIXES`."""

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    definition: str
    conditions: tuple[str, ...] = ()


_ENTRIES = (
    Metric("top1", "top-1 accuracy", "fraction", "higher",
           "Share of images whose true class is the network's first answer, single central crop.", _ACCURACY),
    Metric("top5", "top-5 accuracy", "fraction", "higher",
           "Share of images whose true class is among the network's first five answers, single central crop.",
           _ACCURACY),
    Metric("reference_top1", "reference top-1 accuracy", "fraction", "higher",
           "Top-1 accuracy that a publisher quotes for the original weights, beside its own.",
           _ACCURACY),
    Metric("reference_top5", "reference top-5 accuracy", "fraction", "higher",
           "Top-5 accuracy that a publisher quotes for the original weights, beside its own.",
           _ACCURACY),
    Metric("calibration_error", "calibration error", "fraction", "lower",
           "Expected calibration error: the mean distance between the confidence of the first answer and the "
           "share that is right, over 15 equal bins of confidence, each bin by its images.", _ACCURACY),
    Metric("unreadable", "unreadable images", "count", "lower",
           "Images of an evaluation that couldn't be read; the accuracies are of the others.", _ACCURACY),
    Metric("probe_top1", "top-1 accuracy of a probe", "fraction", "higher",
           "Top-1 accuracy on one's own images, without training the network: logistic regression on its "
           "frozen features, cross-validated, each image answered by a fit that hasn't seen it.",
           _ACCURACY),
    Metric("params", "parameters", "count", "lower",
           "Number of elements of all trainable parameters of the network that answers."),
    Metric("buffers", "buffers", "count", "lower",
           "Number of elements of what is stored but not trained, such as running means and variances."),
    Metric("weight_bytes", "size of the weights", "B", "lower",
           "Bytes of parameters and buffers in the stored precision.", ("precision",)),
    Metric("macs", "multiply-accumulates", "count", "lower",
           "Multiply-accumulates of one image's forward pass: convolutions, fully connected layers "
           "and matrix products; biases, normalisations, activations and pools are not counted.",
           ("input_size",)),
    Metric("operations", "operations", "count", "lower",
           "Floating-point operations (FLOPs) of one image's forward pass: exactly twice `macs`. Derived, "
           "never stored, but for published figures whose `convention` says how they were counted.",
           ("input_size",)),
    Metric("activations", "activations", "count", "lower",
           "Number of elements written by convolutions, fully connected layers and matrix products "
           "in one image's forward pass.", ("input_size",)),
    Metric("model_stat_params", "parameters by the 2020 rule", "count", "neither",
           "Parameters as `paddle.fluid.contrib.model_stat` counted them: convolutions without bias, one "
           "bias element per fully connected layer, two elements per normalised channel.", ("input_size",)),
    Metric("model_stat_operations", "FLOPs by the 2020 rule", "count", "neither",
           "FLOPs as `paddle.fluid.contrib.model_stat` counted them: two per multiply-accumulate of a "
           "convolution, one per multiply-accumulate of a fully connected layer, grouped convolutions not at "
           "all, plus pools and normalisations, minus activations.", ("input_size",)),
    Metric("latency", "latency", "s", "lower",
           "Time of one forward pass of a batch, input already on the device, no preprocessing. Measured: "
           "the median of the samples. Published: as its source prints it.", _RUNTIME),
    Metric("latency_p90", "latency, 90th percentile", "s", "lower",
           "Ninetieth percentile of the latency's samples; blank below 64 samples.", _RUNTIME),
    Metric("latency_p99", "latency, 99th percentile", "s", "lower",
           "Ninety-ninth percentile of the latency's samples; blank below 662 samples.", _RUNTIME),
    Metric("throughput", "throughput", "1/s", "higher",
           "Images per second: batch size divided by latency.", _RUNTIME),
    Metric("fps", "frames per second", "1/s", "higher",
           "Images per second at batch size 1: one divided by the latency. Derived, never stored.", _RUNTIME),
    Metric("memory_total", "peak memory", "B", "lower",
           "Peak memory of the fresh process that ran the network: runtime, weights, activations and "
           "workspaces.", _RUNTIME),
    Metric("memory_net", "peak memory beyond the runtime", "B", "lower",
           "Peak memory less what the same process held after importing the runtime, before the network was "
           "loaded.", _RUNTIME),
    Metric("load_time", "load time", "s", "lower",
           "Time from the stored or built network to one that is ready to run: read, compile, allocate.",
           _RUNTIME),
    Metric("first_inference", "first inference", "s", "lower",
           "Time of the very first forward pass after loading.", _RUNTIME),
    Metric("output_error", "output error", "fraction", "lower",
           "Largest difference between the engine's logits and eager float32's on the reference input, "
           "relative to the spread of eager's logits.", _RUNTIME),
    Metric("file_bytes", "size of the engine's file", "B", "lower",
           "Bytes of the files that an engine loads.", ("precision",)),
    Metric("failure", "failure", "count", "lower",
           "1 where a case gave no figure: `grade_reasons` tells why (crash, hang, out of memory, wrong "
           "outputs).", ("system", "engine", "batch_size", "input_size")),
    Metric("accuracy_density", "accuracy density", "fraction", "higher",
           "Top-1 accuracy per million parameters. Derived, never stored.", _ACCURACY),
)  # fmt: skip

METRICS: dict[str, Metric] = {entry.name: entry for entry in _ENTRIES}

#: Metrics that readers compute from stored ones, so that the two can't disagree.
DERIVED = ("fps", "accuracy_density")


def find(name: str) -> Metric:
    """The metric called `name`. Raises UnknownNameError with close matches."""
    try:
        return METRICS[name]
    except KeyError:
        raise UnknownNameError.of("metric", name, METRICS, "vertebra list metrics") from None
