"""torchvision's networks: `torchvision:resnet50`, or with weights `torchvision:resnet50.IMAGENET1K_V2`.

Without the weights' name the facts are those of torchvision's default set.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum

from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.zoo.adapters import known, states
from vertebra.zoo.factsheet import Facts, assumed_of, labels_for
from vertebra.zoo.names import Model
from vertebra.zoo.pooling import classifier_of

PRETRAINED = "pretrained"

#: architectures with a size of their own -> the argument that sets it
_SIZED = {"vit_": "image_size", "maxvit_": "input_size"}
#: architectures with a second classifier for training, and with pixels turned when weights are loaded
_AUXILIARY = ("inception_v3", "googlenet")
#: where these second classifiers are
_HEADS = {"inception_v3": ("AuxLogits.",), "googlenet": ("aux1.", "aux2.")}
_ASSUMED = (
    "pixels are rescaled inside the network (transform_input), as in torchvision's published weights; "
    "if it was trained without: --no-transform-input"
)


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
    if tag.lower() == "default":
        return architecture, published.DEFAULT.name, published.DEFAULT
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


def facts(model: Model, source: str | Path | None, checks: Mapping[str, Any]) -> Facts:
    """See `zoo.facts`."""
    architecture, _, record = _record(model.name)
    where = f"torchvision {importlib.metadata.version('torchvision')}, {record}"
    preprocess = preprocess_of(record)
    if source is None:
        return Facts(
            model=model.name, weights=None, num_classes=1000,
            input_size=model.input_size, preprocess=preprocess, source=where,
        )  # fmt: skip
    if source == PRETRAINED:
        scores = record.meta["_metrics"]["ImageNet-1K"]
        return Facts(
            model=model.name,
            weights=f"{architecture}.{record.name}",
            num_classes=1000,
            input_size=model.input_size,
            preprocess=preprocess,
            labels=labels_for(1000),
            licence=record.meta.get("license", "BSD-3-Clause"),
            top1=round(scores["acc@1"] / 100, 5),
            top5=round(scores["acc@5"] / 100, 5),
            source=where,
        )
    fit = _fit(model, source, checks)
    return Facts(
        model=model.name,
        weights=fit.read.name + _turned_off(checks),
        num_classes=fit.num_classes,
        input_size=fit.size or model.input_size,
        preprocess=preprocess_of(record, fit.size),
        labels=labels_for(fit.num_classes),
        source=where,
        notes=fit.read.notes,
        assumed=assumed_of(labels_for(fit.num_classes)),
    )


def _turned_off(checks: Mapping[str, Any]) -> str:
    return " (transform_input off)" if checks.get("transform_input") is False else ""


def preprocess_of(record: WeightsEnum, size: int | None = None) -> Preprocess:
    """The record of a set's own transforms, in proportion where the pictures have another `size`."""
    preset = record.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    if size is not None:
        crop, resize = size, round(resize * size / crop)
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
    turned = checks.get("transform_input")
    if source is None:
        classes = 1000 if num_classes is None else num_classes
        return _create(model, classes, transform_input=bool(turned))
    if source == PRETRAINED:
        source, digest = published(model)
        checks = checks | {"sha256": checks.get("sha256") or digest}
    fit = _fit(model, source, checks, num_classes)
    if fit.network is not None:
        return fit.network
    assert fit.state is not None
    network = _create(model, fit.num_classes, **fit.more)
    states.load(network, fit.state)
    return network


def _fit(
    model: Model, source: str | Path, checks: Mapping[str, Any], num_classes: int | None = None
) -> states.Fit:
    """How the checkpoint fits the network: by its names, at the size that they show, by the network's own
    renaming, or by order. Raises WeightsError where it doesn't."""
    architecture = _record(model.name)[0]
    more = _trained(architecture, checks)
    read = _read(model, source, checks, more)
    if architecture in _AUXILIARY:
        if not any(name.startswith(_HEADS[architecture]) for name in read.state):
            more |= {"aux_logits": False}
        if checks.get("transform_input") is None:
            read = read.noting(_ASSUMED)
    classifier = _classifier(model)
    make = partial(_create, model, **more)
    read, head = states.with_own_head(read, states.skeleton(partial(make, 1000)), [classifier])
    held = states.held_classes(read.state, [classifier], 1000)
    states.check_classes(model.name, source, held, num_classes)
    like = states.skeleton(partial(make, held))
    fitted = states.by_name(read.state, like)
    if fitted is not None:
        return states.Fit(read, held, fitted, more=more)
    sized = _size_argument(architecture)
    found = states.sizes(read.state, like, model.input_size) if sized == "image_size" else []
    for size in (None, *found):
        own = more if size is None else more | {"image_size": size}
        fit = _by_itself(model, read, held, own, size)
        if fit is not None:
            return fit
    fitted = states.by_order(read.state, like)
    if fitted is None:
        raise states.refusal(model.name, read.state, like, head)
    return states.Fit(read.noting(states.BY_ORDER), held, fitted, more=more)


def _trained(architecture: str, checks: Mapping[str, Any]) -> dict[str, Any]:
    """The further arguments of a network with weights: torchvision turns the pixels of what it published."""
    if architecture not in _AUXILIARY:
        return {}
    return {"transform_input": checks.get("transform_input") is not False}


def _by_itself(
    model: Model, read: states.Read, held: int, more: Mapping[str, Any], size: int | None
) -> states.Fit | None:
    """The network with the checkpoint as its own layers load it, which rename what older versions wrote; None
    where names or shapes differ even so."""
    network = _create(model, held, **more)
    try:
        with states.NoResampling():
            network.load_state_dict(dict(read.state), strict=True)
    except (RuntimeError, ValueError):
        return None
    if size is not None:
        read = read.noting(f"built for {size}x{size} pictures, as its position embeddings are")
    return states.Fit(read, held, network=network, size=size)


def _create(model: Model, num_classes: int, **more: Any) -> nn.Module:
    architecture = _record(model.name)[0]
    sized = _size_argument(architecture)
    if sized == "image_size":
        more.setdefault(sized, model.input_size)
    elif sized == "input_size":
        more[sized] = (model.input_size, model.input_size)
    if architecture in _AUXILIARY:
        more["init_weights"] = False
    else:
        more.pop("transform_input", None)
    network: nn.Module = torchvision.models.get_model(
        architecture, weights=None, num_classes=num_classes, **more
    )
    return network


def _read(
    model: Model, source: str | Path, checks: Mapping[str, Any], more: Mapping[str, Any]
) -> states.Read:
    architecture = _record(model.name)[0]
    like = states.skeleton(partial(_create, model, 1000, **more))
    wanted = {name for name in like if not name.startswith(_HEADS.get(architecture, ("\0",)))}
    return states.read(model.name, source, checks, wanted)


def _classifier(model: Model) -> str:
    with torch.device("meta"):
        network = _create(model, 1000)
    classifier = classifier_of(network)
    names: dict[nn.Module, str] = {layer: name for name, layer in network.named_modules()}
    return names[classifier]


def published(model: Model) -> tuple[str, str | None]:
    """See `Adapter.published`: torch's convention puts the digits at the end of a file's name."""
    url = _record(model.name)[2].url
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    return url, digits[1] if digits else None
