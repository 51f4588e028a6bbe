"""`vertebra.evaluate`: accuracy on labelled pictures; `vertebra.probe`: of a probe on frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra._version import __version__
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, now
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.data.datasets import Dataset
    from vertebra.inference.loading import Loaded
    from vertebra.progress import Listener, Progress
    from vertebra.reading.reports.evaluated import Evaluated

#: In place of a label set: class n is output n.
BY_INDEX = "index"
#: For a network that takes any.
BATCH_SIZE = 32


def evaluate(
    model: str | Path,
    dataset: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    verify: bool = False,
    batch_size: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    table: TableLike = None,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Evaluated:
    """Evaluate `model`, a network's name or a Bundle's folder, over the labelled pictures at `dataset`, and
    append its accuracy.

    `dataset`, `format`, `split`, `truth`, `name` and `verify` are those of `data.open`; `limit` is the most
    images to read, `strict` stops at one that can't be read. `loaded_by` are the options of `loading.load`:
    weights, engine, threads, labels ("index" matches classes by their position), ...
    """
    from vertebra.data import datasets

    pictures = datasets.open(dataset, format=format, split=split, truth=truth, name=name, verify=verify)
    found = _evaluated(
        model, pictures, batch_size=batch_size, limit=limit, strict=strict,
        progress=notebook.listener(progress), **loaded_by,
    )  # fmt: skip
    given.table(table).append(found.rows)
    return found


def probe(
    dataset: str | Path,
    *models: str | Path,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    folds: int = 5,
    table: TableLike = None,
    progress: Listener | None = None,
    **options: Any,
) -> list[Measurement]:
    """Accuracy of a probe for each of `models` on the labelled pictures at `dataset`: logistic regression on
    frozen features, cross-validated. Each network's row is appended as soon as it is known.

    `options` are batch_size, strict, and those of `loading.load`. `probing` defines the interval.
    """
    from vertebra.data import datasets

    if not models:
        raise InvalidInputError(
            "No network was named to probe.", "name at least one; to see them: vertebra list"
        )
    into = given.table(table)
    pictures = datasets.open(dataset, format=format, split=split, truth=truth, name=name)
    measured: list[Measurement] = []
    for rows in _probed(models, pictures, folds=folds, progress=notebook.listener(progress), **options):
        into.append(rows)
        measured += rows
    return measured


def _evaluated(
    model: str | Path,
    pictures: Dataset,
    *,
    batch_size: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Evaluated:
    from vertebra.inference import loading
    from vertebra.measuring import evaluation
    from vertebra.reading.reports.evaluated import Evaluated

    by_index = loaded_by.get("labels") == BY_INDEX
    if by_index:
        del loaded_by["labels"]
    with loading.load(
        model, batch_size=batch_size, usual_batch_size=BATCH_SIZE, progress=progress, **loaded_by
    ) as loaded:
        found = evaluation.evaluate(
            pictures, loaded.logits, loaded.preprocess, num_classes=loaded.num_classes, labels=loaded.labels,
            by_index=by_index, batch_size=loaded.settings.batch_size, limit=limit, strict=strict,
            progress=progress,
        )  # fmt: skip
        conditions = _conditions(loaded)
    rows = evaluation.rows(found, conditions)
    return Evaluated(loaded.model, loaded.weights, loaded.engine, found, rows)


def _probed(
    models: Sequence[str | Path],
    pictures: Dataset,
    *,
    folds: int = 5,
    batch_size: int | None = None,
    strict: bool = False,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Iterator[list[Measurement]]:
    """The rows of each network's probe."""
    from vertebra.inference import loading
    from vertebra.measuring.evaluation import probing

    probing.require()
    images = probing.look(pictures)
    for model in models:
        with loading.load(
            model, engine="eager", batch_size=batch_size, usual_batch_size=BATCH_SIZE, progress=progress,
            **loaded_by,
        ) as loaded:  # fmt: skip
            found = probing.probe(
                pictures, images, loaded.features, loaded.preprocess, folds=folds,
                batch_size=loaded.settings.batch_size, strict=strict,
                progress=None if progress is None else _named(progress, f"features of {model}"),
            )  # fmt: skip
            conditions = _conditions(loaded, "scikit-learn")
            # Features don't depend on the engine: the row is valid for every one.
            del conditions["engine"], conditions["device"]
        yield probing.rows(found, conditions)


def _named(progress: Listener, text: str) -> Listener:
    """A listener that passes events on with another text."""

    def renamed(event: Progress) -> None:
        progress(replace(event, text=text))

    return renamed


def _conditions(loaded: Loaded, *libraries: str) -> dict[str, Any]:
    """The conditions of the rows, as the runtime reports them."""
    from vertebra import engines
    from vertebra.machine import system

    effective = loaded.session.effective()
    packages = engines.find(loaded.engine).distributions
    return {
        "model": loaded.model,
        "weights": loaded.weights or "untrained",
        "network_sha256": loaded.network_sha256,
        "engine": loaded.engine,
        "precision": effective.get("precision") or loaded.settings.precision,
        "device": effective.get("device") or loaded.settings.device,
        "versions": {"vertebra": __version__, **system.library_versions((*packages, *libraries))},
        "measured_at": now(),
    }
