"""A recipe: everything that decides what a training run does, as plain data.

`vertebra.training.recipes` finds one by its name and changes it.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError
from vertebra.machine import json_text

#: Version of the fields and their meaning. A change of either raises it.
VERSION = 1

#: field -> its allowed words
WORDS = {
    "trained": ("all", "head"),
    "crop": ("paddleclas", "torchvision", "pad", "evaluation"),
    "interpolation": ("bilinear", "bicubic", "lanczos", "opencv-bilinear"),
    "augment": ("none", "randaugment", "trivialaugment"),
    "decode": ("exact", "scaled"),
    "unreadable": ("fail", "skip"),
    "shuffle": ("all", "shards"),
    "optimizer": ("sgd", "nesterov", "adam", "adamw", "rmsprop", "lamb", "lion"),
    "schedule": ("constant", "piecewise", "cosine", "onecycle"),
    "amp": ("none", "bf16", "fp16"),
}

#: field -> the least and the most, both allowed
_BOUNDS: dict[str, tuple[float, float]] = {
    "freeze_epochs": (0, math.inf),
    "padding": (0, 1024),
    "flip": (0, 1),
    "augment_operations": (1, 14),
    "augment_magnitude": (0, 30),
    "erasing": (0, 1),
    "label_smoothing": (0, 0.999),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "mix_probability": (0, 1),
    "epochs": (1, 1_000_000),
    "batch": (1, 2**24),
    "lr_batch": (1, 2**24),
    "accumulate": (1, 2**16),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 10),
    "gamma": (0, 1),
    "warmup_epochs": (0, math.inf),
    "warmup_start": (0, 1),
    "min_lr": (0, 100),
    "clip": (0, math.inf),
    "ema": (0, 0.999999),
    "early_stop": (0, math.inf),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training run does, apart from the network, the pictures and the machine.

    name               what it is called; `source`: where its figures are published; `notes`: what was decided
                       where sources contradict each other; `changes`: what was changed since, as sentences
    evaluation         how pictures are prepared for evaluation, and for use later; its `input_size`, `mean`
                       and `std` are those of training too

    Where it starts
    pretrained         from the network's published weights; else from random parameters
    trained            "all" parameters, or the "head": the last layer only
    freeze_epochs      so many epochs train the head alone first, at the full rate

    Pictures
    crop               "paddleclas" and "torchvision": a random part, of a share of the area within
                       `crop_scale` and an aspect within `crop_ratio`, resized (see `augmentation`);
                       "pad": evaluation's crop, with `padding` pixels on each side, cropped at random;
                       "evaluation": evaluation's crop
    interpolation      of the resizing, as in Preprocess
    flip               how often a picture is mirrored, 0 to 1
    augment            "none"; "randaugment": `augment_operations` of magnitude `augment_magnitude` of 30;
                       "trivialaugment": one operation of a random magnitude
    erasing            how often a rectangle is replaced by the mean colour, 0 to 1
    decode             "exact"; or "scaled": a JPEG is decoded at 1/2, 1/4 or 1/8 where the crop then still
                       has as many pixels as the network sees. Faster; slightly other pixels.
    unreadable         at a picture that can't be read: "fail", or "skip": the next one is in its place
    shuffle            "all" pictures; or "shards": the shards, and pictures of neighbouring ones

    Targets
    label_smoothing    0 to 1, without 1
    mixup, cutmix      the two alphas of the beta distribution that draws the share; 0: not used; where both
                       are, either has half of the steps
    mix_probability    how often a step's pictures are mixed
    class_weights      whether the loss weighs each class by the inverse of its count
    balanced           whether classes are drawn equally often

    Steps
    epochs, batch      `batch`: pictures in a step over all processes, however many times they accumulate
    accumulate         into how many parts each process splits its share of a step
    optimizer          "sgd", "nesterov", "adam", "adamw", "rmsprop", "lamb" or "lion"
    lr, lr_batch       the highest rate for a step of `lr_batch` pictures; at `batch` it is in proportion
    momentum           SGD's and RMSProp's; Adam's first beta is as its paper has it
    weight_decay       `decay_1d`: also of biases and norms
    schedule           "constant"; "piecewise": times `gamma` at each of `milestones`, in epochs; "cosine" to
                       `min_lr`; "onecycle", with its own warm-up
    warmup_epochs      in which the rate rises in a line from `warmup_start`, a share of the highest rate
    layer_decay        by how much the rate of each block is lower than the next one's; 1: equal
    clip               the largest norm of the gradient; 0: any
    ema                the decay of the averaged parameters, for each step; 0: none
    amp                "none", "bf16" or "fp16"
    channels_last      the layout of pictures and parameters
    early_stop         after so many epochs without a better accuracy; 0: never
    """

    name: str
    evaluation: Preprocess
    source: str = ""
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    pretrained: bool = False
    trained: str = "all"
    freeze_epochs: int = 0
    crop: str = "torchvision"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    padding: int = 4
    interpolation: str = "bilinear"
    flip: float = 0.5
    augment: str = "none"
    augment_operations: int = 2
    augment_magnitude: int = 9
    erasing: float = 0.0
    decode: str = "exact"
    unreadable: str = "fail"
    shuffle: str = "all"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    class_weights: bool = False
    balanced: bool = False
    epochs: int
    batch: int
    accumulate: int = 1
    optimizer: str = "sgd"
    lr: float
    lr_batch: int
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_1d: bool = True
    schedule: str = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    warmup_start: float = 0.0
    min_lr: float = 0.0
    layer_decay: float = 1.0
    clip: float = 0.0
    ema: float = 0.0
    amp: str = "none"
    channels_last: bool = False
    early_stop: int = 0
    seed: int = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
            elif field.type == "float" and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, field.name, float(value))
        _check(self)

    @property
    def input_size(self) -> int:
        """The side of the network's square input, in pixels."""
        return self.evaluation.input_size[0]

    @property
    def peak(self) -> float:
        """The highest rate, at `batch`: linear in it."""
        return self.lr * self.batch / self.lr_batch

    def steps(self, pictures: int) -> int:
        """Steps of an epoch over so many pictures: those whose batch is full."""
        return pictures // self.batch

    def to_json(self) -> str:
        """The recipe as JSON text; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe in a JSON text. Raises InvalidInputError where it isn't one."""
        try:
            value = json_text.parsed(text)
        except ValueError as error:
            raise InvalidInputError(f"The recipe is not JSON: {error}.", _FORM) from error
        return cls.from_dict(value)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Recipe:
        """The recipe in a decoded JSON object. Keys that have a default may be missing.

        Raises InvalidInputError for an unknown key, an unusable value, or a newer version.
        """
        if not isinstance(value, Mapping):
            raise InvalidInputError(f"A recipe is a JSON object, not {type(value).__name__}.", _FORM)
        given = dict(value)
        _check_version(given.get("version", VERSION))  # before the keys: a newer recipe may have others
        for key in given:
            if key not in names():
                raise unknown(str(key), names())
        missing = [field.name for field in dataclasses.fields(cls) if _needed(field)]
        missing = [name for name in missing if name not in given]
        if missing:
            raise InvalidInputError(f"The recipe lacks {', '.join(missing)}.", _FORM)
        if isinstance(given["evaluation"], Mapping):
            given["evaluation"] = Preprocess.from_dict(given["evaluation"])
        return cls(**given)


