"""The head of a Bundle that was fitted on pictures: the row of its accuracy, and whether pictures are among
those that it was fitted on."""

from __future__ import annotations

from collections.abc import Iterable

from vertebra.bundles import Bundle
from vertebra.bundles.fitted import read_split
from vertebra.bundles.manifest import SPLIT
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, now
from vertebra.measurements.possible import plain_names


def lists_pictures(kept: Bundle) -> bool:
    """Whether the Bundle has a head, and lists the pictures that it was fitted on."""
    return kept.fitted is not None and SPLIT in kept.files


def seen(kept: Bundle, digests: Iterable[str]) -> int:
    """How many of the pictures with these digests the Bundle's head was fitted on. Raises BundleError if its
    list can't be read."""
    known = read_split(kept.folder / SPLIT)
    return sum(digest in known for digest in digests)


def rows(kept: Bundle, measured_at: str | None = None) -> list[Measurement]:
    """The cross-validated accuracy of the Bundle's head, as a row that a `bench` of the Bundle joins. Raises
    InvalidInputError for a Bundle without one, and for one in int8, whose accuracy that isn't."""
    fitted = kept.fitted
    if fitted is None or kept.preprocess is None:
        raise InvalidInputError(f"{kept.folder} has no head that was fitted on pictures.")
    if kept.precision.startswith("int8"):
        raise InvalidInputError(
            f"The cross-validated accuracy is of float32, and {kept.folder} is in {kept.precision}.",
            "evaluate it on labelled pictures that it wasn't fitted on: vertebra eval BUNDLE PICTURES",
        )
    majority = max(count for _, count in fitted.classes) / fitted.total
    remarks = [f"{len(fitted.classes)} classes; the largest has {100 * majority:.1f} % of the images"]
    return [
        Measurement(
            metric="top1",
            value=fitted.accuracy,
            low=fitted.low,
            high=fitted.high,
            samples=fitted.total,
            origin="evaluated",
            dataset_sha256=fitted.pictures_sha256,
            network_sha256=kept.network_sha256,
            input_size=kept.input_size,
            grade_reasons=(*remarks, *fitted.remarks),
            versions=dict(kept.versions),
            measured_at=measured_at or now(),
            **plain_names(
                {
                    "model": kept.model,
                    "weights": kept.weights,
                    "dataset": fitted.pictures,
                    "split": f"{fitted.folds}-fold",
                    "protocol": fitted.how,
                }
            ),
        )
    ]
