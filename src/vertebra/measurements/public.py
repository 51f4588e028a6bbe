"""What others may see of a row and of a machine: fixed lists of words, and shapes of numbers.

Text that is in no list and has no such shape isn't copied, whoever wrote it. So nothing needs to be known as
private: names of hosts, users and files, addresses and serial numbers are no words of these lists.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from vertebra import metrics
from vertebra.machine.system import FEATURES
from vertebra.measurements import blocks, shipped, spread
from vertebra.measurements.measurement import GRADES, Measurement
from vertebra.measurements.record import KINDS, row_of
from vertebra.measurements.shipped.licences import licences

#: Who measured: what was published or estimated isn't submitted.
ORIGINS = ("benched", "evaluated", "profiled")
#: The words that a column of text can have. A test holds the engines' own tables to them.
WORDS: Mapping[str, tuple[str, ...]] = {
    "origin": ORIGINS,
    "grade": GRADES,
    "dataset": ("imagenet-1k",),
    "precision": ("float32", "tf32", "bfloat16", "float16", "int8", "int8-weights"),
    "engine": ("null", "eager", "compile", "aotinductor", "onnxruntime", "openvino", "ncnn", "mnn", "litert",
               "executorch", "tensorrt"),
    "provider": ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider", "cuda-graph",
                 "XnnpackBackend"),
    "device": ("cpu", "cuda"),
    "layout": ("NCHW", "NHWC"),
    "scenario": ("single-stream", "multi-stream", "offline", "server"),
}  # fmt: skip
#: The shapes that other columns of text can have.
SHAPES: Mapping[str, str] = {
    "split": r"(val|test|train|all)(\[:\d{1,9}\])?(\[share \d{1,7}/\d{1,7}\])?",
    "protocol": (
        r"resize \d{1,5}(x\d{1,5})? (opencv-bilinear|bilinear|bicubic|lanczos), crop \d{1,5}(x\d{1,5})?"
        r"(, mean [0-9. -]{1,60}, std [0-9. -]{1,60})?(, turned upright)?(, scaled decoding)?"
    ),
    "measured_at": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00",
}
#: Columns of numbers, and of true and false.
NUMBERS = (
    "value", "low", "high", "samples", "input_size", "batch_size", "threads", "streams", "arrival_rate",
    "beside", "exclusive",
)  # fmt: skip
#: Columns that are never copied.
NEVER = ("network_sha256", "dataset_sha256", "source", "convention", "disputed", "run")
#: A version as numbers, with at most the mark of a pre-release. A fourth number is dropped: four could be an
#: address.
VERSION = r"\d{1,8}(\.\d{1,8}){0,2}((a|b|rc)\d{1,3})?"
_VERSION = re.compile(rf"({VERSION})(?:[.+_-].*)?")
#: Whose versions are copied.
LIBRARIES = (
    "MNN", "ai-edge-litert", "cpython", "cuda", "cudnn", "executorch", "httptools", "grpcio",
    "intel-extension-for-pytorch", "litert-torch", "ncnn", "nncf", "numpy", "onnx", "onnxruntime",
    "onnxruntime-gpu", "onnxscript", "openvino", "pillow", "pnnx", "python", "scikit-learn", "scipy",
    "simplejpeg", "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "timm", "torch", "torchvision", "triton",
    "vertebra",
)  # fmt: skip
#: A library's graph, as rows name it.
GRAPH = rf"(timm|torchvision|vertebra) {VERSION}"
_GRAPH = re.compile(GRAPH)
#: The lists of raw samples.
SERIES = (
    *metrics.METRICS, "latency.count", "latency.process", "latency.block", "latency.started", blocks.CANARY,
    blocks.HANDOVER, *(f"surroundings.{one.name}" for one in fields(blocks.Surroundings)), "idle.cpu",
    "harness.cpu", "seed", "request_latency", "request_latency.count", "request_latency.seed",
    "request_latency.rate", "lag", "lag.count", "calibration.right", "calibration.confidence",
    "calibration.steps",
)  # fmt: skip
#: Of a grade's reasons: counts, as `spread.counted` reads them, and how many others there were.
REASON = (
    r"\d{1,6} processes"
    r"|(others took|other processes used) \d{1,3} % of the processors( in \d{1,6} of \d{1,6} blocks)?"
    r"|\d{1,6} reasons in words are left out|joined from \d{1,7} shares"
)
_REASON = re.compile(REASON)

#: What processors, cards and systems are called, in small letters.
_HARDWARE = """
    intel r tm c core ultra xeon platinum gold silver bronze pentium celeron atom processor cpu family
    model amd ryzen epyc threadripper pro athlon opteron phenom geode max apple virtual version arm
    armv8 armv7 cortex neoverse raspberry pi compute module zero plus rev ampere altra graviton aws
    nvidia tegra jetson orin xavier nano nx agx grace hopper thunderx cavium kunpeng hisilicon kirin
    qualcomm oryon snapdragon elite samsung exynos mediatek dimensity rockchip allwinner amlogic
    broadcom texas instruments ibm power risc v sifive loongson common kvm qemu microsoft geforce rtx
    gtx ti super tesla quadro radeon instinct arc iris xe uhd hd graphics tensor laptop gpu d with w ai
    hx hs mobile pcie sxm hbm nvl gb ghz mhz generation gen th edition data center nvlink titan mig
    unknown
