"""How deep and how wide our networks are: what tables of names and builders share, without torch."""

from __future__ import annotations

from typing import NamedTuple

#: VGG: layers -> convolutions of each stage
VGG = {
    11: (1, 1, 2, 2, 2),  # A
    13: (2, 2, 2, 2, 2),  # B
    16: (2, 2, 3, 3, 3),  # D
    19: (2, 2, 4, 4, 4),  # E
}

#: DarkNet-53: channels and residual blocks of each stage
DARKNET = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))

#: SENet-154: channels and blocks of each stage
SENET = ((256, 3), (512, 8), (1024, 36), (2048, 3))

#: ResNets with asymmetric blocks: layers -> blocks of each stage, and whether they are bottlenecks
ACNET = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


class Squeeze(NamedTuple):
    """The stem's convolution, and for each stage its fire modules as (squeeze, expand) channels.

    A max pool comes before every stage.
    """

    stem_channels: int
    stem_kernel: int
    stem_padding: int
    stages: tuple[tuple[tuple[int, int], ...], ...]
    min_size: int


#: SqueezeNet: the variant's number -> its shape
SQUEEZENET = {
    "1_0": Squeeze(
        96,
        7,
        0,
        (
            ((16, 64), (16, 64), (32, 128)),
            ((32, 128), (48, 192), (48, 192), (64, 256)),
            ((64, 256),),
        ),
        min_size=35,
    ),
    "1_1": Squeeze(
        64,
        3,
        1,
        (
            ((16, 64), (16, 64)),
            ((32, 128), (32, 128)),
            ((48, 192), (48, 192), (64, 256), (64, 256)),
        ),
        min_size=29,
    ),
}
