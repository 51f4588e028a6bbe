"""The winner of `fit` in eight bits, with an accuracy of its own.

Rounding a network changes its features, so what its head reaches in float32 isn't what the rounded Bundle
does. So for each fold the network that was chosen without it gets a head that hasn't seen it, and is rounded
as the Bundle is, calibrated on pictures of the other folds; its answers to the fold are pooled.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.machine import leftovers
from vertebra.progress import Progress, silent
from vertebra.reading.choice.precisions import USUAL
from vertebra.verbs import fitting
from vertebra.verbs.fitting import Job, Sorted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.bundles import Bundle
    from vertebra.bundles.fitted import Fitted as Facts
    from vertebra.measurements import Measurement
    from vertebra.measuring.evaluation.crossing import Held
    from vertebra.measuring.evaluation.racing import Outcome, Race
    from vertebra.reading.choice.contender import Contender

#: How many times over a limit a network may be in float32: eight bits are a quarter of its size, and seldom
#: more than four times as fast.
_SLACK = 4.0
#: Pictures for the calibration and its guard; more are left out, evenly.
_MOST = 256


class NotRoundedError(MeasurementError):
    """The network doesn't ship in the precision asked for, and another may."""


def engines(precision: str, asked: Sequence[str]) -> tuple[str, ...]:
    """Those of the engines `asked` that have Bundles in this precision. Raises InvalidInputError if there are
    none, or fit makes none in it, and MissingRuntimeError if something isn't installed."""
    from vertebra.exporting import converted, quantisation

    if precision == USUAL:
        return tuple(asked)
    if precision not in quantisation.PRECISIONS:
        raise InvalidInputError(
            f"fit makes no Bundle in {precision}: it would be the one in {USUAL}, run otherwise.",
            f"fit in {USUAL}; then vertebra eval BUNDLE PICTURES --precision {precision} measures how "
            f"accurate it is so; Bundles of their own are made in: {', '.join(quantisation.PRECISIONS)}",
        )
    able, refused = [], None
    for name in asked:
        try:
            converted.check(name, precision, quantisation.Calibration(folder=Path()))
            able.append(name)
        except VertebraError as error:
            refused = error
    if refused is not None and not able:
        raise refused
    return tuple(able)


def slack(precision: str) -> float:
    """How many times over a limit a contender may be, measured in float32."""
    return 1.0 if precision == USUAL else _SLACK


def check(precision: str, pictures: Sorted) -> None:
    """Raise InvalidInputError where there are too few pictures to round with, in all but any one fold."""
    from vertebra.exporting.quantisation.pictures import LEAST_PICTURES

    if precision == USUAL:
        return
    folds = pictures.folds
    least = min(len(folds) - folds.count(fold) for fold in set(folds))
    if least < LEAST_PICTURES:
        raise InvalidInputError(
            f"Without one of the folds {least} pictures are left; {precision} is calibrated on at least "
            f"{LEAST_PICTURES}.",
            f"add pictures, or fit in {USUAL}",
        )


def held(job: Job, raced: Race, outcome: Outcome, one: Contender) -> Held:
    """The answers in the job's precision to each picture by a network and head that haven't seen it, the
    network being the one that was chosen without its fold. Raises MeasurementError where the guard doesn't
    hold."""
    import numpy as np

    from vertebra.measuring.evaluation import crossing

    is_first = outcome.name == raced.winner
    float_held = raced.nested if is_first else outcome.held
    assert float_held is not None
    count = int(float_held.folds.max()) + 1
    chosen = [job.contender(name) for name in raced.chosen] if is_first else [one] * count
    logits = np.zeros_like(float_held.logits)
    event = Progress(f"rounding to {job.precision}, and answering the pictures left out", 0, count, "folds")
    for fold, network in enumerate(chosen):
        (job.progress or silent)(replace(event, done=fold))
        tested = np.flatnonzero(float_held.folds == fold)
        logits[tested] = _answers(job, raced, outcome, network, one.engine, fold, float_held)
    (job.progress or silent)(replace(event, done=count))
    return crossing.summary(
        logits, float_held.labels, float_held.folds, penalties=float_held.penalties,
        groups=job.sorted.groups, balanced=job.balanced,
    )  # fmt: skip


def _answers(
    job: Job, raced: Race, outcome: Outcome, network: Contender, engine: str, fold: int, float_held: Held
) -> npt.NDArray[np.float32]:
    """Logits of a fold's pictures (N, C), by a network that was fitted and rounded on the others."""
    import numpy as np

    from vertebra.exporting import joined
    from vertebra.measuring.evaluation import heads

    rest, tested = np.flatnonzero(float_held.folds != fold), np.flatnonzero(float_held.folds == fold)
    vectors = fitting.extractor(network, job)(range(len(float_held.folds)))
    head = heads.fit(
        vectors[rest], float_held.labels[rest].tolist(), classes=job.classes,
        penalty=float_held.penalties[fold], balanced=job.balanced,
    )  # fmt: skip
    facts = fitting.facts_of(job, raced, outcome, network, head)
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        place = Path(scratch)
        kept = fitting.joined(job, network, head, facts, place / "joined")
        kept = _rounded(job, kept, engine, rest.tolist(), place)
        return joined.answers(kept, fitting.sources_of(job, tested.tolist()), len(tested), engine=engine)


def described(made: Facts, found: Held, precision: str) -> Facts:
    """What the head was fitted on, with its accuracy in this precision."""
    return replace(
        made, accuracy=found.accuracy, low=found.low, high=found.high, precision=precision,
        how=f"{made.how}; rounded to {precision} in each fold",
    )  # fmt: skip


def shipped(job: Job, kept: Bundle, one: Contender, scratch: Path) -> tuple[Bundle, list[Measurement]]:
    """The Bundle `kept` in the job's precision, calibrated on the pictures, and the rows of it."""
    from vertebra.measuring.evaluation import fitted as facts

    made = _rounded(job, kept, one.engine, range(len(job.sorted.folds)), scratch)
    return made, facts.rows(made, counted=kept)


def _rounded(job: Job, kept: Bundle, engine: str, rows: Sequence[int], scratch: Path) -> Bundle:
    """The Bundle for `engine` in the job's precision, calibrated on the pictures in `rows`."""
    from vertebra.exporting import converted
    from vertebra.exporting.quantisation import Calibration

    pictures = scratch / "pictures"
    pictures.mkdir()
    step = max(1, len(rows) / _MOST)
    taken = [rows[int(number * step)] for number in range(min(len(rows), _MOST))]
    _write(job, taken, pictures)
    try:
        return converted.convert(
            kept, scratch / "rounded", engine=engine, precision=job.precision,
            calibration=Calibration(folder=pictures),
        )  # fmt: skip
    except MeasurementError as error:
        raise NotRoundedError(f"in {job.precision}: {error.message}", error.hint) from error


def _write(job: Job, rows: Sequence[int], folder: Path) -> None:
    """The pictures in these rows as files."""
    from PIL import Image

    for number, source in enumerate(fitting.sources_of(job, rows)):
        if isinstance(source, str | Path):
            shutil.copyfile(source, folder / f"{number:05d}{Path(source).suffix or '.jpg'}")
        elif isinstance(source, bytes | bytearray | memoryview):
            (folder / f"{number:05d}.jpg").write_bytes(source)
        else:
            Image.fromarray(source).save(folder / f"{number:05d}.png")
