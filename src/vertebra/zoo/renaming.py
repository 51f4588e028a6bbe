"""Files of other programs for networks of timm and torchvision: their names become the network's, by rule.

A rule knows a file by its names, and each parameter by its own: nothing is matched by order. All of it is
arithmetic with arrays, without torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD
from vertebra.errors import WeightsError

if TYPE_CHECKING:
    from vertebra.zoo.conversion import Array

#: Caffe's mean pixel of ImageNet, B, G, R, of 0 to 255.
MEAN_BGR = (104.0, 117.0, 123.0)


class Renamed(NamedTuple):
    """Arrays by the network's own names as far as a rule knows them, and what a rule did; None if none did
    anything."""

    arrays: Mapping[str, Any]
    note: str | None = None


def renamed(model: str, arrays: Mapping[str, Any], wanted: Collection[str]) -> Renamed:
    """The arrays of a file for the network `model`, whose parameters are called `wanted`. What is before all
    names of a file stays there. Raises WeightsError for a file of a network that only looks the same."""
    for rule in _RULES.get(model.partition(":")[0], ()):
        found = rule(model, arrays, wanted)
        if found is not None and len(found.arrays) == len(arrays):
            return found
    return Renamed(arrays)


# ------------------------------------------------------------------ EfficientNet of efficientnet_pytorch

_STARTS = ("_conv_stem.weight", "_blocks.0._depthwise_conv.weight")
_NAME = re.compile(r"(|.*?\.)(?:_blocks\.(\d+)\.)?(_[a-z]\w*)\.(\w+)")
_ENDS = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier",
}  # fmt: skip
_SQUEEZED = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
#: the layers of a block that widens first, and of one that doesn't
_WIDENING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3", **_SQUEEZED,
}  # fmt: skip
_NARROW = {
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_SQUEEZED,
}  # fmt: skip


def _efficientnet(model: str, arrays: Mapping[str, Any], wanted: Collection[str]) -> Renamed | None:
    """Files of efficientnet_pytorch and of efficientnet-lite-pytorch, which number blocks from the first to
    the last, where timm numbers them in each stage."""
    if not all(any(_is_at_end(name, start) for name in arrays) for start in _STARTS):
        return None
    blocks = _places(r"blocks\.(\d+)\.(\d+)\.", wanted)
    theirs = {int(found[2]): found[1] for name in arrays if (found := _NAME.fullmatch(name)) and found[2]}
    if len(blocks) != len(theirs):
        return None
    made = {}
    for name, array in arrays.items():
        found = _NAME.fullmatch(name)
        made[_of_timm(found, arrays, blocks) if found else name] = array
    bare = model.partition(":")[2]
    if _has_all(made, wanted) and re.fullmatch(r"efficientnet_(b\d|lite\d)(\..*)?", bare):
        raise WeightsError(
            f"These are weights of efficientnet_pytorch, which pads as TensorFlow does; {model} pads evenly: "
            "the shapes of all parameters are the same, the outputs are not.",
            f"use timm:tf_{bare.partition('.')[0]}",
        )
    return Renamed(made, "its names are those of efficientnet_pytorch, and became timm's")


def _of_timm(found: re.Match[str], arrays: Mapping[str, Any], blocks: list[tuple[int, ...]]) -> str:
    prefix, number, layer, part = found.groups()
    if number is None:
        own = _ENDS.get(layer)
        return found[0] if own is None else f"{prefix}{own}.{part}"
    widens = f"{prefix}_blocks.{number}._expand_conv.weight" in arrays
    own = (_WIDENING if widens else _NARROW).get(layer)
    if own is None or int(number) >= len(blocks):
        return found[0]
    stage, place = blocks[int(number)]
    return f"{prefix}blocks.{stage}.{place}.{own}.{part}"


def _has_all(names: Collection[str], wanted: Collection[str]) -> bool:
    """Whether all that is wanted is there, under one prefix at the most."""
    first = next(iter(wanted), "")
    prefixes = [name.removesuffix(first) for name in names if _is_at_end(name, first)]
    return any(all(prefix + name in names for name in wanted) for prefix in prefixes)


def _is_at_end(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _places(pattern: str, wanted: Collection[str]) -> list[tuple[int, ...]]:
    """The different numbers that `pattern` finds at the beginnings of names, in ascending order."""
    matches = (re.match(pattern, name) for name in wanted)
    return sorted({tuple(map(int, found.groups())) for found in matches if found})


# ------------------------------------------------------------------ SqueezeNet of Caffe, through Keras

_FIRST, _LAST = "conv1", "conv10"
_PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}
_KINDS = {"0": "weight", "1": "bias"}
_FIRE = re.compile(r"fire(\d+)/(\w+)\.([01])")


def _squeezenet(model: str, arrays: Mapping[str, Any], wanted: Collection[str]) -> Renamed | None:
    """SqueezeNet under Caffe's names, as ports of it to Keras keep it, whose kernels are (height, width, in,
    out). Both round their pools up and neither pads the first convolution, so the two are the same network
    except for their inputs: Caffe's gets pixels of 0 to 255 in the order B, G, R less a mean. That is folded
    into the first convolution: exactly, since there is no padding."""
    import numpy as np

    known = {f"{_FIRST}.0", f"{_LAST}.0", "fire2/squeeze1x1.0", "fire9/expand3x3.1"}
    if not model.startswith("torchvision:squeezenet") or not known <= set(arrays):
        return None
    fires = _places(r"features\.(\d+)\.squeeze\.", wanted)
    made = {}
    for name, array in arrays.items():
        moved = np.transpose(array, (3, 2, 0, 1)) if np.ndim(array) == 4 else array
        made[_of_torchvision(name, fires)] = moved
    weight, bias = (f"features.0.{kind}" for kind in _KINDS.values())
    if weight in made and bias in made and made[weight].ndim == 4 and made[weight].shape[1] == 3:
        made[weight], made[bias] = fold(made[weight], made[bias])
    note = "its names are Caffe's; Caffe's pixels, B, G, R less a mean, are folded into its first convolution"
    return Renamed(made, note)


def _of_torchvision(name: str, fires: list[tuple[int, ...]]) -> str:
    found = _FIRE.fullmatch(name)
    if found and 0 <= int(found[1]) - 2 < len(fires) and found[2] in _PARTS:
        (place,) = fires[int(found[1]) - 2]
        return f"features.{place}.{_PARTS[found[2]]}.{_KINDS[found[3]]}"
    layer, _, kind = name.partition(".")
    own = {_FIRST: "features.0", _LAST: "classifier.1"}.get(layer)
    return f"{own}.{_KINDS[kind]}" if own and kind in _KINDS else name


def fold(kernel: Array, bias: Array) -> tuple[Array, Array]:
    """A first convolution on Caffe's pixels, (out, 3, h, w) and (out,), as one on (rgb - mean) / std."""
    import numpy as np

    precise = kernel.astype(np.float64)[:, ::-1]  # B, G, R to R, G, B
    mean, deviation = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    offset = 255 * mean - np.array(MEAN_BGR[::-1])
    moved = bias.astype(np.float64) + (precise * offset[:, None, None]).sum((1, 2, 3))
    return (precise * (255 * deviation)[:, None, None]).astype(np.float32), moved.astype(np.float32)


# ------------------------------------------------------------------ torchvision's older DenseNet

#: written when names of layers could contain a dot
_OLDER = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)")


def _densenet(model: str, arrays: Mapping[str, Any], wanted: Collection[str]) -> Renamed | None:
    if not model.startswith("torchvision:densenet") or not any(map(_OLDER.fullmatch, arrays)):
        return None
    return Renamed({_OLDER.sub(r"\1\2", name): array for name, array in arrays.items()})


_Rule = Callable[[str, Mapping[str, Any], Collection[str]], "Renamed | None"]
_RULES: Mapping[str, tuple[_Rule, ...]] = {
    "timm": (_efficientnet,),
    "torchvision": (_squeezenet, _densenet),
}
