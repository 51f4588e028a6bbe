"""A run in plain values: what its folder records of it, what makes it another one, and what its weights
state of themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vertebra._version import __version__
from vertebra.bundles import runs
from vertebra.errors import InvalidInputError, warn
from vertebra.machine import system
from vertebra.measurements import now
from vertebra.training.job import Job
from vertebra.training.run import Run

_LIBRARIES = ("torch", "timm", "torchvision", "numpy", "Pillow", "simplejpeg", "safetensors")
#: What may differ between two parts of a run, but then not all bits are the same -> what to call it.
_OF_THE_BITS = {"threads": "threads", "world": "processes", "device": "device", "compile": "compiling"}


def record(job: Job, world: int, steps: int, about: str) -> dict[str, Any]:
    """What run.json says of the run."""
    return {
        "version": runs.VERSION,
        "model": job.model,
        "recipe": dataclasses.asdict(job.recipe),
        "classes": list(job.classes),
        "content": job.content,
        "pictures": {
            "name": job.data.name,
            "training": sum(label >= 0 for label in job.labels),
            "validation": len(job.validation),
            "validation_split": job.validation.split,
        },
        "start": about,
        "weights": None if job.weights is None else str(job.weights),
        "hooks": job.hooks.name,
        "steps_per_epoch": steps,
        "world": world,
        "threads": job.threads,
        "workers": job.workers,
        "device": job.device,
        "compile": job.compile,
        "machine": system.describe().to_dict(),
        "versions": {"vertebra": __version__, **system.library_versions(_LIBRARIES)},
        "begun_at": now(),
        **job.more,
    }


def check_same(kept: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    """Raise InvalidInputError where a run can't go on as another; warn of what changes its last bits."""
    check_model(kept, fresh["model"])
    changed = changes(kept["recipe"], fresh["recipe"])
    if changed:
        raise InvalidInputError(
            f"The recipe isn't that of the run: {'; '.join(changed[:5])}.",
            "leave the changes out, or start another run: --output",
        )
    if kept["classes"] != fresh["classes"]:
        raise InvalidInputError(
            f"The pictures' classes have changed: {_first_difference(kept['classes'], fresh['classes'])}.",
            "put the pictures back as they were, or start another run: --output",
        )
    if kept["content"] != fresh["content"]:
        before, after = kept["pictures"], fresh["pictures"]
        raise InvalidInputError(
            f"The pictures have changed since the run began: it had {before['training']:,} to train and "
            f"{before['validation']:,} to evaluate on, now there are {after['training']:,} and "
            f"{after['validation']:,}, not all of them the same.",
            "put the pictures back as they were, or start another run: --output",
        )
    for name, what in (("hooks", "what is trained with"), ("steps_per_epoch", "steps of an epoch")):
        if kept[name] != fresh[name]:
            raise InvalidInputError(
                f"The run has other {what}: {kept[name] or 'none'}, now {fresh[name] or 'none'}.",
                "give the same options as before, or start another run: --output",
            )
    told = [f"{what} {kept[name]}, now {fresh[name]}" for name, what in _OF_THE_BITS.items()
            if kept[name] != fresh[name]]  # fmt: skip
    versions = {name: (kept["versions"].get(name), fresh["versions"].get(name)) for name in _LIBRARIES}
    told += [f"{name} {old}, now {new}" for name, (old, new) in versions.items() if old != new]
    if told:
        warn(f"the run continues, but not to the last bit: it began with {'; '.join(told)}")


def check_model(kept: Mapping[str, Any], model: str) -> None:
    """Raise InvalidInputError where a run trains another network."""
    if kept["model"] != model:
        raise InvalidInputError(
            f"The run trains {kept['model']}; {model} was asked for.",
            "leave the network out, or start another run: --output",
        )


def changes(kept: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """The fields of two recipes that differ, each as a few words."""
    plain = {name: _plain(value) for name, value in fresh.items()}
    return [
        f"{name} was {kept.get(name)}, now {plain.get(name)}"
        for name in sorted({*kept, *plain} - {"changes", "notes", "source", "name"})
        if kept.get(name) != plain.get(name)
    ]


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _first_difference(kept: list[str], fresh: list[str]) -> str:
    missing = [name for name in kept if name not in fresh]
    more = [name for name in fresh if name not in kept]
    if missing:
        return f"{missing[0]} is missing"
    return f"{more[0]} is new" if more else "their order is another"


def result(done: Run) -> dict[str, Any]:
    """What result.json says of a run that ended."""
    names = ("status", "step", "epochs", "seconds", "waited", "best", "images_per_s")
    return {**{name: getattr(done, name) for name in names}, "ended_at": now()}


def header(job: Job, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the file of the weights states of itself, as `zoo.stated` reads it."""
    return {
        "version": 1,
        "model": job.model,
        "classes": list(job.classes),
        "preprocess": dataclasses.asdict(job.recipe.evaluation),
        "recipe": job.recipe.name,
        "trained_on": job.data.name,
        **about,
    }
