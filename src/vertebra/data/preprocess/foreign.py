"""Preprocessing as other libraries write it into JSON: Hugging Face's `preprocessor_config.json`, and timm's
`config.json`. What a record can't say is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vertebra.data.preprocess import protocols
from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vertebra.errors import InvalidInputError

#: Pillow's numbers of its filters, as Hugging Face writes them.
_RESAMPLE = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
_TIMM_KEYS = ("input_size", "crop_pct", "interpolation")


def from_json(text: str) -> Preprocess:
    """The record in a JSON text: one of `Preprocess.to_json`, a `preprocessor_config.json` of Hugging Face's,
    or a `config.json` of timm's. Raises InvalidInputError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        config = value.get("pretrained_cfg", value)
        if isinstance(config, dict) and all(key in config for key in _TIMM_KEYS):
            return _from_timm(config)
        if "image_mean" in value or "do_resize" in value or "image_processor_type" in value:
            return _from_hugging_face(value)
        if "id2label" in value or "model_type" in value:
            raise InvalidInputError(
                "This is the configuration of a network of Hugging Face's, which has no preprocessing.",
                "pass the preprocessor_config.json next to it",
            )
    try:
        return Preprocess.from_json(text)
    except RecursionError as error:
        raise InvalidInputError(
            "The Preprocess record is nested too deeply.", "write it with Preprocess.to_json()"
        ) from error


# ------------------------------------------------------------------ timm


def _from_timm(config: Mapping[str, Any]) -> Preprocess:
    what = "timm's config.json"
    size = config["input_size"]
    if not (isinstance(size, list) and len(size) == 3 and size[0] == 3 and size[1] == size[2]):
        raise _refused(what, "input_size", size, "[3, n, n]")
    crop = config["crop_pct"]
    if not isinstance(crop, int | float) or isinstance(crop, bool):
        raise _refused(what, "crop_pct", crop, "a number")
    return protocols.timm(
        _whole(what, "input_size", size[1]), crop, str(config["interpolation"]),
        mean=_three(what, config, "mean", IMAGENET_MEAN), std=_three(what, config, "std", IMAGENET_STD),
        crop_mode=str(config.get("crop_mode") or "center"),
    )  # fmt: skip


# ------------------------------------------------------------------ Hugging Face

_HUB = "preprocessor_config.json"


def _from_hugging_face(config: Mapping[str, Any]) -> Preprocess:
    _check_steps(config)
    normal = config.get("do_normalize", True)
    mean = _three(_HUB, config, "image_mean", IMAGENET_MEAN) if normal else (0.0, 0.0, 0.0)
    std = _three(_HUB, config, "image_std", IMAGENET_STD) if normal else (1.0, 1.0, 1.0)
    resample = config.get("resample", 2)
    if resample not in _RESAMPLE:
        raise _refused(_HUB, "resample", resample, "1 (lanczos), 2 (bilinear) or 3 (bicubic)")
    resize, crop = _sizes(config)
    return Preprocess(
        input_size=crop, resize=resize, interpolation=_RESAMPLE[resample], crop_rounding="floor",
        mean=mean, std=std,
    )  # fmt: skip


def _check_steps(config: Mapping[str, Any]) -> None:
    """Refuse steps that a record doesn't have."""
    for step in ("do_pad", "do_flip_channel_order", "rescale_offset", "do_reduce_labels", "include_top"):
        if config.get(step):
            raise _refused(_HUB, step, config[step], "false")
    for step in ("do_resize", "do_rescale"):
        if not config.get(step, True):
            raise _refused(_HUB, step, config[step], "true")
    factor = config.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or abs(factor * 255 - 1) > 1e-6:
        raise _refused(_HUB, "rescale_factor", factor, "1/255")


def _sizes(config: Mapping[str, Any]) -> tuple[int | tuple[int, int], tuple[int, int]]:
    """What a picture is resized to, and what is cropped of it."""
    size, crops = config.get("size"), bool(config.get("do_center_crop", "crop_size" in config))
    crop = config.get("crop_size") if crops else None
    if isinstance(size, int) and not isinstance(size, bool):
        size = {"shortest_edge": size} if crops or "crop_pct" in config else {"height": size, "width": size}
    if not isinstance(size, dict):
        raise _refused(_HUB, "size", size, "a number, or an object of height and width or of shortest_edge")
    if "shortest_edge" not in size:
        whole = _pair("size", size)
        return whole, (_pair("crop_size", crop) if crop is not None else whole)
    edge = _whole(_HUB, "size", size["shortest_edge"])
    share = config.get("crop_pct")
    if share is not None:  # ConvNeXt's: a crop below 384, squashed from there
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise _refused(_HUB, "crop_pct", share, "above 0 and at most 1")
        return (int(edge / share) if edge < 384 else (edge, edge)), (edge, edge)
    if crop is None:
        raise _refused(_HUB, "do_center_crop", False, "true where size is shortest_edge")
    return edge, _pair("crop_size", crop)


def _pair(name: str, value: Any) -> tuple[int, int]:
    if isinstance(value, dict) and {"height", "width"} <= value.keys():
        return _whole(_HUB, name, value["height"]), _whole(_HUB, name, value["width"])
    return (_whole(_HUB, name, value),) * 2


def _whole(what: str, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(what, name, value, "a positive whole number")
    return value


def _three(
    what: str, config: Mapping[str, Any], name: str, default: tuple[float, float, float]
) -> tuple[float, float, float]:
    value = config.get(name, default)
    if isinstance(value, list | tuple) and len(value) == 3:
        return value[0], value[1], value[2]  # Preprocess checks that they are numbers
    raise _refused(what, name, value, "three numbers: R, G, B")


def _refused(what: str, name: str, value: object, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what}: {name} is {json.dumps(value)[:60]}; a Preprocess record can only have {expected}.",
        "write a record of your own: see docs/preprocess.md",
    )
