"""The loop: every step of a training, readable from top to bottom."""

from __future__ import annotations

from vertebra.progress import Listener
from vertebra.training.job import Job


def train(job: Job, *, progress: Listener | None = None) -> None:
    """Train as `job` says; under torchrun together with the other processes."""
    raise NotImplementedError
