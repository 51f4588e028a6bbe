"""Drawn parameters: the same bits in every language, from a network's name and a parameter's key alone.

The rule, in whole numbers and single roundings, so that NumPy, JavaScript and C++ agree bit for bit:

1. `seed` is the 32-bit FNV-1a hash of `NETWORK/KEY` in UTF-8.
2. Element i (row-major order) has the number x = mix(seed + i * 0x9E3779B9), modulo 2^32; `mix` is the 32-bit
   finaliser of MurmurHash3.
3. u = (2 (x >> 8) + 1 - 2^24) / 2^24 is uniform in (-1, 1), and exact in float32.
4. The value is centre + width * u in float32. `scale_of` has centre and width: matrices and kernels keep the
   size of activations about level through a network, normalisation (and the gain of standardised kernels)
   stays near the identity, variances are positive, and biases keep activations away from zero, where
   arithmetic is slow.

The key `images` is that of normalised pictures: variance 1, as a photograph's. The centre of a normalisation
layer's weights is the network's level (`level_of`): 1, and another number where with 1 the activations of a
deep network would grow until its gates are all open or shut, or fade until the picture no longer matters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: the key of drawn pictures (N, 3, H, W), which no state dict has
IMAGES = "images"

_GOLDEN = 0x9E3779B9
_MASK = 0xFFFFFFFF
#: elements drawn at once: they stay in the processor's cache
_CHUNK = 1 << 15
#: variance of a layer's outputs over that of its inputs, before its activation halves it
_GAIN = 1.5


def draw(network: str, key: str, shape: Sequence[int], *, level: float | None = None) -> NDArray[np.float32]:
    """The parameter `key` (its name in the state dict) of a network, float32 of `shape`. `level` is the
    network's own unless it is given."""
    import numpy as np

    centre, width = scale_of(key, shape, level_of(network) if level is None else level)
    values = np.empty(math.prod(shape), np.float32)
    start = seed(network, key)
    for begin in range(0, values.size, _CHUNK):
        part = values[begin : begin + _CHUNK]
        numbers = np.arange(begin, begin + part.size, dtype=np.uint32)
        numbers *= np.uint32(_GOLDEN)
        numbers += np.uint32(start)
        _mix(numbers)
        numbers >>= np.uint32(8)
        uniform = numbers.astype(np.float32)  # below 2^24: exact
        uniform -= np.float32(2**23 - 0.5)
        uniform *= np.float32(2.0**-23)
        uniform *= np.float32(width)
        np.add(uniform, np.float32(centre), out=part)
    return values.reshape(shape)


@cache
def _levels() -> Mapping[str, float]:
    text = files("vertebra.zoo.graphs").joinpath("data", "levels.json").read_text(encoding="utf-8")
    found: Mapping[str, float] = json.loads(text)
    return found


def level_of(network: str) -> float:
    """The centre of the weights of a network's normalisations, found when its graph was proved."""
    return _levels().get(network, 1.0)


def scale_of(key: str, shape: Sequence[int], level: float = 1.0) -> tuple[float, float]:
    """Centre and half-width of a parameter's values; both are float32 numbers."""
    if key == IMAGES:
        return 0.0, _float32(math.sqrt(3))
    kind = key.rpartition(".")[2]
    if kind == "running_var":
        return 1.0, 0.5
    if kind == "running_mean":
        return 0.0, 0.25
    if len(shape) < 2 or kind == "gain":
        return (0.0, 0.25) if "bias" in kind else (_float32(level), 0.25)
    return 0.0, _float32(math.sqrt(3 * _GAIN / max(1, math.prod(shape[1:]))))


def seed(network: str, key: str) -> int:
    """The 32-bit FNV-1a hash of `NETWORK/KEY`."""
    number = 0x811C9DC5
    for byte in f"{network}/{key}".encode():
        number = ((number ^ byte) * 0x01000193) & _MASK
    return number


def _mix(numbers: NDArray[np.uint32]) -> None:
    """MurmurHash3's 32-bit finaliser, in place."""
    import numpy as np

    numbers ^= numbers >> np.uint32(16)
    numbers *= np.uint32(0x85EBCA6B)
    numbers ^= numbers >> np.uint32(13)
    numbers *= np.uint32(0xC2B2AE35)
    numbers ^= numbers >> np.uint32(16)


def _float32(value: float) -> float:
    import numpy as np

    return float(np.float32(value))