_FORM = "write it with Recipe.to_json()"


def names() -> list[str]:
    """The names of a recipe's fields."""
    return [field.name for field in dataclasses.fields(Recipe)]


def unknown(key: str, known: list[str]) -> InvalidInputError:
    """The error for a key that no recipe has, with the nearest that one has."""
    close = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f'did you mean "{close[0]}"?' if close else f"the keys are: {', '.join(known)}"
    return InvalidInputError(f'A recipe has no "{key[:100]}".', hint)


def refusal(name: str, value: object, expected: str) -> InvalidInputError:
    """The error for a value that a recipe's field can't have."""
    shown = list(value) if isinstance(value, tuple) else value
    text = json_text.shown(shown) if not isinstance(shown, Preprocess) else "a Preprocess"
    return InvalidInputError(f"The recipe's {name} is {text}; it must be {expected}.")


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_version(version: object) -> None:
    if isinstance(version, int) and version > VERSION:
        raise InvalidInputError(
            f"The recipe has version {version}; this vertebra reads version {VERSION}.",
            "upgrade with: pip install --upgrade vertebra",
        )


def _check(recipe: Recipe) -> None:
    if recipe.version != VERSION:
        _check_version(recipe.version)
        raise refusal("version", recipe.version, str(VERSION))
    if not isinstance(recipe.evaluation, Preprocess):
        raise refusal("evaluation", str(recipe.evaluation), "a Preprocess")
    height, width = recipe.evaluation.input_size
    if height != width:
        raise refusal("evaluation.input_size", recipe.evaluation.input_size, "a square")
    for field in dataclasses.fields(recipe):
        _check_type(field.name, str(field.type), getattr(recipe, field.name))
    for name, words in WORDS.items():
        if getattr(recipe, name) not in words:
            raise refusal(name, getattr(recipe, name), " or ".join(f'"{word}"' for word in words))
    for name, (least, most) in _BOUNDS.items():
        if not least <= getattr(recipe, name) <= most:
            raise refusal(name, getattr(recipe, name), _between(least, most))
    _check_rest(recipe)