"""
_SYSTEMS = """
    debian gnu linux ubuntu lts fedora centos stream rhel red hat enterprise alma almalinux rocky arch
    manjaro opensuse leap tumbleweed suse server sles amazon oracle alpine nixos gentoo mint pop os
    macos windows raspbian android darwin void kali freebsd container optimized mariner azure
    workstation desktop core v bookworm trixie bullseye buster sid forky jammy noble focal bionic
    sequoia
"""
#: The number of a model: i7-8550U, E5-2690, 9R14, H100, 80GB, v4.
_MODEL = re.compile(r"[A-Za-z]{0,3}\d{1,5}(?:\.\d{1,3})?[A-Za-z]{0,3}(?:\d{1,2}[A-Za-z]?)?")
_RELEASE = re.compile(r"\d{1,5}(\.\d{1,5}){0,2}")
_LETTER = re.compile(r"[A-Za-z]")
_PART = re.compile(r"[^\s()@,/_+®™-]+")
_ARCHITECTURES = (
    "x86_64", "amd64", "i386", "i686", "aarch64", "arm64", "armv6l", "armv7l", "armv8l", "riscv64", "ppc64le",
    "s390x", "loongarch64",
)  # fmt: skip
_VIRTUAL = ("wsl", "virtual machine", "container")
_PYTHON = re.compile(rf"(CPython|PyPy|GraalVM) {VERSION}")
_KERNEL = re.compile(r"(?:(Linux|Darwin|Windows) )?(\d{1,5}\.\d{1,5}|\d{1,5})")
_DRIVER = re.compile(r"\d{1,5}(\.\d{1,5}){0,2}")

#: Each column's shape, compiled.
_SHAPES = {name: re.compile(shape) for name, shape in SHAPES.items()}
#: Every column of a submitted row; the rest is never copied.
COLUMNS = tuple(name for name in KINDS if name not in NEVER)


def row(one: Measurement, machines: Mapping[str, str], shortened: Counter[str]) -> Measurement | str:
    """The row as others may see it, or why it is left out. `machines` has the public id of each machine;
    what was taken out of the row is counted in `shortened`."""
    if why := _refused(one):
        return why
    if one.system is not None and one.system not in machines:
        return "of a machine that the table doesn't describe"
    for name in (*WORDS, "split", "protocol"):
        value = getattr(one, name)
        if value is not None and not _is_allowed(name, value):
            return f"with a {name} that isn't one of the known"
    record = {name: getattr(one, name) for name in ("model", "metric", "weights", *WORDS, *SHAPES, *NUMBERS)}
    record |= {
        "measured_at": _moment(one.measured_at),
        "system": None if one.system is None else machines[one.system],
        "versions": _versions(one, shortened),
        "grade_reasons": _reasons(one, shortened),
    }
    return row_of({name: value for name, value in record.items() if value is not None})


def strange(record: Mapping[str, Any]) -> str | None:
    """What in a record isn't of these lists and shapes, in words; None where all is."""
    for name, value in record.items():
        if name in NEVER or name not in KINDS:
            return f"{name} isn't a column that a submission has"
        if name in (*WORDS, *SHAPES) and not _is_allowed(name, value):
            return f"{name} isn't one of the known"
    if record.get("model") not in shipped.counts():
        return "its network isn't of the catalogue"
    if not is_published(record.get("weights")):
        return "its weights aren't published"
    if not all(is_version(name, version) for name, version in record.get("versions", {}).items()):
        return "a version isn't one of the known libraries"
    if not all(map(_REASON.fullmatch, record.get("grade_reasons", ()))):
        return "a reason of its grade is in words"
    return None


def is_published(weights: Any) -> bool:
    """Whether weights are known by their name, or the network is untrained."""
    return weights in (None, "untrained") or weights in licences()


def is_version(name: str, version: str) -> bool:
    """Whether a library is known and its version a version."""
    if name == "graph":
        return _GRAPH.fullmatch(version) is not None
    return name in LIBRARIES and re.fullmatch(VERSION, version) is not None


