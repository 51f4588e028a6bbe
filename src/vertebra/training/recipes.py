"""Recipes by their names, from files, and with changes."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vertebra.data.names import printable
from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.training import classics
from vertebra.training.recipe import WORDS, Recipe, names, refusal, unknown

#: name -> what it is for
NAMES = {
    "published": "what its authors published for the network (the eleven classics)",
    "modern": "from random parameters, with today's augmentations",
    "finetune": "from published weights: the new head first, then all",
    "head": "from published weights: the new head alone",
}

#: Set by what is asked for, and not by a person.
_FIXED = ("name", "source", "notes", "changes", "version")


def find(name: str, model: str, *, weights: Preprocess | None = None) -> Recipe:
    """The recipe `name` for a network: "published" (one of the eleven classics'), "modern", "finetune",
    "head", or the path of a .py file, whose `recipe(model)` or `RECIPE` gives one.

    `weights` is the Preprocess that the weights which training starts from were made with; without it, the
    network's own. Raises UnknownNameError or InvalidInputError.
    """
    if name.endswith(".py") or os.sep in name:
        return _from_file(Path(name), model)
    if name not in NAMES:
        raise UnknownNameError.of("recipe", name, NAMES, f"{', '.join(NAMES)}, or a .py file")
    from vertebra import zoo

    found = zoo.find(model)
    if name == "published":
        return classics.published(found.name)
    if name == "modern":
        return _modern(found.name, found.family, found.input_size)
    record = weights or zoo.facts(found.name).preprocess
    return _finetune(record) if name == "finetune" else _head(record)


#: Families whose networks have no norms, and can't take a high rate.
_WITHOUT_NORMS = ("alexnet", "squeezenet", "vgg")
#: What is in the names of families with attention, or built like them.
_ADAMW = (
    "vit", "deit", "beit", "eva", "cait", "swin", "convnext", "mixer", "mlp", "former", "xcit", "pvt", "pit",
    "transformer", "coat", "davit", "hiera",
)  # fmt: skip


def _modern(model: str, family: str, size: int) -> Recipe:
    """Training from random parameters; the kind of network decides the optimizer and the rate."""
    architecture = model.rpartition(":")[2].partition(".")[0].lower()
    kind = f"{family} {architecture}".lower()
    plain = any(word in kind for word in _WITHOUT_NORMS) and "bn" not in kind
    if plain:
        steps: dict[str, Any] = {"optimizer": "nesterov", "lr": 0.04, "weight_decay": 1e-4, "clip": 5.0}
        note = "a low rate and clipped gradients, for a network without norms"
        targets: dict[str, Any] = {"mixup": 0.1, "cutmix": 0.0, "ema": 0.9999}
    elif any(word in kind for word in _ADAMW):
        steps = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "clip": 1.0}
        note = "AdamW, for a network with attention or built like one"
        targets = {"mixup": 0.8, "cutmix": 1.0, "ema": 0.9999}
    else:
        steps = {"optimizer": "nesterov", "lr": 0.5, "weight_decay": 2e-5}
        note = "SGD, for a convolutional network with norms"
        targets = {"mixup": 0.2, "cutmix": 1.0, "ema": 0.9999}
    return Recipe(
        name="modern",
        source="vertebra; values near those of torchvision's and timm's reference recipes",
        notes=(note, "no accuracy is published for it"),
        evaluation=protocols.torchvision(round(size / 0.875), size),
        crop="torchvision", interpolation="bilinear", flip=0.5, augment="trivialaugment", erasing=0.1,
        decode="scaled", label_smoothing=0.1, epochs=300, batch=1024, lr_batch=1024, decay_1d=False,
        schedule="cosine", warmup_epochs=5, warmup_start=0.01, **targets, **steps,
    )  # fmt: skip


def _finetune(record: Preprocess) -> Recipe:
    return Recipe(
        name="finetune",
        source="vertebra",
        notes=("the head alone for one epoch, then all, each block slower than the one after it",),
        evaluation=record, pretrained=True, freeze_epochs=1, epochs=20, early_stop=6,
        crop="torchvision", crop_scale=(0.35, 1.0), interpolation=record.interpolation, flip=0.5,
        augment="trivialaugment", erasing=0.1, decode="scaled", label_smoothing=0.1,
        batch=64, lr=5e-4, lr_batch=64, optimizer="adamw", weight_decay=0.05, decay_1d=False,
        schedule="cosine", warmup_epochs=1, warmup_start=0.1, layer_decay=0.85, clip=1.0,
    )  # fmt: skip


def _head(record: Preprocess) -> Recipe:
    return Recipe(
        name="head",
        source="vertebra",
        notes=("only the last layer is trained, on pictures as evaluation crops them",),
        evaluation=record, pretrained=True, trained="head", crop="evaluation",
        interpolation=record.interpolation, flip=0.0, decode=record.decode,
        epochs=30, early_stop=6, batch=64, lr=1e-3, lr_batch=64, optimizer="adamw", weight_decay=0.01,
        decay_1d=False, schedule="cosine",
    )  # fmt: skip


# ------------------------------------------------------------------ a file of your own


def _from_file(path: Path, model: str) -> Recipe:
    place = printable(path)
    if not path.is_file():
        raise InvalidInputError(
            f"There is no recipe at {place}.", f"pass {', '.join(NAMES)}, or the path of a .py file"
        )
    spec = importlib.util.spec_from_file_location(f"vertebra_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"{place} is not a Python file.", "a recipe's file ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, "recipe", None)
        found = made(model) if callable(made) else getattr(module, "RECIPE", None)
    except Exception as error:
        raise InvalidInputError(f"{place}{_line(path)}: {type(error).__name__}: {error}", _FILE) from error
    if not isinstance(found, Recipe):
        what = "neither a function recipe nor a RECIPE" if found is None else f"a {type(found).__name__}"
        raise InvalidInputError(f"{place} gives {what}, not a vertebra.training.recipe.Recipe.", _FILE)
    return replace(found, source=found.source or place)


_FILE = (
    "write a function recipe(model) that returns one, for example from "
    'vertebra.training.recipes.find("modern", model) and override'
)


def _line(path: Path) -> str:
    """The line of the file where the exception that is handled came from."""
    trace, line = sys.exc_info()[2], None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f":{line}"


# ------------------------------------------------------------------ changes


def override(recipe: Recipe, given: Mapping[str, object]) -> Recipe:
    """The recipe with other values, as text ("lr": "0.1") or typed; `changes` records each.

    Where `batch` changes and `lr` doesn't, the rate follows it in proportion. "evaluation.resize" and the
    like are the Preprocess's; "input_size" scales its `resize` too. Raises InvalidInputError for a key that
    no recipe has, naming the nearest, and for a value of another type.
    """
    known = [name for name in names() if name not in (*_FIXED, "evaluation")]
    record = [f"evaluation.{field.name}" for field in dataclasses.fields(Preprocess)]
    values: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name in record:
            field = name.partition(".")[2]
            evaluation[field] = _read(name, _RECORD_TYPES[field], value)
        elif name == "input_size":
            side = _read(name, "int", value)
            evaluation |= _sized(recipe.evaluation, side)
        elif name in known:
            values[name] = _read(name, _type_of(name), value)
        else:
            raise unknown(key, [*known, "input_size", *record])
    if evaluation:
        values["evaluation"] = replace(recipe.evaluation, **evaluation)
    if "lr" in values and "lr_batch" not in values:
        values["lr_batch"] = values.get("batch", recipe.batch)
    if "schedule" in values and values["schedule"] != "piecewise":
        values.setdefault("milestones", ())
    if values.get("schedule") == "onecycle":
        values.setdefault("warmup_epochs", 0.0)
    changed = replace(recipe, **values)
    return replace(changed, changes=(*recipe.changes, *_changes(recipe, changed)))


def at_most(recipe: Recipe, pictures: int, world: int = 1) -> Recipe:
    """The recipe with a batch that so many pictures can fill; the rate follows, and `changes` says so.

    Raises InvalidInputError where there are fewer pictures than processes.
    """
    if pictures >= recipe.batch:
        return recipe
    unit = world * recipe.accumulate
    batch = pictures // unit * unit
    if batch < 1:
        raise InvalidInputError(
            f"{pictures} pictures can't be shared by {world} processes with {recipe.accumulate} parts each.",
            "run fewer processes, or pass accumulate=1",
        )
    changed = override(recipe, {"batch": batch})
    return replace(
        changed,
        changes=(*changed.changes, f"there are only {pictures:,} pictures to fill a step of {recipe.batch}"),
    )


def _sized(record: Preprocess, side: int) -> dict[str, Any]:
    """The Preprocess's sizes in proportion to another input."""
    old = record.input_size[0]

    def scaled(pixels: int) -> int:
        return max(round(pixels * side / old), side)

    resize = record.resize
    both = scaled(resize) if isinstance(resize, int) else (scaled(resize[0]), scaled(resize[1]))
    return {"input_size": (side, side), "resize": both}


def _changes(before: Recipe, after: Recipe) -> list[str]:
    """What differs, as sentences."""
    said = []
    for name in names():
        old, new = getattr(before, name), getattr(after, name)
        if old == new or name in _FIXED or name == "lr_batch":
            continue
        if isinstance(old, Preprocess):
            said += [
                f"evaluation.{field.name}: {_shown(getattr(new, field.name))} in place of "
                f"{_shown(getattr(old, field.name))}"
                for field in dataclasses.fields(Preprocess)
                if getattr(old, field.name) != getattr(new, field.name)
            ]
        else:
            said.append(f"{name}: {_shown(new)} in place of {_shown(old)}")
    late = [epoch for epoch in after.milestones if epoch >= after.epochs]
    if late and before.epochs != after.epochs:
        said.append(f"the milestones {_shown(tuple(late))} come after the last epoch, so they have no effect")
    if before.batch != after.batch and before.lr == after.lr and before.lr_batch == after.lr_batch:
        said.append(
            f"the highest rate follows the batch: {after.peak:g} at {after.batch} pictures a step in place "
            f"of {before.peak:g} at {before.batch}"
        )
    return said


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_shown, value)) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------ typed values


