"""From another library's named arrays to one of our state dicts, by a table of names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vertebra.errors import WeightsError

Array: TypeAlias = "np.ndarray[Any, Any]"
#: the names and shapes of a network's state dict
Shapes: TypeAlias = "Mapping[str, tuple[int, ...]]"


class Entry(NamedTuple):
    """One parameter under its two names, and what must be done to it on the way."""

    theirs: str
    ours: str
    transpose: bool = False  # their linear layers are stored (in, out)
    factor: float = 1.0  # their dropout scales at evaluation, ours at training


def rename(entries: Iterable[Entry], arrays: Mapping[str, Any], like: Shapes) -> dict[str, Array]:
    """The state dict that `entries` make of `arrays`, of the names and shapes of `like`.

    Every array must be used and every parameter be found: raises
    WeightsError, naming what is missing, unexpected or of the wrong shape. `num_batches_tracked`, which other
    libraries may lack, is 0.
    """
    entries = tuple(entries)
    _check_names({entry.theirs for entry in entries}, set(arrays))
    state: dict[str, Array] = {name: np.zeros((), np.int64) for name in _counters(like)}
    for entry in entries:
        state[entry.ours] = _tensor(entry, np.asarray(arrays[entry.theirs]), like[entry.ours])
    assert state.keys() == like.keys(), f"the table of names is wrong: {state.keys() ^ like.keys()}"
    return {name: state[name] for name in like}


def _counters(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if name.endswith(".num_batches_tracked"))


def _check_names(expected: set[str], given: set[str]) -> None:
    for what, names in (("missing", expected - given), ("unexpected", given - expected)):
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            raise WeightsError(
                f"The weights don't fit: {len(names)} {what}: {listed}.",
                "check that the file belongs to exactly this network and variant",
            )


def _tensor(entry: Entry, array: Array, like: tuple[int, ...]) -> Array:
    if array.dtype.kind != "f":
        raise WeightsError(f"{entry.theirs} contains {array.dtype} values; floating point was expected.")
    expected = tuple(reversed(like)) if entry.transpose else like
    if array.shape != expected:
        raise WeightsError(
            f"{entry.theirs} has the shape {array.shape}; {expected} was expected.",
            "check that the file belongs to exactly this network and variant",
        )
    array = array.T if entry.transpose else array
    # Always a copy: the state dict owns its memory and doesn't change with the arrays.
    made = np.array(array, dtype=np.float32, order="C")
    made *= np.float32(entry.factor)
    return made
