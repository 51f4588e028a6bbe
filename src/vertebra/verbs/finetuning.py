"""`fit --finetune`: the best few networks trained on, in the same folds, against the one with a fitted head.

Each fold is answered by a network that was trained on the others, so both sides' answers are to the same
pictures, which neither had seen. A trained network ships only where it is surely right more often, by the
interval of the paired difference.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.errors import InvalidInputError, VertebraError
from vertebra.machine import leftovers, system
from vertebra.progress import Progress, silent
from vertebra.reading.choice.precisions import USUAL
from vertebra.reading.reports.fitted import Finetuned
from vertebra.verbs import fitting, shipping

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measuring.evaluation.crossing import Held
    from vertebra.measuring.evaluation.racing import Race
    from vertebra.reading.choice.contender import Contender
    from vertebra.reading.reports.fitted import Fitted
    from vertebra.training.recipe import Recipe
    from vertebra.verbs.fitting import Job

    Logits = npt.NDArray[np.float32]

#: Networks that are trained on at most, and epochs.
FEW, MOST_EPOCHS = 2, 20
#: The part of the pictures that one training doesn't see, if it sees all: it is evaluated on some anyway.
_ALL = -1
_BATCH = 32
_LAST = "last.safetensors"


def check(precision: str) -> None:
    """Raise InvalidInputError for another precision than float32, and what `train` raises for a library that
    isn't installed."""
    from vertebra.verbs import train

    train._check_libraries()
    if precision != USUAL:
        raise InvalidInputError(
            f"Networks are trained on in {USUAL}; {precision} was asked for as well.",
            "leave one of --finetune and --precision out",
        )


def contend(job: Job, raced: Race, done: Fitted, folder: Path, budget_s: float) -> Fitted:
    """`done`, or a network that was trained on for at most about `budget_s` seconds and is surely better, in
    the folder of the Bundle. Either way `finetuned` says what was tried."""
    from vertebra.measuring.evaluation.paired import paired

    listener, end = job.progress or silent, time.monotonic() + budget_s
    tried: list[Finetuned] = []
    best: tuple[Finetuned, Contender, int] | None = None
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        some = _few(job, raced, done)
        for number, one in enumerate(some):
            trial = _Trial(job, one, Path(scratch) / str(number))
            left_s = (end - time.monotonic()) / (len(some) - number)
            try:
                epochs = trial.epochs(left_s)
                if not epochs:
                    tried.append(Finetuned(one.name, 0, None, None, trial.too_slow(left_s)))
                    continue
                held = trial.crossed(epochs)
            except VertebraError as error:
                tried.append(Finetuned(one.name, 0, None, None, f"it failed: {error.message}"))
                continue
            level = 1 - 0.05 / len(some)
            gap = paired(held.answered_right, done.held.answered_right, groups=job.sorted.groups, level=level)
            found = Finetuned(one.name, epochs, held, gap, _verdict(gap.low, gap.high, done.winner.name))
            listener(Progress(f"{one.name} trained on: {held.accuracy:.1%}; {found.why}"))
            tried.append(found)
            if gap.low > 0 and (best is None or held.accuracy > _accuracy(best[0])):
                best = found, one, number
        if best is None:
            return replace(done, finetuned=tuple(tried))
        found, one, number = best
        return _shipped(job, done, tuple(tried), found, _Trial(job, one, Path(scratch) / f"{number}"), folder)


def _accuracy(found: Finetuned) -> float:
    return 0.0 if found.held is None else found.held.accuracy


def _verdict(low: float, high: float, rival: str) -> str:
    span = f"{100 * low:+.1f} to {100 * high:+.1f} points against {rival} with a fitted head"
    if low > 0:
        return f"surely right more often: {span}"
    return f"surely right less often: {span}" if high < 0 else f"not surely right more often: {span}"


