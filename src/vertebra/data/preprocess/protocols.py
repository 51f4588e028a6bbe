"""The preprocessing of other libraries, as records.

Each is held against the library's own output on photographs in tests/test_preprocess.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vertebra.errors import InvalidInputError, UnknownNameError

Channels = tuple[float, float, float]


def paddleclas(resize: int = 256, crop: int = 224) -> Preprocess:
    """PaddleClas's evaluation: OpenCV's bilinear without antialias, sides rounded half to even, pictures
    turned upright as OpenCV decodes them. Source: ppcls/data/preprocess/ops/operators.py."""
    return Preprocess(
        input_size=(crop, crop),
        resize=resize,
        interpolation="opencv-bilinear",
        resize_rounding="nearest",
        crop_rounding="floor",
        apply_orientation=True,
    )


def torchvision(
    resize: int = 256,
    crop: int = 224,
    interpolation: str = "bilinear",
    *,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
) -> Preprocess:
    """torchvision's ImageClassification preset on Pillow images: the longer side rounded down, the crop's
    edge half to even, EXIF orientation ignored as its dataset folders do."""
    return Preprocess(input_size=(crop, crop), resize=resize, interpolation=interpolation, mean=mean, std=std)


def timm(
    input_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: str = "bicubic",
    *,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    crop_mode: str = "center",
) -> Preprocess:
    """timm's `create_transform` for evaluation: resized to floor(input_size / crop_pct), then cropped.

    `crop_mode` "center" keeps the aspect, "squash" doesn't; "border", which pads, raises InvalidInputError.
    """
    if crop_mode not in ("center", "squash"):
        raise InvalidInputError(f'crop_mode is "{crop_mode}"; it must be "center" or "squash".')
    if not 0 < crop_pct <= 1:
        raise InvalidInputError(f"crop_pct is {crop_pct}; it must be above 0 and at most 1.")
    size = math.floor(input_size / crop_pct)
    return Preprocess(
        input_size=(input_size, input_size),
        resize=size if crop_mode == "center" else (size, size),
        interpolation=interpolation,
        mean=mean,
        std=std,
    )


def bianco2018(
    input_size: int = 224, *, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD
) -> Preprocess:
    """Bianco et al. 2018: crop_pct 0.875 and antialiased bilinear for every network."""
    return timm(input_size, 0.875, "bilinear", mean=mean, std=std)


#: name -> record. Where a library's network departs from these, its own record is kept with its weights.
PROTOCOLS = {
    "paddleclas": paddleclas(256, 224),
    # DarkNet53 has three contradictory protocols: its page, its training configuration, the deployed default.
    "paddleclas-darknet53-page": paddleclas(256, 256),
    "paddleclas-darknet53-training": paddleclas(292, 256),
    "paddleclas-darknet53-deployed": paddleclas(256, 224),
    "torchvision": torchvision(),
    "timm": timm(),
    "bianco2018": bianco2018(),
}


#: Ways of a network's own Preprocess, which keep its size, mean and deviation.
OWN, WHOLE = "own", "whole"
WAYS = (OWN, WHOLE)


def whole(record: Preprocess) -> Preprocess:
    """The same, with the whole picture squeezed to the network's size: nothing is cropped, and the aspect
    isn't kept."""
    return replace(record, resize=record.input_size)


def find(name: str) -> Preprocess:
    """The record of a named protocol. Raises UnknownNameError."""
    if name.lower() not in PROTOCOLS:
        raise UnknownNameError.of(
            "preprocessing protocol", name, (*WAYS, *PROTOCOLS), ", ".join((*WAYS, *PROTOCOLS))
        )
    return PROTOCOLS[name.lower()]
