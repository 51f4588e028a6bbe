"""After a training that compresses: the Bundles of both sides, and what the smaller one cost and bought."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles, engines
from vertebra.bundles import runs
from vertebra.data.batches import in_batches
from vertebra.engines import Settings, Subject
from vertebra.errors import ImageError, MeasurementError, VertebraError, warn
from vertebra.machine import files, leftovers, system
from vertebra.progress import Listener, Progress

if TYPE_CHECKING:
    from vertebra.bundles import Bundle
    from vertebra.training.job import Job
    from vertebra.training.outcome import Outcome, Side

#: In a run's folder: the int8 Bundle.
INT8 = "int8"
#: Pictures of the training that ranges are calibrated and checked on, where the training left any open.
_PICTURES = 128
#: Of the held-out pictures this share keeps the first class of what was trained.
_GUARD = 0.9
_BATCH = 16


def in_eight_bits(job: Job, progress: Listener) -> Path:
    """The int8 Bundle of a run that was trained in eight bits, in its folder. Raises MeasurementError where
    it can't be made."""
    from vertebra.verbs import export as exporting

    folder = job.folder / INT8
    progress(Progress(f"exporting {folder}"))
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        _write_pictures(job, Path(scratch))
        try:
            exporting.export(
                job.model, folder, weights=job.folder, precision="int8", calibrate=scratch, guard=_GUARD,
                progress=progress,
            )  # fmt: skip
        except VertebraError as error:
            raise MeasurementError(
                f"The training is done and its weights are in {job.folder}, but they have no int8 Bundle: "
                f"{error.message}",
                f"make it from other pictures: vertebra export {job.model} --weights {job.folder} "
                "--precision int8 --calibrate PICTURES -o FOLDER",
            ) from error
    return folder


def _write_pictures(job: Job, folder: Path) -> None:
    """Some of the pictures that the network was trained on, in their own size."""
    import numpy as np
    from PIL import Image

    from vertebra.data.preprocess import decode

    used = [place for place, label in enumerate(job.labels) if label >= 0]
    step = max(1, len(used) // _PICTURES)
    wanted = set(used[::step][:_PICTURES])
    for place, sample in enumerate(job.data):
        if place in wanted:
            source = sample.source
            try:
                pixels = source if isinstance(source, np.ndarray) else decode(
                    source, apply_orientation=job.recipe.evaluation.apply_orientation
                )  # fmt: skip
            except ImageError:  # training, which reads them all, has said so
                continue
            Image.fromarray(pixels).save(folder / f"{place:08}.png")


def outcomes(
    job: Job, asked: Mapping[str, Any], int8: Path | None, progress: Listener
) -> list[dict[str, Any]]:
    """What the training's compression cost and bought, also written into the run's folder: against the
    network that it began with, where that had these classes, and against the teacher; and for an ACNet what
    fusing it bought. None of it where nothing was compressed."""
    told: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        for before, after in _pairs(job, asked, int8, Path(scratch), progress):
            outcome = _compare(job, before, after)
            told.append({**outcome.to_dict(), "line": outcome.line()})
    if told:
        text = json.dumps({"outcomes": told}, indent=2) + "\n"
        files.write_whole(job.folder / runs.OUTCOMES, text.encode())
    return told


def _pairs(
    job: Job, asked: Mapping[str, Any], int8: Path | None, scratch: Path, progress: Listener
) -> Iterator[tuple[tuple[str, Path], tuple[str, Path]]]:
    """Each comparison's two Bundles with what they are called."""
    from vertebra.training import fusing
    from vertebra.verbs import export as exporting

    made: dict[str, Path] = {} if int8 is None else {"trained": int8}

    def bundle(name: str, model: str, source: str | Path | None, **checks: Any) -> Path:
        if name not in made:
            made[name] = scratch / name
            progress(Progress(f"exporting {model} to compare it"))
            exporting.export(model, made[name], weights=source, **checks)
        return made[name]

    if asked["quantise"] is not None or asked["prune"] is not None:
        what = "in eight bits" if asked["quantise"] is not None else "pruned"
        if _began_with_the_classes(job):
            start = bundle("start", job.model, job.weights, **job.checks)
            yield ("before", start), (what, bundle("trained", job.model, job.folder))
        else:
            warn(
                f"there is no accuracy before: the network began with a new head, so {what} it is compared "
                "with nothing",
                "train it on these classes first, then compress the run: --weights RUN",
            )
    if asked["teacher"] is not None:
        from vertebra.training import compressing

        teacher = asked["teacher"]
        source = asked["teacher_weights"] or compressing.published(teacher)
        yield (teacher, bundle("teacher", teacher, source)), (
            job.model, bundle("trained", job.model, job.folder)
        )  # fmt: skip
    if fusing.deployed(job.model) != job.model:
        fused, proof = fusing.finish(job)
        progress(Progress(proof.line()))
        yield (
            ("three branches", bundle("trained", job.model, job.folder)),
            ("fused", bundle("fused", fusing.deployed(job.model), fused)),
        )


def _began_with_the_classes(job: Job) -> bool:
    from vertebra.training import beginning

    return job.weights is not None and beginning.has_classes(job.model, job.weights, job.checks, job.classes)


# ------------------------------------------------------------------ both sides


def _compare(job: Job, before: tuple[str, Path], after: tuple[str, Path]) -> Outcome:
    from vertebra.training import outcome

    first, second = (_Opened(name, bundles.read(folder), job) for name, folder in (before, after))
    try:
        return outcome.compare(first.side(), second.side())
    finally:
        first.close()
        second.close()


class _Opened:
    """A Bundle in the engine that it is compared in."""

    def __init__(self, name: str, kept: Bundle, job: Job) -> None:
        self._name, self._kept, self._job = name, kept, job
        settings = Settings(
            batch_size=1, input_size=kept.input_size, num_classes=kept.num_classes, precision=kept.precision,
            threads=job.threads or system.default_threads(),
        )  # fmt: skip
        self._session = engines.load("onnxruntime", Subject(kept.model, bundle=str(kept.folder)), settings)

    def side(self) -> Side:
        """The Bundle's answers to the pictures of the evaluation, its size, and a call of it."""
        from vertebra.training.outcome import Side

        image = self._session.prepare(self._kept.reference_pair(1)[0])
        return Side(
            self._name, self._right(), self._kept.file_bytes, lambda: self._session.infer(image)
        )  # fmt: skip

    def _right(self) -> Any:
        import numpy as np

        from vertebra.measuring import evaluation

        kept, data = self._kept, self._job.validation
        assert kept.preprocess is not None
        outputs = evaluation.match(data, kept.label_set(), kept.num_classes)
        found: list[bool] = []
        ready = in_batches(data, lambda sample: sample.source, kept.preprocess, _BATCH, reuse=True)
        with closing(ready):
            for batch in ready:
                for sample, image in zip(batch.readable, batch.images, strict=True):
                    answer = self._session.run(image[None])[0].argmax()
                    found.append(bool(answer == outputs[sample.label]))
        return np.array(found, bool)

    def close(self) -> None:
        """Release the network."""
        self._session.close()