def _few(job: Job, raced: Race, done: Fitted) -> list[Contender]:
    """The best networks of those that the whole race was run with, with pictures prepared as was best."""
    whole = [one for one in raced.outcomes if one.held is not None and one.pictures == len(job.sorted.folds)]
    whole.sort(key=lambda one: -(one.held.accuracy if one.held else 0.0))
    found: dict[str, Contender] = {}
    for outcome in whole:
        one = job.contender(outcome.name)
        found.setdefault(one.name, one)
    if done.winner.name in found:  # what ships was chosen inside the folds
        found[done.winner.name] = done.winner
    return list(found.values())[:FEW]


@dataclass
class _Trial:
    """One network that is trained on, in folders inside `place`."""

    job: Job
    one: Contender
    place: Path
    epoch_s: float = math.inf

    @property
    def _folds(self) -> int:
        return max(self.job.sorted.folds) + 1

    def epochs(self, left_s: float) -> int:
        """The epochs that all folds, and the training on all pictures, have time for; 0 for none. One is
        trained to see how long it takes."""
        began = time.monotonic()
        self._train(0, 1, "measured")
        self.epoch_s = time.monotonic() - began
        return min(MOST_EPOCHS, int((left_s - self.epoch_s) / (self.epoch_s * (self._folds + 1))))

    def too_slow(self, left_s: float) -> str:
        """Why there was no time."""
        needed = self.epoch_s * (self._folds + 2)
        return (
            f"no time: an epoch takes {self.epoch_s:.0f} s, so {self._folds} folds and the whole need "
            f"{needed:.0f} s at least, and {left_s:.0f} s were left"
        )

    def crossed(self, epochs: int) -> Held:
        """The answers to each fold by a network that was trained on the others."""
        import numpy as np

        from vertebra.measuring.evaluation import crossing

        rows = self.job.sorted
        logits = np.zeros((len(rows.folds), self.job.classes), np.float32)
        for fold in range(self._folds):
            weights = self._train(fold, epochs, f"fold{fold}")
            mine = [row for row, own in enumerate(rows.folds) if own == fold]
            logits[mine] = self._answers(weights, mine)
        return crossing.summary(
            logits, np.asarray(rows.labels), np.asarray(rows.folds), penalties=[0.0] * self._folds,
            groups=rows.groups, balanced=self.job.balanced,
        )  # fmt: skip

    def whole(self, epochs: int) -> Path:
        """The weights that were trained on all pictures."""
        return self._train(_ALL, epochs, "whole")

    def _recipe(self, epochs: int, count: int) -> Recipe:
        from vertebra.inference import resolving
        from vertebra.training import recipes

        record = resolving.resolve(self.one.name, weights=self._source, **self.one.options).card.preprocess
        found = recipes.find("finetune", self.one.name, weights=record)
        changes: dict[str, object] = {"epochs": epochs, "early_stop": 0, "seed": self.job.seed}
        if epochs < 4:  # too few to spend any on the head alone or on warming up
            changes |= {"freeze_epochs": 0, "warmup_epochs": 0}
        return recipes.at_most(recipes.override(found, changes), count, 1)

    @property
    def _source(self) -> str:
        from vertebra.training import compressing

        return self.one.source or compressing.published(self.one.name)

    def _train(self, fold: int, epochs: int, name: str) -> Path:
        """The last epoch's weights of a training without the fold: the best epoch's would be chosen by it."""
        from vertebra.data import labels
        from vertebra.training import loop, pictures
        from vertebra.training.job import Job as Training

        rows, kept = self.job.sorted, self.job.sorted.inspection.kept
        outputs = [-1] * len(self.job.data)
        for row, own in enumerate(rows.folds):
            if own != fold:
                outputs[kept[row].place] = rows.labels[row]
        seen = 0 if fold == _ALL else fold
        others = [kept[row].place for row, own in enumerate(rows.folds) if own == seen]
        names = labels.from_names([name for name, _ in rows.inspection.classes]).names
        folder = self.place / name
        loop.train(
            Training(
                model=self.one.name, recipe=self._recipe(epochs, sum(one >= 0 for one in outputs)),
                data=self.job.data, labels=tuple(outputs), validation=pictures.part(self.job.data, others),
                classes=names, folder=folder, weights=self._source, checks=dict(self.one.checks),
                threads=system.default_threads(), workers=system.default_threads(),
            ),
            progress=self._listener(f"{self.one.name}, {name}"),
        )  # fmt: skip
        return folder / _LAST

    def _listener(self, text: str) -> Any:
        listener = self.job.progress or silent
        return lambda event: listener(replace(event, text=f"{text}: {event.text}"))

    def _answers(self, weights: Path, rows: Sequence[int]) -> Logits:
        """The logits of the pictures in these rows."""
        import numpy as np

        from vertebra.data.batches import in_batches
        from vertebra.inference import loading

        sources = list(fitting.sources_of(self.job, rows))
        with loading.load(self.one.name, weights=weights, engine="eager", usual_batch_size=_BATCH) as loaded:
            ready = in_batches(sources, lambda one: one, loaded.preprocess, _BATCH)
            with closing(ready):
                found = [loaded.logits(batch.images) for batch in ready]
        return np.concatenate(found)


