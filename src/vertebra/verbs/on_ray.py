"""`predict` and `evaluate` with `on`: the same answers, from the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError
from vertebra.machine import cluster
from vertebra.progress import Listener, silent

if TYPE_CHECKING:
    from vertebra.data.datasets import Dataset
    from vertebra.inference.loading import Loaded
    from vertebra.inference.prediction import Given, Prediction
    from vertebra.measuring.evaluation import Evaluation


def predictions(
    sources: Sequence[Given],
    *,
    model: str | Path,
    on: str,
    asked: Mapping[str, Any],
    beside: Path | None,
    progress: Listener | None,
    loaded_by: Mapping[str, Any],
) -> Generator[Prediction]:
    """The predictions of the pictures in `sources`, in order, as soon as all before them are there.

    `asked` are the options of `prediction.answers`. Until the end the answers are kept next to the file
    `beside`, or in the user's cache. Raises InvalidInputError for a picture that isn't a file.
    """
    from vertebra.inference import loading, on_ray, parts, prediction

    cluster.checked(on)
    cluster.require("data")
    prediction.check_counts(asked["top"], max_pixels=asked["max_pixels"])
    _refuse_streams(sources)
    places = [parts.place(one.name, one.content, error=one.error) for one in prediction.pictures_of(sources)]
    options = {**parts.placed(loaded_by), "features": asked["features"]}
    with loading.load(_whole(model), **options, progress=progress) as loaded:
        if asked["features"]:
            loaded.check_features()
        order = on_ray.Order(_whole(model), options, "predict", asked, on_ray.identity(loaded))
        size = loaded.settings.batch_size
    wanted = parts.divided(places, size, order.told())
    with parts.kept(wanted, beside) as kept:
        found = on_ray.answered(order, wanted, kept, on=on, text="predicting", progress=progress or silent)
        there, turn = set[int](), 0
        for part in found:
            there.add(part.number)
            while turn in there:
                yield from on_ray.predictions_of(*kept.read(wanted[turn]))
                turn += 1


def _refuse_streams(sources: Sequence[Given]) -> None:
    from vertebra.inference.prediction import sources as known

    for one in sources:
        text = f"<{len(one):,} bytes>" if isinstance(one, bytes) else str(one)
        if not known.is_on_disk(one) or text.lower().endswith(known.VIDEOS):
            raise InvalidInputError(
                f"{text[:100]} isn't pictures in files; --on ray sends the nodes the paths of pictures.",
                "pass files, folders or patterns, or leave --on out",
            )


def evaluated(
    model: str | Path,
    pictures: Dataset,
    loaded: Loaded,
    *,
    on: str,
    by_index: bool,
    limit: int | None,
    strict: bool,
    progress: Listener | None,
    loaded_by: Mapping[str, Any],
) -> Evaluation:
    """As `evaluation.evaluate`, of the network that is `loaded` here as it is on the nodes."""
    from vertebra.inference import on_ray, parts
    from vertebra.measuring import evaluation
    from vertebra.measuring.evaluation import Count, match

    outputs = match(pictures, loaded.labels, loaded.num_classes, by_index=by_index)
    total = len(pictures) if limit is None else min(limit, len(pictures))
    places = [parts.place(one.name, one.source, label=one.label) for one in pictures.first(total)]
    asked = {"outputs": tuple(outputs), "strict": strict}
    options = {**parts.placed(loaded_by), "batch_size": loaded.settings.batch_size}
    order = on_ray.Order(_whole(model), options, "count", asked, on_ray.identity(loaded))
    wanted = parts.divided(places, loaded.settings.batch_size, order.told())
    with parts.kept(wanted) as kept:
        for _ in on_ray.answered(
            order, wanted, kept, on=on, text=f"evaluating on {pictures.name}", progress=progress or silent
        ):
            pass
        counts = [Count.from_dict(kept.read(part)[0]) for part in wanted]
        seconds = kept.seconds
    found = counts[0]
    for one in counts[1:]:
        found.merge(one)
    return evaluation.result(
        pictures, found, loaded.preprocess, outputs, num_classes=loaded.num_classes, labels=loaded.labels,
        by_index=by_index, total=total, seconds=seconds,
    )  # fmt: skip


def _whole(model: str | Path) -> str | Path:
    """A network's name, or the whole path of its file or Bundle."""
    from vertebra.inference import parts, resolving

    is_file = resolving.is_bundle(model) or ":" in str(model)
    found: str | Path = parts.whole_path(model) if is_file else model
    return found
