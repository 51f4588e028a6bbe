"""What a file of weights states of itself: its preprocessing and classes, as `train` writes them into the
header of a .safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError, WeightsError
from vertebra.machine import json_text
from vertebra.zoo import weights
from vertebra.zoo.factsheet import Facts
from vertebra.zoo.names import Model

#: The key of the header's metadata under which it is.
KEY = "vertebra"
VERSION = 1
_MAX_HEADER = 100_000_000


def applied(facts: Facts, model: Model, source: str | Path | None) -> Facts:
    """`facts` of the network `model` with what the file of weights `source` states, if it does.

    Raises WeightsError for a statement that can't be read, and where its number of classes isn't the file's.
    """
    found = None if source is None or _is_published(model, source) else read(source)
    if found is None or source is None:
        return facts
    try:
        preprocess = Preprocess.from_dict(found["preprocess"])
        classes = tuple(map(str, found["classes"]))
    except (KeyError, TypeError, InvalidInputError) as error:
        reason = error.message if isinstance(error, InvalidInputError) else f"{error} is missing"
        raise WeightsError(
            f"What {source} states of itself can't be used: {reason}.", "train the network again"
        ) from error
    if len(classes) != facts.num_classes:
        raise WeightsError(
            f"{source} states {len(classes)} classes; its parameters are for {facts.num_classes}.",
            "train the network again",
        )
    place = Path(str(source)).expanduser()
    called = f"{place.resolve().name}.safetensors" if place.is_dir() else facts.weights
    return replace(
        facts, weights=called, preprocess=preprocess, input_size=preprocess.input_size[0],
        label_names=classes, labels=None, source=f"{called}, as trained", assumed=(),
    )  # fmt: skip


def _is_published(model: Model, source: str | Path) -> bool:
    """Whether the source is the name of published weights, whatever files there are."""
    if model.source == "vertebra":
        return weights.published(model.name, source) is not None
    return source == "pretrained"


def read(source: str | Path) -> Mapping[str, Any] | None:
    """What the file, or the folder with it, states; None where it states nothing, or isn't on this disk.

    Raises WeightsError for a statement of a newer version.
    """
    from vertebra.zoo.checkpoints import folders

    try:
        place = Path(source).expanduser()
        if not place.exists():
            return None
        files = folders.files(place)
    except (OSError, ValueError, RuntimeError, WeightsError):
        return None  # whoever reads the weights says what is wrong
    text = _metadata(files[0]) if len(files) == 1 else None
    if text is None:
        return None
    try:
        found = json_text.parsed(text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    if found.get("version") != VERSION:
        raise WeightsError(
            f"{source} states itself in version {found.get('version')}; this vertebra reads version "
            f"{VERSION}.",
            "upgrade with: pip install --upgrade vertebra",
        )
    return found


def _metadata(path: Path) -> str | None:
    """The text under KEY in the header's metadata."""
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
            length = int.from_bytes(start[:8], "little")
            if start[8:] != b"{" or not 2 <= length <= _MAX_HEADER:
                return None
            header = json.loads(b"{" + stream.read(length - 1))
    except (OSError, ValueError, RecursionError):
        return None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    return text if isinstance(text, str) else None
