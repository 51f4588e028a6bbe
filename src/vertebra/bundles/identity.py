"""The digest that tells networks from files apart, whatever the files are called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from vertebra.measurements.subjects import is_published_name


def of_weights(model: str, weights: str | None, sha256: str | None) -> str | None:
    """The digest of the network `model` with the weights called `weights`, whose file has this `sha256`: None
    where the two names say which it is, as they do for an untrained network and for published weights.

    Weights that only claim the name of published ones, whose digest is known and another, have their own.
    """
    from vertebra.zoo import adapters
    from vertebra.zoo import weights as published

    if weights is None or sha256 is None:
        return None
    if adapters.is_file(model):
        return sha256
    if adapters.is_foreign(model):
        return None if is_published_name(model, weights) else sha256
    known = next((one for one in published.records() if (one.model, one.name) == (model, weights)), None)
    return None if known is not None and known.sha256 in (None, sha256) else sha256


def of_files(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One digest of several files, by name: that of a network that was rounded to int8, since which pictures
    it was calibrated with isn't to be seen from its names or its weights."""
    lines = sorted(f"{record['sha256']} {name}" for name, record in files.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
