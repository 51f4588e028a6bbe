"""What to type after an answer of `pick`, in a terminal or a report: the command that ships the network."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from vertebra.errors import VertebraError
from vertebra.measurements import shipped

if TYPE_CHECKING:
    from vertebra.measurements import WideRow


def next_command(row: WideRow) -> str | None:
    """The export of the network, with the weights of its accuracy, for its engine; None where no command can
    name it."""
    engine, precision = row.conditions.get("engine"), row.conditions.get("precision")
    if not row.model.isprintable() or not _is_named(row):
        return None  # it can't be copied
    model = shlex.quote(with_weights(row))
    if engine is None:
        return f"vertebra bench {shlex.quote(row.model)}"
    named = "" if precision in (None, "float32") else f" --precision {shlex.quote(str(precision))}"
    if not _is_exported(str(engine)):
        return f"vertebra predict PICTURE -m {model} --engine {shlex.quote(str(engine))}"
    pictures = " --calibrate PICTURES" if precision == "int8" else ""
    return f"vertebra export {model} --engine {engine}{named}{pictures} -o {folder(row.model)}"


def with_weights(row: WideRow) -> str:
    """The network's name with the tag of the weights that its accuracy is of: a library's default ones may be
    others."""
    library, _, architecture = row.model.rpartition(":")
    accuracy = row.figures.get("top1")
    weights = (
        None if accuracy is None or accuracy.origin not in ("published", "derived") else accuracy.weights
    )
    if not library or weights is None or not weights.startswith(f"{architecture}."):
        return row.model
    return f"{library}:{weights}"


def folder(model: str) -> str:
    """A folder's name for the network's Bundle."""
    name = re.split(r"[:/\\]", model.rstrip("/\\"))[-1]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:40].lstrip("-.") or "bundle"


def _is_named(row: WideRow) -> bool:
    """Whether a command can name the network: not if it comes from a file, which the table doesn't find."""
    if row.model not in shipped.counts() and _is_file(row.model):
        return os.path.exists(row.model.partition(":")[2])
    is_from_file = any(figure.network_sha256 for figure in row.figures.values())
    is_rounded = str(row.conditions.get("precision")).startswith("int8")
    return not re.search(r"#\w+$|\)$", row.model) and (is_rounded or not is_from_file)


def _is_file(model: str) -> bool:
    from vertebra.zoo import adapters

    return adapters.is_file(model)


def _is_exported(engine: str) -> bool:
    """Whether the engine runs Bundles."""
    from vertebra import engines

    try:
        return engines.find(engine).reads not in ("any", "builder")
    except VertebraError:
        return False