def _between(least: float, most: float) -> str:
    return f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"


#: annotation -> whether a value is of it, and what to call it
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "text"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "float": (lambda value: _is_number(value), "a number"),
    "tuple[float, float]": (
        lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value)),
        "two numbers",
    ),
    "tuple[float, ...]": (
        lambda value: isinstance(value, tuple) and all(map(_is_number, value)),
        "numbers",
    ),
    "tuple[str, ...]": (
        lambda value: isinstance(value, tuple) and all(isinstance(one, str) for one in value),
        "texts",
    ),
}


def _check_type(name: str, annotation: str, value: object) -> None:
    if annotation in _TYPES:
        fits, expected = _TYPES[annotation]
        if not fits(value):
            raise refusal(name, value, expected)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _no_epoch_left(recipe: Recipe) -> InvalidInputError:
    """The error for a recipe whose epochs are over before its schedule begins, with what to change."""
    parts = [(name, getattr(recipe, name)) for name in ("freeze_epochs", "warmup_epochs")]
    taken = [(name, value) for name, value in parts if value]
    shown = " and ".join(f"{name} {value:g}" for name, value in taken)
    changes = " ".join(f"--set {name}=0" for name, _ in taken)
    return InvalidInputError(
        f"The recipe's epochs is {recipe.epochs}; it must be more than {shown}"
        f"{' together' if len(taken) > 1 else ''}.",
        f"raise epochs, or leave that out: {changes}",
    )


def _check_rest(recipe: Recipe) -> None:
    if not recipe.lr > 0:
        raise refusal("lr", recipe.lr, "above 0")
    if not 0 < recipe.layer_decay <= 1:
        raise refusal("layer_decay", recipe.layer_decay, "above 0 and at most 1")
    low, high = recipe.crop_scale
    if not 0 < low <= high <= 1:
        raise refusal("crop_scale", recipe.crop_scale, "two shares of the area, the smaller first")
    if not 0 < recipe.crop_ratio[0] <= recipe.crop_ratio[1]:
        raise refusal("crop_ratio", recipe.crop_ratio, "two aspects above 0, the smaller first")
    if list(recipe.milestones) != sorted(set(recipe.milestones)) or min(recipe.milestones, default=1) <= 0:
        raise refusal("milestones", recipe.milestones, "epochs above 0, in order")
    if (recipe.schedule == "piecewise") != bool(recipe.milestones):
        raise refusal("milestones", recipe.milestones, 'given with schedule "piecewise", and only then')
    if recipe.schedule == "onecycle" and recipe.warmup_epochs:
        raise refusal("warmup_epochs", recipe.warmup_epochs, '0 with schedule "onecycle", which warms up')
    if recipe.freeze_epochs + recipe.warmup_epochs >= recipe.epochs:
        raise _no_epoch_left(recipe)
    if recipe.trained == "head" and (recipe.freeze_epochs or recipe.layer_decay != 1):
        raise refusal("trained", "head", '"all" where there are freeze_epochs or a layer_decay')
    if recipe.min_lr > recipe.peak:
        raise refusal("min_lr", recipe.min_lr, f"at most the highest rate, {recipe.peak:g}")
    if recipe.batch % recipe.accumulate:
        raise refusal("accumulate", recipe.accumulate, f"a divisor of the batch, {recipe.batch}")
    if recipe.balanced and recipe.shuffle == "shards":
        raise refusal("shuffle", "shards", '"all" where balanced draws the pictures')
    if recipe.class_weights and recipe.balanced:
        raise refusal("balanced", True, "false with class_weights: each does the other's work")
