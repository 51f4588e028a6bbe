"""A run's folder: what `train` writes, and what others read of it, without torch.

run.json           what is trained, on what and how: the resolved recipe, the classes, the versions
log.jsonl          a line of JSON for every few steps, every epoch and each start; see docs/train.md
last.pt            the checkpoint to continue from
model.safetensors  the best weights, with their preprocessing and classes in the file's header
result.json        how it ended
split.csv          the pictures with their digests; those of part 0 weren't trained on
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra.errors import InvalidInputError
from vertebra.machine import json_text

RECORD, LOG, CHECKPOINT, WEIGHTS, RESULT, SPLIT = (
    "run.json", "log.jsonl", "last.pt", "model.safetensors", "result.json", "split.csv",
)  # fmt: skip
#: What compressing the network cost and bought, where a run did.
OUTCOMES = "outcomes.json"
#: Version of run.json's fields and their meaning.
VERSION = 1


@dataclass(frozen=True)
class Kept:
    """A run as its folder has it: `record` is run.json, `log` the lines of log.jsonl, `result` result.json,
    None where the run hasn't ended."""

    folder: Path
    record: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any] | None

    def lines(self, kind: str) -> list[Mapping[str, Any]]:
        """The log's lines of a kind: "step" or "epoch"."""
        return [line for line in self.log if line.get("kind") == kind]

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run can be continued."""
        return (self.folder / CHECKPOINT).is_file()

    @property
    def has_weights(self) -> bool:
        """Whether an epoch's weights were kept."""
        return (self.folder / WEIGHTS).is_file()


def is_run(folder: str | Path) -> bool:
    """Whether `folder` is that of a run."""
    try:
        return (Path(folder).expanduser() / RECORD).is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def read(folder: str | Path) -> Kept:
    """The run in `folder`. Raises InvalidInputError where it is none, or of another version."""
    place = Path(folder).expanduser()
    if not is_run(place):
        there = "isn't a folder" if place.exists() else "doesn't exist"
        what = "has no run.json" if place.is_dir() else there
        raise InvalidInputError(f"{folder} isn't a run: it {what}.", "pass the folder that train wrote")
    record = _object(place / RECORD)
    if record.get("version") != VERSION:
        raise InvalidInputError(
            f"{place / RECORD} has version {record.get('version')}; this vertebra reads version {VERSION}.",
            "use the vertebra that wrote it",
        )
    result = _object(place / RESULT) if (place / RESULT).is_file() else None
    return Kept(place, record, tuple(_lines(place / LOG)), result)


def outcomes(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """What compressing the network cost and bought; none for a run that didn't. Raises InvalidInputError."""
    path = folder / OUTCOMES
    found = _object(path).get("outcomes") if path.is_file() else []
    if not isinstance(found, list) or not all(isinstance(one, dict) and "line" in one for one in found):
        raise InvalidInputError(f"{path} isn't what train wrote.", "delete it, or train again")
    return tuple(found)


def trained_on(weights: str | Path | None) -> frozenset[str]:
    """The digests of the pictures that `weights`, a run's folder or a file in it, were trained on; empty
    where they aren't of a run, or its pictures weren't looked at."""
    if weights is None:
        return frozenset()
    place = Path(weights).expanduser()
    folder = place if is_run(place) else place.parent
    if not is_run(folder) or not (folder / SPLIT).is_file() or (place != folder and not place.is_file()):
        return frozenset()
    with (folder / SPLIT).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return frozenset(row["sha256"] for row in csv.DictReader(stream) if row.get("fold") != "0")


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json_text.parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"Can't read {path}: {error}.", "start the run again") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path} isn't a JSON object.", "start the run again")
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the log: a process that was killed may have left a part of one."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
