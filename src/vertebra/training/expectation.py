"""What a training will take on this machine, from a few of its own steps."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from vertebra.data.datasets import Dataset
from vertebra.machine import leftovers
from vertebra.progress import Listener, Progress, beating, silent
from vertebra.training import evaluating, pictures, ranks, rates, run
from vertebra.training.job import Job
from vertebra.training.loop import Training, set_modes
from vertebra.training.stopping import Stop

#: Each kind of step is timed for so many seconds, and at least so many times, after the first ones.
_TRIAL_S, _LEAST, _FIRST, _MOST = 6.0, 4, 2, 200
#: Pictures of the evaluation that is timed.
_EVALUATED = 256


def record(job: Job, world: int, progress: Listener) -> dict[str, Any]:
    """The recipe, the steps, and the seconds and bytes that are expected, as plain values; "told" has them in
    sentences. Nothing is written but in a scratch folder."""
    recipe = job.recipe
    with (
        tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch,
        beating(progress, Progress(f"trying some steps of {job.model}")),
    ):
        trial = replace(job, folder=Path(scratch) / "run", resume=False, files={})
        part, all_, evaluated = _timed(trial)
        steps = pictures_of(job) // recipe.batch
    frozen = recipe.epochs if recipe.trained == "head" else recipe.freeze_epochs
    whole = recipe.epochs - frozen
    seconds = steps * (frozen * part + whole * all_) + recipe.epochs * evaluated * len(job.validation)
    memory = _peak_bytes()
    found = {
        "model": job.model,
        "recipe": asdict(recipe),
        "classes": len(job.classes),
        "pictures": pictures_of(job),
        "validation": len(job.validation),
        "steps_per_epoch": steps,
        "steps": steps * recipe.epochs,
        "processes": world,
        "highest_rate": recipe.peak,
        "seconds": seconds,
        "memory": memory,
    }
    return {**found, "told": _told(job, found)}


def pictures_of(job: Job) -> int:
    """How many pictures are trained on."""
    return sum(label >= 0 for label in job.labels)


def _timed(job: Job) -> tuple[float, float, float]:
    """Seconds of a step that trains the head alone, of one that trains all, and of one picture's
    evaluation."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        with ranks.joined(job.device) as team, run.opened(job, is_first=True) as folder, Stop() as stop:
            training = Training(job, team, folder, stop, silent, watched=False)
            recipe = job.recipe
            whole = min(recipe.freeze_epochs, recipe.epochs - 1)
            has_head = bool(recipe.freeze_epochs) or recipe.trained == "head"
            part = _steps(training, 0) if has_head else 0.0
            all_ = 0.0 if recipe.trained == "head" else _steps(training, whole)
            return part, all_, _evaluation(training)
    finally:
        torch.set_num_threads(before)


def _steps(training: Training, epoch: int) -> float:
    state = training.state
    state.at.step = epoch * training.steps
    is_head_only = rates.freeze(state.network, training.recipe, epoch)
    set_modes(state.network, is_head_only)
    start, count = 0.0, 0
    batches = training.loader.epoch(epoch)
    for number, batch in enumerate(islice(batches, _MOST)):
        training.step(batch, epoch)
        if number + 1 == min(_FIRST, training.steps - 1):
            start = time.monotonic()
        elif start or training.steps == 1:
            count += 1
        if count >= _LEAST and time.monotonic() - start >= _TRIAL_S:
            break
    close = getattr(batches, "close", None)
    if close is not None:
        close()
    return (time.monotonic() - start) / max(1, count) if start else 0.0


def _evaluation(training: Training) -> float:
    job = training.job
    part: Dataset = pictures.part(job.validation, range(min(_EVALUATED, len(job.validation))))
    start = time.monotonic()
    for network in training.state.networks().values():
        evaluating.evaluate(
            network, part, job.recipe.evaluation, training.classes, training.team, workers=job.workers,
            progress=silent,
        )  # fmt: skip
    return (time.monotonic() - start) / len(part)


def _peak_bytes() -> int | None:
    """The most memory that this process has had; None on systems that don't say."""
    try:
        import resource
        import sys
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _told(job: Job, found: dict[str, Any]) -> list[str]:
    from vertebra import units

    recipe = job.recipe
    minutes = found["seconds"] / 60
    long = f"{minutes / 60:.1f} hours" if minutes > 120 else f"{minutes:.1f} minutes"
    least = "at most " if recipe.early_stop else ""
    memory = "" if found["memory"] is None else f", {units.show(found['memory'], 'B')} of memory a process"
    parts = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
    each = f" by {found['processes']} processes" if found["processes"] > 1 else ""
    return [
        f"{job.model}, recipe {recipe.name}: {found['pictures']:,} pictures of {found['classes']} classes to "
        f"train on, {found['validation']:,} to evaluate on.",
        f"{least}{recipe.epochs} epochs of {found['steps_per_epoch']:,} steps, {recipe.batch} pictures a "
        f"step{parts}{each}, highest rate {recipe.peak:g}.",
        f"Expected on this machine: {least}{long}{memory} (from a few steps, timed just now).",
        *recipe.changes,
        *recipe.notes,
    ]
