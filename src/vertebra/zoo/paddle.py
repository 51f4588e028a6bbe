"""PaddleClas weights for our networks.

`convert` takes named arrays, as a PaddleClas state dict or (ACNet) its static graph names them. Two things
differ from ours besides the names. Linear weights are stored (in, out). And dropout there multiplies by 0.5
at evaluation, where ours multiplies by 2 in training: the 0.5 goes into the weights of the layer that
follows, exactly, being a power of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from vertebra.zoo import shapes
from vertebra.zoo.conversion import Array, Entry, Shapes, rename
from vertebra.zoo.names import find

AFTER_DROPOUT = 0.5
NORM = (  # ours, in a state dict of Paddle's, in its static graph
    ("weight", "weight", "scale"),
    ("bias", "bias", "offset"),
    ("running_mean", "_mean", "mean"),
    ("running_var", "_variance", "variance"),
)

Entries = Iterator[Entry]


def classes_of(name: str, arrays: Mapping[str, Any]) -> int:
    """The number of classes in PaddleClas's `arrays` for our network `name`; 1000 where they have none."""
    theirs = next(entry.theirs for entry in TABLES[name]() if entry.ours == "head.classifier.bias")
    return (
        max(1, int(np.size(arrays[theirs]))) if theirs in arrays else 1000
    )  # `rename` names what is missing


def convert(name: str, arrays: Mapping[str, Any], like: Shapes) -> dict[str, Array]:
    """The float32 state dict of our network `name`, from PaddleClas's `arrays`; `like` has its names and
    shapes.

    Raises UnknownNameError, and WeightsError for arrays that don't fit to the last name and shape.
    """
    return rename(TABLES[find(name).name](), arrays, like)


def conv(theirs: str, ours: str, *, bias: bool = True, factor: float = 1.0) -> Entries:
    yield Entry(f"{theirs}.weight", f"{ours}.weight", factor=factor)
    if bias:
        yield Entry(f"{theirs}.bias", f"{ours}.bias")


def linear(theirs: str, ours: str, *, factor: float = 1.0) -> Entries:
    yield Entry(f"{theirs}.weight", f"{ours}.weight", transpose=True, factor=factor)
    yield Entry(f"{theirs}.bias", f"{ours}.bias")


def conv_bn(theirs: str, ours: str, *, norm: str = "_batch_norm") -> Entries:
    yield from conv(f"{theirs}._conv", f"{ours}.conv", bias=False)
    for part, paddle_part, _ in NORM:
        yield Entry(f"{theirs}.{norm}.{paddle_part}", f"{ours}.bn.{part}")


def alexnet_entries() -> Entries:
    yield from conv("_conv1._conv", "stages.0.0")
    yield from conv("_conv2._conv", "stages.1.0")
    yield from conv("_conv3", "stages.2.0")
    yield from conv("_conv4", "stages.2.2")
    yield from conv("_conv5._conv", "stages.2.4")
    yield from linear("_fc6", "head.fc6", factor=AFTER_DROPOUT)
    yield from linear("_fc7", "head.fc7", factor=AFTER_DROPOUT)
    yield from linear("_fc8", "head.classifier")


def squeezenet_entries(variant: str) -> Entries:
    yield from conv("_conv", "stem.0")
    number = 0
    for index, fires in enumerate(shapes.SQUEEZENET[variant].stages):
        for position in range(1, len(fires) + 1):  # a pool is at 0
            number += 1
            ours = f"stages.{index}.{position}"
            yield from conv(f"_conv{number}._conv._conv", f"{ours}.squeeze")
            yield from conv(f"_conv{number}._conv_path1._conv", f"{ours}.expand1x1")
            yield from conv(f"_conv{number}._conv_path2._conv", f"{ours}.expand3x3")
    yield from conv("_conv9", "head.classifier", factor=AFTER_DROPOUT)


def vgg_entries(layers: int) -> Entries:
    for block, depth in enumerate(shapes.VGG[layers]):
        for index in range(depth):
            yield from conv(
                f"conv_block_{block + 1}.conv{index + 1}", f"stages.{block}.{2 * index}", bias=False
            )
    yield from linear("fc1", "head.fc1")
    yield from linear("fc2", "head.fc2", factor=AFTER_DROPOUT)
    yield from linear("fc3", "head.classifier", factor=AFTER_DROPOUT)


