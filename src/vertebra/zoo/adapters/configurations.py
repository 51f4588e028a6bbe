"""What timm and torchvision state of their networks, where these libraries aren't installed.

`python tools/configurations.py` writes the file that this module reads. A network is here found, and used
with the graph that ships; building it needs its library.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError, MissingRuntimeError, UnknownNameError, WeightsError
from vertebra.zoo.factsheet import Facts, assumed_of, labels_for
from vertebra.zoo.names import Model

if TYPE_CHECKING:
    from torch import nn

FILE = "configurations.xz"
PRETRAINED = "pretrained"


@cache
def _content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lzma.decompress(files(__package__).joinpath(FILE).read_bytes()))
    found["by_name"] = {record["name"].lower(): record for record in found["records"]}
    return found


def version(source: str) -> str:
    """The version of the library whose configurations these are."""
    found: str = _content()["libraries"][source]
    return found


def names(source: str) -> tuple[str, ...]:
    """The architectures of a library, without its prefix."""
    bare = (record["name"].partition(":") for record in _content()["records"])
    return tuple(sorted({name.partition(".")[0] for library, _, name in bare if library == source}))


def find(name: str) -> Model:
    """The network of this name, in any case. Raises UnknownNameError."""
    record, spelled = _record(name)
    source = record["name"].partition(":")[0]
    return Model(
        name=spelled,
        builder="vertebra.zoo:build",
        aliases=(),
        input_size=record["size"],
        min_size=record["least"],
        fixed_size=record["fixed"],
        source=source,
        family=record["family"],
        title=record["title"],
        first_author="",
        year=None,
        url=record["url"],
        arxiv_id=record["arxiv"],
        further=None,
        idea="",
        place="",
    )


def _record(name: str) -> tuple[dict[str, Any], str]:
    by_name = _content()["by_name"]
    source, _, bare = name.partition(":")
    key = f"{source.lower()}:{bare.lower()}"
    record = by_name.get(key)
    if record is None:
        start = key.partition(".")[0]
        near = [one["name"] for one in by_name.values() if one["name"].lower().partition(".")[0] == start]
        names = near or [one["name"] for one in by_name.values() if one["name"].startswith(source.lower())]
        raise UnknownNameError.of("model", name, names, f"vertebra list models --source {source.lower()}")
    return record, record["name"]


def facts(model: Model, source: str | Path | None, choices: Mapping[str, Any]) -> Facts:
    """See `zoo.facts`. Raises WeightsError, and MissingRuntimeError for what only the library knows."""
    record, _ = _record(model.name)
    library = model.source
    where = f"{library} {version(library)}, its configuration of {model.name.partition(':')[2]}"
    plain = Preprocess.from_dict(record["plain"])
    if source is None:
        return Facts(
            model=model.name, weights=None, num_classes=1000, input_size=model.input_size, preprocess=plain,
            source=where,
        )  # fmt: skip
    if source == PRETRAINED:
        _check_published(model, record)
        preprocess = Preprocess.from_dict(record["record"])
        return Facts(
            model=model.name, weights=record["weights"], num_classes=record["classes"],
            input_size=preprocess.input_size[0], preprocess=preprocess,
            labels=labels_for(record["classes"]), licence=record["licence"],
            top1=record["top1"], top5=record["top5"], source=where,
        )  # fmt: skip
    from vertebra.zoo import fitting, weights

    if (Path(source).expanduser() / "config.json").is_file():
        raise MissingRuntimeError.of(f"reading {source}/config.json", library, "catalogue")
    if choices.get("transform_input") is False:
        raise MissingRuntimeError.of("leaving transform_input out", library, "catalogue")
    taken = fitting.of_library(model, source, weights.file_of(source), choices.get("ema"))
    return Facts(
        model=model.name, weights=taken.name, num_classes=taken.num_classes, input_size=model.input_size,
        preprocess=plain, labels=labels_for(taken.num_classes), source=where, notes=taken.notes,
        assumed=assumed_of(labels_for(taken.num_classes)),
    )  # fmt: skip


def _check_published(model: Model, record: Mapping[str, Any]) -> None:
    if record.get("weights") is None:
        raise WeightsError(f"{model.source} publishes no weights of {model.name}.", "pass a checkpoint file")


def published(model: Model) -> tuple[str, str | None]:
    """See `Adapter.published`."""
    record, _ = _record(model.name)
    _check_published(model, record)
    return record["address"], record["digits"]


def build(
    model: Model,
    num_classes: int | None,
    in_channels: int,
    weights: str | Path | None,
    checks: dict[str, Any],
) -> nn.Module:
    """Raises MissingRuntimeError: only its library builds a network."""
    if in_channels < 1:
        raise InvalidInputError(f"in_channels is {in_channels}; it must be at least 1.")
    raise MissingRuntimeError.of(f"building {model.name}", model.source, "torch,catalogue")
