"""Prices that were computed before, in the user's cache.

Computing them imports numpy and takes as long as all else in an answer from a warm table. What is kept are
the numbers alone, under a digest of everything they depend on: the anchors' figures, what ships, the code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from vertebra._version import __version__
from vertebra.errors import InvalidInputError
from vertebra.machine import files as places
from vertebra.measurements import shipped

#: What the prices are computed by, in the package `vertebra`.
_MAKERS = (
    "measuring/estimation/learnt.npy", "measuring/estimation/estimator.py",
    "measuring/estimation/memory.py", "measuring/estimation/pricing.py",
    "measurements/shipped/catalogue.csv",
)  # fmt: skip
#: So many sets of prices are kept, each of some 40 kB; the one that was used last stays longest.
_MOST = 64
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Prices:
    """Each network's value with its bounds, for all with a count in the order of those; how good they are in
    words; and the anchors left out, with how many times slower than foretold each is."""

    values: Mapping[str, tuple[float, float, float]]
    note: str
    left_out: Mapping[str, float]


def prices(what: str, anchors: Sequence[tuple[str, float, float]], make: Callable[[], Prices]) -> Prices:
    """What `make` gives for the `anchors` (name, value, deviation) of the metric `what`: as it was kept, or
    made and kept now. A cache that can't be read or written costs time and changes nothing."""
    path = places.cache_folder() / "prices" / _key(what, anchors)
    found = _read(path)
    if found is None:
        found = make()
        _write(path, found)
    return found


def _key(what: str, anchors: Sequence[tuple[str, float, float]]) -> str:
    asked = json.dumps([what, anchors, sys.byteorder, __version__])
    return hashlib.sha256(_makers() + asked.encode()).hexdigest()[:_DIGEST_BYTES]


@cache
def _makers() -> bytes:
    found, package = hashlib.sha256(), Path(__file__).parents[2]
    for name in _MAKERS:
        found.update(package.joinpath(name).read_bytes())
    return found.digest()


def _read(path: Path) -> Prices | None:
    """What the file holds; None where there is none, or another than was written."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    body = content[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != content[:_DIGEST_BYTES]:
        return None
    head, _, numbers = body.partition(b"\n")
    told, every = json.loads(head), array("d")
    every.frombytes(numbers)
    bounds = zip(every[::3], every[1::3], every[2::3], strict=True)
    return Prices(dict(zip(shipped.counts(), bounds, strict=True)), **told)


def _write(path: Path, found: Prices) -> None:
    if list(found.values) != list(shipped.counts()):
        return
    head = json.dumps({"note": found.note, "left_out": dict(found.left_out)})
    numbers = array("d", (number for three in found.values.values() for number in three))
    body = head.encode() + b"\n" + numbers.tobytes()
    with contextlib.suppress(OSError, InvalidInputError):
        places.make_folder(path.parent)
        places.write_whole(path, hashlib.sha256(body).digest() + body)
        by_age = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in islice(by_age, _MOST, None):
            old.unlink(missing_ok=True)
