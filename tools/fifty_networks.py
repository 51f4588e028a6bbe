"""Export networks of timm drawn at random, and report which of them don't answer like eager, and why.

    python tools/fifty_networks.py --seed S [--count 50] [--engine onnxruntime --engine openvino]

Run it in a checkout with timm. The networks are drawn from those of timm that have counts in the package and
stay within the bounds below; they are untrained. Each is exported in its own process. Each result is a line
of JSON in `--out`, so that an interrupted run continues where it ended. Exits with status 1 if fewer than
nine tenths pass in every engine.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vertebra import bundles, engines
from vertebra.engines import Subject
from vertebra.errors import MeasurementError
from vertebra.exporting.process import Exporter
from vertebra.measurements import shipped
from vertebra.measurements.shipped import Count

ENGINES = ("onnxruntime", "openvino")
MAX_MACS = 10_000_000_000
MAX_NEED_BYTES = 2_000_000_000
PASS_SHARE = 0.9


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parsed(arguments)
    if given.memory_gb:  # inherited by every process that exports
        limit = int(given.memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    pool = candidates()
    drawn = given.network or draw(pool, given.count, given.seed)
    if unknown := [name for name in drawn if name not in pool]:
        sys.exit(f"Not among timm's networks within the bounds: {', '.join(unknown)}.")
    how = "named" if given.network else f"drawn with seed {given.seed}"
    out = given.out or Path(f"fifty_networks-{given.seed}.jsonl")
    seen = {(line["model"], line["engine"]): line for line in _read(out)}
    with out.open("a", encoding="utf-8") as kept:
        for name in drawn:
            wanted = [engine for engine in given.engine or ENGINES if (name, engine) not in seen]
            for line in outcomes(pool[name], wanted, given.minutes * 60) if wanted else ():
                seen[name, line["engine"]] = line
                print(json.dumps(line), file=kept, flush=True)
                print(outcome(line), file=sys.stderr)
    print(f"{len(pool)} of timm's networks need at most {MAX_MACS / 1e9:g} G MACs and ", end="")
    print(f"{MAX_NEED_BYTES / 1e9:g} GB; {len(drawn)} of them were {how}.")
    return summary([seen[name, engine] for name in drawn for engine in given.engine or ENGINES])


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", nargs="*", help="export these (timm:NAME) instead of drawing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument(
        "--engine", action="append", choices=engines.available(), help=f"[{' and '.join(ENGINES)}]"
    )
    parser.add_argument("--minutes", type=float, default=10, help="the most that one export may take")
    parser.add_argument(
        "--memory-gb", type=float, default=6, help="the most memory of one process; 0 for no limit"
    )
    parser.add_argument("--out", type=Path, help="file for the results [fifty_networks-SEED.jsonl]")
    return parser.parse_args(arguments)


def candidates() -> dict[str, Count]:
    """timm's networks within the bounds."""
    counts = (count for name, count in shipped.counts().items() if name.startswith("timm:"))
    return {one.model: one for one in counts if one.macs <= MAX_MACS and need_bytes(one) <= MAX_NEED_BYTES}


def need_bytes(count: Count) -> int:
    """The memory that exporting needs in addition to the libraries: the parameters four times (network,
    graph, file, engine) and the activations of two images twice."""
    return 4 * count.weight_bytes + 2 * 2 * 4 * count.activations


def draw(pool: Iterable[str], count: int, seed: int) -> list[str]:
    return random.Random(seed).sample(sorted(pool), count)


def outcomes(count: Count, wanted: Iterable[str], timeout_s: float) -> Iterator[dict[str, Any]]:
    """The result of each export, in the network's own process: the output error, or why it failed."""
    subject = Subject(count.model, builder="vertebra.zoo:build", arguments={"name": count.model, "seed": 0})
    with tempfile.TemporaryDirectory() as scratch, Exporter(timeout_s) as exporter:
        for engine in wanted:
            line: dict[str, Any] = {
                "model": count.model,
                "engine": engine,
                "version": engines.version(engine),
            }
            folder = Path(scratch) / engine
            start = time.monotonic()
            try:
                exporter.export(subject, folder, input_size=count.input_size, engine=engine)
            except MeasurementError as error:
                line["failure"] = error.message
            else:
                line |= bundles.read(folder).parity or {"failure": "no proof was stored"}
            yield line | {"input_size": count.input_size, "seconds": round(time.monotonic() - start, 1)}


def outcome(line: dict[str, Any]) -> str:
    result = line.get("failure") or f"error {line['output_error']:.1e}, limit {line['limit']:.0e}"
    return f"{line['model']} {line['engine']}: {result}"


def summary(lines: Sequence[dict[str, Any]]) -> int:
    """Print the failures and how many networks pass in every engine; returns the exit status."""
    every = {line["model"] for line in lines}
    failed = [line for line in lines if "failure" in line]
    passed = len(every) - len({line["model"] for line in failed})
    print(
        "\n".join(
            [f"failed: {outcome(line)}" for line in failed] + [f"{passed} of {len(every)} networks pass."]
        )
    )
    return 0 if passed >= PASS_SHARE * len(every) else 1


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
