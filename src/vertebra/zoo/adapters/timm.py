"""timm's networks: `timm:resnet50`, or with the weights' tag `timm:resnet50.a1_in1k`.

What a network needs is read from its `pretrained_cfg`; without a tag it is timm's default one.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import InvalidInputError, UnknownNameError, WeightsError
from vertebra.zoo.adapters import hub, known, states
from vertebra.zoo.factsheet import Facts, assumed_of, labels_for
from vertebra.zoo.names import Model

PRETRAINED = "pretrained"

#: What the libraries' own functions that rename a checkpoint raise where it isn't theirs.
_NOT_THEIRS = (RuntimeError, KeyError, ValueError, AttributeError, IndexError, TypeError, AssertionError)


def find(name: str) -> Model:
    """The network `timm:architecture` or `timm:architecture.tag`.

    Raises UnknownNameError, and InvalidInputError for the few networks that don't take square pictures.
    """
    bare = name.partition(":")[2].lower()
    config = _config(bare)
    _, height, width = config.input_size
    if height != width:
        raise InvalidInputError(
            f"timm:{bare} takes pictures of {height}x{width} pixels; only square pictures are supported.",
            "to see others: vertebra list models --source timm",
        )
    smallest = config.min_input_size
    return Model(
        name=f"timm:{bare}",
        builder="vertebra.zoo:build",
        aliases=(),
        input_size=height,
        min_size=min(smallest[1:]) if smallest else 1,
        fixed_size=bool(config.fixed_input_size),
        source="timm",
        family=_family(bare),
        title=config.paper_name or "",
        first_author="",
        year=None,
        url=config.origin_url or "",
        arxiv_id=_arxiv_id(config),
        further=None,
        idea=config.description or "",
        place="",
    )


def _config(bare: str) -> PretrainedCfg:
    architecture, _, tag = bare.partition(".")
    if architecture not in known("timm"):
        raise _unknown(bare, list(known("timm")))
    tagged = timm.list_pretrained(f"{architecture}.*") if tag else []
    if tag and bare not in tagged:
        raise _unknown(bare, tagged)
    config = timm.models.get_pretrained_cfg(bare)
    assert config is not None
    return config


def _unknown(bare: str, candidates: list[str]) -> UnknownNameError:
    names = [f"timm:{candidate}" for candidate in candidates]
    return UnknownNameError.of("model", f"timm:{bare}", names, "vertebra list models --source timm")


def _family(bare: str) -> str:
    module = timm.models.model_entrypoint(bare.partition(".")[0]).__module__
    return module.rpartition(".")[2]


def _arxiv_id(config: PretrainedCfg) -> str | None:
    ids = config.paper_ids if isinstance(config.paper_ids, str) else ""
    found = re.search(r"\d{4}\.\d{4,5}", ids)
    return found[0] if found else None


def facts(model: Model, source: str | Path | None, checks: Mapping[str, Any]) -> Facts:
    """See `zoo.facts`. Raises InvalidInputError where no record can express the preprocessing."""
    config = _config(_bare(model))
    where = f"timm {importlib.metadata.version('timm')}, its configuration of {_bare(model)}"
    if source is None:
        return Facts(
            model=model.name,
            weights=None,
            num_classes=1000,
            input_size=model.input_size,
            preprocess=_preprocess(config) if _can_be_stated(config) else protocols.timm(model.input_size),
            source=where,
        )
    if not _can_be_stated(config):
        raise InvalidInputError(
            f"The preprocessing of {model.name} pads pictures, which a Preprocess record can't express yet.",
            "the network can still be built, counted and benchmarked",
        )
    if source == PRETRAINED:
        _check_published(model, config)
        return Facts(
            model=model.name,
            weights=_full_name(config),
            num_classes=config.num_classes,
            input_size=model.input_size,
            preprocess=_preprocess(config),
            labels=labels_for(config.num_classes),
            licence=config.license,
            source=where,
        )
    return _of_file(model, source, checks, config, where)


def _of_file(
    model: Model, source: str | Path, checks: Mapping[str, Any], config: PretrainedCfg, where: str
) -> Facts:
    fit = _fit(model, source, checks, None)
    said = hub.said(source, model.name, config.architecture)
    stated = said.applied(config) if said else config
    size = fit.size or (stated.input_size[1] if said else model.input_size)
    read = fit.read.noting("preprocessing and labels are those of its config.json") if said else fit.read
    if not _can_be_stated(stated) or (model.fixed_size and size != (fit.size or model.input_size)):
        raise WeightsError(
            f"{source}: its config.json doesn't fit {model.name}.", "pass the file of the weights"
        )
    return Facts(
        model=model.name,
        weights=read.name,
        num_classes=fit.num_classes,
        input_size=size,
        preprocess=_preprocess(stated, size),
        labels=labels_for(fit.num_classes),
        label_names=said.labels_of(fit.num_classes) if said else None,
        source=f"{source}'s config.json" if said else where,
        notes=read.notes,
        assumed=assumed_of(labels_for(fit.num_classes)) if said is None else (),
    )


def _bare(model: Model) -> str:
    return model.name.partition(":")[2]


def _full_name(config: PretrainedCfg) -> str:
    return f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)


def _classifiers(config: PretrainedCfg) -> tuple[str, ...]:
    names = config.classifier or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _can_be_stated(config: PretrainedCfg) -> bool:
    return config.crop_mode in ("center", "squash") and 0 < config.crop_pct <= 1


def _preprocess(config: PretrainedCfg, size: int | None = None) -> Preprocess:
    return protocols.timm(
        size or config.input_size[1],
        config.crop_pct,
        config.interpolation,
        mean=_channels(config.mean),
        std=_channels(config.std),
        crop_mode=config.crop_mode,
    )


def _channels(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return (float(red), float(green), float(blue))


def _check_published(model: Model, config: PretrainedCfg) -> None:
    if not config.has_weights:
        raise WeightsError(f"timm publishes no weights of {model.name}.", "pass a checkpoint file")


def build(
    model: Model,
    num_classes: int | None,
    in_channels: int,
    source: str | Path | None,
    checks: dict[str, Any],
) -> nn.Module:
    """See `zoo.build`."""
    bare = _bare(model)
    if source is None:
        return _create(bare, 1000 if num_classes is None else num_classes, in_channels)
    is_theirs = source == PRETRAINED
    if source == PRETRAINED:
        source, digest = published(model)
        checks = checks | {"sha256": checks.get("sha256") or digest}
    fit = _fit(model, source, checks, in_channels, num_classes, is_theirs=is_theirs)
    if fit.network is not None:
        return fit.network
    assert fit.state is not None
    network = _create(bare, fit.num_classes, in_channels, **fit.more)
    states.load(network, fit.state)
    return network


def _fit(
    model: Model, source: str | Path, checks: Mapping[str, Any], in_channels: int | None,
    num_classes: int | None = None, *, is_theirs: bool = False,
) -> states.Fit:  # fmt: skip
    """How the checkpoint fits the network: by its names, at the size that they show, by timm's translation,
    or by order. Without `in_channels` they are the checkpoint's. Raises WeightsError where it doesn't."""
    bare, config = _bare(model), _config(_bare(model))
    classifiers = _classifiers(config)
    like = states.skeleton(partial(_create, bare, 1000, in_channels or 3))
    read, head = states.with_own_head(states.read(model.name, source, checks, like), like, classifiers)
    held = states.held_classes(read.state, classifiers, config.num_classes)
    states.check_classes(model.name, source, held, num_classes)
    channels = in_channels or _channels_held(config, read.state)
    like = states.skeleton(partial(_create, bare, held, channels))
    fitted = states.by_name(read.state, like)
    if fitted is not None:
        return states.Fit(read, held, fitted)
    for size in states.sizes(read.state, like, model.input_size):
        sized = _at_size(bare, read, held, channels, size)
        if sized is not None:
            return sized
    network = _translated(bare, read.state, held, channels, like, is_theirs)
    if network is not None:
        return states.Fit(read.noting("its names or shapes were translated by timm"), held, network=network)
    fitted = states.by_order(read.state, like)
    if fitted is None:
        raise states.refusal(model.name, read.state, like, head)
    return states.Fit(read.noting(states.BY_ORDER), held, fitted)


def _at_size(bare: str, read: states.Read, held: int, channels: int, size: int) -> states.Fit | None:
    """The fit of a network built for pictures of `size` pixels a side; None where there is none."""
    try:
        like = states.skeleton(partial(_create, bare, held, channels, img_size=size))
    except _NOT_THEIRS:
        return None
    noted = read.noting(f"built for {size}x{size} pictures, as its position embeddings are")
    fitted = states.by_name(read.state, like)
    if fitted is not None:
        return states.Fit(noted, held, fitted, size=size, more={"img_size": size})
    network = _translated(bare, read.state, held, channels, like, is_theirs=False, img_size=size)
    return None if network is None else states.Fit(noted, held, network=network, size=size)


def _channels_held(config: PretrainedCfg, state: Mapping[str, Tensor]) -> int:
    """The checkpoint's number of channels: by its first convolution, or 3 where that isn't known."""
    first = config.first_conv if isinstance(config.first_conv, str) else ""
    weight = state.get(f"{first}.weight")
    return weight.shape[1] if weight is not None and weight.ndim == 4 else 3


def _create(bare: str, num_classes: int, in_channels: int, **more: Any) -> nn.Module:
    if num_classes < 0 or in_channels < 1:
        raise InvalidInputError(
            f"num_classes is {num_classes} and in_channels {in_channels}; both must be at least 1."
        )
    network: nn.Module = timm.create_model(bare, num_classes=num_classes, in_chans=in_channels, **more)
    return network


def published(model: Model) -> tuple[str, str | None]:
    """See `Adapter.published`: its file on the hub where there is one, else timm's address with the digits
    that torch's convention puts at the end of a file's name."""
    config = _config(_bare(model))
    _check_published(model, config)
    if config.hf_hub_id:
        return f"hf:{config.hf_hub_id}/{config.hf_hub_filename or 'model.safetensors'}", None
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", str(config.url))
    return str(config.url), digits[1] if digits else None


def _translated(
    bare: str, state: Mapping[str, Tensor], held: int, in_channels: int, like: Mapping[str, Tensor],
    is_theirs: bool, **sized: int,
) -> nn.Module | None:  # fmt: skip
    """The network with a checkpoint whose names or shapes timm translates, as it does for many networks'
    first publications and for other numbers of channels; None where it can't, and where it would resample
    what isn't its own publication."""
    more = {
        "pretrained": True,
        "pretrained_cfg_overlay": {"state_dict": dict(state), "num_classes": held},
        "pretrained_strict": True,  # some networks would silently stay untrained
        **sized,
    }
    if not is_theirs and in_channels == 3 and _is_of_another_size(state, like):
        return None
    try:
        with nullcontext() if is_theirs else states.NoResampling():
            return _create(bare, held, in_channels, **more)
    except _NOT_THEIRS:
        return None


def _is_of_another_size(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> bool:
    return any(state[name].numel() != like[name].numel() for name in like.keys() & state.keys())
