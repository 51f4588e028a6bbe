"""One case in its own process: `python -m vertebra.measuring.benchmarking.worker`, started by `child`.

It serves commands, one line of JSON each on stdin: `load` once, then `block` as often as needed, and
`check`. Between commands it sleeps in a read. Answers are lines of JSON, written to the original stdout.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vertebra import bundles, engines, parity
from vertebra.errors import InvalidInputError, VertebraError
from vertebra.machine import processes
from vertebra.measuring.benchmarking import memory
from vertebra.measuring.benchmarking.pattern import Pattern
from vertebra.measuring.benchmarking.plan import Case, Limits
from vertebra.measuring.benchmarking.timing import Clock, warm_up

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Send = Callable[..., None]

#: If a benchmark uses all memory, it should be killed before other programs.
_OOM_SCORE = "800"
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "bad allocation")
#: A process is quiet if it used less than this share of a core over this many seconds, this often in a row.
_QUIET_SHARE, _QUIET_S, _QUIET_LOOKS, _MOST_LOOKS = 0.05, 0.005, 3, 100
#: The fewest forward passes before the peak of memory is read.
_RUNS_FOR_MEMORY = 3


def main() -> NoReturn:
    """Serve until stdin ends. Nothing is cleaned up: the figures are sent, and runtimes may crash on exit."""
    channel = processes.answers()
    _be_expendable()

    def send(event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=channel, flush=True)

    try:
        server = Server(send)
        for line in sys.stdin:
            server.obey(json.loads(line))
    except BaseException as error:  # Anything that the runtime or the network raised is this case's result.
        send("failed", reason=_reason(error))
    os._exit(0)


def _be_expendable() -> None:
    """First in line when memory runs out, and no core file in the user's folder."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # Not Linux, or not allowed: then the kernel chooses.
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def be_quiet() -> None:
    """Wait until the runtime's threads have stopped spinning, half a second at most.

    A pool of threads spins for a while after its last work, to be ready for the next. That is the engine's
    own default and part of its latency, but it must be over before another process is measured.
    """
    quiet = 0
    for _ in range(_MOST_LOOKS):
        before = time.process_time()
        time.sleep(_QUIET_S)
        quiet = quiet + 1 if time.process_time() - before < _QUIET_SHARE * _QUIET_S else 0
        if quiet == _QUIET_LOOKS:
            return


