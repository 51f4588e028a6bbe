"""Is a network born from a graph that ships as good as one that torch exports now?

    python benchmarks/born_from_graph.py [--networks a,b] [--engines onnxruntime,openvino] [--seconds 6]
                                         [--processes 2]

Each network becomes two Bundles with the same drawn parameters: one filled from its graph, and one exported
from the eager network; all of them before anything is timed. On each engine both are measured side by side
in interleaved blocks of 0.1 s, for `--seconds` each, shared by `--processes`. Printed are the operators after
the engine's own optimisation (of ONNX Runtime and OpenVINO), the ratio of the latencies (graph over export:
the median of the ratios of blocks that were taken one after the other, with a 95 % interval from resampling)
and what memory differs by. The eight networks on both engines take about eight minutes on two quiet cores.

Goals: the same operators; an interval that includes 1 or lies within 0.97 to 1.03; weights, activations and
peak memory within 3 % or 2 MB. Exits with status 1 only if the operators or the answers differ.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from vertebra import bundles, engines, parity, zoo
from vertebra.engines import Settings, Subject
from vertebra.errors import MeasurementError
from vertebra.exporting.process import Exporter
from vertebra.machine import onnx_files, system
from vertebra.measurements import blocks
from vertebra.measuring.benchmarking import Case, Limits, Result, measure_all

NETWORKS = (
    "squeezenet1_1", "alexnet", "resnet50_acnet_deploy", "darknet53", "timm:resnet50", "timm:efficientnet_b0",
    "timm:vit_tiny_patch16_224", "timm:mobilenetv3_large_100",
)  # fmt: skip
MEMORY = ("memory_weights", "memory_activations", "memory_net")
_RESAMPLED = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--engines", default="onnxruntime,openvino")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    chosen = asked.engines.split(",")
    limits = limits_of(asked.seconds, asked.processes)
    same = True
    with tempfile.TemporaryDirectory() as scratch:
        made = all_born(asked.networks.split(","), chosen, Path(scratch))
        for (name, maker), pair in made.items():
            for engine in (one for one in chosen if maker_of(one) == maker):
                same &= compare(name, engine, pair, limits)
    return 0 if same else 1


def limits_of(seconds: float, processes: int) -> Limits:
    """So many seconds of blocks for each Bundle, whatever they show: both get as many blocks."""
    return Limits(
        processes=processes, seconds=seconds, half_width=1e-9, block_s=0.1, block_least=2, warm_up_most_s=1.0
    )  # fmt: skip


def maker_of(engine: str) -> str:
    """The engine whose Bundles it runs: ONNX Runtime's, if it can."""
    return "onnxruntime" if "onnx" in engines.find(engine).formats else engine


def all_born(
    names: Sequence[str], chosen: Sequence[str], scratch: Path
) -> dict[tuple[str, str], tuple[Path, Path]]:  # fmt: skip
    """The Bundles of each network, by the engine that they are made for."""
    made = {}
    with Exporter() as exporter:
        for name in names:
            for maker in dict.fromkeys(map(maker_of, chosen)):
                folder = scratch / maker / name.replace(":", "-")
                try:
                    made[name, maker] = born(name, exporter, folder, maker)
                except MeasurementError as error:  # the eager network's own export, most often
                    print(f"{name:28} {maker:12} not made: {error.message}")
    return made


def born(name: str, exporter: Exporter, folder: Path, engine: str) -> tuple[Path, Path]:
    """The engine's Bundles from the graph, and from an export of the eager network with the same
    parameters."""
    model = zoo.find(name)
    made = folder / "graph", folder / "export"
    plain = Subject(model.name, builder=zoo.BUILDER, arguments={"name": model.name})
    exporter.export(plain, made[0], input_size=model.input_size, engine=engine, drawn=True)
    eager = Subject(model.name, builder=zoo.BUILDER, arguments={"name": model.name, "drawn": True})
    exporter.export(eager, made[1], input_size=model.input_size, engine=engine)
    return made


