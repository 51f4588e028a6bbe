"""An engine that answers rightly until it is told to fail; the fault is an argument of the subject.

The right answer for an image is a ramp over the classes, raised by the image's mean.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vertebra import bundles
from vertebra.engines import EngineInfo, Session, Settings, Subject
from vertebra.measuring.benchmarking import Case

INFO = EngineInfo(
    name="faulty",
    module="faulty_engine",
    imports=("numpy",),
    distributions=("numpy",),
    extra=None,
    reads="any",
    precisions=("float32",),
    devices=("cpu",),
    summary="Fails on request.",
)


def answer(images: np.ndarray[Any, Any], num_classes: int) -> np.ndarray[Any, Any]:
    ramp = np.arange(num_classes, dtype=np.float32)
    return ramp + images.mean(axis=(1, 2, 3), dtype=np.float64)[:, None].astype(np.float32)


def case_with(fault: str, reference: str | None = None, *, model: str = "m", **arguments: Any) -> Case:
    subject = Subject("m", builder="a:b", arguments={"fault": fault, **arguments})
    return Case(
        model=model, engine="faulty", subject=subject, input_size=8, batch_size=2, num_classes=10,
        reference=reference,
    )  # fmt: skip


def write_reference(folder: Path) -> str:
    """A Bundle whose network is nothing, and whose reference logits are the right answers."""
    images = bundles.reference_images(batch_size=2, in_channels=3, input_size=8, seed=5)
    kept = bundles.write(
        folder,
        lambda draft: (draft / "model.onnx").write_bytes(b"nothing") and None,
        model="m",
        logits=answer(images, 10),
        reference_seed=5,
        input_size=8,
        in_channels=3,
        versions={},
    )
    return str(kept.folder)


class FaultySession(Session):
    def __init__(self, settings: Settings, fault: str) -> None:
        self._settings, self._fault, self._calls = settings, fault, 0

    def prepare(self, images: Any) -> Any:
        return images

    def infer(self, prepared: Any) -> Any:
        self._calls += 1
        if self._fault in ON_INFER:
            ON_INFER[self._fault]()
        right = answer(prepared, self._settings.num_classes)
        return ANSWERS[self._fault](right, self._calls) if self._fault in ANSWERS else right

    def outputs(self, raw: Any) -> Any:
        return raw.copy()

    def effective(self) -> dict[str, Any]:
        threads = 7 if self._fault == "other threads" else self._settings.threads
        return {"threads": threads, "precision": "float32", "provider": "Faulty", "layout": "NCHW"}

    def close(self) -> None:
        """Nothing is held."""


def load(subject: Subject, settings: Settings) -> FaultySession:
    fault = subject.arguments["fault"]
    if fault in ON_LOAD:
        ON_LOAD[fault](subject.arguments.get("pid_file"))
    return FaultySession(settings, fault)


def _tell_pids(pid_file: str, *pids: int) -> None:
    draft = f"{pid_file}.draft"
    with open(draft, "w", encoding="ascii") as file:
        file.write(" ".join(map(str, pids)))
    os.replace(draft, pid_file)


def _leave_a_child(pid_file: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _tell_pids(pid_file, os.getpid(), child.pid)


def _hang(pid_file: str | None) -> None:
    if pid_file is not None:
        _tell_pids(pid_file, os.getpid())
    print("still waiting for the device", file=sys.stderr, flush=True)
    time.sleep(600)


def _leave_a_child_and_hang(pid_file: str) -> None:
    _leave_a_child(pid_file)
    time.sleep(600)


def _leave_a_thread_that_spins(_: Any) -> None:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()


def _no_memory(_: Any) -> None:
    raise MemoryError


def _no_memory_at_first(mark: str) -> None:
    if not os.path.exists(mark):
        _tell_pids(mark, os.getpid())
        raise MemoryError


def _no_memory_in_words(_: Any) -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")


def _eat_memory(_: Any) -> None:
    """Fill all that this process may have: half a gigabyte more than it has, so that the machine is safe."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + 500_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    eaten = []
    while True:
        eaten.append(np.ones(5_000_000))


def _exit(_: Any) -> None:
    print("giving up", file=sys.stderr, flush=True)
    os._exit(3)


def _print_garbage() -> None:
    os.write(1, b'{"event": "done"}\n\x00\xff garbage from a native library\n')
    print('{"event": "failed", "reason": "printed"}', flush=True)


def _flood() -> None:
    os.write(2, b"warning: something\n" * 2000)


def _segfault() -> None:
    print("about to touch address 0", file=sys.stderr, flush=True)
    ctypes.string_at(0)


ON_LOAD: dict[str, Callable[[Any], None]] = {
    "hang in load": _hang,
    "no memory": _no_memory,
    "no memory in words": _no_memory_in_words,
    "no memory at first": _no_memory_at_first,
    "eats memory": _eat_memory,
    "exit": _exit,
    "a child": _leave_a_child,
    "spins": _leave_a_thread_that_spins,
    "a child and a hang": _leave_a_child_and_hang,
}

ON_INFER: dict[str, Callable[[], None]] = {
    "segfault": _segfault,
    "abort": os.abort,
    "hang": lambda: time.sleep(600),
    "slow": lambda: time.sleep(0.002),
    "garbage": _print_garbage,
    "flood": _flood,
}

ANSWERS: dict[str, Callable[[Any, int], Any]] = {
    "nan": lambda logits, calls: np.full_like(logits, np.nan),
    "wrong": lambda logits, calls: logits[:, ::-1],
    "a little wrong": lambda logits, calls: logits * np.float32(1.01),
    "one image wrong": lambda logits, calls: np.concatenate([logits[:-1], logits[-1:, ::-1]]),
    "wrong later": lambda logits, calls: logits if calls < 20 else logits[:, ::-1],
    "another network's": lambda logits, calls: np.roll(logits, 1, axis=1),
    "half the batch": lambda logits, calls: logits[: len(logits) // 2],
}
