"""Compare the forms of a network on an NVIDIA card with PyTorch's eager mode in float32.

    python benchmarks/gpu_forms.py FILE [network ...] [--batch-size N ...] [--seconds S]

Measures the networks (resnet50_acnet_deploy and mobilenetv2_expanded if none is named) in eager, eager as a
CUDA graph, torch.compile, ONNX Runtime's two providers for cards and TensorRT, as far as they are installed:
each in its precisions, eager and compile in both layouts, at batch 1, 4, 8 and 256. Every answer is compared
with eager's in float32 on the processor before it is timed. Prints each form's latency and its ratio to
eager's at the same batch, and writes the rows to FILE (.csv, .json or .parquet; `vertebra cite` imports it).

Without a card it says so and measures nothing. Exits with status 1 only if a form's answers are wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import vertebra
from vertebra import engines
from vertebra.campaigns import campaign
from vertebra.campaigns import cases as campaign_cases
from vertebra.engines import EngineInfo
from vertebra.measurements import Measurement, Rows
from vertebra.measuring.benchmarking import Case

NETWORKS = ("resnet50_acnet_deploy", "mobilenetv2_expanded")
BATCH_SIZES = (1, 4, 8, 256)
FORMATS = (".csv", ".json", ".parquet")
#: The precisions of a provider; one that isn't named here has all of its engine's.
PRECISIONS = {
    "CUDAExecutionProvider": ("float32", "tf32"),
    "TensorrtExecutionProvider": ("float32", "float16"),
}

#: Engine, provider, layout and precision.
Form = tuple[str, str | None, str | None, str]
REFERENCE: Form = ("eager", None, "NCHW", "float32")


def why_not() -> str | None:
    """Why nothing can be measured here, or None."""
    if engines.missing("eager") is not None:
        return "PyTorch is not installed"
    import torch

    return None if torch.cuda.is_available() else "PyTorch finds no CUDA device"


def forms(infos: Iterable[EngineInfo]) -> list[Form]:
    """All forms of the engines that run on a card, eager's float32 first."""
    made = [
        (info.name, provider, layout, precision)
        for info in infos
        if "cuda" in info.devices
        for provider in _providers(info)
        for layout in (info.layouts if len(info.layouts) > 1 else (None,))
        for precision in PRECISIONS.get(provider or "", info.precisions)
        if not precision.startswith("int")
    ]
    return sorted(made, key=lambda form: form != REFERENCE)


def _providers(info: EngineInfo) -> list[str | None]:
    """The engine's providers on a card; None is its default one."""
    named = [provider for provider in info.providers if not provider.startswith("CPU")]
    return named if info.name == "onnxruntime" else [None, *named]


def cases(networks: Sequence[str], chosen: Sequence[Form], batch_sizes: Sequence[int]) -> list[Case]:
    """Every network in every form at every batch size."""
    plain = campaign_cases.cases(networks, ["eager"], batch_sizes=batch_sizes, device="cuda")
    return [
        replace(case, engine=engine, provider=provider, layout=layout, precision=precision)
        for case in plain
        for engine, provider, layout, precision in chosen
    ]


def lines(rows: Sequence[Measurement]) -> list[str]:
    """One line per form: its latency, the ratio to eager's in float32 at the same batch, and its grade."""
    printed = []
    latencies = {(row.model, row.batch_size, _form(row)): row for row in rows if row.metric == "latency"}
    for (model, batch_size, form), row in latencies.items():
        base = latencies.get((model, batch_size, REFERENCE))
        ratio = "     -" if base is None else f"{row.value / base.value:6.3f}"
        name = " ".join(part for part in form if part is not None)
        printed.append(f"{model:24}{batch_size:4}  {name:50}{1e3 * row.value:10.3f} ms {ratio} {row.grade}")
    failed = [row for row in rows if row.metric == "failure"]
    return printed + [f"{row.model:24}{row.batch_size:4}  {_name(row)}: {_reason(row)}" for row in failed]


def _form(row: Measurement) -> Form:
    return str(row.engine), row.provider, row.layout, str(row.precision)


def _name(row: Measurement) -> str:
    return " ".join(part for part in _form(row) if part is not None)


def _reason(row: Measurement) -> str:
    return "; ".join(row.grade_reasons)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batch-size", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    if asked.file.suffix not in FORMATS:
        parser.error(f"{asked.file} must end in one of {', '.join(FORMATS)}")
    reason = why_not()
    if reason is not None:
        print(f"{reason}: nothing was measured")
        return 0
    here = [engines.find(name) for name in engines.available()]
    wanted = cases(asked.networks, forms(here), asked.batch_size)
    with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
        limits = campaign.limits(len(wanted), seconds=asked.seconds)
        rows = campaign.measure(wanted, vertebra.Table(Path(scratch) / "table.sqlite"), limits=limits)
    Rows(rows).write(asked.file)
    print("\n".join(lines(rows)))
    return any("Wrong outputs" in _reason(row) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