def _refused(one: Measurement) -> str | None:
    if one.origin not in ORIGINS or one.metric == "failure":
        return "not measured here, or a failure"
    is_rounded = one.precision is not None and one.precision.startswith("int8")
    if one.model not in shipped.counts() or (one.network_sha256 and not is_rounded):
        return "of a network that isn't of the catalogue"
    if not is_published(one.weights):
        return "of weights that aren't published"
    if one.dataset not in (None, *WORDS["dataset"]) or one.metric == "probe_top1":
        return "on other pictures than ImageNet's"
    if one.convention or one.disputed or one.source:
        return "with a source in words"
    return None


def _is_allowed(name: str, value: Any) -> bool:
    if name in WORDS:
        return value in WORDS[name]
    return isinstance(value, str) and _SHAPES[name].fullmatch(value) is not None


def _moment(text: str | None) -> str | None:
    """The time in UTC, to the second."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    known = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return known.astimezone(UTC).replace(microsecond=0).isoformat()


def _versions(one: Measurement, shortened: Counter[str]) -> dict[str, str]:
    found = {}
    for name, version in one.versions.items():
        read = _VERSION.fullmatch(version)
        short = version if name == "graph" else read[1] if read else ""
        if not is_version(name, short):
            shortened["versions of libraries that aren't known"] += 1
            continue
        shortened["ends of versions"] += short != version
        found[name] = short
    return found


def _reasons(one: Measurement, shortened: Counter[str]) -> tuple[str, ...]:
    """Of a grade's reasons those that are counts; that there were others is said."""
    kept = [
        reason if _REASON.fullmatch(reason) else spread.counted(reason) for reason in one.grade_reasons
    ]  # fmt: skip
    known = tuple(reason for reason in kept if reason is not None and _REASON.fullmatch(reason))
    rest = len(kept) - len(known)
    shortened["reasons of grades in words"] += sum(
        reason != short for reason, short in zip(one.grade_reasons, kept, strict=True)
    )
    return (*known, f"{rest} reasons in words are left out") if rest else known


# ------------------------------------------------------------------ machines


def machine(
    told: Mapping[str, Any], private: Iterable[str], shortened: Counter[str]
) -> dict[str, Any] | None:
    """A machine's description without words that no maker or publisher is known to use, under the id that it
    has then; None where it isn't a description. A word of `private` is left out even if it looks like the
    number of a model."""
    from vertebra.machine.system import System

    try:
        one = System.from_dict(told).to_dict()
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    names = frozenset(name.lower() for name in private)
    hardware = frozenset(_HARDWARE.split())

    def words(text: Any, known: frozenset[str], number: re.Pattern[str] = _MODEL) -> str | None:
        return _words(text, known, number, names, shortened) if isinstance(text, str) else None

    plain = {
        **one,
        "cpu": words(one["cpu"], hardware) or None,
        "os": words(one["os"], hardware | frozenset(_SYSTEMS.split()), _RELEASE) or "",
        "architecture": one["architecture"] if one["architecture"] in _ARCHITECTURES else "",
        "features": [name for name in one["features"] if name in FEATURES.values()],
        "gpus": [
            {
                **gpu,
                "name": words(gpu["name"], hardware) or "",
                "driver": _first(_DRIVER, gpu["driver"]) or None,
            }
            for gpu in one["gpus"]
        ],
        "kernel": _first(_KERNEL, one["kernel"]),
        "python": _first(_PYTHON, one["python"]),
        "virtual": ", ".join(sign for sign in _VIRTUAL if sign in str(one["virtual"]).split(", ")) or None,
    }
    if not all(_is_number(plain[name]) for name in _NUMBERS_OF_A_MACHINE):
        return None
    return System.from_dict(plain).to_dict()


_NUMBERS_OF_A_MACHINE = ("physical_cores", "logical_cores", "usable_cores", "core_quota", "memory_bytes")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _first(shape: re.Pattern[str], text: Any) -> str:
    """What the text begins with, of this shape; nothing where it begins otherwise."""
    found = shape.match(text) if isinstance(text, str) else None
    return "" if found is None else found[0]


def _words(
    text: str,
    known: frozenset[str],
    number: re.Pattern[str],
    private: frozenset[str],
    shortened: Counter[str],
) -> str:
    """The text without its unknown words, as it stands where it has none."""
    found = _PART.findall(text)
    bad = [
        part for part in found
        if part.lower() not in known and not _LETTER.fullmatch(part)
        and (not number.fullmatch(part) or part.lower() in private)
    ]  # fmt: skip
    marks = re.sub(r"[\w. ()@,/+-]", "", text, flags=re.ASCII)
    if not bad and not marks:
        return text
    shortened["words of a machine's description"] += max(1, len(bad))
    return " ".join(part for part in found if part not in bad and part.isascii())
