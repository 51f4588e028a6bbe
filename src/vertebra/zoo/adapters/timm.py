"""timm's networks: `timm:resnet50`, or with the weights' tag `timm:resnet50.a1_in1k`.

What a network needs is read from its `pretrained_cfg`; without a tag it is timm's default one.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import InvalidInputError, UnknownNameError, WeightsError
from vertebra.zoo.adapters import known, states
from vertebra.zoo.factsheet import Facts, labels_for
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


def facts(model: Model, source: str | Path | None) -> Facts:
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
    pretrained = source == PRETRAINED
    if pretrained:
        _check_published(model, config)
    held = config.num_classes if pretrained else _held(config, states.read(source, {}))
    return Facts(
        model=model.name,
        weights=_full_name(config) if pretrained else str(source),
        num_classes=held,
        input_size=model.input_size,
        preprocess=_preprocess(config),
        labels=labels_for(held),
        licence=config.license if pretrained else None,
        source=where,
    )


def _bare(model: Model) -> str:
    return model.name.partition(":")[2]


def _full_name(config: PretrainedCfg) -> str:
    return f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)


def _held(config: PretrainedCfg, state: Mapping[str, Tensor]) -> int:
    classifier = config.classifier or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    return states.held_classes(state, names, config.num_classes)


def _can_be_stated(config: PretrainedCfg) -> bool:
    return config.crop_mode in ("center", "squash") and 0 < config.crop_pct <= 1


def _preprocess(config: PretrainedCfg) -> Preprocess:
    return protocols.timm(
        config.input_size[1],
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
    config = _config(bare)
    if source == PRETRAINED:
        source, digest = published(model)
        checks = checks | {"sha256": checks.get("sha256") or digest}
    state = states.read(source, checks)
    held = _held(config, state)
    states.check_classes(model.name, source, held, num_classes)
    network = _create(bare, held, in_channels)
    like = network.state_dict()
    fitted = states.by_name(state, like)
    if fitted is None:
        translated = _translated(bare, state, held, in_channels)
        if translated is not None:
            return translated
        fitted = states.by_order(state, like)
    if fitted is None:
        raise states.refusal(model.name, state, like)
    network.load_state_dict(fitted)
    return network


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


def _translated(bare: str, state: Mapping[str, Tensor], held: int, in_channels: int) -> nn.Module | None:
    """The network with a checkpoint whose names or shapes timm translates, as it does for many networks'
    first publications and for other numbers of channels; None where it can't."""
    more = {
        "pretrained": True,
        "pretrained_cfg_overlay": {"state_dict": dict(state), "num_classes": held},
        "pretrained_strict": True,  # some networks would silently stay untrained
    }
    try:
        return _create(bare, held, in_channels, **more)
    except _NOT_THEIRS:
        return None