def _shipped(
    job: Job, done: Fitted, tried: tuple[Finetuned, ...], found: Finetuned, trial: _Trial, folder: Path
) -> Fitted:
    """The trained network's Bundle in the place of the other one, if it meets the limits."""
    from vertebra.measuring.evaluation import fitted as facts

    assert found.held is not None
    one = trial.one
    kept = _bundle(job, found.held, found.epochs, trial, trial.place / "bundle")
    rows = facts.rows(kept)
    job.table.append(rows)
    made = shipping._Made(kept, list(rows))
    row, missed = shipping._met(job, made, one)
    if missed:
        named = tuple(replace(each, why=f"{each.why}, but {missed}") if each is found else each
                      for each in tried)  # fmt: skip
        return replace(done, finetuned=named, rows=(*done.rows, *made.rows))
    named = tuple(replace(each, ships=True) if each is found else each for each in tried)
    return replace(
        done, bundle=bundles.copy(kept, folder), winner=one, row=row, held=found.held, finetuned=named,
        rows=(*done.rows, *made.rows),
    )  # fmt: skip


def _bundle(job: Job, held: Held, epochs: int, trial: _Trial, folder: Path) -> bundles.Bundle:
    """The network trained on all pictures as a Bundle that says so."""
    from vertebra.bundles.fitted import Fitted as Facts
    from vertebra.data.labels import LabelSet
    from vertebra.inference import kept_exports, resolving

    one, found = trial.one, job.sorted.inspection
    before = resolving.resolve(one.name, weights=one.source, **one.checks).card
    made = Facts(
        pictures=found.identity, pictures_sha256=found.sha256, classes=found.classes, folds=trial._folds,
        accuracy=held.accuracy, low=held.low, high=held.high,
        how=f"all layers trained on for {epochs} epochs; each fold by a network that hadn't seen it",
        remarks=tuple(found.remarks()[:8]), network_weights=before.weights,
        network_sha256=before.weights_sha256, permits=fitting._OWN if one.is_own else None,
    )  # fmt: skip
    resolved = resolving.resolve(one.name, weights=trial.whole(epochs))
    card = replace(
        resolved.card, weights=made.name, licence=before.licence, outputs="logits",
        labels=LabelSet(made.pictures, tuple(name for name, _ in made.classes)),
    )  # fmt: skip
    kept = kept_exports.export(replace(resolved, card=card), folder, engine=one.engine)
    split = zip(found.kept, job.sorted.folds, strict=True)
    return bundles.add_fitted(kept, made, [(picture.sha256, fold) for picture, fold in split])
