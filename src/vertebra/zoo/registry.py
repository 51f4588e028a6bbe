"""The decorator that marks a network's builder, and the builders marked so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from vertebra.zoo.backbone import Backbone

Builder = TypeVar("Builder", bound="Callable[..., Backbone]")

BUILDERS: dict[str, Callable[..., Backbone]] = {}


def register(builder: Builder) -> Builder:
    """Mark `builder` as the builder of the network with its function's name.

    The name must also be in `vertebra.zoo.names`, which is what `find` and `build` read.
    """
    name = builder.__name__
    taken = BUILDERS.get(name)
    if taken is not None:
        raise ValueError(f'"{name}" is registered twice: by {taken.__module__} and by {builder.__module__}.')
    BUILDERS[name] = builder
    return builder
