"""The steps of `train`: what is trained, on which pictures, and what comes of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import zoo
from vertebra.bundles import runs
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.machine import heap
from vertebra.measurements import Measurement, Table
from vertebra.progress import Listener, Progress, silent
from vertebra.reading import charts
from vertebra.reading.reports import inspected
from vertebra.verbs import evaluate

if TYPE_CHECKING:
    from vertebra.data.datasets import Dataset
    from vertebra.data.preprocess import Preprocess
    from vertebra.reading.reports.trained import Trained
    from vertebra.training.compressing import Compression
    from vertebra.training.job import Job
    from vertebra.training.pictures import Looked
    from vertebra.training.ranks import Team
    from vertebra.training.recipe import Recipe
    from vertebra.training.run import Run

#: By how much the accuracy of the written weights may differ from the epoch's: batches of another size give
#: other last digits.
_SLACK = 0.005
#: The same of an int8 Bundle, in which an engine rounds some values to the other side.
_SLACK_INT8 = 0.02


@dataclass(frozen=True)
class Plan:
    """What is asked for: `asked` are the arguments of `train` that decide the result."""

    model: str
    pictures: Path
    folder: Path | None
    asked: Mapping[str, Any]
    kept: runs.Kept | None = None


# ------------------------------------------------------------------ what is asked for


def begun(model: str, pictures: str | Path, output: str | Path | None, asked: Mapping[str, Any]) -> Plan:
    """The plan of a new run. Raises UnknownNameError for a network that isn't known."""
    found = zoo.find(model)
    if found.is_file:
        raise InvalidInputError(
            f"{model} is a file; only networks that can be built are trained.",
            "name a network, and the file of its weights with --weights",
        )
    folder = None if output is None else Path(output).expanduser()
    return Plan(found.name, Path(pictures).expanduser(), folder, _placed(asked))


def continued(
    folder: str | Path, model: str | None, pictures: str | Path | None, output: str | Path | None,
    asked: Mapping[str, Any], defaults: Mapping[str, Any],
) -> Plan:  # fmt: skip
    """The plan of a run that goes on. Raises InvalidInputError for no run, and for arguments that would make
    it another one."""
    kept = runs.read(folder)
    if output is not None:
        raise InvalidInputError("--resume continues in the run's own folder.", "leave --output out")
    before, asked = kept.record["asked"], _placed(asked)
    for name, value in asked.items():
        if value != defaults[name] and _plain(value) != before.get(name):
            raise InvalidInputError(
                f"The run began with {name.replace('_', '-')} {before.get(name)}; {_plain(value)} was given.",
                "leave it out: a run continues as it began; or start another one with --output",
            )
    if model is not None and zoo.find(model).name != kept.record["model"]:
        raise InvalidInputError(
            f"The run trains {kept.record['model']}; {model} was asked for.", "leave the network out"
        )
    place = Path(before["pictures"]) if pictures is None else Path(pictures).expanduser()
    if pictures is None and not place.exists():
        raise InvalidInputError(
            f"The run's pictures were at {place}; there is nothing now.",
            f"put them back, or say where they are: vertebra train {kept.record['model']} PICTURES --resume "
            f"{kept.folder}",
        )
    return Plan(kept.record["model"], place, kept.folder, {**asked, **before}, kept)