class Server:
    """Runs one command after the other for the case given to `load`; `send` takes the answers.

    `clock` returns nanoseconds, `cpu_clock` those that this process spent on processors. Raises what the
    engine raises, and MeasurementError if outputs are wrong or the runtime doesn't do what was asked.
    """

    def __init__(
        self,
        send: Send,
        clock: Clock = time.perf_counter_ns,
        cpu_clock: Clock = time.process_time_ns,
        rest: Callable[[], None] = be_quiet,
    ) -> None:
        self._send, self._clock, self._cpu_clock, self._rest = send, clock, cpu_clock, rest
        self._marks = clock(), cpu_clock()

    def obey(self, request: dict[str, Any]) -> None:
        """Do what `request` asks. The answer includes what this process used while it was idle, and what the
        command took."""
        commands = {"load": self._load, "block": self._block, "check": self._check}
        woken = self._clock(), self._cpu_clock()
        idle = [now - mark for now, mark in zip(woken, self._marks, strict=True)]
        answer = commands[request["command"]](request)
        used_ns = self._cpu_clock() - woken[1]
        self._rest()
        self._send(**answer, idle_ns=idle, cpu_ns=used_ns)
        self._marks = self._clock(), self._cpu_clock()

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load, compare, warm up. Sends `loaded` after loading, and returns `ready`."""
        if request["engine"] is not None:
            info = _engine(request["engine"])
            engines.ENGINES[info.name] = info
        case, self._limits = Case.from_json(request["case"]), Limits.from_json(request["limits"])
        self._case = case
        _import_runtime(case.engine)
        self._meter = memory.Meter(case.device)
        self._meter.runtime()
        self._session, load_ns = _timed(
            partial(engines.load, case.engine, case.subject, case.settings), self._clock
        )
        self._meter.loaded()
        self._send("loaded")
        images, self._logits = _reference(case)
        calls = [partial(self._session.infer, self._session.prepare(images)) for _ in range(case.streams)]
        self._infer = calls[0]
        self._pattern = Pattern(
            case, self._limits, self._session, calls, self._clock, partial(self._send, "alive")
        )
        del images
        gc.collect()
        gc.disable()
        self._meter.ready()
        raw, first_ns = _timed(self._infer, self._clock)
        self._errors = [self._compare(raw)]
        for _ in range(_RUNS_FOR_MEMORY - 1):
            self._infer()
        warmed = warm_up(self._infer, self._limits, self._clock, most_s=request["warm_up_s"])
        return {
            "event": "ready",
            "load_ns": load_ns,
            "compile_s": self._session.compile_s,
            "first_ns": first_ns,
            "warm_up": asdict(warmed),
            "resident_bytes": memory.resident_bytes(),
            "file_bytes": _file_bytes(case),
        }

    def _block(self, request: dict[str, Any]) -> dict[str, Any]:
        """The results of one block of the case's load pattern."""
        return {"event": "block", "started_s": time.time(), **self._pattern.block(request)}

    def _check(self, request: dict[str, Any]) -> dict[str, Any]:
        """Memory's parts, and a second check of the outputs and of what the runtime really does."""
        parts = self._meter.ran(self._session.memory())
        self._errors.append(self._compare(self._infer()))
        effective = self._session.effective()
        engines.check_effective(self._case.engine, self._case.settings, effective)
        return {
            "event": "checked",
            "memory": parts.to_dict(),
            "output_error": None if self._logits is None else max(self._errors),
            "effective": effective,
        }

    def _compare(self, raw: Any) -> float:
        """The output error, or 0.0 without a reference; then only shape and finiteness are checked."""
        outputs = self._session.outputs(raw)
        if self._logits is not None:
            return parity.check_outputs(self._logits, outputs, self._case.precision)
        import numpy as np

        parity.output_error(np.zeros(self._case.settings.output_shape, dtype=np.float32), outputs)
        return 0.0


def _engine(values: dict[str, Any]) -> engines.EngineInfo:
    """The entry of the engines' table, from JSON, which has no tuples."""
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return engines.EngineInfo(**kept)


def _timed(call: Callable[[], Any], clock: Clock) -> tuple[Any, int]:
    start = clock()
    result = call()
    return result, clock() - start


def _import_runtime(engine: str) -> None:
    """Import the engine's and the harness's libraries, so that their memory is known separately from the
    network's."""
    info = engines.find(engine)
    if engines.missing(engine) is None:
        for name in ("numpy.random", *info.imports, info.module):
            importlib.import_module(name)


def _reference(case: Case) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Images (N, C, H, W), and the right logits (N, num_classes) for them, if known."""
    folder = case.reference or case.subject.bundle
    if folder is None:
        images = bundles.reference_images(
            batch_size=case.batch_size, in_channels=case.in_channels, input_size=case.input_size, seed=0
        )
        return images, None
    kept = bundles.read(folder, verify=False)
    for name in ("input_size", "in_channels", "num_classes"):
        if getattr(kept, name) != getattr(case, name):
            raise InvalidInputError(
                f"The reference in {folder} is for {name} {getattr(kept, name)}, not {getattr(case, name)}."
            )
    return kept.reference_pair(case.batch_size)


def _file_bytes(case: Case) -> int | None:
    folder = case.subject.bundle
    return None if folder is None else bundles.read(folder, verify=False).file_bytes


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        return f"out of memory: {text}" if text else "out of memory"
    if isinstance(error, VertebraError):
        return text if error.hint is None else f"{text} {error.hint}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
