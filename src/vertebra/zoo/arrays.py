"""Weights of a network whose graph ships, from wherever `zoo.build` takes them, as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.zoo import adapters, weights
from vertebra.zoo.fitting import Taken, of_library

if TYPE_CHECKING:
    from vertebra.progress import Listener
    from vertebra.zoo.names import Model

__all__ = ["Taken", "take"]


def take(
    model: Model,
    source: str | Path,
    *,
    ema: bool | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    input_size: int | None = None,
    progress: Listener | None = None,
) -> Taken:
    """The weights `source` for the graph of `model`, a source as `zoo.build` takes it.

    Raises WeightsError, in one line with what differs first, UnknownNameError, DownloadError and
    MissingRuntimeError.
    """
    if model.source == "vertebra":
        ours = weights.take(
            model.name, source, ema=ema, sha256=sha256, accept_unverified=accept_unverified, progress=progress
        )
        return Taken(ours.state, ours.name, len(ours.state["head.classifier.bias"]), ours.notes)
    if source == "pretrained":
        source, digits = adapters.load(model.source).published(model)
        sha256 = sha256 or digits
    return of_library(
        model, source, weights.file_of(source, sha256=sha256, progress=progress), ema, input_size
    )
