"""`vertebra.train`: train a network on labelled pictures, and go on where a training ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.progress import Listener
    from vertebra.reading.reports.trained import Trained

RECIPE = "finetune"
HOLD_OUT = 0.2
#: Seconds between two checkpoints.
CHECKPOINT_S = 60.0
#: Arguments that the processes of a cluster don't get.
_OF_RAY = ("on", "processes", "dry_run", "table", "progress")
#: The teacher's share of the loss, and the temperature at which both answer.
TEACHER_SHARE, TEMPERATURE = 0.5, 4.0


def train(
    model: str | None = None,
    pictures: str | Path | None = None,
    *,
    recipe: str = RECIPE,
    set: Mapping[str, object] | None = None,
    output: str | Path | None = None,
    resume: str | Path | None = None,
    weights: str | Path | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    ema: bool | None = None,
    validation: str | Path | None = None,
    hold_out: float = HOLD_OUT,
    group: str | None = None,
    conflicts: str = "refuse",
    strict: bool = False,
    inspect: bool = True,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    compile: bool = False,
    teacher: str | None = None,
    teacher_weights: str | Path | None = None,
    teacher_share: float = TEACHER_SHARE,
    temperature: float = TEMPERATURE,
    quantise: str | None = None,
    prune: str | float | None = None,
    checkpoint: str | float = CHECKPOINT_S,
    on: str | None = None,
    processes: int | None = None,
    dry_run: bool = False,
    table: TableLike = None,
    progress: Listener | None = None,
) -> Trained:
    """Train `model` on labelled `pictures` into the folder `output` (by default NAME-trained), and append
    its accuracy.

    `recipe` is "published", "modern", "finetune", "head", or a .py file; `set` changes its values, such as
    {"epochs": 30}. `weights` are where parameters come from, in place of the published ones; `sha256`,
    `accept_unverified` and `ema` are those of `zoo.build`. Each epoch is evaluated on `validation`, a split
    or a place of other pictures: by default the split "val", or else `hold_out` of the pictures, in which
    near-duplicates and pictures of one `group` are on one side. The pictures are looked at first, unless
    `inspect` is false: one picture in two classes is refused unless `conflicts` is "leave out", and `strict`
    stops at one that can't be read. `format`, `split`, `truth` and `name` are those of `data.open`.

    `workers` threads prepare pictures and `threads` compute, by default as many as there are cores. A
    checkpoint is written every `checkpoint` seconds; `resume` is a run's folder, which goes on from it to
    the bit. Under torchrun the processes share each step. So do `processes` on the nodes of the Ray cluster
    that `on` names ("ray" or "ray://HOST:PORT"), by default one on each node, through Ray Train; all nodes
    must have this folder, the pictures and the run under the same paths. With `dry_run` nothing is trained:
    the recipe, the steps, and the time and memory that are expected are returned.

    A `teacher`, any network with `teacher_weights` (by default the published ones), is asked about each
    batch: `teacher_share` of the loss is how far the answers are from its own, both softened by the
    `temperature`. `quantise` trains in eight bits, with ranges that are "moving" averages or "learnt"; the
    int8 Bundle is in the run's folder then. `prune` takes that share of the multiply-adds out first. What
    either cost and bought is in `outcomes`; an ACNet is also fused, and proved to be the same.

    Raises InvalidInputError, before the first step, for pictures that can't be learnt from, a recipe that
    doesn't fit, and a run that can't go on; MeasurementError for a loss that is no number, a full disk and a
    process that is gone.
    """
    arguments = {name: value for name, value in locals().items() if name not in _OF_RAY}
    _check_libraries()
    from vertebra.verbs import training

    if on is not None:
        from vertebra.verbs import training_on_ray

        _check_on_ray(dry_run)
        return training_on_ray.train(
            train,
            arguments,
            on=on,
            processes=processes,
            table=given.table(table),
            progress=notebook.listener(progress),
        )
    if processes is not None:
        raise InvalidInputError(
            "processes needs a Ray cluster (--on ray).",
            f"without one: torchrun --nproc-per-node {processes} -m vertebra train ...",
        )

    asked = {
        "recipe": recipe, "set": dict(set or {}), "weights": weights, "sha256": sha256,
        "accept_unverified": accept_unverified, "ema": ema, "validation": validation, "hold_out": hold_out,
        "group": group, "conflicts": conflicts, "strict": strict, "inspect": inspect, "format": format,
        "split": split, "truth": truth, "name": name, "teacher": teacher, "teacher_weights": teacher_weights,
        "teacher_share": teacher_share, "temperature": temperature, "quantise": quantise, "prune": prune,
    }  # fmt: skip
    machine = {"workers": workers, "threads": threads, "device": device, "compile": compile,
               "checkpoint_s": given.seconds(checkpoint)}  # fmt: skip
    listener = notebook.listener(progress)
    if resume is not None:
        plan = training.continued(resume, model, pictures, output, asked, _defaults())
    elif model is None or pictures is None:
        raise InvalidInputError(
            "The network or the pictures are missing.",
            "name both: vertebra train MODEL PICTURES; or a run to continue: --resume RUN",
        )
    else:
        plan = training.begun(model, pictures, output, asked)
    return training.run(
        plan, machine, dry_run=dry_run, table=None if dry_run else given.table(table), progress=listener
    )


def _check_on_ray(dry_run: bool) -> None:
    if dry_run:
        raise InvalidInputError("--dry-run expects what this machine does.", "leave --on out")


def _check_libraries() -> None:
    import importlib.util

    for library in ("torch", "timm", "safetensors"):
        if importlib.util.find_spec(library) is None:
            raise MissingRuntimeError.of("training", library, "train")


def _defaults() -> dict[str, Any]:
    """The arguments of `train` that say what is trained, as they are where they aren't given."""
    import inspect as inspecting

    return {one.name: one.default for one in inspecting.signature(train).parameters.values()} | {"set": {}}
