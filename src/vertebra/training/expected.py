"""What a training will take on this machine, from a few of its own steps.

Where a step's pictures are many, steps of fewer are tried, of two counts: what a step takes is a part of its
own (the optimizer's) and a part for each picture, so the rest follows, in time and in memory. That also
answers where the real step wouldn't fit.
"""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from vertebra.data.datasets import Dataset
from vertebra.errors import VertebraError
from vertebra.machine import heap, leftovers
from vertebra.progress import Listener, Progress, beating, silent
from vertebra.training import evaluating, pictures, ranks, rates, run
from vertebra.training.job import Job
from vertebra.training.loader import Batch, Loader
from vertebra.training.loop import Training, set_modes
from vertebra.training.ranks import Team
from vertebra.training.run import Folder
from vertebra.training.stopping import Stop

#: Each kind of step is timed for this number of seconds, and at least this often, after the first ones.
_TRIAL_S, _LEAST, _FIRST, _MOST = 6.0, 4, 2, 200
#: Pictures that a process computes at once in the smaller trial, and seconds that the larger one may take.
_SMALL, _LARGE_S = 8, 30.0
#: Pictures of the evaluation that is timed.
_EVALUATED = 256


@dataclass(frozen=True)
class Trial:
    """What steps of `size` pictures a process took: seconds of one that trains the head alone, and of one
    that trains all (0: there are none), the most bytes of memory, `loaded` of them in batches of pictures;
    seconds of one picture's evaluation, and its memory; and `once_s`, seconds that a training takes beside
    its steps: its first steps are slower, and its end is kept. None where a system doesn't say."""

    size: int
    head_s: float
    whole_s: float
    memory: int | None
    loaded: int
    evaluated_s: float = 0.0
    evaluated_memory: int | None = None
    once_s: float = 0.0


def record(
    job: Job, world: int, progress: Listener, *, ending: Callable[[], object] | None = None
) -> dict[str, Any]:
    """The recipe, the steps, and the seconds and bytes that are expected, as plain values; "told" has them in
    sentences. Nothing is written but in a scratch folder. `ending` is done at the end of a training, in the
    same process: it may need more memory than the training."""
    recipe = job.recipe
    share = recipe.batch // (world * recipe.accumulate)
    with (
        tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch,
        beating(progress, Progress(f"trying some steps of {job.model}")),
    ):
        tried = trials(job, share, Path(scratch))
        at_end = None if ending is None or job.device.startswith("cuda") else _memory_of(ending)
    parts = recipe.accumulate
    head = of_parts([(one.size, one.head_s) for one in tried], share, parts)
    whole = of_parts([(one.size, one.whole_s) for one in tried], share, parts)
    steps = pictures_of(job) // recipe.batch
    frozen = recipe.epochs if recipe.trained == "head" else recipe.freeze_epochs
    training_s = steps * (frozen * head + (recipe.epochs - frozen) * whole)
    evaluations_s = recipe.epochs * tried[-1].evaluated_s * len(job.validation)
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
        "tried": [one.size for one in tried],
        "step_seconds": whole or head,
        "seconds": training_s + evaluations_s + tried[-1].once_s,
        "memory": _memory(tried, share, parts, at_end),
    }
    return {**found, "told": _told(job, found, share)}


def pictures_of(job: Job) -> int:
    """How many pictures are trained on."""
    return sum(label >= 0 for label in job.labels)


# ------------------------------------------------------------------ what follows from the trials


def at(points: Sequence[tuple[int, float]], size: int) -> float:
    """The value at `size` on the line through the first and the last of `points` (size, value); through one
    point, in proportion to the size. Never less than the largest of the smaller sizes has.

    >>> at([(8, 1.0), (16, 1.5)], 64)
    4.5
    """
    (first, low), (last, high) = points[0], points[-1]
    if first == last:
        return high * size / last
    return max(high + (high - low) / (last - first) * (size - last), high if size >= last else 0.0)


def of_parts(points: Sequence[tuple[int, float]], size: int, parts: int) -> float:
    """What a step of `parts` parts of `size` pictures takes: the step's own part comes once.

    >>> of_parts([(8, 1.0), (16, 1.5)], 16, 4), of_parts([(8, 1.0)], 8, 2)
    (4.5, 2.0)
    """
    return at(points, size * parts)


def _memory(tried: Sequence[Trial], share: int, parts: int, at_end: int | None) -> int | None:
    """The most bytes of a process: those of a step in `parts` of `share` pictures, all of them loaded, of an
    evaluation, or of the end."""
    points = [(one.size, float(one.memory)) for one in tried if one.memory is not None]
    if not points:
        return None
    step = points[0][1] if len(points) == 1 else at(points, share)
    step += (parts - 1) * share * tried[-1].loaded / tried[-1].size
    return int(max(step, *(one.evaluated_memory or 0 for one in tried), at_end or 0))


# ------------------------------------------------------------------ trials


def trials(job: Job, share: int, scratch: Path) -> list[Trial]:
    """The trials of a job whose processes compute `share` pictures at once: of the share itself where it is
    small, or can be tried in time; else of two smaller counts. The last has the evaluation."""
    with ranks.joined(job.device) as team:
        small = min(share, _SMALL)
        if small == share:
            return [_tried(job, share, scratch / "one", team, evaluates=True)]
        first = _tried(job, small, scratch / "one", team, evaluates=False)
        slowest = max(team.gather(max(first.head_s, first.whole_s)))
        kinds = (first.head_s > 0) + (first.whole_s > 0)
        seconds = slowest * kinds * (_FIRST + _LEAST)
        size = 2 * small
        while size < share and seconds * 2 * size / small <= _LARGE_S:
            size *= 2
        return [first, _tried(job, min(size, share), scratch / "two", team, evaluates=True)]


