"""How well a network's frozen features separate the classes of your own images, without training.

The features of every image are computed once; a logistic regression on them is cross-validated, stratified by
class, so that each image is answered once, by a fit that hasn't seen it. The pooled answers give the
accuracy.

Its interval is the wider of two, because each leaves something out. Wilson's, over all pooled answers, covers
the choice of images to test and takes the fits as given. Nadeau and Bengio's corrected interval (2003,
Machine Learning 52) over the folds' accuracies covers the choice of images to fit, most of which folds share;
with few folds it is coarse. No unbiased estimate of a cross-validation's variance exists (Bengio and
Grandvalet 2004).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vertebra.data.datasets import Dataset, Sample
from vertebra.data.preprocess import Preprocess, open_image
from vertebra.errors import ImageError, InvalidInputError, MissingRuntimeError
from vertebra.measurements import Measurement
from vertebra.measurements.possible import plain_names
from vertebra.measuring.evaluation import Pictures, describe, protocol, reason
from vertebra.measuring.evaluation.statistics import cross_validated

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Inverse strength of the regression's L2 penalty on standardised features: one value for all networks, not
#: tuned to the images, so that the comparison favours no network.
PENALTY = 0.01
MAX_ITERATIONS = 1000
SEED = 0

_ENCODED = (bytes, bytearray, memoryview, str, Path)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that counts: its place in the data set, as iterated, its name and class, and the digest of its
    content."""

    place: int
    name: str
    label: int
    sha256: str


@dataclass(frozen=True)
class Images:
    """A data set's distinct images, and the identity of the whole content, which has the beginning of its
    `sha256`. `repeats` is the number of exact copies of an earlier image."""

    identity: str
    kept: tuple[Image, ...]
    repeats: int
    sha256: str


@dataclass(frozen=True)
class Probe:
    """What a probe found: `low` to `high` is a 95 % interval, `by_fold` the share right in each fold, and
    `majority` the share of the largest class, which a constant answer would reach. `pictures` says which
    classes and files it is of."""

    dataset: str
    dataset_sha256: str
    preprocess: Preprocess
    total: int
    num_classes: int
    folds: int
    top1: float
    low: float
    high: float
    by_fold: tuple[float, ...]
    majority: float
    repeats: int
    unreadable: tuple[tuple[str, str], ...]
    pictures: Pictures


def require() -> None:
    """Raise MissingRuntimeError if scikit-learn isn't installed; imports nothing."""
    import importlib.util

    if importlib.util.find_spec("sklearn") is None:
        raise MissingRuntimeError.of("A probe", "scikit-learn", "probe")


def look(data: Dataset) -> Images:
    """Read all images once: which are distinct, and the identity of the whole (without file names).

    An image that appears twice could be both fitted and tested, so copies don't count.
    Raises InvalidInputError if one image has two classes, and if a class has only images that can't be read,
    as far as their headers show.
    """
    first: dict[str, Sample] = {}
    kept: list[Image] = []
    readable: set[int] = set()
    broken: dict[int, str] = {}
    for place, sample in enumerate(data):
        if sample.label not in readable:
            flaw = _flaw(sample)
            readable |= {sample.label} if flaw is None else set()
            broken.setdefault(sample.label, flaw or "")
        content = digest(sample)
        earlier = first.setdefault(content, sample)
        if earlier is sample:
            kept.append(Image(place, sample.name, sample.label, content))
        elif earlier.label != sample.label:
            raise InvalidInputError(
                f"{earlier.name} and {sample.name} are the same image in two classes.",
                "leave one of them out",
            )
    if readable:
        _check_lost(data, readable, broken)
    lines = sorted(f"{content} {data.class_name(sample.label)}" for content, sample in first.items())
    whole = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Images(f"{data.name}@{whole[:10]}", tuple(kept), len(data) - len(kept), whole)


def _flaw(sample: Sample) -> str | None:
    """Why an image can't be read, as far as its header shows; None if nothing is wrong with it."""
    if not isinstance(sample.source, _ENCODED):
        return None
    try:
        open_image(sample.source)
    except ImageError as error:
        return f"{sample.name}: {reason(sample, error)}"
    return None


def _check_lost(data: Dataset, readable: Collection[int], broken: Mapping[int, str]) -> None:
    """Raise InvalidInputError if a class has only images that can't be read: the probe would be of fewer
    classes."""
    lost = sorted(label for label in broken if label not in readable)
    if lost:
        names = ", ".join(data.class_name(label) for label in lost[:3])
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise InvalidInputError(
            f"{data.name}: no image of the class{'es' * (len(lost) > 1)} {names}{more} can be read: "
            f"{broken[lost[0]]}",
            "convert or replace these images, or leave the classes out",
        )