def _placed(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with files and folders by their whole paths: a run may continue from another folder."""
    found = dict(asked)
    for name in ("weights", "teacher_weights", "validation", "truth"):
        value = found.get(name)
        is_name = name != "truth" and value == Path(str(value)).name  # of a published set, or a split
        if value is not None and not is_name and Path(value).expanduser().exists():
            found[name] = str(Path(value).expanduser().resolve())
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): str(one) for name, one in value.items()}
    return str(value) if isinstance(value, Path) else value


# ------------------------------------------------------------------ the run


def run(
    plan: Plan, machine: Mapping[str, Any], *, dry_run: bool, table: Table | None, progress: Listener | None
) -> Trained:
    """Look at the pictures, train, and tell what came of it; the first of several processes alone tells."""
    from vertebra.reading.reports.trained import Trained
    from vertebra.training import compressing, loop, ranks, speeds

    wanted = compressing.asked(plan.asked)
    with ranks.joined(machine["device"]) as team:
        listener = (progress or silent) if team.is_first else silent
        job = _compressing(_job(plan, machine, team, listener), wanted, team, listener)
        if dry_run:
            from vertebra.training import expected

            found = expected.record(job, team.world, listener, ending=_draw)
            return Trained(record=found, folder=job.folder)
        done = loop.train(job, progress=listener)
        if not team.is_first:
            return Trained(record={}, folder=job.folder, status=done.status)
        is_alone = team.world == 1
    kept = runs.read(job.folder)
    if not done.is_whole:
        return Trained(
            record=kept.record, folder=job.folder, status=done.status, log=kept.log, best=done.best
        )
    assert table is not None
    speed = [speeds.row(job, done)] if is_alone and speeds.is_one_speed(job, done) else []
    return _told(job, done, speed, table, listener, plan.asked)


def _compressing(job: Job, wanted: Compression, team: Team, progress: Listener) -> Job:
    """The job with what it compresses."""
    from vertebra.training import compressing
    from vertebra.training.loader import Loader

    if not wanted:
        return job
    loader = Loader(job.data, job.labels, job.recipe, workers=0, world=team.world, rank=team.rank)
    steps = job.recipe.epochs * loader.steps * job.recipe.accumulate
    hooks, told = compressing.hooks(
        wanted, recipe=job.recipe, classes=job.classes, steps=steps, compiles=job.compile
    )
    for line in told:
        progress(Progress(line))
    remarks = [*job.more.get("remarks", ()), *told]
    return replace(job, hooks=hooks, more={**job.more, "remarks": remarks})


def _job(plan: Plan, machine: Mapping[str, Any], team: Team, progress: Listener) -> Job:
    from vertebra.machine import system
    from vertebra.training import beginning, pictures
    from vertebra.training import run as running
    from vertebra.training.job import Job

    asked = plan.asked
    how = {"format": asked["format"], "truth": asked["truth"], "name": asked["name"]}
    recipe, weights = _recipe(plan, asked)
    data = pictures.opened(plan.pictures, split=asked["split"], **how)
    folder = plan.folder or Path(f"{data.name}-trained")
    if plan.kept is None and _is_restarted() and runs.is_run(folder):
        plan = replace(plan, kept=runs.read(folder))
        recipe, weights = _recipe(plan, asked)
    team.alone(lambda: running.check(folder, resume=plan.kept is not None))
    other = pictures.validation(plan.pictures, asked["validation"], data, **how)
    checks = {name: asked[name] for name in ("sha256", "accept_unverified", "ema")}
    if weights is not None and plan.kept is None:
        # before all pictures are looked at; what it downloads is kept
        team.alone(lambda: beginning.check_weights(plan.model, weights, checks, progress))
    looked = team.alone(lambda: _looked(data, other, asked, recipe, progress))
    recipe = _filled(recipe, plan, sum(label >= 0 for label in looked.labels), team.world)
    validation = pictures.part(data, looked.held_out or ()) if other is None else other
    threads = machine["threads"] or max(1, system.default_threads() // team.world)
    workers = threads if machine["workers"] is None else machine["workers"]
    return Job(
        model=plan.model, recipe=recipe, data=data, labels=looked.labels, validation=validation,
        classes=pictures.classes_of(data), folder=folder, content=looked.content,
        weights=weights, checks=checks if weights is not None else {}, workers=workers, threads=threads,
        device=machine["device"], resume=plan.kept is not None, compile=machine["compile"],
        checkpoint_s=machine["checkpoint_s"], files=looked.files(),
        more={"asked": {"pictures": str(plan.pictures.resolve()),
                        **{name: _plain(value) for name, value in asked.items() if name != "pictures"}},
              "remarks": list(looked.lines)},
    )  # fmt: skip


def _is_restarted() -> bool:
    """Whether torchrun started this process again, after another of the run was gone."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def _looked(
    data: Dataset, other: Dataset | None, asked: Mapping[str, Any], recipe: Recipe, progress: Listener
) -> Looked:
    from vertebra.training import pictures

    common = {"hold_out": asked["hold_out"], "seed": recipe.seed}
    if not asked["inspect"]:
        found = pictures.unseen(data, other, **common)
    else:
        found = pictures.look(
            data, other, group=asked["group"], conflicts=asked["conflicts"], strict=asked["strict"],
            progress=progress, **common,
        )  # fmt: skip
    seen = [] if found.inspection is None else inspected.lines(found.inspection)
    for line in (*seen, *found.lines):
        progress(Progress(line))
    return replace(found, inspection=None)


