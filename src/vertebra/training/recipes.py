"""Recipes by their names, from files, and with changes."""

from __future__ import annotations

from collections.abc import Mapping

from vertebra.data.preprocess import Preprocess
from vertebra.training.recipe import Recipe


def find(name: str, model: str, *, weights: Preprocess | None = None) -> Recipe:
    """The recipe `name` for a network: "published" (one of the eleven classics'), "modern", "finetune",
    "head", or the path of a .py file, whose `recipe(model)` or `RECIPE` gives one.

    `weights` is the Preprocess that the weights which training starts from were made with; without it, the
    network's own. Raises UnknownNameError or InvalidInputError.
    """
    raise NotImplementedError


def override(recipe: Recipe, given: Mapping[str, object]) -> Recipe:
    """The recipe with other values, as text ("lr": "0.1") or typed; `changes` records each.

    Where `batch` changes and `lr` doesn't, the rate follows it in proportion. "evaluation.resize" and the
    like are the Preprocess's; "input_size" scales its `resize` too. Raises InvalidInputError for a key that
    no recipe has, naming the nearest, and for a value of another type.
    """
    raise NotImplementedError


def at_most(recipe: Recipe, pictures: int, world: int = 1) -> Recipe:
    """The recipe with a batch that so many pictures can fill; the rate follows, and `changes` says so."""
    raise NotImplementedError