def darknet_entries() -> Entries:
    yield from conv_bn("_conv1", "stem", norm="_bn")
    for index, (_, depth) in enumerate(shapes.DARKNET):
        down = "_conv2" if index == 0 else f"_downsample_{index - 1}"
        yield from conv_bn(down, f"stages.{index}.0", norm="_bn")
        for block in range(1, depth + 1):
            for part in (1, 2):
                theirs = f"_basic_block_{index}{block}._conv{part}"
                yield from conv_bn(theirs, f"stages.{index}.{block}.conv{part}", norm="_bn")
    yield from linear("_out", "head.classifier")


def senet_entries() -> Entries:
    for index in range(3):
        yield from conv_bn(f"conv1_{index + 1}", f"stem.{index}")
    for index, (_, depth) in enumerate(shapes.SENET):
        for block in range(depth):
            theirs, ours = f"bb_{index}_{block}", f"stages.{index}.{block}"
            for part in range(3):
                yield from conv_bn(f"{theirs}.conv{part}", f"{ours}.conv{part + 1}")
            yield from linear(f"{theirs}.scale.squeeze", f"{ours}.scale.squeeze")
            yield from linear(f"{theirs}.scale.excitation", f"{ours}.scale.excite")
            if block == 0:
                yield from conv_bn(f"{theirs}.short", f"{ours}.shortcut.project")
    yield from linear("out", "head.classifier")


def static_conv_bn(theirs: str, ours: str, *, branch: str = "") -> Entries:
    """Convolution and norm by their names in a static graph: `res2a_branch1` has the norm `bn2a_branch1`."""
    norm = f"bn_{theirs}" if theirs == "conv1" else f"bn{theirs.removeprefix('res')}"
    yield Entry(f"{theirs}{branch}_weights", f"{ours}.conv.weight")
    for part, _, static_part in NORM:
        yield Entry(f"{norm}{branch}_{static_part}", f"{ours}.bn.{part}")


def asymmetric(theirs: str, ours: str, *, deploy: bool) -> Entries:
    if deploy:
        yield Entry(f"{theirs}_acsquare_weights", f"{ours}.weight")
        yield Entry(f"{theirs}_acsquare_bias", f"{ours}.bias")
        return
    yield from static_conv_bn(theirs, f"{ours}.square", branch="_acsquare")
    yield from static_conv_bn(theirs, f"{ours}.vertical", branch="_acver")
    yield from static_conv_bn(theirs, f"{ours}.horizontal", branch="_achor")


def acnet_entries(layers: int, *, deploy: bool) -> Entries:
    depths, bottlenecks = shapes.ACNET[layers]
    yield from asymmetric("conv1", "stem.conv", deploy=deploy)
    for index, depth in enumerate(depths):
        for block in range(depth):
            theirs = f"res{index + 2}{_static_block(layers, index, block)}"
            ours = f"stages.{index}.{block}"
            if bottlenecks:
                yield from static_conv_bn(f"{theirs}_branch2a", f"{ours}.branch.conv1")
                yield from asymmetric(f"{theirs}_branch2b", f"{ours}.branch.conv2", deploy=deploy)
                yield from static_conv_bn(f"{theirs}_branch2c", f"{ours}.branch.conv3")
            else:
                yield from asymmetric(f"{theirs}_branch2a", f"{ours}.branch.conv1", deploy=deploy)
                yield from asymmetric(f"{theirs}_branch2b", f"{ours}.branch.conv2", deploy=deploy)
            if block == 0:
                yield from static_conv_bn(f"{theirs}_branch1", f"{ours}.shortcut")
    yield Entry("fc_0.w_0", "head.classifier.weight", transpose=True)
    yield Entry("fc_0.b_0", "head.classifier.bias")


def _static_block(layers: int, stage: int, block: int) -> str:
    """a, b, c, …; but a, b1, b2, … in the third stage of the two deepest, which would run out of letters."""
    if layers >= 101 and stage == 2 and block > 0:
        return f"b{block}"
    return chr(ord("a") + block)


TABLES: dict[str, Callable[[], Entries]] = {
    "alexnet": alexnet_entries,
    "squeezenet1_0": partial(squeezenet_entries, "1_0"),
    "squeezenet1_1": partial(squeezenet_entries, "1_1"),
    "darknet53": darknet_entries,
    "senet154_vd": senet_entries,
    **{f"vgg{layers}": partial(vgg_entries, layers) for layers in shapes.VGG},
    **{f"resnet{layers}_acnet": partial(acnet_entries, layers, deploy=False) for layers in shapes.ACNET},
    **{
        f"resnet{layers}_acnet_deploy": partial(acnet_entries, layers, deploy=True) for layers in shapes.ACNET
    },
}
