"""The processes that train together: how they meet, what they agree on, and what happens if one is gone.

Each process computes the gradient of its share of a step; the mean of all is what each then applies, so that
all have the same parameters at every step. Whatever isn't the same on all, running statistics of batch norms,
is averaged before an evaluation.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from vertebra.errors import InvalidInputError, MeasurementError, VertebraError

Value = TypeVar("Value")

#: Seconds after which a process that gives no sign of life counts as gone.
PATIENCE_S = 50.0
#: Seconds between two signs of life of a process that others wait for.
_BEAT_S = 1.0


@dataclass(frozen=True)
class Team:
    """This process among `world` others, counted from 0, and what it computes on."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files and prints."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums of `values` over all processes, in float64."""
        if self.world == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        with _together():
            distributed.all_reduce(summed)
        return [float(one) for one in summed.tolist()]

    def gather(self, value: Value) -> list[Value]:
        """Every process's value, in the order of the ranks."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        with _together():
            distributed.all_gather_object(found, value)
        return found

    def average(self, values: Sequence[Tensor]) -> None:
        """Replace each tensor of floating numbers by its mean over all processes, in place."""
        if self.world > 1:
            with _together():
                for value in values:
                    distributed.all_reduce(value)
                    value /= self.world

    def share(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are the mean over all processes after each `backward`."""
        if self.world == 1 or not any(one.requires_grad for one in network.parameters()):
            return network
        from torch.nn.parallel import DistributedDataParallel

        devices = None if self.device == "cpu" else [torch.device(self.device)]
        with _together():
            return DistributedDataParallel(network, device_ids=devices, **_own_buffers())

    def alone(self, work: Callable[[], Value]) -> Value:
        """What `work` gives on the first process, on all of them, however long it takes: the others wait as
        long as it gives signs of life. An error of the first is raised on all."""
        if self.world == 1:
            return work()
        return _first(work) if self.is_first else _others(self.rank)


def _own_buffers() -> dict[str, Any]:
    """How DistributedDataParallel leaves each process its own running statistics: parameters are the same on
    all anyway, and statistics are averaged where they are needed."""
    from torch.nn.parallel import DistributedDataParallel

    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return dict.fromkeys((name, "init_sync"), False)


@contextlib.contextmanager
def joined(device: str = "cpu") -> Iterator[Team]:
    """This process in the group that torchrun, or another launcher with its variables, started it in; alone
    without one. A group that exists already is used and not left.

    Raises InvalidInputError for variables that make no sense, and MeasurementError where a process doesn't
    come within a minute.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield Team(device=device)
        return
    rank = _number("RANK", -1)
    if not 0 <= rank < world:
        raise InvalidInputError(
            f"WORLD_SIZE is {world} and RANK {os.environ.get('RANK', 'not set')}; RANK must be from 0 to "
            f"{world - 1}.",
            "start it with torchrun, or unset WORLD_SIZE",
        )
    own = _device(device, _number("LOCAL_RANK", rank))
    if distributed.is_initialized():
        yield Team(rank, world, own)
        return
    _meet(world, own)
    try:
        yield Team(rank, world, own)
    finally:
        with contextlib.suppress(Exception):  # the others may be gone
            distributed.destroy_process_group()


def _meet(world: int, device: str) -> None:
    backend = "gloo" if device == "cpu" else "nccl"
    try:
        distributed.init_process_group(backend, timeout=timedelta(seconds=PATIENCE_S))
        distributed.barrier()
    except (RuntimeError, ValueError) as error:
        raise MeasurementError(
            f"The {world} processes of this run didn't meet within a minute: {_reason(error)}",
            "start all of them with torchrun, and see that MASTER_ADDR and MASTER_PORT are right",
        ) from error


def _device(device: str, local: int) -> str:
    if device != "cuda":
        return device
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return otherwise
    if not text.isdecimal():
        raise InvalidInputError(f"{name} is {text}; it must be a whole number.", "start it with torchrun")
    return int(text)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise gone(error) from error


def gone(error: BaseException) -> MeasurementError:
    """The error that another process of the run has ended or stopped."""
    return MeasurementError(
        f"Another process of this run has ended, or gave no sign of life for a minute: {_reason(error)}",
        "start all processes again with --resume: the run continues from its last checkpoint",
    )


def is_of_a_peer(error: BaseException) -> bool:
    """Whether torch raised this because another process is gone."""
    text = f"{type(error).__name__} {error}"
    signs = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "Gloo", "NCCL", "DistBackend",
             "DistNetwork", "Timed out", "timed out", "timeout")  # fmt: skip
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def _reason(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.rpartition("] ")[2].partition(". ")[0][:200].rstrip(".") + "."


# ------------------------------------------------------------------ work of the first process alone

_turns = iter(range(2**62))


def _store() -> Any:
    return distributed.distributed_c10d._get_default_store()


def _first(work: Callable[[], Value]) -> Value:
    store, key = _store(), f"vertebra-{next(_turns)}"
    done = threading.Event()

    def beat() -> None:
        with contextlib.suppress(Exception):  # a store that is gone shows in the work's end
            while not done.wait(_BEAT_S):
                store.add(f"{key}-beat", 1)

    store.add(f"{key}-beat", 1)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        value = work()
    except BaseException as error:
        told = error if isinstance(error, VertebraError) else MeasurementError(
            f"The first process of this run ended: {type(error).__name__}."
        )  # fmt: skip
        store.set(key, pickle.dumps((False, told)))
        raise
    finally:
        done.set()
        thread.join()
    store.set(key, pickle.dumps((True, value)))
    return value


def _others(rank: int) -> Any:
    store, key = _store(), f"vertebra-{next(_turns)}"
    seen, since = -1, time.monotonic()
    while True:
        with _together():
            if store.check([key]):
                is_done, value = pickle.loads(store.get(key))
                break
            beats = store.add(f"{key}-beat", 0)
        if beats != seen:
            seen, since = beats, time.monotonic()
        elif time.monotonic() - since > PATIENCE_S:
            raise gone(RuntimeError(f"process 0 is silent, seen from process {rank}"))
        time.sleep(0.05)
    if not is_done:
        raise value
    return value
