"""`train` with `on`: the processes of a training on the nodes of a Ray cluster, through Ray Train.

Each process calls `vertebra.train`, as it does under torchrun: Ray Train gives them the same variables. What
the first one tells comes back. Where a node dies, all begin again from the run's last checkpoint.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra._version import __version__
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.machine import cluster, system
from vertebra.measurements import Table, display
from vertebra.progress import Listener, Progress, beating, silent

if TYPE_CHECKING:
    from vertebra.reading.reports.trained import Trained

_RETRIES = 5


def train(
    verb: Callable[..., Trained],
    arguments: Mapping[str, Any],
    *,
    on: str,
    processes: int | None,
    table: Table,
    progress: Listener | None,
) -> Trained:
    """As `vertebra.train`, which is the `verb`, with the `arguments`, in `processes` on the cluster.

    Raises InvalidInputError where the cluster doesn't answer or has no room, what the training raises, and
    MeasurementError where nodes keep dying.
    """
    cluster.checked(on)
    cluster.require("train")
    with cluster.connected(on, "train") as ray:
        counts = cluster.processors(ray)
        world, threads = _room(counts, processes, arguments["threads"])
        given = {"train": verb, "arguments": pickle.dumps({**arguments, "threads": threads})}
        each = f"{display.count(threads, 'thread')} each"
        event = Progress(
            f"training in {world} {'process' if world == 1 else 'processes'} ({each}) on the Ray cluster"
        )
        is_on_card = arguments["device"] == "cuda"
        with beating(progress or silent, event):
            done = _until_done(ray, given, is_on_card, world, threads)
    table.append(list(done.rows))
    return done


def _room(counts: list[int], processes: int | None, asked: int | None) -> tuple[int, int]:
    """How many processes, with how many threads each. Raises InvalidInputError where there is no room."""
    world = processes or max(1, len(counts))
    threads = asked or max(1, min([system.default_threads(), *counts, sum(counts) // world]))
    if sum(count // threads for count in counts) < world:
        told = ", ".join(map(str, counts)) or "none"
        raise InvalidInputError(
            f"The Ray cluster has no room for {world} x {display.count(threads, 'thread')}; its nodes have "
            f"these processors: {told}.",
            "pass fewer --processes or --threads",
        )
    return world, threads


def _until_done(ray: Any, given: Mapping[str, Any], is_on_card: bool, world: int, threads: int) -> Trained:
    for attempt in range(_RETRIES + 1):
        told = _once(ray, {**given, "attempt": attempt}, is_on_card, world, threads)
        if isinstance(told, VertebraError):
            raise told
        if not isinstance(told, Exception):
            return told
        if attempt == _RETRIES:
            raise MeasurementError(
                f"The Ray cluster gave the training up: {cluster.last_line(told)}.",
                "what was trained is in the run's folder: vertebra train --resume RUN",
            ) from told
    raise AssertionError


def _once(
    ray: Any, given: Mapping[str, Any], is_on_card: bool, world: int, threads: int
) -> Trained | Exception:
    """What the first process tells; or the error that ended the training, of ours if it is no loss of a
    node."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from vertebra.training import ranks

    storage = Path(tempfile.mkdtemp(prefix=".vertebra-ray-", dir=Path.cwd()))  # all nodes have this folder
    try:
        result = TorchTrainer(
            in_process,
            train_loop_config={
                **given, "folder": os.getcwd(), "version": __version__,
                "environment": os.environ.get("OMP_NUM_THREADS"),
            },
            scaling_config=ScalingConfig(
                num_workers=world, use_gpu=is_on_card, placement_strategy="SPREAD",
                resources_per_worker={"CPU": threads, **({"GPU": 1} if is_on_card else {})},
            ),
            torch_config=TorchConfig(
                backend="nccl" if is_on_card else "gloo", timeout_s=int(ranks.PATIENCE_S)
            ),
            run_config=RunConfig(
                name="run", storage_path=str(storage), failure_config=FailureConfig(max_failures=0)
            ),
        ).fit()  # fmt: skip
    except (ray.exceptions.RayError, TrainingFailedError) as error:
        lost: Exception = error
        failures = getattr(error, "worker_failures", {})
        found = [cluster.raised(failures[rank]) for rank in sorted(failures)]
        return next((one for one in found if one is not None and not _is_of_a_peer(one)), lost)
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    done: Trained = pickle.loads(result.return_value)
    return done


def _is_of_a_peer(error: VertebraError) -> bool:
    from vertebra.training import ranks

    start = ranks.gone(RuntimeError()).message.partition(",")[0]
    return error.message.startswith(start)


def in_process(config: Mapping[str, Any]) -> bytes:
    """One of the processes: `vertebra.train`, in the folder of the command."""
    cluster.threads_as(config["environment"])
    if config["version"] != __version__:
        raise InvalidInputError(
            f"A node of the Ray cluster has vertebra {__version__}; {config['version']} was started.",
            "install the same version on all nodes",
        )
    arguments = pickle.loads(config["arguments"])
    try:
        os.chdir(config["folder"])
    except OSError as error:
        raise InvalidInputError(
            f"A node of the Ray cluster doesn't have the folder {config['folder']}: {error.strerror}.",
            "start the training in a folder that all nodes have",
        ) from error
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(config["attempt"])  # as torchrun says it
    with tempfile.TemporaryDirectory(prefix="vertebra-ray-") as place:
        return pickle.dumps(config["train"](**arguments, table=Path(place) / "table.sqlite"))
