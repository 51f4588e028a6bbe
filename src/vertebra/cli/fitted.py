"""What `vertebra fit` prints: the winner first, its figures beside the limits, and what to do next."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vertebra import units
from vertebra.cli.output import columns
from vertebra.cli.terminal import line
from vertebra.measurements import display
from vertebra.measuring.evaluation.paired import Pair
from vertebra.metrics import METRICS
from vertebra.reading.choice import terms
from vertebra.reading.choice.contender import MissedLimitError
from vertebra.reading.choice.terms import TOLD
from vertebra.reading.reports.fitted import by_class, compared

if TYPE_CHECKING:
    from vertebra.reading.reports.fitted import Fitted

#: Classes that are printed, the worst first, where there are more.
_MOST_CLASSES = 10


def record(done: Fitted) -> dict[str, Any]:
    """The result for programs, in base units."""
    low, high = done.interval
    gain = done.preparation
    figures = {name: done.row.value(name) for name in ("latency", "fps", "memory_total")}
    return {
        "bundle": str(done.bundle.folder),
        "model": done.winner.name,
        "weights": done.bundle.weights,
        "licence": done.bundle.licence,
        "engine": done.winner.engine,
        "precision": done.bundle.precision,
        "pictures": done.inspection.identity,
        "images": done.quoted.total,
        "classes": len(done.inspection.classes),
        "top1": done.accuracy,
        "top1_low": low,
        "top1_high": high,
        "majority": done.quoted.majority,
        "chosen_in_folds": list(done.race.chosen),
        **figures,
        "preprocess": None if done.bundle.preprocess is None else asdict(done.bundle.preprocess),
        "prepared": "asked" if done.winner.preprocess is not None else done.winner.tried or "own",
        "gained_by_preparation": None if gain is None else asdict(gain),
        "runner_up": None if done.race.runner_up is None else done.race.runner_up.name,
        "failures": {name: error.message for name, error in done.failures.items()},
        "unmet": dict(done.unmet),
        "finetuned": [
            {"model": one.name, "epochs": one.epochs, "ships": one.ships, "why": one.why,
             "top1": None if one.held is None else one.held.accuracy,
             "gained": None if one.difference is None else one.difference.difference,
             "gained_low": None if one.difference is None else one.difference.low,
             "gained_high": None if one.difference is None else one.difference.high}
            for one in done.finetuned
        ],
    }  # fmt: skip


def text(done: Fitted) -> str:
    """The answer for people."""
    classes = by_class(done.answers, done.inspection)
    blocks = [_head(done), _limits(done), _beside(done)]
    blocks += [[columns(classes[:_MOST_CLASSES])], _more(len(classes))]
    blocks += [_finetuned(done)]
    blocks += [[*_second(done), *_relaxed(done), *_curve(done)], _next(done)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _head(done: Fitted) -> list[str]:
    quoted, (low, high) = done.quoted, done.interval
    gap = f"the largest class has {quoted.majority:.1%}"
    how = "the network, too, was chosen without them" if len(done.contenders) > 1 else "cross-validated"
    if len(done.contenders) == 1 and done.preparation is not None:
        how = "how pictures are prepared, too, was chosen without them"
    if done.is_finetuned:
        how = f"all its layers were trained on, chosen among {len(done.finetuned)}"
    elif not done.is_first_choice:
        how = (
            f"{done.race.winner} was chosen, but missed a limit with its head: {done.unmet[done.race.winner]}"
        )
    lines = [
        f"{done.winner.name} on {done.winner.engine}{_precision(done)}, with a head for "
        f"{len(done.inspection.classes)} classes",
        f"top-1 {quoted.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}) on {quoted.total:,} pictures "
        f"that the head hadn't seen; {how}; {gap}",
        *_in_float32(done),
        _licence(done),
    ]
    return [line(one) for one in [*lines, *_prepared(done)]]


def _prepared(done: Fitted) -> list[str]:
    """How pictures are prepared, where this was asked for or chosen, and what the other way would give."""
    record = done.bundle.preprocess
    size = "input" if record is None else "x".join(map(str, record.input_size))
    whole = f"pictures are squeezed whole to {size}"
    if done.winner.preprocess is not None:
        return [f"pictures are prepared as asked: {_words(done)}"]
    gain = done.preparation
    if gain is None:
        return []
    if done.winner.tried:
        told = f"{100 * gain.difference:+.1f} points ({_points(gain)})"
        unsure = ", which isn't sure; to crop them: --preprocess own" if gain.tied else ", surely more"
        return [f"{whole}, not cropped as for its weights: {told}{unsure}"]
    other = Pair(-gain.difference, -gain.high, -gain.low)
    told = f"{100 * other.difference + 0.0:+.1f} points ({_points(other)})"
    unsure = ", which isn't sure; to take them so: --preprocess whole" if other.tied else ", surely less"
    return [f"pictures are prepared as for its weights; squeezed whole: {told}{unsure}"]


def _words(done: Fitted) -> str:
    if isinstance(done.winner.preprocess, str):
        return done.winner.preprocess
    record = done.bundle.preprocess
    if record is None:
        return "not recorded"
    resize = "x".join(map(str, record.resize)) if isinstance(record.resize, tuple) else str(record.resize)
    return f"resize {resize} {record.interpolation}, crop {record.input_size[0]}"


def _precision(done: Fitted) -> str:
    return "" if done.rounded is None else f" in {done.bundle.precision}"


def _in_float32(done: Fitted) -> list[str]:
    """What the accuracy is before it was rounded."""
    if done.rounded is None:
        return []
    usual = done.in_float32
    return [
        f"in float32 {usual.accuracy:.1%} ({usual.low:.1%} to {usual.high:.1%}); each fold was answered in "
        f"{done.bundle.precision} by a network that was fitted and rounded without it"
    ]


def _licence(done: Fitted) -> str:
    licence = done.bundle.licence
    if licence is None and done.winner.is_own:
        return f"weights {done.bundle.weights}: your own file; it states no licence"
    allowed = terms.terms(None if licence is None else licence.lower())
    return f"weights {done.bundle.weights}: {licence or 'licence not stated'}" + (
        f" ({TOLD[allowed]})" if allowed in TOLD else ""
    )


def _limits(done: Fitted) -> list[str]:
    """The figures here, those with a limit first."""
    asked = {limit.metric: limit for limit in done.limits}
    shown = dict.fromkeys((*asked, "latency", "memory_total"))
    lines = []
    for metric in shown:
        figure = done.row.figures.get(metric)
        if figure is None:
            continue
        limit = asked.get(metric)
        lines.append(
            {
                "here": METRICS[metric].label,
                "value": display.quantity(figure),
                "95 % interval": display.interval(figure),
                "limit": None if limit is None else units.show_bound(limit.bound, METRICS[metric].unit),
            }
        )
    return [columns(lines)] if lines else []


def _beside(done: Fitted) -> list[str]:
    """The networks that were compared."""
    return [columns(compared(done))] if len(done.contenders) > 1 else []


def _more(count: int) -> list[str]:
    return [f"and {count - _MOST_CLASSES} more classes (--save FOLDER)"] if count > _MOST_CLASSES else []


def _finetuned(done: Fitted) -> list[str]:
    """The networks that were trained on, and why each ships or not."""
    lines = []
    for one in done.finetuned:
        share = "" if one.held is None else f" ({one.epochs} epochs): {one.held.accuracy:.1%}"
        lines.append(line(f"{one.name} trained on{share}; {one.why}"))
    return lines


def _second(done: Fitted) -> list[str]:
    """The runner-up, and how far it is behind."""
    second = done.race.runner_up
    if second is None or second.difference is None:
        return []
    cost, gap = units.show(second.cost / 1000, "s"), _points(second.difference)
    told = f"{100 * second.difference.difference:+.1f} points of top-1 ({gap})"
    unsure = ", which isn't sure" if second.difference.tied else ""
    return [line(f"Runner-up: {second.name}, {cost}: {told} on {second.pictures:,} pictures{unsure}.")]


def _relaxed(done: Fitted) -> list[str]:
    """What would compete too if a limit were relaxed."""
    missed = {name: error.misses for name, error in done.failures.items()
              if isinstance(error, MissedLimitError)} | dict(done.unmet)  # fmt: skip
    return [line(f"With a relaxed limit {name} competes too: {why}.") for name, why in missed.items()]


def _curve(done: Fitted) -> list[str]:
    """What more pictures would buy."""
    curve, names = done.race.curve, [name for name, _ in done.inspection.classes]
    half, gain = curve.points[-2], curve.gain
    told = {
        True: "more pictures surely help",
        False: "twice as many would surely add less than 2 points",
        None: "these pictures don't show whether more would help",
    }[gain.more_helps]
    lines = [
        f"Fitted on {half.fitted:,} of the pictures instead of {curve.points[-1].fitted:,}, "
        f"{done.race.winner} is right on {half.accuracy:.1%}: {told} ({_points(gain.pair)})."
    ]
    if curve.gaining:
        gaining = ", ".join(names[label] for label in curve.gaining[:5])
        lines.append(f"Classes that surely gained from more: {gaining}.")
    return [line(one) for one in lines]


def _points(pair: Pair) -> str:
    return f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f} points"


def _next(done: Fitted) -> list[str]:
    folder = shlex.quote(str(done.bundle.folder))
    if not folder.startswith(("/", ".", "'")):
        folder = f"./{folder}"
    return [f"Bundle: {folder}", f"Next: vertebra predict PHOTO -m {folder}"]