def _type_of(name: str) -> str:
    return next(str(field.type) for field in dataclasses.fields(Recipe) if field.name == name)


_RECORD_TYPES = {
    "input_size": "tuple[int, int]",
    "resize": "int | tuple[int, int]",
    "interpolation": "str",
    "resize_rounding": "str",
    "crop_rounding": "str",
    "mean": "tuple[float, ...]",
    "std": "tuple[float, ...]",
    "apply_orientation": "bool",
    "decode": "str",
    "version": "int",
}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _read(name: str, kind: str, value: object) -> Any:
    """The value of a field, from text or as it is. Raises InvalidInputError."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    text = value.strip()
    if kind == "str":
        return _word(name, text)
    try:
        return _READERS[kind](text)
    except ValueError:
        expected = _EXPECTED.get(kind, "numbers with commas between them")
        raise refusal(name, value, expected) from None


def _word(name: str, text: str) -> str:
    """A word in any case; which ones are allowed is checked by the recipe."""
    return text.lower() if name in WORDS or name.startswith("evaluation.") else text


def _whole(text: str) -> int:
    number = float(text) if "e" in text.lower() else int(text.replace("_", ""))
    if number != int(number):
        raise ValueError(text)
    return int(number)


def _truth(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(text)
    return text.lower() in _TRUE


def _numbers(read: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def several(text: str) -> tuple[Any, ...]:
        parts = text.strip("()[]").replace(" ", ",").split(",")
        return tuple(read(part) for part in parts if part and part != "none")

    return several


def _side_or_two(text: str) -> Any:
    sides = _numbers(_whole)(text)
    return sides[0] if len(sides) == 1 else sides


_READERS: dict[str, Callable[[str], Any]] = {
    "int": _whole,
    "float": float,
    "bool": _truth,
    "tuple[float, float]": _numbers(float),
    "tuple[float, ...]": _numbers(float),
    "tuple[int, int]": _numbers(_whole),
    "int | tuple[int, int]": _side_or_two,
}
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[float, float]": "two numbers with a comma between them",
}
