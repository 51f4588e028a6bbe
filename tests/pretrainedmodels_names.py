"""What the package pretrainedmodels, and its fork that Bianco et al. measured with, call our parameters.

Each table gives pairs of module paths, theirs and ours, of the layers that have parameters.
"""

from __future__ import annotations

from collections.abc import Iterator

Pairs = Iterator[tuple[str, str]]


def resnet(depths: tuple[int, ...], classifier: str) -> Pairs:
    yield from [("conv1", "stem.conv.conv"), ("bn1", "stem.conv.bn"), (classifier, "head.classifier")]
    for stage, depth in enumerate(depths):
        for block in range(depth):
            theirs, ours = f"layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            for part in (1, 2, 3):
                yield f"{theirs}.conv{part}", f"{ours}.conv{part}.conv"
                yield f"{theirs}.bn{part}", f"{ours}.conv{part}.bn"
            if block == 0:
                yield f"{theirs}.downsample.0", f"{ours}.shortcut.conv"
                yield f"{theirs}.downsample.1", f"{ours}.shortcut.bn"


def googlenet() -> Pairs:
    yield from [
        ("conv1_7x7_s2", "stem.conv.conv"),
        ("conv2_3x3_reduce", "stages.0.reduce.conv"),
        ("conv2_3x3", "stages.0.conv.conv"),
        ("loss3_classifier_1", "head.classifier"),
    ]
    branches = {
        "1x1": "conv1",
        "3x3_reduce": "reduce3",
        "3x3": "conv3",
        "5x5_reduce": "reduce5",
        "5x5": "conv5",
        "pool_proj": "project",
    }
    for stage, letters in ((3, "ab"), (4, "abcde"), (5, "ab")):
        for index, letter in enumerate(letters, 1):  # a pool stands at 0
            for theirs, ours in branches.items():
                yield f"inception_{stage}{letter}_{theirs}", f"stages.{stage - 2}.{index}.{ours}.conv"


def bninception() -> Pairs:
    yield "last_linear", "head.classifier"
    stem = (("conv1_7x7_s2", "conv"), ("conv2_3x3_reduce", "reduce"), ("conv2_3x3", "conv2"))
    for theirs, ours in stem:
        yield theirs, f"stem.{ours}.conv"
        yield f"{theirs}_bn", f"stem.{ours}.bn"
    middle = {
        "3x3_reduce": "reduce3",
        "3x3": "conv3",
        "double_3x3_reduce": "reduce_double",
        "double_3x3_1": "double1",
        "double_3x3_2": "double2",
    }
    ends = {"1x1": "conv1", "pool_proj": "project"}
    modules = [["3a", "3b"], ["3c", "4a", "4b", "4c", "4d"], ["4e", "5a", "5b"]]
    for stage, names in enumerate(modules):
        for index, name in enumerate(names):
            for theirs, ours in (middle if name in ("3c", "4e") else middle | ends).items():
                yield f"inception_{name}_{theirs}", f"stages.{stage}.{index}.{ours}.conv"
                yield f"inception_{name}_{theirs}_bn", f"stages.{stage}.{index}.{ours}.bn"


def shufflenet() -> Pairs:
    yield from [("conv1", "stem.conv"), ("fc", "head.classifier")]
    for stage, depth in enumerate((4, 8, 4)):
        for unit in range(depth):
            theirs = f"stage{stage + 2}.ShuffleUnit_Stage{stage + 2}_{unit}"
            ours = f"stages.{stage}.{unit}"
            for part in ("compress", "expand"):
                yield f"{theirs}.g_conv_1x1_{part}.conv1x1", f"{ours}.{part}.conv"
                yield f"{theirs}.g_conv_1x1_{part}.batch_norm", f"{ours}.{part}.bn"
            yield f"{theirs}.depthwise_conv3x3", f"{ours}.depthwise.conv"
            yield f"{theirs}.bn_after_depthwise", f"{ours}.depthwise.bn"


