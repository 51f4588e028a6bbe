"""torchvision's networks: `torchvision:resnet50`, or with weights `torchvision:resnet50.IMAGENET1K_V2`.

Without the weights' name the facts are those of torchvision's default set.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.zoo.adapters import caffe, known, states
from vertebra.zoo.factsheet import Facts, labels_for
from vertebra.zoo.names import Model
from vertebra.zoo.pooling import classifier_of

PRETRAINED = "pretrained"

#: architectures with a size of their own -> the argument that sets it
_SIZED = {"vit_": "image_size", "maxvit_": "input_size"}
#: architectures with a second classifier for training, and with pixels turned when weights are loaded
_AUXILIARY = ("inception_v3", "googlenet")


def find(name: str) -> Model:
    """The network `torchvision:architecture` or `torchvision:architecture.WEIGHTS`, in any case.

    Raises UnknownNameError.
    """
    architecture, tag, record = _record(name)
    size = record.transforms().crop_size[0]
    return Model(
        name=f"torchvision:{architecture}" + (f".{record.name}" if tag else ""),
        builder="vertebra.zoo:build",
        aliases=(),
        input_size=size,
        min_size=min(record.meta["min_size"]),
        fixed_size=_size_argument(architecture) is not None,
        source="torchvision",
        family=_family(architecture),
        title="",
        first_author="",
        year=None,
        url=f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.{architecture}.html",
        arxiv_id=None,
        further=None,
        idea="",
        place="",
    )


def _record(name: str) -> tuple[str, str, WeightsEnum]:
    """The architecture, the weights' name as asked for, and their record (the default where none is)."""
    architecture, _, tag = name.partition(":")[2].partition(".")
    architecture = architecture.lower()
    if architecture not in known("torchvision"):
        raise _unknown(name, known("torchvision"))
    published: Any = torchvision.models.get_model_weights(architecture)
    if not tag:
        return architecture, tag, published.DEFAULT
    for record in published:
        if record.name.lower() == tag.lower():
            return architecture, tag, record
    raise _unknown(name, [f"{architecture}.{record.name}" for record in published])


def _unknown(name: str, candidates: list[str] | tuple[str, ...]) -> UnknownNameError:
    names = {f"torchvision:{candidate}".lower(): f"torchvision:{candidate}" for candidate in candidates}
    return UnknownNameError.of("model", name, names.values(), "vertebra list models --source torchvision")


def _family(architecture: str) -> str:
    module: str = torchvision.models.get_model_builder(architecture).__module__
    return module.rpartition(".")[2]


def _size_argument(architecture: str) -> str | None:
    return next((named for start, named in _SIZED.items() if architecture.startswith(start)), None)


def facts(model: Model, source: str | Path | None) -> Facts:
    """See `zoo.facts`."""
    architecture, _, record = _record(model.name)
    where = f"torchvision {importlib.metadata.version('torchvision')}, {record}"
    preprocess = preprocess_of(record)
    if source is None:
        return Facts(
            model=model.name, weights=None, num_classes=1000,
            input_size=model.input_size, preprocess=preprocess, source=where,
        )  # fmt: skip
    pretrained = source == PRETRAINED
    held = 1000 if pretrained else _held(model, _read(source, {}))
    scores = record.meta["_metrics"]["ImageNet-1K"] if pretrained else {}
    return Facts(
        model=model.name,
        weights=f"{architecture}.{record.name}" if pretrained else str(source),
        num_classes=held,
        input_size=model.input_size,
        preprocess=preprocess,
        labels=labels_for(held),
        licence=record.meta.get("license", "BSD-3-Clause") if pretrained else None,
        top1=round(scores["acc@1"] / 100, 5) if pretrained else None,
        top5=round(scores["acc@5"] / 100, 5) if pretrained else None,
        source=where,
    )


def preprocess_of(record: WeightsEnum) -> Preprocess:
    """The record of a set's own transforms."""
    preset = record.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    red, green, blue = preset.mean
    deviations = preset.std
    return protocols.torchvision(
        resize,
        crop,
        preset.interpolation.value,
        mean=(red, green, blue),
        std=(deviations[0], deviations[1], deviations[2]),
    )


def build(
    model: Model,
    num_classes: int | None,
    in_channels: int,
    source: str | Path | None,
    checks: dict[str, Any],
) -> nn.Module:
    """See `zoo.build`. Raises InvalidInputError for pictures without three channels."""
    if in_channels != 3 or (num_classes is not None and num_classes < 1):
        raise InvalidInputError(
            f"{model.name} takes 3 channels and at least 1 class; "
            f"{in_channels} and {num_classes} were asked for.",
            "use timm's networks for other numbers of channels",
        )
    if source is None:
        return _create(model, 1000 if num_classes is None else num_classes, trained=False)
    if source == PRETRAINED:
        source, digest = published(model)
        checks = checks | {"sha256": checks.get("sha256") or digest}
    state = _read(source, checks)
    held = _held(model, state)
    states.check_classes(model.name, source, held, num_classes)
    network = _create(model, held, trained=True)
    like = network.state_dict()
    fitted = states.by_name(state, like) or states.by_order(state, like)
    if fitted is None:
        raise states.refusal(model.name, state, like)
    network.load_state_dict(fitted)
    return network


def _create(model: Model, num_classes: int, *, trained: bool) -> nn.Module:
    architecture = _record(model.name)[0]
    more: dict[str, Any] = {}
    sized = _size_argument(architecture)
    if sized == "image_size":
        more[sized] = model.input_size
    elif sized == "input_size":
        more[sized] = (model.input_size, model.input_size)
    if architecture in _AUXILIARY:
        more |= {"init_weights": False, "transform_input": trained}
    network: nn.Module = torchvision.models.get_model(
        architecture, weights=None, num_classes=num_classes, **more
    )
    return network


def _read(source: str | Path, checks: dict[str, Any]) -> dict[str, Tensor]:
    state = states.read(source, checks)
    return caffe.converted(state) if caffe.is_squeezenet(state) else state


def _held(model: Model, state: dict[str, Any]) -> int:
    with torch.device("meta"):
        network = _create(model, 1000, trained=False)
    classifier = classifier_of(network)
    name = next(name for name, layer in network.named_modules() if layer is classifier)
    return states.held_classes(state, [name], 1000)


def published(model: Model) -> tuple[str, str | None]:
    """See `Adapter.published`: torch's convention puts the digits at the end of a file's name."""
    url = _record(model.name)[2].url
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    return url, digits[1] if digits else None
