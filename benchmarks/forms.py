"""Compare each network's fastest form on this machine with other tools (peers), run as their users run them.

    python benchmarks/forms.py --folder DIR [--prepare] [--networks a,b] [--batch 1,4] [--seconds 40]
                               [--processes 1] [--forms openvino,ncnn,...] [--paddle PYTHON] [--csv FILE]
    python benchmarks/forms.py --table FILE      print the tables of docs/fastest.md from such a file

Peers: PyTorch eager and torch.compile, a plain loop around ONNX Runtime and one around OpenVINO (its shape
fixed, f32), and PaddleClas's own network on Paddle Inference with oneDNN, in the environment of the Python
given with --paddle (pip install paddlepaddle==3.3.1 paddleclas==2.6.0). Forms: our engines,
engine[:precision][@layout]; int8 needs --calibrate PICTURES. All have the same parameters, inputs and
threads, and each runs in its own process.

Each network's cases run short blocks of calls in turn, every round in a new order; after three rounds those
that can no longer win are left out. With --processes, fresh processes continue where the last ones ended.
A latency is the median of the blocks' medians, a ratio the median of the rounds' ratios, each with a 95 %
interval from resampling rounds; with one process it doesn't cover differences between processes. The form
chosen is the fastest in float32. --prepare makes the Bundles in DIR, compiles and checks the answers, and
measures nothing; both keep the files in DIR.

Goals in float32: no ratio to the best peer above 1, geometric mean at most 0.65 of PaddleClas at batch 1.
Exits with status 1 only if an answer is wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil

import vertebra
from vertebra import bundles, engines, parity, zoo
from vertebra.campaigns.diagnosis import arithmetic
from vertebra.engines import Subject
from vertebra.errors import VertebraError
from vertebra.exporting.process import Exporter
from vertebra.machine import system
from vertebra.measurements import shipped
from vertebra.measuring.benchmarking import surroundings
from vertebra.reading import roofline
from vertebra.zoo import CLASSICS

PEERS = ("torch", "torch.compile", "onnxruntime", "openvino")
PADDLE = "PaddleClas"
FORMS = ("onnxruntime", "openvino", "ncnn", "mnn", "aotinductor", "compile", "eager")
ALL_ROUNDS, HOPELESS, BLOCK_S, RESAMPLES = 3, 1.3, 0.3, 2000
LOAD_S, CALL_S, NO_SUCH = 900.0, 120.0, 4
WORKER, PADDLE_WORKER = (Path(__file__).with_name(f"{name}_worker.py") for name in ("form", "paddle"))


@dataclass
class Case:
    """A peer or one of our forms, its process, and the seconds of each round's block."""

    name: str
    ours: bool
    command: list[str]
    precision: str = "float32"
    child: subprocess.Popen | None = None
    about: dict = field(default_factory=dict)
    blocks: dict[int, list[float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{'ours' if self.ours else 'peer'} {self.name}"

    @property
    def latency_s(self) -> float:
        return median(map(median, self.blocks.values()))

    def start(self, environment: dict[str, str], log: Path) -> None:
        pipe = subprocess.PIPE
        with log.open("ab") as talk:
            self.child = subprocess.Popen(
                self.command, stdin=pipe, stdout=pipe, stderr=talk, text=True, bufsize=1, env=environment
            )

    def receive(self, timeout_s: float) -> object:
        """The next line. Raises EOFError if the process ends, or sends nothing for `timeout_s`."""
        timer = threading.Timer(timeout_s, self.child.kill)
        timer.start()
        line = self.child.stdout.readline()
        timer.cancel()
        if not line:
            raise EOFError(f"ended with {self.child.wait()}, see the log")
        return json.loads(line)

    def ask(self, request: str, timeout_s: float = CALL_S) -> object:
        print(request, file=self.child.stdin, flush=True)
        return self.receive(timeout_s)

    def end(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None


# ------------------------------------------------------------------ what the cases need


def form_of(text: str) -> tuple[str, str, str | None]:
    """Engine, precision and layout of `engine[:precision][@layout]`."""
    rest, _, layout = text.partition("@")
    engine, _, precision = rest.partition(":")
    return engine, precision or "float32", layout or None


def bundle_of(network: str, form: str, options: argparse.Namespace) -> Path:
    """The Bundle that the form opens, made if it is missing. Raises VertebraError."""
    engine, precision, _ = form_of(form)
    if precision == "float32" and "onnx" in engines.find(engine).formats:
        engine = "onnxruntime"
    folder = options.folder / network / f"{engine}-{precision}"
    if folder.is_dir():
        return folder
    if precision == "int8":
        made = {"engine": engine, "precision": precision, "calibrate": options.calibrate}
        vertebra.export(network, folder, untrained=True, **made)
        return folder
    untrained = Subject(network, builder="vertebra.zoo:build", arguments={"name": network, "seed": 0})
    size = zoo.find(network).input_size
    with Exporter() as exporter:
        exporter.export(untrained, folder, input_size=size, engine=engine, precision=precision)
    return folder


def paddle_model(network: str, options: argparse.Namespace) -> Path | None:
    """The folder of PaddleClas's network with our parameters; None if that package doesn't have it."""
    from vertebra.zoo import paddle

    folder = options.folder / network / "paddle"
    if (folder / "inference.pdiparams").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    model, weights = zoo.find(network), folder / "weights.npz"
    if network not in paddle.TABLES:
        return None
    state = zoo.build(network, seed=0).state_dict()
    ours = {entry: state[entry.ours].numpy() / entry.factor for entry in paddle.TABLES[network]()}
    np.savez(weights, **{one.theirs: values.T if one.transpose else values for one, values in ours.items()})
    command = [
        options.paddle,
        str(PADDLE_WORKER),
        "make",
        model.aliases[0],
        str(weights),
        str(model.input_size),
    ]
    with (folder / "make.log").open("w") as log:
        done = subprocess.run([*command, str(folder)], stdout=log, stderr=log)
    weights.unlink()
    if done.returncode not in (0, NO_SUCH):
        print(f"  no {PADDLE}: making its network failed, see {folder / 'make.log'}")
    return None if done.returncode else folder


def cases_of(network: str, batch: int, options: argparse.Namespace) -> tuple[list[Case], np.ndarray]:
    """The cases that can run, and the right answers. Prints a line for each case that can't run."""
    kept = bundles.read(bundle_of(network, "onnxruntime", options), verify=False)
    images, logits = kept.reference_pair(batch)
    file = options.folder / network / f"images-{batch}.npy"
    np.save(file, images)
    shared = {"network": network, "images": str(file), "threads": options.threads, "onnx": str(kept.network)}

    def command(**job: object) -> list[str]:
        return [sys.executable, str(WORKER), json.dumps(shared | job)]

    found = [Case(name, False, command(kind=name)) for name in options.peers]
    folder = paddle_model(network, options) if options.paddle else None
    if folder is not None:
        run = [options.paddle, str(PADDLE_WORKER), "run", str(folder), str(file), str(options.threads)]
        found.append(Case(PADDLE, False, run))
    for form in options.forms:
        engine, precision, layout = form_of(form)
        settings = dict(batch_size=batch, input_size=kept.input_size, precision=precision,
                        threads=options.threads, layout=layout)  # fmt: skip
        subject = {"model": network}
        try:
            if engines.find(engines.require(engine)).reads == "bundle":
                subject |= {"bundle": str(bundle_of(network, form, options))}
            else:
                subject |= {"builder": "vertebra.zoo:build", "arguments": {"name": network, "seed": 0}}
        except VertebraError as error:
            print(f"  no {form}: {error}")
            continue
        call = command(kind="ours", engine=engine, subject=subject, settings=settings)
        found.append(Case(form, True, call, precision))
    return found, logits


# ------------------------------------------------------------------ measuring


class Bench:
    """The cases of one network at one batch size, all loaded if memory allows."""

    def __init__(self, network: str, batch: int, options: argparse.Namespace) -> None:
        self.network, self.batch, self.options, self.wrong = network, batch, options, []
        self.cases, self._logits = cases_of(network, batch, options)
        self._need = 2**29 + 8 * shipped.totals(network)["params"]
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads),
                             "TORCHINDUCTOR_CACHE_DIR": str(options.folder / "inductor")}  # fmt: skip

    def load(self) -> None:
        """Start as many as fit in memory, all at once; then check each one's answers."""
        room = psutil.virtual_memory().available
        cases = self._rivals() if any(case.blocks for case in self.cases) else list(self.cases)
        for number, case in enumerate(cases, start=1):
            if number * self._need < room:
                self._start(case)
        for case in cases:
            self._try(case, lambda case=case: self._check(case))

    def _try(self, case: Case, act: Callable[[], None]) -> None:
        """Call `act`, and drop the case if its process ends or answers wrongly."""
        try:
            act()
        except (EOFError, BrokenPipeError) as error:
            print(f"  no {case.label}: {error or 'ended'}")
            self.cases.remove(case)
            case.end()

    def _start(self, case: Case) -> None:
        case.start(self._environment, self.options.folder / self.network / "workers.log")

    def _check(self, case: Case) -> None:
        """Load the case and compare its answers; if memory is short, the slowest other cases are ended."""
        if case.child is None:
            others = [other for other in self.cases if other.child is not None]
            for other in sorted(others, key=lambda one: one.latency_s if one.blocks else 0.0, reverse=True):
                if psutil.virtual_memory().available < self._need:
                    other.end()
            self._start(case)
        case.about = case.receive(LOAD_S)
        file = self.options.folder / self.network / "answers.npy"
        case.ask(f"answers {file}", LOAD_S)  # the first call may compile
        try:
            parity.check_outputs(self._logits, np.load(file), case.precision)
        except VertebraError as error:
            self.wrong.append(case.label)
            raise EOFError(error.message) from error
        case.ask("block 1")  # warm

    def measure(self) -> None:
        number = first = 1 + max((one for case in self.cases for one in case.blocks), default=-1)
        draw, start = random.Random(self.options.seed + first), time.monotonic()
        before = surroundings.snapshot(self._pids())
        while number < ALL_ROUNDS or time.monotonic() - start < self.options.seconds / self.options.processes:
            cases = self.cases if number < ALL_ROUNDS else self._rivals()
            for case in draw.sample(cases, len(cases)):
                self._try(case, lambda case=case, number=number: self._block(case, number))
            number += 1
        around = surroundings.between(before, surroundings.snapshot(self._pids()))
        rounds = f"{number - first} rounds"
        print(f"  {rounds}; other processes {around.others_cpu or 0:.1%}, steal {around.steal or 0:.1%}")

    def _pids(self) -> list[int]:
        return [case.child.pid for case in self.cases if case.child]

    def _block(self, case: Case, number: int) -> None:
        if case.child is None:
            self._check(case)
        case.blocks[number] = case.ask(f"block {BLOCK_S}")

    def _rivals(self) -> list[Case]:
        """Those that may still be the fastest of their side, the one that all are compared with, and reduced
        precisions."""
        full = [case for case in self.cases if case.precision == "float32"]
        lost = []
        for case in full:
            best = min(other.latency_s for other in full if other.ours == case.ours)
            if case.latency_s > HOPELESS * best and case.name != PADDLE:
                lost.append(case)
        return [case for case in self.cases if case not in lost]

    def end(self) -> None:
        for case in self.cases:
            case.end()


# ------------------------------------------------------------------ results


def best_of(cases: list[Case]) -> tuple[list[Case], list[Case]]:
    """Our float32 forms and the peers, the fastest of each first."""
    full = sorted((one for one in cases if one.precision == "float32"), key=lambda one: one.latency_s)
    return [case for case in full if case.ours], [case for case in full if not case.ours]


def drawn(values: list[float]) -> np.ndarray:
    """Medians of the resampled values."""
    numbers, generator = np.asarray(values), np.random.default_rng(0)
    return np.median(numbers[generator.integers(len(numbers), size=(RESAMPLES, len(numbers)))], axis=1)


def interval(draws: np.ndarray) -> str:
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"[{low:.3f}, {high:.3f}]"


def ratio(first: Case, second: Case) -> tuple[float, np.ndarray]:
    """Logarithm of the first's latency divided by the second's, over the rounds of both; and its draws."""
    both = sorted(first.blocks.keys() & second.blocks.keys())
    logs = [float(np.log(median(first.blocks[one]) / median(second.blocks[one]))) for one in both]
    return median(logs), drawn(logs)


def show(bench: Bench, roof: roofline.Roof, ratios: dict[str, list[tuple[float, np.ndarray]]]) -> None:
    """Print one network's cases and ratios, and keep the ratios."""
    for case in sorted(bench.cases, key=lambda one: one.latency_s):
        levels = interval(drawn([1e3 * median(times) for times in case.blocks.values()]))
        print(f"  {case.label:24}{1e3 * case.latency_s:10.3f} ms {levels:22}{len(case.blocks):4} rounds")
    ours, peers = best_of(bench.cases)
    if not ours or not peers:
        return
    compared = [("the best peer", ours[0], peers[0])]
    compared += [(PADDLE, ours[0], case) for case in peers if case.name == PADDLE]
    for case in bench.cases:
        if case.precision != "float32":
            same = [one for one in ours if one.name == form_of(case.name)[0] and case.precision != "int8"]
            compared.append((f"{case.name} to float32", case, (same or ours)[0]))
    for key, first, second in compared:
        found = ratio(first, second)
        ratios.setdefault(f"batch {bench.batch}, {key}", []).append(found)
        print(f"  {first.label} / {second.label}: {np.exp(found[0]):.3f} {interval(np.exp(found[1]))}")
    totals = shipped.totals(bench.network)
    work = roofline.Work(2 * totals["macs"], totals["params"], totals["activations"])
    share = roof.least_s(work, bench.batch) / ours[0].latency_s
    print(f"  {ours[0].label} reaches {share:.0%} of the roofline", flush=True)


def write(bench: Bench, file: Path) -> None:
    """Append a line for every block."""
    fresh = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        if fresh:
            lines.writerow(
                ("model", "batch_size", "side", "name", "version", "round", "latency_s", "samples")
            )
        for case in bench.cases:
            side, version = case.label.partition(" ")[0], case.about.get("version")
            for number, times in case.blocks.items():
                about = (bench.network, bench.batch, side, case.name, version)
                lines.writerow((*about, number, f"{median(times):.6g}", len(times)))


def kept(file: Path) -> dict[tuple[int, str], list[Case]]:
    """The cases in a file that `write` wrote, by batch size and network."""
    found: dict[tuple[int, str, str, str], Case] = {}
    with file.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            key = int(line["batch_size"]), line["model"], line["side"], line["name"]
            case = Case(line["name"], line["side"] == "ours", [], form_of(line["name"])[1])
            found.setdefault(key, case).blocks[int(line["round"])] = [float(line["latency_s"])]
    groups: dict[tuple[int, str], list[Case]] = {}
    for (batch, network, _, _), case in found.items():
        groups.setdefault((batch, network), []).append(case)
    return groups


def tables(file: Path) -> str:
    """Markdown: for each batch size a line for each network, with the geometric means of the ratios."""
    lines, last = [], None
    ratios: dict[str, list[tuple[float, np.ndarray]]] = {}
    for (batch, network), cases in sorted(kept(file).items(), key=lambda one: (one[0][0], order(one[0][1]))):
        if batch != last:
            lines += [f"\n| batch {batch} | form chosen | ms | best peer | ms | ratio | to {PADDLE} |",
                      "| --- | --- | ---: | --- | ---: | --- | --- |"]  # fmt: skip
            last = batch
        ours, peers = best_of(cases)
        to_peer = ratio(ours[0], peers[0])
        to_paddle = [ratio(ours[0], case) for case in peers if case.name == PADDLE]
        for key, several in [("the best peer", [to_peer]), (PADDLE, to_paddle)]:
            for one in several:
                ratios.setdefault(f"batch {batch}, {key}", []).append(one)
        cells = [cell for case in (ours[0], peers[0]) for cell in (case.name, f"{1e3 * case.latency_s:.2f}")]
        cells = [network, *cells, shown(to_peer), *map(shown, to_paddle or [None])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *means(ratios)])