def mobilenetv2() -> Pairs:
    yield from [
        ("features.0.0", "stem.conv"),
        ("features.0.1", "stem.bn"),
        ("classifier.1", "head.classifier"),
    ]
    yield from [("features.18.0", "stages.4.4.conv"), ("features.18.1", "stages.4.4.bn")]
    number = 0
    for stage, depth in enumerate((1, 2, 3, 7, 4)):
        for block in range(depth):
            number += 1
            for part, place in (("expand", 0), ("depthwise", 3), ("project", 6)):
                yield f"features.{number}.conv.{place}", f"stages.{stage}.{block}.{part}.conv"
                yield f"features.{number}.conv.{place + 1}", f"stages.{stage}.{block}.{part}.bn"


NORMAL = {
    "0_left": "sum0_h",
    "0_right": "sum0_p",
    "1_left": "sum1_p5",
    "1_right": "sum1_p3",
    "4_left": "sum4_h",
}
REDUCTION = {
    "0_left": "sum0_h",
    "0_right": "sum0_p",
    "1_right": "sum1_p",
    "2_right": "sum2_p",
    "4_left": "sum4",
}


def nasnet(depth: int) -> Pairs:
    yield from [("conv0.conv", "stem.conv"), ("conv0.bn", "stem.bn"), ("last_linear", "head.classifier")]
    yield from _cell("cell_stem_0", "stages.0.reduction", REDUCTION, "")
    yield from _cell("cell_stem_1", "stages.1.reduction", REDUCTION, "halve")
    for stage in range(3):
        if stage:
            theirs = f"reduction_cell_{stage - 1}"
            yield from _cell(theirs, f"stages.{stage + 1}.reduction", REDUCTION, "project")
        for cell in range(depth):
            # The mobile network leaves out the numbers that its shorter stages don't need.
            theirs, ours = f"cell_{6 * stage + cell}", f"stages.{stage + 1}.cells.{cell}"
            yield from _cell(theirs, ours, NORMAL, "project" if cell else "halve")


def _cell(theirs: str, ours: str, sums: dict[str, str], previous: str) -> Pairs:
    yield from [
        (f"{theirs}.conv_1x1.conv", f"{ours}.last.conv"),
        (f"{theirs}.conv_1x1.bn", f"{ours}.last.bn"),
    ]
    if previous == "project":
        yield f"{theirs}.conv_prev_1x1.conv", f"{ours}.previous.conv"
        yield f"{theirs}.conv_prev_1x1.bn", f"{ours}.previous.bn"
    elif previous == "halve":
        yield f"{theirs}.path_1.conv", f"{ours}.previous.conv1"
        yield f"{theirs}.path_2.conv", f"{ours}.previous.conv2"
        yield f"{theirs}.final_path_bn", f"{ours}.previous.bn"
    for place, name in sums.items():
        for half in (1, 2):
            branch = f"{theirs}.comb_iter_{place}"
            for kind in ("depthwise", "pointwise"):
                yield f"{branch}.separable_{half}.{kind}_conv2d", f"{ours}.{name}.conv{half}.{kind}"
            yield f"{branch}.bn_sep_{half}", f"{ours}.{name}.bn{half}"


#: our network -> (their name of it, the table)
TABLES = {
    "bninception": ("bninception", bninception),
    "cafferesnet101": ("cafferesnet101", lambda: resnet((3, 4, 23, 3), "fc")),
    "fbresnet152": ("fbresnet152", lambda: resnet((3, 8, 36, 3), "last_linear")),
    "googlenet": ("googlenet", googlenet),
    "mobilenetv2_expanded": ("mobilenetv2", mobilenetv2),
    "nasnetamobile": ("nasnetamobile", lambda: nasnet(4)),
    "nasnetalarge": ("nasnetalarge", lambda: nasnet(6)),
    "shufflenet_g8": ("shufflenet", shufflenet),
}
