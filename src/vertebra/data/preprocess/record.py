"""The record of what happens to a picture between its file and a network's input."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vertebra.errors import InvalidInputError
from vertebra.machine import json_text

#: Version of the record's fields and their meaning. A change of either raises it.
VERSION = 1

#: ImageNet's mean and deviation per channel, R G B, in units of full scale.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: field -> its allowed values
_WORDS = {
    "resize_rounding": ("floor", "nearest"),
    "crop_rounding": ("floor", "nearest"),
    "interpolation": ("bilinear", "bicubic", "lanczos", "opencv-bilinear"),
    "decode": ("exact", "scaled"),
}


@dataclass(frozen=True)
class Preprocess:
    """decode → orientation → resize → centre crop → normalise → float32 (3, H, W), RGB.

    input_size         (height, width) of the crop: what the network sees
    resize             n: the shorter side becomes n, the longer keeps the aspect; (height, width): exactly so
    resize_rounding    of the longer side: "floor", or "nearest" (half to even, as Python rounds)
    crop_rounding      of the crop's top and left edge: likewise
    interpolation      "bilinear", "bicubic", "lanczos": antialiased, as Pillow does them;
                       "opencv-bilinear": the four nearest pixels, never antialiased, as OpenCV does it
    mean, std          per channel R, G, B: output = (pixel / 255 - mean) / std
    apply_orientation  whether the picture is first turned upright by its EXIF orientation
    decode             "exact"; or "scaled": a JPEG is decoded at 1/2, 1/4 or 1/8 where that still is no
                       smaller than the resized picture, by quick transforms. Faster; other pixels.
    """

    input_size: tuple[int, int]
    resize: int | tuple[int, int]
    interpolation: str
    resize_rounding: str = "floor"
    crop_rounding: str = "nearest"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    apply_orientation: bool = False
    decode: str = "exact"
    version: int = VERSION

    def __post_init__(self) -> None:
        for name in ("input_size", "resize", "mean", "std"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        self._check_version()
        self._check_sizes()
        self._check_words()
        self._check_scale()

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that a picture of `height` × `width` is resized to.

        >>> Preprocess(input_size=(224, 224), resize=256, interpolation="bilinear").resized(500, 375)
        (341, 256)
        """
        if isinstance(self.resize, tuple):
            return self.resize
        short = min(height, width)
        if self.resize_rounding == "nearest":
            scale = self.resize / short
            return round(height * scale), round(width * scale)
        long = int(self.resize * max(height, width) / short)
        return (self.resize, long) if height <= width else (long, self.resize)

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """(top, left) of the crop in a resized picture of `height` × `width`."""
        spare = (height - self.input_size[0], width - self.input_size[1])
        if self.crop_rounding == "nearest":
            return round(spare[0] / 2), round(spare[1] / 2)
        return spare[0] // 2, spare[1] // 2

    def to_json(self) -> str:
        """The record as JSON text; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """The record in a JSON text. Raises InvalidInputError where it isn't one."""
        try:
            value = json_text.parsed(text)
        except ValueError as error:
            raise InvalidInputError(f"The Preprocess record is not JSON: {error}.", _FORM) from error
        return cls.from_dict(value)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Preprocess:
        """The record in a decoded JSON object. Every key must be there, and no other.

        Raises InvalidInputError for an unknown or a missing key, an unusable value, or a newer version.
        """
        if not isinstance(value, Mapping):
            raise InvalidInputError(
                f"A Preprocess record is a JSON object, not {type(value).__name__}.", _FORM
            )
        if "version" in value:
            _check_newer(value["version"])  # before the keys: a newer record may have others
        known = [field.name for field in dataclasses.fields(cls)]
        for key in value:
            if key not in known:
                raise _unknown_key(str(key), known)
        missing = [name for name in known if name not in value]
        if missing:
            raise InvalidInputError(f"The Preprocess record lacks {', '.join(missing)}.", _FORM)
        return cls(**value)

    # ------------------------------------------------------------------ checks

    def _check_version(self) -> None:
        _check_newer(self.version)
        if self.version != VERSION:
            raise _refusal("version", self.version, str(VERSION))

    def _check_sizes(self) -> None:
        if not _is_pair(self.input_size):
            raise _refusal("input_size", self.input_size, "[height, width], positive whole numbers")
        if not (_is_side(self.resize) or _is_pair(self.resize)):
            raise _refusal("resize", self.resize, "a positive whole number, or [height, width]")
        resize = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        if resize[0] < self.input_size[0] or resize[1] < self.input_size[1]:
            raise _refusal("resize", self.resize, f"no smaller than input_size, {list(self.input_size)}")

    def _check_words(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise _refusal(name, getattr(self, name), " or ".join(f'"{word}"' for word in words))
        if not isinstance(self.apply_orientation, bool):
            raise _refusal("apply_orientation", self.apply_orientation, "true or false")

    def _check_scale(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not (isinstance(value, tuple) and len(value) == 3 and all(map(_is_number, value))):
                raise _refusal(name, value, "three finite numbers: R, G, B")
        if min(self.std) <= 0:
            raise _refusal("std", self.std, "above zero")


_FORM = "write it with Preprocess.to_json()"


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 65_535


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_side, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refusal(name: str, value: object, expected: str) -> InvalidInputError:
    shown = list(value) if isinstance(value, tuple) else value
    return InvalidInputError(f"Preprocess: {name} is {json_text.shown(shown)}; it must be {expected}.")


def _unknown_key(key: str, known: list[str]) -> InvalidInputError:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"the keys are: {', '.join(known)}"
    return InvalidInputError(f'Unknown key "{key}" in a Preprocess record.', hint)


def _check_newer(version: object) -> None:
    if isinstance(version, int) and version > VERSION:
        raise InvalidInputError(
            f"The Preprocess record has version {version}; this vertebra reads version {VERSION}.",
            "upgrade with: pip install --upgrade vertebra",
        )
