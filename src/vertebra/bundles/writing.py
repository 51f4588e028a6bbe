"""Writing a Bundle, copying it, and adding to it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles import fitted, model_card
from vertebra.bundles.bundle import Bundle, Card, read
from vertebra.bundles.manifest import (
    CARD,
    LABELS,
    MANIFEST,
    OPTIONAL,
    PICTURE,
    REFERENCE,
    ROWS,
    SCHEMA,
    SPLIT,
    check_texts,
    sha256,
)
from vertebra.bundles.places import draft
from vertebra.data.labels import LabelSet
from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measurements import Measurement


def write(
    folder: Path | str,
    write_network: Callable[[Path], Mapping[str, Any] | None],
    *,
    model: str,
    logits: npt.NDArray[np.float32] | Callable[[], npt.NDArray[np.float32]],
    reference_seed: int,
    input_size: int,
    in_channels: int,
    seed: int | None = None,
    versions: Mapping[str, str],
    card: Card | None = None,
    format: str = "onnx",
    precision: str = "float32",
    batch_size: int | None = None,
    engines: Sequence[str] = (),
    check: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Bundle:
    """Write a new Bundle to `folder`; an older Bundle there is replaced.

    `write_network` is called with a folder and writes the `format`'s files into it; the keys that it returns
    (`proof`, `quantisation`, `converted_from`, `graph`) go into the manifest. `logits` (N, num_classes) are
    what eager float32 gives for the `reference_images` of `reference_seed`, or a function that is called for
    them once the network's files are there. `check` is called with the folder of the finished Bundle: what it
    returns is recorded as `parity`, and if it raises, nothing is written. The folder appears complete or not
    at all. Raises BundleError if it can't be written or holds something else, and InvalidInputError if the
    `card` is for another number of classes or another input size.
    """
    import numpy as np

    folder = Path(folder)
    card = card or Card()
    with draft(folder) as draft_:
        if not callable(logits):
            _check_card(card, logits.shape[1], input_size)
        added = write_network(draft_) or {}
        if callable(logits):
            logits = logits()
            _check_card(card, logits.shape[1], input_size)
        reference_batch, num_classes = logits.shape
        np.savez(draft_ / REFERENCE, logits=logits.astype(np.float32))
        if card.labels is not None:
            (draft_ / LABELS).write_text(_labels_text(card.labels), encoding="utf-8")
        manifest: dict[str, Any] = {
            "schema": SCHEMA,
            "model": model,
            "weights": card.weights,
            "weights_sha256": card.weights_sha256,
            "licence": card.licence,
            "seed": seed,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "input_size": input_size,
            "format": format,
            "precision": precision,
            "batch_size": batch_size,
            "engines": list(engines),
            "parity": None,
            "preprocess": card.preprocess and asdict(card.preprocess),
            "labels": card.labels and card.labels.name,
            "versions": dict(versions),
            "reference": {"seed": reference_seed, "batch_size": reference_batch},
            "picture": None,
            **OPTIONAL,
            "outputs": card.outputs,
            "assumed": list(card.assumed),
            **added,
        }
        _write_manifest(draft_, manifest)
        if check is not None:
            _write_manifest(draft_, {**manifest, "parity": dict(check(draft_))})
    return read(folder, verify=False)


def add_picture(kept: Bundle, write_picture: Callable[[Path], dict[str, Any]]) -> Bundle:
    """The same Bundle with a graph that takes pictures. `write_picture` is called with a copy of the Bundle's
    folder; it writes the graph there and returns its proof."""
    with draft(kept.folder) as draft_:
        for name in _file_names(kept):
            if name not in (PICTURE, CARD):  # these are written again, so they can't be links
                _link(kept.folder / name, draft_ / name)
        picture = {"file": PICTURE, "proof": write_picture(draft_)}
        _write_manifest(draft_, {**kept.manifest(), "picture": picture})
    return read(kept.folder, verify=False)


def add_trained(kept: Bundle, pictures: Iterable[str]) -> Bundle:
    """The same Bundle with the digests of the pictures that its network was trained on."""
    with draft(kept.folder) as draft_:
        for name in _file_names(kept):
            if name not in (SPLIT, CARD):
                _link(kept.folder / name, draft_ / name)
        (draft_ / SPLIT).write_text(fitted.split_text([(one, 1) for one in pictures]), encoding="ascii")
        _write_manifest(draft_, kept.manifest())
    return read(kept.folder, verify=False)


def add_fitted(kept: Bundle, made: fitted.Fitted, split: Sequence[tuple[str, int]]) -> Bundle:
    """The same Bundle with what it was fitted on: the record, and each picture's digest and fold."""
    with draft(kept.folder) as draft_:
        for name in _file_names(kept):
            if name not in (SPLIT, CARD):
                _link(kept.folder / name, draft_ / name)
        (draft_ / SPLIT).write_text(fitted.split_text(split), encoding="ascii")
        _write_manifest(draft_, {**kept.manifest(), "fitted": made.record()})
    return read(kept.folder, verify=False)


def copy(kept: Bundle, folder: Path) -> Bundle:
    """The same Bundle in `folder`. Raises BundleError if it can't be written or holds something else."""
    with draft(folder) as draft_:
        for name in [*_file_names(kept), MANIFEST]:
            shutil.copyfile(kept.folder / name, draft_ / name)
    return read(folder, verify=False)


def _file_names(kept: Bundle) -> list[str]:
    return [*kept.files, *([ROWS] if (kept.folder / ROWS).is_file() else [])]


def _link(source: Path, to: Path) -> None:
    """Hard-link the file, or copy it where that fails: networks are large."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def write_rows(kept: Bundle, rows: Iterable[Measurement]) -> None:
    """Write the rows measured with the Bundle into its folder; older ones are replaced."""
    from vertebra.measurements import exchange

    exchange.write_json(rows, kept.folder / ROWS)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the model card, and the manifest with the hash of every file. Raises BundleError for a text that
    `read` would refuse."""
    check_texts(folder / MANIFEST, manifest)
    (folder / CARD).write_text(model_card.text(manifest), encoding="utf-8")
    hashed = (path for path in sorted(folder.iterdir()) if path.name not in (ROWS, MANIFEST))
    files = {path.name: _record(path) for path in hashed}
    text = json.dumps({**manifest, "files": files}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _record(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def _check_card(card: Card, num_classes: int, input_size: int) -> None:
    if card.labels is not None:
        card.labels.check_count(num_classes)
    if card.preprocess is not None and card.preprocess.input_size != (input_size, input_size):
        height, width = card.preprocess.input_size
        raise InvalidInputError(
            f"The preprocessing gives pictures of {height}x{width} pixels; the network is exported for "
            f"{input_size}x{input_size}.",
            f"choose a preprocessing with the input size {input_size}x{input_size}",
        )


def _labels_text(names: LabelSet) -> str:
    """JSON with one label a line, by index, since two classes may have the same name."""
    entries = {
        str(label.index): label.name if label.id is None else [label.id, label.name] for label in names
    }
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