def order(network: str) -> int:
    return CLASSICS.index(network) if network in CLASSICS else len(CLASSICS)


def shown(found: tuple[float, np.ndarray] | None) -> str:
    return "" if found is None else f"{np.exp(found[0]):.3f} {interval(np.exp(found[1]))}"


def means(ratios: dict[str, list[tuple[float, np.ndarray]]]) -> list[str]:
    """A line for each geometric mean over networks."""
    lines = []
    for key, several in ratios.items():
        draws = np.exp(np.mean([draw for _, draw in several], axis=0))
        mean = np.exp(np.mean([log for log, _ in several]))
        lines.append(f"geometric mean, {key}: {mean:.3f} {interval(draws)} over {len(several)} networks")
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    several = {"type": lambda text: tuple(filter(None, text.split(",")))}
    parser.add_argument("--folder", type=Path, default=Path("forms"))
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--networks", default=CLASSICS, **several)
    parser.add_argument("--batch", default=("1",), **several)
    parser.add_argument("--peers", default=PEERS, **several)
    parser.add_argument("--forms", default=FORMS, **several)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=system.default_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibrate")
    parser.add_argument("--paddle", default=os.environ.get("VERTEBRA_PADDLE_PYTHON"))
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--table", type=Path)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.table:
        print(tables(options.table))
        return 0
    options.folder = options.folder.resolve()
    here, rates = system.describe(), arithmetic.measure(options.threads, 0.2 if options.prepare else 2.0)
    roof = roofline.Roof(rates.operations_rate, rates.bandwidth)
    print(f"{here.id}, {here.cpu}, {options.threads} threads, vertebra {vertebra.__version__}; roofline "
          f"{roof.operations_rate / 1e9:.0f} GFLOP/s, {roof.bandwidth / 1e9:.1f} GB/s")  # fmt: skip
    wrong, ratios, versions = [], {}, {}
    for batch in map(int, options.batch):
        for network in options.networks:
            print(f"{network}, batch {batch}, {time.strftime('%H:%M:%S')}", flush=True)
            bench = Bench(network, batch, options)
            try:
                for _ in range(options.processes):
                    bench.load()
                    if not options.prepare:
                        bench.measure()
                    bench.end()
                if not options.prepare:
                    show(bench, roof, ratios)
            finally:
                bench.end()
            wrong += [f"{network}: {label}" for label in bench.wrong]
            versions |= {case.label: case.about.get("version") for case in bench.cases}
            if options.csv and not options.prepare:
                write(bench, options.csv)
    print("versions:", ", ".join(f"{label} {version}" for label, version in versions.items()))
    print("\n".join(means(ratios)))
    print("wrong answers:", "; ".join(wrong) or "none")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
