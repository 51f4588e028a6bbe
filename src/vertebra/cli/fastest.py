"""`vertebra pick MODEL --fastest`: the fastest form of one network, as a part of the verb `pick`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

import vertebra
from vertebra import units
from vertebra.cli.output import columns, emit
from vertebra.cli.progress import showing
from vertebra.cli.subject import CHOICES, weights_options
from vertebra.errors import InvalidInputError
from vertebra.measurements import display

if TYPE_CHECKING:
    from vertebra.campaigns.tuning import Found, Trial

Function = TypeVar("Function", bound=Callable[..., Any])

_USUAL_BUDGET = "60s"
_WEIGHTS = (
    "weights",
    "untrained",
    "labels",
    "preprocess",
    "sha256",
    "accept_unverified",
    "ema",
    "transform_input",
)
#: Parameters that only this part of `pick` has, and those that it shares with the rest.
_OWN = ("model", "threads", "seed", "export", *_WEIGHTS)
_SHARED = ("budget", "beside", "engine", "precision", "batch_size", "input_size", "table", "style")

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("model", required=False),
    click.option("--fastest", is_flag=True, help="Search for the fastest form of MODEL on this machine."),
    click.option("--threads", type=click.IntRange(min=1), multiple=True,
                 help="With --fastest: threads to try. Repeatable. [default: 1 to all cores]"),
    click.option("--seed", type=int, default=0, show_default=True,
                 help="With --fastest: seed of the random order of the blocks."),
    click.option("--export", metavar="FOLDER",
                 help="With --fastest: write that form as a Bundle, with these weights:"),
    weights_options,
)  # fmt: skip


def offered(command: Function) -> Function:
    """Adds MODEL, --fastest and its options to `pick`, and takes over if --fastest is given."""

    @functools.wraps(command)
    def pick(**options: Any) -> None:
        named = _named()
        if not options.pop("fastest"):
            _refuse([name for name in named if name in _OWN], "needs --fastest", "add --fastest")
            command(**{name: value for name, value in options.items() if name not in _OWN})
            return
        foreign = [name for name in named if name not in (*_OWN, *_SHARED, "fastest")]
        _refuse(foreign, "can't be combined with --fastest", "leave one of them out")
        _run(**{name: options[name] for name in (*_OWN, *_SHARED)})

    taken: Any = pick
    for option in reversed(_OPTIONS):
        taken = option(taken)
    return taken  # type: ignore[no-any-return]


def _named() -> list[str]:
    """The parameters that were given."""
    context = click.get_current_context()
    default = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    return [name for name in context.params if context.get_parameter_source(name) not in default]


def _refuse(named: list[str], why: str, hint: str) -> None:
    """Raise InvalidInputError about the first of the parameters `named`, if any."""
    if named:
        parameters = click.get_current_context().command.params
        first = next(parameter for parameter in parameters if parameter.name == named[0])
        raise InvalidInputError(f"{first.opts[0] if first.opts[0] != 'model' else 'MODEL'} {why}.", hint)


def _run(
    model: str | None, engine: tuple[str, ...], precision: tuple[str, ...], batch_size: tuple[int, ...],
    input_size: tuple[int, ...], beside: int | None, budget: str | None, threads: tuple[int, ...], seed: int,
    export: str | None, table: str | None, style: str, **weights: Any,
) -> None:  # fmt: skip

    if model is None:
        raise InvalidInputError("--fastest needs a network.", "name it: vertebra pick alexnet --fastest")
    budget = _USUAL_BUDGET if budget is None else budget
    if len(input_size) > 1:
        raise InvalidInputError("Forms are compared at one input size.", "pass only one --input-size")
    asked: dict[str, Any] = {
        name: value for name, value in weights.items() if value or (value is False and name in CHOICES)
    }
    if asked and export is None:
        _refuse([next(iter(asked))], "needs --export", "add --export FOLDER")
    with showing() as progress:
        found = vertebra.fastest(
            model, engine=_listed(engine), precision=_listed(precision) or "float32",
            batch_size=batch_size or 1, threads=threads, input_size=next(iter(input_size), None),
            beside=beside, budget=budget, seed=seed, export=export, table=table, progress=progress,
            **asked,
        )  # fmt: skip
    pairs = list(zip(found.trials, found.shares, strict=True))
    emit([_record(trial, found, share) for trial, share in pairs], style, lambda: _text(found, budget))


def _listed(several: tuple[str, ...]) -> tuple[str, ...]:
    """The values of an option that may be repeated or have commas."""
    return tuple(part.strip() for one in several for part in one.split(",") if part.strip())


def _record(trial: Trial, found: Found, share: float | None) -> dict[str, Any]:
    """One form, in base units."""
    form, row = trial.form, trial.latency
    return {
        "model": found.model,
        "verdict": trial.verdict,
        "engine": form.engine,
        "precision": form.precision,
        "threads": form.threads,
        "layout": form.layout,
        "batch_size": form.batch_size,
        "beside": None if row is None else row.beside,
        "latency": None if row is None else row.value,
        "low": None if row is None else row.low,
        "high": None if row is None else row.high,
        "seconds_per_image": trial.seconds,
        "to_eager": found.to_eager(trial),
        "roofline": share,
        "samples": None if row is None else row.samples,
        "grade": None if row is None else row.grade,
        "reason": trial.reason,
    }


def _text(found: Found, budget: str) -> str:
    """The answer for people."""
    best = found.fastest
    busy = None if best.latency is None else best.latency.beside
    where = f"here, beside {display.count(busy, 'busy thread')}," if busy else "here"
    lines = [f"The fastest form of {found.model} {where} is {best.form}: {_interval(best)}."]
    lines += ["", columns(list(map(functools.partial(_line, found), found.trials, found.shares))), ""]
    ran = sum(trial.seconds is not None for trial in found.trials)
    lines.append(f"{ran} of {len(found.trials)} forms were timed, in {found.seconds:.0f} s of {budget}.")
    if any(trial.form.precision != "float32" for trial in found.trials):
        lines.append("Precisions other than float32 change the outputs, within the limit that is checked.")
    return "\n".join([*lines, *found.notes, *_exported(found)])


def _interval(trial: Trial) -> str:
    row = trial.latency
    assert row is not None
    latency, bounds = units.show(row.value, "s"), display.interval(row)
    return latency if bounds is None else f"{latency} ({bounds})"


def _line(found: Found, trial: Trial, share: float | None) -> dict[str, Any]:
    form, row = trial.form, trial.latency
    ratio = found.to_eager(trial)
    several = {other.form.batch_size for other in found.trials} != {1}
    return {
        "form": str(form),
        "latency": None if row is None else units.show(row.value, "s"),
        "per image": units.show(trial.seconds, "s") if several and trial.seconds else None,
        "to eager": None if ratio is None else f"{ratio:.2f}x",
        "of roofline": None if share is None else f"{share:.0%}",
        "samples": None if row is None else row.samples,
        "grade": None if row is None else row.grade,
        "verdict": trial.verdict,
        "why": trial.reason,
    }


def _exported(found: Found) -> list[str]:
    """Where the Bundle is, and how to run it as it was measured."""
    shipped = found.to_ship()
    if found.bundle is None or shipped is None:
        return []
    form = shipped.form
    lines = [f"It is written to {found.bundle}."]
    if shipped is not found.fastest:
        engine = found.fastest.form.engine
        lines = [f"{engine} can't open Bundles; {found.bundle} has the fastest form that can: {form}."]
    return [*lines, f"Run it with: --engine {form.engine} --threads {form.threads}"]