def _tried(job: Job, size: int, folder: Path, team: Team, *, evaluates: bool) -> Trial:
    import torch

    recipe, batch = job.recipe, size * team.world
    # The rate stays, whatever the count.
    alike = replace(recipe, batch=batch, accumulate=1, lr=recipe.peak, lr_batch=batch)
    trial = replace(job, recipe=alike, folder=folder, resume=False, files={})
    before = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        with heap.kept(), run.opened(trial, is_first=True) as opened, Stop() as stop:
            training = Training(trial, team, opened, stop, silent, watched=False)
            _restart_peak(job.device)
            frozen = recipe.epochs if recipe.trained == "head" else recipe.freeze_epochs
            head, first = _steps(training, range(frozen)) if frozen else (0.0, 0.0)
            rest = range(min(frozen, recipe.epochs - 1), recipe.epochs)
            whole, more = (0.0, 0.0) if recipe.trained == "head" else _steps(training, rest)
            memory, loaded = _peak(job.device), training.loader.memory
            if not evaluates:
                return Trial(size, head, whole, memory, loaded)
            once = first + more + _checkpoint(opened, training)
            _restart_peak(job.device)
            evaluated, most = _evaluation(training), _peak(job.device)
            return Trial(size, head, whole, memory, loaded, evaluated, most, once)
    finally:
        torch.set_num_threads(before)
        gc.collect()


def _steps(training: Training, epochs: range) -> tuple[float, float]:
    """Seconds of a step of these epochs, pictures and all, and by how much the first ones took longer.
    Processes stop after the same one."""
    state, team = training.state, training.team
    state.at.step = epochs.start * training.steps
    is_head_only = rates.freeze(state.network, training.recipe, epochs.start)
    training.network = team.share(state.network)
    set_modes(state.network, is_head_only)
    skipped = min(_FIRST, len(epochs) * training.steps - 1)
    begin = start = time.monotonic()
    count = 0
    with closing(_batches(training.loader, epochs)) as batches:
        for number, (epoch, batch) in enumerate(islice(batches, _MOST)):
            training.step(batch, epoch)
            count += number >= skipped
            if number + 1 == skipped:
                start = time.monotonic()
            elapsed = team.total([time.monotonic() - start])[0] / team.world
            if count >= _LEAST and elapsed >= _TRIAL_S:
                break
    seconds = (time.monotonic() - start) / count
    return seconds, max(0.0, start - begin - skipped * seconds)


def _batches(loader: Loader, epochs: range) -> Generator[tuple[int, Batch]]:
    """Those of one epoch after the other, each with its epoch: an epoch may have very few."""
    for epoch in epochs:
        with closing(loader.epoch(epoch)) as batches:
            for batch in batches:
                yield epoch, batch


def _checkpoint(opened: Folder, training: Training) -> float:
    """Seconds of a checkpoint; 0 where the scratch folder, which may be small, has no room for one."""
    state = training.state.kept(training.team)
    start = time.monotonic()
    try:
        opened.checkpoint(state)
    except VertebraError:
        return 0.0
    return time.monotonic() - start


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


# ------------------------------------------------------------------ memory


def _memory_of(ending: Callable[[], object]) -> int | None:
    """The most bytes of this process while it does what comes at the end."""
    _restart_peak("cpu")
    ending()
    return _peak("cpu")


def _restart_peak(device: str) -> None:
    """Forget the most memory of this process so far, where the system can."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # then the most of all its time counts
        Path("/proc/self/clear_refs").write_text("5")


def _peak(device: str) -> int | None:
    """The most bytes of this process, on the GPU where it computes there; None on systems that don't say."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_reserved())
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
        import sys
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


# ------------------------------------------------------------------ in sentences


def _told(job: Job, found: dict[str, Any], share: int) -> list[str]:
    from vertebra import units

    recipe = job.recipe
    minutes = found["seconds"] / 60
    long = f"{minutes / 60:.1f} hours" if minutes > 120 else f"{minutes:.1f} minutes"
    least = "at most " if recipe.early_stop else ""
    where = " of GPU memory" if job.device.startswith("cuda") else " of memory a process"
    memory = "" if found["memory"] is None else f", {units.show(found['memory'], 'B')}{where}"
    parts = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
    each = f" by {found['processes']} processes" if found["processes"] > 1 else ""
    return [
        f"{job.model}, recipe {recipe.name}: {found['pictures']:,} pictures of {found['classes']} classes to "
        f"train on, {found['validation']:,} to evaluate on.",
        f"{least}{_counted(recipe.epochs, 'epoch')} of {_counted(found['steps_per_epoch'], 'step')}, "
        f"{recipe.batch} pictures a "
        f"step{parts}{each}, highest rate {recipe.peak:g}.",
        f"Expected on this machine: {least}{long}{memory} ({_basis(found['tried'], share)}).",
        *recipe.changes,
        *recipe.notes,
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s'[: count != 1]}"


def _basis(tried: Sequence[int], share: int) -> str:
    """What the expectation is from."""
    if tried[-1] == share:
        return "from a few steps, timed just now"
    smaller = " and ".join(map(str, tried))
    return f"estimated for {share} pictures at once from steps of {smaller}, timed just now"
