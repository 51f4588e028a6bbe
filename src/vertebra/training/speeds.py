"""How fast a training was, as a row of the table."""

from __future__ import annotations

import torch

from vertebra.machine import system, tenancy
from vertebra.measurements import Measurement, now
from vertebra.training.job import Job
from vertebra.training.run import Run

_PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}


def is_one_speed(job: Job, done: Run) -> bool:
    """Whether all steps trained the whole network, as it is, on labels alone: only then has it one speed."""
    recipe, hooks = job.recipe, job.hooks
    is_plain = hooks.prepare is None and hooks.loss is None and not job.float64
    return done.images_per_s is not None and recipe.trained == "all" and not recipe.freeze_epochs and is_plain


def row(job: Job, done: Run) -> Measurement:
    """The images a second of a run in one process. It is of grade C: nothing else was kept off the machine,
    and it isn't repeated."""
    recipe = job.recipe
    return Measurement(
        model=job.model, metric="training_throughput", value=done.images_per_s or 0.0, origin="benched",
        grade="C",
        grade_reasons=(
            "one training, not repeated",
            f"waited for pictures for {done.waited:.0%} of the time, with {job.workers} workers",
        ),
        input_size=recipe.input_size, batch_size=recipe.batch // recipe.accumulate, precision=precision(job),
        engine="compile" if job.compile else "eager", device=job.device,
        layout="NHWC" if recipe.channels_last else "NCHW", threads=job.threads, system=system.describe().id,
        exclusive=tenancy.here().exclusive, versions=system.library_versions(("torch",)), measured_at=now(),
    )  # fmt: skip


def precision(job: Job) -> str:
    """The precision of the convolutions: on a graphics card PyTorch rounds those of float32 to tf32, unless
    it is told otherwise."""
    if job.recipe.amp != "none":
        return _PRECISIONS[job.recipe.amp]
    is_rounded = job.device == "cuda" and torch.backends.cudnn.allow_tf32
    return "tf32" if is_rounded else "float32"
