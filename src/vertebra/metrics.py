"""The dictionary of metrics: what each number in the table means.

Axis labels, limits, validation and the documentation all read it, so adding a metric is one
entry here. A metric's `conditions` are the columns without which a value of our own means nothing: a row
that lacks one is refused. A published figure may lack some. Its `range` holds the values that it can have: a
row outside is refused wherever rows come in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vertebra.errors import UnknownNameError

_RUNTIME = ("system", "engine", "device", "precision", "batch_size", "input_size")
_ACCURACY = ("dataset", "split")
#: `scenario` is the load pattern, as MLPerf calls it.
_SERVED = (*_RUNTIME, "scenario")
#: A server that is asked over the network shows neither its device nor its precision; `engine` is what it
#: calls itself.
_OF_A_SERVER = ("system", "engine", "batch_size", "scenario")


#: Whole numbers are told from others below this; above, a count in G may have been rounded.
_COUNTED_TO = 1e6


@dataclass(frozen=True)
class Range:
    """The values that a metric can have, from `least` to `most`. Zero may be possible, impossible (no network
    takes 0 s), or only where we counted it: a published 0 parameters means that nobody knew."""

    least: float = 0.0
    most: float = math.inf
    zero: Literal["possible", "if counted", "impossible"] = "impossible"
    is_whole: bool = False

    def __str__(self) -> str:
        if self.least < 0:
            return "any"
        if self.most < math.inf:
            return f"{self.least:g} to {self.most:g}"
        texts = {"possible": "0 or more", "if counted": "above 0; 0 only if counted", "impossible": "above 0"}
        return texts[self.zero]

    def holds(self, value: float, *, published: bool = False) -> bool:
        """Whether a metric of this range can have the value."""
        if value == 0 and (self.zero == "impossible" or (self.zero == "if counted" and published)):
            return False
        broken = self.is_whole and abs(value) < _COUNTED_TO and value != round(value)
        return self.least <= value <= self.most and not broken

    def spans(self, end: float) -> bool:
        """Whether an interval may end there: at 0 too, where the value itself is above 0."""
        return self.least <= end <= self.most


_SHARE = Range(most=1.0, zero="possible")
_ABOVE_0 = Range()
_FROM_0 = Range(zero="possible")
_BYTES_COUNTED = Range(zero="if counted")
_COUNTED = Range(zero="if counted", is_whole=True)

#: Metric -> its range, where that isn't a share's for fractions and above 0 for all others.
_RANGES = {
    "unreadable": Range(zero="possible", is_whole=True),
    "params": _COUNTED,
    "buffers": Range(zero="possible", is_whole=True),
    "weight_bytes": _BYTES_COUNTED,
    "file_bytes": _BYTES_COUNTED,
    "macs": _COUNTED,
    "operations": _COUNTED,
    "activations": _COUNTED,
    "model_stat_params": _COUNTED,
    "model_stat_operations": Range(least=-math.inf, zero="possible", is_whole=True),  # a difference
    **dict.fromkeys(
        ("memory_net", "memory_baseline", "memory_weights", "memory_activations", "memory_workspace",
         "memory_allocated", "memory_reserved", "load_time", "compile_time", "sustained_rate"), _FROM_0
    ),
    "output_error": _FROM_0,  # relative to a spread: it may exceed it
    "aa_floor": _FROM_0,
    "failure": Range(most=1.0, zero="possible", is_whole=True),
    "accuracy_density": _FROM_0,
}  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """One kind of number. `unit` is a key of `vertebra.units.SUFFIXES`."""

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    definition: str
    conditions: tuple[str, ...] = ()

    @property
    def range(self) -> Range:
        """The values that it can have."""
        return _RANGES.get(self.name, _SHARE if self.unit == "fraction" else _ABOVE_0)


_ENTRIES = (
    Metric("top1", "top-1 accuracy", "fraction", "higher",
           "Share of images for which the network's first answer is the true class, with a single central "
           "crop.", _ACCURACY),
    Metric("top5", "top-5 accuracy", "fraction", "higher",
           "Share of images for which the true class is among the network's first five answers, with a "
           "single central crop.", _ACCURACY),
    Metric("reference_top1", "reference top-1 accuracy", "fraction", "higher",
           "Top-1 accuracy that a publisher quotes for the original weights, next to its own.", _ACCURACY),
    Metric("reference_top5", "reference top-5 accuracy", "fraction", "higher",
           "Top-5 accuracy that a publisher quotes for the original weights, next to its own.", _ACCURACY),
    Metric("calibration_error", "calibration error", "fraction", "lower",
           "Expected calibration error: the mean difference between the confidence of the first answer and "
           "the share of right answers, over 15 equal bins of confidence, each weighted by its number of "
           "images.", _ACCURACY),
    Metric("unreadable", "unreadable images", "count", "lower",
           "Images of an evaluation that couldn't be read; the accuracies don't count them.", _ACCURACY),
    Metric("probe_top1", "top-1 accuracy of a probe", "fraction", "higher",
           "Top-1 accuracy on your own images, without training the network: logistic regression on its "
           "frozen features, cross-validated, so that each image is predicted by a fit that hasn't seen "
           "it.", _ACCURACY),
    Metric("top1_disagreement", "top-1 disagreement", "fraction", "lower",
           "Share of images for which the network's first answer in this precision is another one than in "
           "float32, with the same weights, whatever is right: no labels are needed. Exact copies of an "
           "image count once.", (*_ACCURACY, "engine", "precision", "input_size", "weights")),
    Metric("params", "parameters", "count", "lower",
           "Number of elements of all trainable parameters that the network's answer depends on."),
    Metric("buffers", "buffers", "count", "lower",
           "Number of stored elements that are not trained, such as running means and variances."),
    Metric("weight_bytes", "size of the weights", "B", "lower",
           "Bytes of parameters and buffers, in the precision in which they are stored.", ("precision",)),
    Metric("macs", "multiply-accumulates", "count", "lower",
           "Multiply-accumulates of one image's forward pass: convolutions, fully connected layers and "
           "matrix products; biases, normalisations, activations and pools are not counted.",
           ("input_size",)),
    Metric("operations", "operations", "count", "lower",
           "Floating-point operations (FLOPs) of one image's forward pass: exactly twice `macs`. Derived, "
           "not stored, except for published figures, whose `convention` says how they were counted.",
           ("input_size",)),
    Metric("activations", "activations", "count", "lower",
           "Number of elements written by convolutions, fully connected layers and matrix products in one "
           "image's forward pass.", ("input_size",)),
    Metric("model_stat_params", "parameters by the 2020 rule", "count", "neither",
           "Parameters as `paddle.fluid.contrib.model_stat` counted them: convolutions without bias, one "
           "bias element per fully connected layer, two elements per normalised channel.", ("input_size",)),
    Metric("model_stat_operations", "FLOPs by the 2020 rule", "count", "neither",
           "FLOPs as `paddle.fluid.contrib.model_stat` counted them: two per multiply-accumulate of a "
           "convolution, one per multiply-accumulate of a fully connected layer, grouped convolutions not "
           "at all, plus pools and normalisations, minus activations.", ("input_size",)),
    Metric("latency", "latency", "s", "lower",
           "Time of one forward pass of a batch, with the input already on the device and no "
           "preprocessing. Measured: the median of the samples. Published: as its source prints it.",
           _RUNTIME),
    Metric("latency_p90", "latency, 90th percentile", "s", "lower",
           "Ninetieth percentile of the latency's samples; blank below 64 samples.", _RUNTIME),
    Metric("latency_p99", "latency, 99th percentile", "s", "lower",
           "Ninety-ninth percentile of the latency's samples; blank below 662 samples.", _RUNTIME),
    Metric("throughput", "throughput", "1/s", "higher",
           "Images per second: batch size divided by latency.", _RUNTIME),
    Metric("training_throughput", "training throughput", "1/s", "higher",
           "Images trained per second, with all that a step needs: its pictures, both passes and the "
           "optimizer. Evaluations and checkpoints aren't in it.", _RUNTIME),
    Metric("fps", "frames per second", "1/s", "higher",
           "Images per second at batch size 1: one divided by the latency. Derived, never stored.", _RUNTIME),
    Metric("latency_per_image", "latency per image", "s", "lower",
           "Latency of a batch divided by its images, or one divided by a published throughput. Derived, "
           "never stored.", _RUNTIME),
    Metric("memory_total", "peak memory", "B", "lower",
           "Peak memory of the fresh process that ran the network: runtime, weights, activations and "
           "workspaces. On a graphics card, what its driver reports for the process.", _RUNTIME),
    Metric("memory_net", "peak memory beyond the runtime", "B", "lower",
           "Peak memory minus what the same process held after importing the runtime, before the network "
           "was loaded.", _RUNTIME),
    Metric("memory_baseline", "memory of the runtime", "B", "lower",
           "Memory of the fresh process after importing and initialising the runtime, before the network "
           "was loaded.", _RUNTIME),
    Metric("memory_weights", "memory of the weights", "B", "lower",
           "Memory that loading the network added and that stays: held after loading, minus the runtime's. "
           "Pages of a memory-mapped file count when they are first touched.", _RUNTIME),
    Metric("memory_activations", "peak memory of activations", "B", "lower",
           "Memory that running the network added at its peak: peak memory minus what was held after "
           "loading. `memory_total` is the sum of this, the runtime's memory and the weights'.", _RUNTIME),
    Metric("memory_workspace", "memory kept after inference", "B", "lower",
           "The part of `memory_activations` that the engine keeps between inferences: held after them, "
           "minus held before the first.", _RUNTIME),
    Metric("memory_allocated", "peak memory allocated on the device", "B", "lower",
           "Peak bytes that the runtime's allocator had handed out on the device.", _RUNTIME),
    Metric("memory_reserved", "peak memory reserved on the device", "B", "lower",
           "Peak bytes that the runtime's allocator had taken from the device, whether handed out or not.",
           _RUNTIME),
    Metric("load_time", "load time", "s", "lower",
           "Time to turn the stored or built network into one that is ready to run: read, compile, "
           "allocate.", _RUNTIME),
    Metric("compile_time", "compile time", "s", "lower",
           "The part of `load_time` in which the engine compiled the network for this machine.", _RUNTIME),
    Metric("device_latency", "latency on the device", "s", "lower",
           "Time of one forward pass of a batch between two events on the device itself, the median of the "
           "samples: `latency` without the processor's work to start it.", _RUNTIME),
    Metric("end_to_end_latency", "latency from the encoded picture", "s", "lower",
           "Time from a JPEG's bytes to the logits, one photograph at a time: decode, preprocess, copy, "
           "inference; the median of the samples.", _RUNTIME),
    Metric("preprocess_latency", "latency of preprocessing", "s", "lower",
           "The part of `end_to_end_latency` from a JPEG's bytes to the network's input; the median of the "
           "samples.", _RUNTIME),
    Metric("sustained_rate", "highest arrival rate served", "1/s", "higher",
           "The highest rate of Poisson arrivals, in images per second, at which the required share of "
           "answers within the time limit, both stated in `protocol`, was shown with 99 % confidence.",
           (*_SERVED, "protocol")),
    Metric("missed_deadlines", "missed deadlines", "fraction", "lower",
           "Share of queries answered later than the time limit stated in `protocol`, counted from their "
           "arrival.", (*_SERVED, "protocol", "arrival_rate")),
    Metric("served_rate", "highest rate that a server serves", "1/s", "higher",
           "The highest rate of requests at random times (Poisson), in images per second, at which a server "
           "gave the required share of good answers within the time limit over the network, both stated in "
           "`protocol`: shown with 99 % confidence in each run. Its interval ends at the lowest rate that "
           "was shown not to hold.", (*_OF_A_SERVER, "protocol")),
    Metric("request_latency", "latency of a request", "s", "lower",
           "Time from the planned moment of a request to its whole answer, over the network, at the "
           "`arrival_rate`; the median of the requests that got a good answer.",
           (*_OF_A_SERVER, "protocol", "arrival_rate")),
    Metric("request_latency_p90", "latency of a request, 90th percentile", "s", "lower",
           "Ninetieth percentile of the time from a request's planned moment to its whole answer; those "
           "without a good answer count as endless. The median of the runs; blank below 64 requests.",
           (*_OF_A_SERVER, "protocol", "arrival_rate")),
    Metric("request_latency_p99", "latency of a request, 99th percentile", "s", "lower",
           "Ninety-ninth percentile of the time from a request's planned moment to its whole answer; those "
           "without a good answer count as endless. The median of the runs; blank below 662 requests.",
           (*_OF_A_SERVER, "protocol", "arrival_rate")),
    Metric("missed_requests", "missed requests", "fraction", "lower",
           "Share of requests to a server without a good answer within the time limit stated in `protocol`: "
           "late, refused, or failed.", (*_OF_A_SERVER, "protocol", "arrival_rate")),
    Metric("failed_requests", "failed requests", "fraction", "lower",
           "Share of requests to a server that were refused, failed or never answered, whatever time they "
           "had.", (*_OF_A_SERVER, "protocol", "arrival_rate")),
    Metric("energy_per_image", "energy per image", "J", "lower",
           "Energy by the machine's counters over the measured window, minus the idle power over it, "
           "divided by the number of images; blank if there is no counter.", _RUNTIME),
    Metric("power", "power", "W", "lower",
           "Mean power while inferring, minus idle power, by the machine's own counters; blank if there "
           "are none.", _RUNTIME),
    Metric("first_inference", "first inference", "s", "lower",
           "Time of the very first forward pass after loading.", _RUNTIME),
    Metric("output_error", "output error", "fraction", "lower",
           "Largest difference between the engine's logits and eager float32's on the reference input, "
           "relative to the spread of eager's logits.", _RUNTIME),
    Metric("file_bytes", "size of the engine's file", "B", "lower",
           "Bytes of the files that an engine loads.", ("precision",)),
    Metric("failure", "failure", "count", "lower",
           "1 if a case gave no figure; `grade_reasons` says why (crash, hang, out of memory, wrong "
           "outputs).", ("system", "engine", "batch_size")),
    Metric("peak_operations_rate", "peak arithmetic rate", "op/s", "higher",
           "Best rate of floating-point operations (2 per multiply-accumulate) that a large matrix product "
           "or convolution reached on this machine, with an engine or NumPy. A row of the model `machine`.",
           ("system", "engine", "device", "precision", "threads")),
    Metric("memory_bandwidth", "memory bandwidth", "B/s", "higher",
           "Bytes read and written per second while copying arrays larger than the caches. A row of the "
           "model `machine`.", ("system", "device", "threads")),
    Metric("aa_floor", "smallest detectable difference", "fraction", "lower",
           "The smallest difference between two latencies that could be detected on this machine at that "
           "time: one case measured against itself, interleaved. A row of the model `machine`.",
           ("system", "engine", "device")),
    Metric("accuracy_density", "accuracy density", "fraction", "higher",
           "Top-1 accuracy per million parameters. Derived, never stored.", _ACCURACY),
)  # fmt: skip

METRICS: dict[str, Metric] = {entry.name: entry for entry in _ENTRIES}

#: The model of rows with figures of the machine itself: not a network, so comparisons leave it out.
MACHINE = "machine"

#: Metrics that readers compute from stored ones, so that the two can't disagree.
DERIVED = ("fps", "latency_per_image", "accuracy_density")


def find(name: str) -> Metric:
    """The metric called `name`. Raises UnknownNameError with close matches."""
    try:
        return METRICS[name]
    except KeyError:
        raise UnknownNameError.of("metric", name, METRICS, "vertebra list metrics") from None
