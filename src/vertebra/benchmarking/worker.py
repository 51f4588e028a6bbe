"""One case in a process of its own: `python -m vertebra.benchmarking.worker`, started by `runner`.

The request comes as one line of JSON on stdin, which then stays open: when it ends, the parent is gone and
so is this process. Events go as lines of JSON through what was stdout; file descriptor 1 itself is pointed
at stderr first, so that a runtime that prints can't get between them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from vertebra import bundle, engines, parity
from vertebra.benchmarking import memory
from vertebra.benchmarking.plan import Case, Limits
from vertebra.benchmarking.timing import Clock, take_samples, warm_up
from vertebra.errors import InvalidInputError, VertebraError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Send = Callable[..., None]

#: Whoever else runs on the machine should outlive a benchmark that eats all memory.
_OOM_SCORE = "800"
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "bad allocation")


def main() -> NoReturn:
    """Serve one request and end. Nothing is torn down: the figures are sent, and runtimes may crash in it."""
    channel = _private_channel()
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _be_expendable()

    def send(event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=channel, flush=True)

    try:
        _serve(json.loads(line), send)
    except BaseException as error:  # Whatever the runtime or the network raised is this case's result.
        send("failed", reason=_reason(error))
    os._exit(0)


def _private_channel() -> TextIO:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _die_with_parent() -> NoReturn:
    """Sleep in a read that returns only when every copy of the pipe's other end is closed."""
    os.read(0, 1)
    os._exit(1)


def _be_expendable() -> None:
    """First in line when memory runs out, and no core file in the user's folder."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # Not Linux, or not allowed: then the kernel chooses by itself.
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def _serve(request: dict[str, Any], send: Send) -> None:
    if request["engine"] is not None:
        info = _engine(request["engine"])
        engines.ENGINES[info.name] = info
    measure(Case.from_json(request["case"]), Limits.from_json(request["limits"]), send)


def _engine(values: dict[str, Any]) -> engines.EngineInfo:
    """The entry of the engines' table that JSON has turned into a dictionary of lists."""
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return engines.EngineInfo(**kept)


def measure(case: Case, limits: Limits, send: Send, clock: Clock = time.perf_counter_ns) -> None:
    """Load, compare, warm up, time; `send` each stage's figures. `clock` returns nanoseconds.

    Events: `loaded`, `warmed`, `done`. Raises whatever the engine raises, and MeasurementError where the
    outputs are wrong or the runtime doesn't do what was asked.
    """
    _import_runtime(case.engine)
    baseline = memory.resident_bytes()
    session, load_ns = _timed(partial(engines.load, case.engine, case.subject, case.settings), clock)
    send("loaded")
    images, logits = _reference(case)
    infer = partial(session.infer, session.prepare(images))
    del images
    was_reset = memory.reset_peak()
    raw, first_ns = _timed(infer, clock)
    errors = [_check(session.outputs(raw), logits, case)]
    figures = _latencies(infer, limits, clock, send)
    peak = memory.peak_bytes()
    errors.append(_check(session.outputs(infer()), logits, case))
    effective = session.effective()
    engines.check_effective(case.engine, case.settings, effective)
    send(
        "done",
        **figures,
        load_ns=load_ns,
        first_ns=first_ns,
        memory={"baseline": baseline, "peak": peak, "was_reset": was_reset},
        output_error=None if logits is None else max(errors),
        effective=effective,
        file_bytes=_file_bytes(case),
    )


def _timed(call: Callable[[], Any], clock: Clock) -> tuple[Any, int]:
    start = clock()
    result = call()
    return result, clock() - start


def _latencies(infer: Callable[[], object], limits: Limits, clock: Clock, send: Send) -> dict[str, Any]:
    """Warm-up and samples, with the garbage collector held back."""
    gc.collect()
    gc.disable()
    try:
        warmed = warm_up(infer, limits, clock)
        send("warmed")
        seconds = max(0.0, limits.seconds - warmed.seconds)
        return {"warm_up": asdict(warmed), **asdict(take_samples(infer, limits, clock, seconds=seconds))}
    finally:
        gc.enable()


def _import_runtime(engine: str) -> None:
    """Import what the engine and the harness are made of, so that their memory is known apart from the
    network's."""
    info = engines.find(engine)
    if engines.missing(engine) is None:
        for name in ("numpy.random", *info.imports, info.module):
            importlib.import_module(name)


def _reference(case: Case) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Images (N, C, H, W), and the logits (N, num_classes) that are right for them where that is known."""
    folder = case.reference or case.subject.bundle
    if folder is None:
        images = bundle.reference_images(
            batch_size=case.batch_size, in_channels=case.in_channels, input_size=case.input_size, seed=0
        )
        return images, None
    kept = bundle.read(folder, verify=False)
    for name in ("input_size", "in_channels", "num_classes"):
        if getattr(kept, name) != getattr(case, name):
            raise InvalidInputError(
                f"The reference in {folder} is for {name} {getattr(kept, name)}, not {getattr(case, name)}."
            )
    return kept.reference_pair(case.batch_size)


def _check(outputs: npt.NDArray[np.float32], logits: npt.NDArray[np.float32] | None, case: Case) -> float:
    """The output error, or 0.0 without a reference; then only shape and finiteness are checked."""
    if logits is not None:
        return parity.check_outputs(logits, outputs, case.precision)
    import numpy as np

    parity.output_error(np.zeros(case.settings.output_shape, dtype=np.float32), outputs)
    return 0.0


def _file_bytes(case: Case) -> int | None:
    folder = case.subject.bundle
    return None if folder is None else bundle.read(folder, verify=False).file_bytes


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        return f"out of memory: {text}" if text else "out of memory"
    if isinstance(error, VertebraError):
        return text if error.hint is None else f"{text} {error.hint}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
