"""What must be known to use a network with given weights: classes, input, preprocessing, labels, licence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vertebra.data.labels import IMAGENET_1K
from vertebra.data.preprocess import Preprocess, protocols
from vertebra.zoo import names, weights


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A network with its weights. `weights`, `labels` (a label set's name), `licence`, `top1` and `top5`
    (fractions of ImageNet's validation set) are None where they aren't known or there are none.

    Where the file of the weights itself names its classes, `label_names` are these. `notes` are lines on what
    was taken out of the file, and what had to be assumed about it. `input_size` is the side of the square
    that `preprocess` produces. `source` is where the facts are from. `assumed` names those of "preprocess",
    "labels" and "input_size" that no source states: guesses.
    """

    model: str
    weights: str | None
    num_classes: int
    input_size: int
    preprocess: Preprocess
    labels: str | None = None
    licence: str | None = None
    top1: float | None = None
    top5: float | None = None
    source: str = ""
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def of_ours(name: str, source: str | Path | None = None, *, ema: bool | None = None) -> Facts:
    """Facts of one of our networks, untrained or with the weights `source`.

    Those of a published set are read from its record and nothing is downloaded; a file is read for its
    classes, and is assumed to need the preprocessing of the network's first published set.
    Raises UnknownNameError, WeightsError and MissingRuntimeError.
    """
    model = names.find(name)
    published = weights.records(model.name)
    if source is None:
        return Facts(
            model=model.name,
            weights=None,
            num_classes=1000,
            input_size=model.input_size,
            preprocess=_preprocess(published, model),
            source="untrained; preprocessing of the network's published weights",
        )
    record = weights.published(model.name, source)
    return _of_record(record) if record else _of_file(model, source, published, ema)


def _preprocess(published: tuple[weights.Weights, ...], model: names.Model) -> Preprocess:
    if published:
        return preprocess_of(published[0])
    return protocols.paddleclas(round(model.input_size / 0.875), model.input_size)


def preprocess_of(record: weights.Weights) -> Preprocess:
    """The preprocessing that a published set of weights was evaluated with."""
    makers = {"paddleclas": protocols.paddleclas, "torchvision": protocols.torchvision}
    return makers[record.preprocess](record.resize, record.crop)


def _of_record(record: weights.Weights) -> Facts:
    return Facts(
        model=record.model,
        weights=record.name,
        num_classes=record.num_classes,
        input_size=record.crop,
        preprocess=preprocess_of(record),
        labels=record.labels,
        licence=record.licence,
        top1=record.top1,
        top5=record.top5,
        source=record.accuracy_source,
    )


def _of_file(
    model: names.Model, source: str | Path, published: tuple[weights.Weights, ...], ema: bool | None
) -> Facts:
    preprocess = _preprocess(published, model)
    taken = weights.take(model.name, source, ema=ema)
    num_classes = len(taken.state["head.classifier.bias"])
    labels = labels_for(num_classes)
    return Facts(
        model=model.name,
        weights=taken.name,
        num_classes=num_classes,
        input_size=preprocess.input_size[0],
        preprocess=preprocess,
        labels=labels,
        source="the file; preprocessing and labels of the network's published weights",
        notes=taken.notes,
        assumed=assumed_of(labels),
    )


def assumed_of(labels: str | None) -> tuple[str, ...]:
    """What is assumed of a file of weights, which states neither preprocessing nor labels."""
    return ("preprocess",) if labels is None else ("preprocess", "labels")


def labels_for(num_classes: int) -> str | None:
    """The label set assumed for a network with this many classes: ImageNet's for a thousand."""
    return IMAGENET_1K if num_classes == 1000 else None
