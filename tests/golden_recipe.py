"""The weights and inputs behind the figures in `golden/`, drawn again from their names (numpy only).

Recipe golden-1. Every array has a generator of its own: PCG64, seeded with the first eight bytes (little
endian) of the SHA-256 of the array's name in its own library. Draws are float64, in C order, cast to float32.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "golden"
Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def load(name: str) -> dict[str, Any]:
    """One file of `golden/`, without its ending."""
    figures: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return figures


def arrays(golden: dict[str, Any]) -> dict[str, Array]:
    """Every array of the network that a golden file describes, by its library's name."""
    recipe = golden["recipe"]
    assert recipe["version"] == "golden-1"
    low, high = recipe["bn_weight"]
    in_first = recipe["linear_layout"] == "in_first"
    return {
        name: array(name, tuple(shape), kind, in_first=in_first, bn_weight=(low, high))
        for name, shape, kind in golden["state"]
    }


def array(
    name: str,
    shape: tuple[int, ...],
    kind: str,
    *,
    in_first: bool = False,
    bn_weight: tuple[float, float] = (0.5, 1.5),
) -> Array:
    """One array; a linear weight that its library stores `in_first` is drawn (out, in) and transposed."""
    if kind == "bn_count":
        return np.zeros(shape, np.int64)
    flip = kind == "linear_weight" and in_first
    # Only the three large matrices are worth keeping: VGG11 to VGG19 share them.
    draw = _draw_and_keep if math.prod(shape) > 10_000_000 else _draw
    values = draw(name, shape[::-1] if flip else shape, kind, bn_weight)
    return np.ascontiguousarray(values.T if flip else values)


def _draw(name: str, shape: tuple[int, ...], kind: str, bn_weight: tuple[float, float]) -> Array:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    generator = np.random.Generator(np.random.PCG64(seed))
    match kind:
        case "conv_weight" | "linear_weight":
            values = generator.standard_normal(shape) * np.sqrt(2.0 / math.prod(shape[1:]))
        case "bias":
            values = 0.05 * generator.standard_normal(shape)
        case "bn_bias" | "bn_mean":
            values = 0.1 * generator.standard_normal(shape)
        case "bn_weight":
            values = generator.uniform(*bn_weight, shape)
        case "bn_var":
            values = generator.uniform(0.5, 1.5, shape)
        case _:
            raise ValueError(f"{name}: unknown kind {kind!r}")
    return values.astype(np.float32)


_draw_and_keep = functools.lru_cache(maxsize=2)(_draw)


def images(shape: tuple[int, ...], seed: int = 0) -> Array:
    """The input: standard normal, `(B, C, H, W)` float32."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def fingerprint(values: Array) -> str:
    """The first 16 digits of the SHA-256 of the array's bytes, as golden files give them."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