def digest(sample: Sample) -> str:
    """What the sample's picture is: equal for exact copies."""
    source = sample.source
    if isinstance(source, str | Path):
        try:
            with open(source, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:  # it is reported as unreadable when it is decoded
            return f"unreadable {sample.name}"
    content = source if isinstance(source, bytes | bytearray | memoryview) else source.tobytes()
    return hashlib.sha256(content).hexdigest()


def probe(
    data: Dataset,
    images: Images,
    features: npt.NDArray[np.float32],
    record: Preprocess,
    *,
    unreadable: Mapping[int, str] = MappingProxyType({}),
    folds: int = 5,
) -> Probe:
    """Cross-validate a logistic regression on the `features` (N, D) of `data`'s distinct `images`, of which
    some rows, with their reasons, are `unreadable` and don't count.

    If the smallest class has fewer images than `folds`, there are as many folds as it has images.
    Raises InvalidInputError for fewer than two classes or a class with a single image, and
    MissingRuntimeError without scikit-learn.
    """
    require()
    check_folds(folds)
    missed = [(images.kept[row], text) for row, text in sorted(unreadable.items())]
    rows = [row for row in range(len(images.kept)) if row not in unreadable]
    if not rows:
        raise InvalidInputError(f"None of the images of {data.name} can be read: {missed[0][1]}")
    labels = [images.kept[row].label for row in rows]
    lost: dict[int, str] = {}
    for image, text in missed:
        lost.setdefault(image.label, f"{image.name}: {text}")
    _check_lost(data, set(labels), lost)
    folds = min(folds, _smallest_class(data, labels))
    right, by_fold = _cross_validated(features[rows] if missed else features, labels, folds)
    low, high = cross_validated(right, len(labels), by_fold)
    counts = Counter(labels)
    return Probe(
        dataset=images.identity,
        dataset_sha256=images.sha256,
        preprocess=record,
        total=len(labels),
        num_classes=len(counts),
        folds=folds,
        top1=right / len(labels),
        low=low,
        high=high,
        by_fold=tuple(by_fold),
        majority=max(counts.values()) / len(labels),
        repeats=images.repeats,
        unreadable=tuple((image.name, text) for image, text in missed),
        pictures=describe(
            data, read=counts, missed={}, left_out={"unreadable": len(missed), "copies": images.repeats}
        ),
    )


def check_folds(folds: int) -> None:
    """Raise InvalidInputError for fewer than two."""
    if folds < 2:
        raise InvalidInputError(f"A probe with {folds} folds was asked for; it needs at least 2.")


def _smallest_class(data: Dataset, labels: Sequence[int]) -> int:
    counts = Counter(labels)
    rarest, count = min(counts.items(), key=lambda item: (item[1], item[0]))
    if len(counts) < 2:
        raise InvalidInputError(
            f"All {len(labels)} images of {data.name} are of one class, {data.class_name(rarest)}.",
            "a probe separates classes: use at least two folders",
        )
    if count < 2:
        raise InvalidInputError(
            f"The class {data.class_name(rarest)} of {data.name} has a single image.",
            "each class needs at least 2, one to fit and one to test; 20 are better",
        )
    return count


def _cross_validated(
    features: npt.NDArray[np.float32], labels: Sequence[int], folds: int
) -> tuple[int, list[float]]:
    """How many images were answered right, and the share in each fold."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    truth = np.asarray(labels)
    right, by_fold = 0, []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=SEED)
    for fitted, tested in splitter.split(features, truth):
        regression = LogisticRegression(C=PENALTY, max_iter=MAX_ITERATIONS)
        model = make_pipeline(StandardScaler(), regression)
        model.fit(features[fitted], truth[fitted])
        found = int((model.predict(features[tested]) == truth[tested]).sum())
        right += found
        by_fold.append(found / len(tested))
    return right, by_fold


def rows(found: Probe, conditions: Mapping[str, Any]) -> list[Measurement]:
    """The probe as one row. `conditions` are the columns that only the caller knows: model, weights,
    precision, versions, measured_at."""
    return [
        Measurement(
            metric="probe_top1",
            value=found.top1,
            low=found.low,
            high=found.high,
            samples=found.total,
            origin="evaluated",
            dataset_sha256=found.dataset_sha256,
            split=f"{found.folds}-fold",
            protocol=f"frozen features, logistic regression; {protocol(found.preprocess)}",
            input_size=found.preprocess.input_size[0],
            grade_reasons=tuple(_remarks(found)),
            **plain_names({"dataset": found.dataset, **conditions}),
        )
    ]


def _remarks(found: Probe) -> Iterator[str]:
    yield f"{found.num_classes} classes; the largest has {100 * found.majority:.1f} % of the images"
    if found.repeats:
        yield f"{found.repeats} copies of other images left out"
    if found.unreadable:
        yield f"{len(found.unreadable)} unreadable images left out"