def compare(name: str, engine: str, pair: tuple[Path, Path], limits: Limits) -> bool:
    """Print a line for the network on the engine; whether operators and answers are the same."""
    nodes = [operators(engine, folder) for folder in pair]
    alike = nodes[0] == nodes[1] and answers_agree(engine, pair)
    cases = [case_of(name, engine, folder) for folder in pair]
    results = list(measure_all(cases, limits, system=system.describe().id))
    results.sort(key=lambda one: [case.subject for case in cases].index(one.case.subject))
    counted = f"{nodes[0].total() or 'unknown'} operators" + (
        "" if nodes[0] == nodes[1] else f", not {nodes[1].total()}"
    )
    if nodes[0] != nodes[1]:
        print(
            "  only from the graph:", dict(nodes[0] - nodes[1]), "only exported:", dict(nodes[1] - nodes[0])
        )
    failure = next((one.failure for one in results if one.failure), None)
    if failure:
        print(f"{name:28} {engine:12} {counted}; not measured: {failure}")
        return alike
    middle, low, high = ratio(*results)
    held = "" if low <= 1 <= high or (low >= 0.97 and high <= 1.03) else "  <- beyond the goal"
    memory = ", ".join(differences(*results))
    print(
        f"{name:28} {engine:12} {counted}; latency x{middle:.3f} [{low:.3f}, {high:.3f}]{held}; {memory}",
        flush=True,
    )
    return alike


def case_of(name: str, engine: str, folder: Path) -> Case:
    kept = bundles.read(folder, verify=False)
    return Case(
        model=name, engine=engine, subject=Subject(name, bundle=str(folder)), input_size=kept.input_size,
        threads=system.default_threads(),
    )  # fmt: skip


def operators(engine: str, folder: Path) -> Counter[str]:
    """How many of each kind ONNX Runtime or OpenVINO runs after its own optimisation."""
    if engine not in ("onnxruntime", "openvino"):
        return Counter()
    kept = bundles.read(folder, verify=False)
    if engine == "onnxruntime":
        import onnxruntime

        with tempfile.TemporaryDirectory() as scratch:
            options = onnxruntime.SessionOptions()
            options.optimized_model_filepath = str(Path(scratch) / "optimised.onnx")
            options.log_severity_level = 3
            onnxruntime.InferenceSession(str(kept.network), options, providers=["CPUExecutionProvider"])
            return Counter(node.kind for node in onnx_files.read(Path(scratch) / "optimised.onnx").nodes)
    import openvino

    core = openvino.Core()
    model = core.read_model(kept.network)
    model.reshape(openvino.PartialShape([1, 3, kept.input_size, kept.input_size]))
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", hints)
    return Counter(
        str(node.get_rt_info()["layerType"].value) for node in compiled.get_runtime_model().get_ops()
    )


def answers_agree(engine: str, pair: tuple[Path, Path]) -> bool:
    """Whether the engine gives both Bundles' reference logits for both, and these are alike."""
    kept = [bundles.read(folder, verify=False) for folder in pair]
    images, logits = kept[1].reference_pair(2)
    settings = Settings(batch_size=2, input_size=kept[0].input_size, threads=system.default_threads())
    for one in kept:
        session = engines.load(engine, Subject(one.model, bundle=str(one.folder)), settings)
        try:
            parity.check_outputs(logits, session.run(images))
            parity.check_outputs(logits, one.reference_pair(2)[1])
        except MeasurementError as error:
            print(f"{one.folder.name} of {one.model} on {engine}: {error.message}", file=sys.stderr)
            return False
        finally:
            session.close()
    return True


def ratio(graph: Result, export: Result) -> tuple[float, float, float]:
    """The median of the ratios of neighbouring blocks, with a 95 % interval."""
    taken = [sorted(blocks.unpack(one.samples), key=lambda block: block.order) for one in (graph, export)]
    pairs = [median(mine.latencies) / median(other.latencies) for mine, other in zip(*taken, strict=False)]
    draw = random.Random(0)
    medians = sorted(median(draw.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLED))
    return median(pairs), medians[int(0.025 * _RESAMPLED)], medians[int(0.975 * _RESAMPLED)]


def differences(graph: Result, export: Result) -> list[str]:
    """What memory differs by, with a mark where that is more than 3 % and 2 MB."""
    values: list[dict[str, Any]] = [{row.metric: row.value for row in one.rows} for one in (graph, export)]
    told = []
    for metric in MEMORY:
        if all(metric in one for one in values):
            gap = values[0][metric] - values[1][metric]
            mark = " <- beyond the goal" if abs(gap) > max(2e6, 0.03 * values[1][metric]) else ""
            told.append(f"{metric.removeprefix('memory_')} {gap / 1e6:+.1f} MB{mark}")
    return told


if __name__ == "__main__":
    raise SystemExit(main())
