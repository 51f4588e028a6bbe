"""Compare an engine's bfloat16, int8 and int8-weights with its own float32.

    python benchmarks/reduced_forms.py [NETWORK ...] [--engine openvino] [--batch-size 1 4 8]

Each network (the eleven classics, if none is named) is exported in every precision, untrained, int8
calibrated on photographs: those in --pictures, or those in foolbox and Debian's mate-backgrounds. Then its
forms are measured in interleaved blocks. Prints the ratio of each one's latency to float32's, with the ratios
of the intervals' far ends, the guard's value (int8: dB of signal to noise; the others: output error), the
size of the files, and the share of the machine's roofline, if `vertebra doctor` has measured it; at the end
the geometric mean over the networks. A form that this processor doesn't support, or that its guard refuses,
is listed with the reason. Exits with status 1 only if a form's answers are wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean

import vertebra
from vertebra import bundles, metrics
from vertebra.bundles import Bundle
from vertebra.campaigns import cases
from vertebra.machine import system
from vertebra.measurements import Measurement
from vertebra.measuring import benchmarking
from vertebra.measuring.benchmarking import Limits, Result
from vertebra.reading import roofline
from vertebra.zoo import names

PRECISIONS = ("float32", "bfloat16", "int8", "int8-weights")
BACKGROUNDS = Path("/usr/share/backgrounds/mate")


def main() -> None:
    arguments = _arguments()
    failed = False
    ratios: dict[tuple[int, str], list[float]] = defaultdict(list)
    print(f"vertebra {vertebra.__version__}, {system.describe().id}, {arguments.engine}", flush=True)
    with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
        photographs = _photographs(arguments.pictures, Path(scratch) / "photographs")
        for name in arguments.networks or names.CLASSICS:
            forms = list(_forms(name, arguments.engine, photographs, Path(scratch)))
            for batch_size in arguments.batch_size:
                failed |= _compare(forms, batch_size, arguments, ratios)
            for form in forms:
                shutil.rmtree(form.folder)
    for (batch_size, precision), found in ratios.items():
        print(f"batch {batch_size}, {precision}: geometric mean {geometric_mean(found):.3f} of {len(found)}")
    sys.exit(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1])
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--seconds", type=float, default=24.0, help="time of each form, for all its processes together"
    )
    parser.add_argument("--processes", type=int, default=3)
    return parser.parse_args()


def _photographs(given: Path | None, folder: Path) -> Path:
    """The folder given, or one with the photographs in installed packages."""
    if given is not None:
        return given
    foolbox = importlib.util.find_spec("foolbox")
    places = foolbox.submodule_search_locations if foolbox is not None else None
    found = [] if not places else sorted(Path(places[0]).glob("data/imagenet_*.jpg"))
    found += sorted(BACKGROUNDS.rglob("*.jpg"))
    if not found:
        sys.exit("No photographs: pip install --no-deps foolbox, or pass a folder with --pictures.")
    folder.mkdir()
    for path in found:
        shutil.copy(path, folder)
    return folder


def _forms(name: str, engine: str, photographs: Path, scratch: Path) -> Iterator[Bundle]:
    """The network's Bundle in each precision; if there is none, the reason is printed."""
    for precision in PRECISIONS:
        folder = scratch / f"{name}-{precision}"
        command = [sys.executable, "-m", "vertebra", "export", name, "--untrained", "--output", str(folder)]
        command += ["--engine", engine, "--precision", precision]
        command += ["--calibrate", str(photographs)] if precision == "int8" else []
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            yield bundles.read(folder)
            continue
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        reason = next((line for line in lines if line.startswith("error: ")), lines[-1])
        print(f"{name:24}{precision:14}{reason.removeprefix('error: ')}", flush=True)


def _compare(
    forms: list[Bundle],
    batch_size: int,
    arguments: argparse.Namespace,
    ratios: dict[tuple[int, str], list[float]],
) -> bool:
    """Print a network's forms against its float32, and add their ratios; whether a form answered wrongly."""
    cases = [
        case
        for form in forms
        for case in cases.bundle_cases(form, [arguments.engine], batch_sizes=(batch_size,))
    ]
    limits = Limits(seconds=arguments.seconds, processes=arguments.processes)
    results = list(benchmarking.measure_all(cases, limits, system=system.describe().id))
    by_precision = {result.case.precision: result for result in results}
    plain = _latency(by_precision.get("float32"))
    for form in forms:
        result = by_precision[form.precision]
        latency = _latency(result)
        label = f"{form.model:24}{form.precision:14}batch {batch_size}  "
        if latency is None or plain is None:
            print(f"{label}{result.failure or 'nothing to compare with'}", flush=True)
            continue
        print(f"{label}{_compared(form, latency, plain)}", flush=True)
        ratios[batch_size, form.precision].append(latency.value / plain.value)
    return any((result.failure or "").startswith("Wrong outputs") for result in results)


def _latency(result: Result | None) -> Measurement | None:
    rows = [] if result is None else [row for row in result.rows if row.metric == "latency"]
    return rows[0] if rows else None


def _compared(form: Bundle, latency: Measurement, plain: Measurement) -> str:
    least = (latency.low or latency.value) / (plain.high or plain.value)
    most = (latency.high or latency.value) / (plain.low or plain.value)
    [share] = roofline.shares_of([latency], vertebra.Table(create=False).latest(model=metrics.MACHINE))
    return (
        f"{1e3 * latency.value:9.2f} ms  ratio {latency.value / plain.value:.3f} ({least:.3f} to "
        f"{most:.3f})  {_guard(form)}  {form.file_bytes / 1e6:.1f} MB  grade {latency.grade}"
        + ("" if share is None else f"  {share:.0%} of the roofline")
    )


def _guard(form: Bundle) -> str:
    record = form.quantisation or {}
    if record.get("value") is not None:
        kept = len(record["float32_layers"])
        return f"{record['value']:.1f} dB, {kept} of {record['layers']} layers in float32, by {record['by']}"
    return f"error {form.parity['output_error']:g}" if form.parity else "not compared"


if __name__ == "__main__":
    main()