def _recipe(plan: Plan, asked: Mapping[str, Any]) -> tuple[Recipe, str | Path | None]:
    """The recipe with the changes asked for, and the source of the parameters to start from."""
    from vertebra.training import recipes
    from vertebra.training.recipe import Recipe

    if plan.kept is not None:
        kept = Recipe.from_dict(plan.kept.record["recipe"])
        return kept, plan.kept.record["weights"]
    weights = asked["weights"]
    found = recipes.find(asked["recipe"], plan.model, weights=_preprocess(plan.model, weights, asked))
    found = recipes.override(found, asked["set"])
    if weights is None and found.pretrained:
        weights = _published(plan.model, found)
    return found, weights


def _preprocess(model: str, weights: str | Path | None, asked: Mapping[str, Any]) -> Preprocess | None:
    return None if weights is None else zoo.facts(model, weights, ema=asked["ema"]).preprocess


def _published(model: str, recipe: Recipe) -> str:
    """The source of the network's published weights."""
    from vertebra.zoo import weights

    found = zoo.find(model)
    if found.source != "vertebra":
        return "pretrained"
    known = weights.records(found.name)
    if not known:
        raise InvalidInputError(
            f"The recipe {recipe.name} starts from published weights, and there are none of {model}.",
            "pass a file of weights, --weights FILE; or start from random parameters: --set pretrained=false",
        )
    return known[0].name


def _filled(recipe: Recipe, plan: Plan, pictures: int, world: int) -> Recipe:
    """The recipe with a batch that the pictures can fill."""
    from vertebra.training import recipes

    return recipe if plan.kept is not None else recipes.at_most(recipe, pictures, world)


# ------------------------------------------------------------------ what came of it


def _told(
    job: Job, done: Run, speed: list[Measurement], table: Table, progress: Listener, asked: Mapping[str, Any]
) -> Trained:
    """The rows of the written weights and of the `speed`, and the run's report."""
    from vertebra.reading.reports.trained import Trained
    from vertebra.verbs import compressed

    folder = job.folder
    kept_int8 = compressed.in_eight_bits(job, progress) if asked["quantise"] is not None else None
    if kept_int8 is None:
        found = evaluate._evaluated(job.model, job.validation, weights=folder, threads=job.threads,
                                    progress=progress)  # fmt: skip
    else:
        found = evaluate._evaluated(kept_int8, job.validation, threads=job.threads, progress=progress)
    outcomes = compressed.outcomes(job, asked, kept_int8, progress)
    assert done.best is not None
    slack = _SLACK if kept_int8 is None else _SLACK_INT8
    _check_written(done, found.evaluation.top1.value, slack)
    chosen = f"the best of {done.epochs} epochs on these pictures" if done.epochs > 1 else None
    rows = [_noted(row, chosen) for row in found.rows]
    table.append([*rows, *speed])
    kept = runs.read(folder)
    trained = Trained(
        record=kept.record, folder=folder, status=done.status, log=kept.log, best=done.best,
        evaluated=replace(found, rows=rows), rows=(*rows, *speed), seconds=done.seconds, waited=done.waited,
        outcomes=tuple(outcomes),
    )  # fmt: skip
    heap.give_back()  # what the evaluation had: drawing takes as much again
    trained.save()
    return trained


def _draw() -> None:
    """Draw curves, which takes as much memory as those of a run."""
    if charts.is_installed():
        line = {"kind": "step", "epoch": 1, "step": 1, "loss": 1.0, "rate": 0.1}
        charts.curves_chart([line], 1, title="a run").png()


def _noted(row: Measurement, chosen: str | None) -> Measurement:
    return row if chosen is None else row.like(grade_reasons=(*row.grade_reasons, chosen))


def _check_written(done: Run, accuracy: float, slack: float) -> None:
    """Raise MeasurementError where the weights on disk answer otherwise than those of the epoch did."""
    assert done.best is not None
    if abs(done.best["top1"] - accuracy) > max(slack, 2 / done.best["total"]):
        raise MeasurementError(
            f"The weights in {done.folder} have a top-1 of {accuracy:.2%}; in epoch {done.best['epoch']} it "
            f"was {done.best['top1']:.2%}.",
            "train again; if it happens again, report it",
        )
