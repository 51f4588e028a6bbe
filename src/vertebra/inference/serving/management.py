"""What clients may ask of the repository, whichever protocol brings it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vertebra.errors import VertebraError
from vertebra.inference.serving import logs
from vertebra.inference.serving.batching import Stages
from vertebra.inference.serving.models import LOADING, Model, Repository, now_ns
from vertebra.inference.serving.refusals import Refusal

#: what the server does beyond the protocol's core
EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics",
)  # fmt: skip


@contextmanager
def counted(repository: Repository, model: Model, arrived_ns: int) -> Iterator[Callable[[int, Stages], None]]:
    """A request for inference: it is refused where the server ends or the queue is full, and counted as one
    success, with the images and stages that the block gives, or as one failure."""
    answered: list[tuple[int, Stages]] = []
    try:
        if repository.is_draining:
            raise Refusal("unavailable", "the server is being stopped", retry_s=5)
        model.batcher.check_room()
        yield lambda images, stages: answered.append((images, stages))
    except Refusal as refusal:
        model.statistics.failed(refusal.kind, now_ns() - arrived_ns)
        raise
    except (asyncio.CancelledError, ConnectionError):
        model.statistics.failed("cancelled", now_ns() - arrived_ns)
        raise
    except Exception:
        model.statistics.failed("internal", now_ns() - arrived_ns)
        raise
    ((images, stages),) = answered
    model.statistics.succeeded(images, stages)


def is_ready(repository: Repository, name: str, version: str | None) -> bool:
    """Whether a model can answer. Raises Refusal for one that isn't known."""
    entry = repository.entry(name, version)
    return entry.model is not None and entry.model.is_ready and not repository.is_draining


def statistics(
    repository: Repository, name: str | None = None, version: str | None = None
) -> list[dict[str, Any]]:
    """Of the versions asked for, or of all models."""
    return [
        {"name": entry.spec.name, "version": entry.spec.version, **entry.statistics.to_dict()}
        for entry in repository.entries(name, version)
    ]


def check(parameters: Mapping[str, Any], manages: bool) -> None:
    """Raises Refusal if clients may not load and unload models, or want to send files or settings."""
    if not manages:
        raise Refusal("forbidden", "loading and unloading is off; the server's option --manage turns it on")
    given = [name for name in parameters if name not in ("unload_dependents",)]
    if given:
        raise Refusal(
            "unsupported", f"a model is loaded as at the start of the server; it takes no {given[0][:40]!r}"
        )


async def load(repository: Repository, name: str) -> None:
    """Load every version of a model, or load it again. Raises Refusal."""
    for entry in repository.entries(name):
        if entry.state == LOADING:
            raise Refusal("unavailable", f"model '{name}' is being loaded")
        try:
            await repository.load(entry)
        except VertebraError as error:
            logs.event("model not loaded", level="error", model=name, reason=error.message)
            raise Refusal("invalid", f"model '{name}' can't be loaded; the server's log says why") from error


async def unload(repository: Repository, name: str) -> None:
    """Unload every version of a model. Raises Refusal."""
    for entry in repository.entries(name):
        await repository.unload(entry)
