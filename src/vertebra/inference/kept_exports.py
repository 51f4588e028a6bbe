"""Exports in the user's cache: if an engine only reads Bundles, a network is exported for it once."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from vertebra import bundles, engines
from vertebra.bundles import manifest, native
from vertebra.engines import Subject
from vertebra.errors import BundleError, InvalidInputError
from vertebra.inference import resolving
from vertebra.inference.resolving import Resolved
from vertebra.machine import files
from vertebra.progress import Listener, Progress, beating, silent

#: Packages that an exported file depends on: a new version of one of these needs a new export.
_MAKERS = ("vertebra", "torch", "onnx", "onnxscript", "timm", "torchvision")


def as_bundle(
    resolved: Resolved, engine: str, batch_size: int, progress: Listener | None, *, features: bool = False
) -> Resolved:
    """The same network as a Bundle in the user's cache: the one that is there, or exported now. With
    `features` it also gives the classifier's input, which only a network made from a graph can."""
    from vertebra.machine import downloads

    # Engines that open ONNX share one Bundle for any batch size; the others have their own.
    own = None if "onnx" in engines.find(engine).formats else (engine, batch_size)
    folder = downloads.cache_folder() / "bundles" / _key(resolved, own, features)
    if not _is_whole(folder):
        with files.sole_use(folder, hint="name another folder with VERTEBRA_CACHE"):
            if not _is_whole(folder):  # another process may have made it meanwhile
                _export_into_cache(resolved, folder, own, features, progress or silent)
    kept = bundles.read(folder, verify=False)
    return replace(
        resolved,
        subject=Subject(resolved.subject.model, bundle=str(folder)),
        card=replace(resolved.card, outputs=resolving.outputs_of(kept)),
        batch_size=kept.batch_size if resolved.file is not None else resolved.batch_size,
    )


def _key(resolved: Resolved, own: tuple[str, int] | None, features: bool) -> str:
    from vertebra._version import __version__
    from vertebra.machine import system

    content: dict[str, Any] = {
        "schema": manifest.SCHEMA,
        "subject": resolved.subject.to_json(),
        "input_size": resolved.input_size,
        "card": resolved.card.to_dict(),
        "engine": None if own is None else [*own, engines.version(own[0])],
        "versions": {**system.library_versions(_MAKERS), "vertebra": __version__},
    }
    if features:
        content["features"] = True
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', resolved.subject.model)[:80]}-{digest[:16]}"


def _is_whole(folder: Path) -> bool:
    try:
        native.check(bundles.read(folder, verify=False))
    except BundleError:
        return False
    return True


def _export_into_cache(
    resolved: Resolved, folder: Path, own: tuple[str, int] | None, features: bool, progress: Listener
) -> None:
    from vertebra.exporting.process import Exporter

    shutil.rmtree(folder, ignore_errors=True)
    engine, batch_size = own or ("onnxruntime", None)
    with beating(progress, Progress(f"exporting {resolved.subject.model} into {folder}")):
        if resolved.file is not None:
            export(resolved, folder, engine=engine)
            return
        with Exporter() as exporter:
            exporter.export(
                resolved.subject, folder, input_size=resolved.input_size, card=resolved.card,
                engine=engine, batch_size=batch_size, features=features,
            )  # fmt: skip


def export(
    resolved: Resolved, folder: str | Path, *, engine: str = "onnxruntime", **made: Any
) -> bundles.Bundle:
    """Write a Bundle of the network for `engine`; `made` are options of `exporting.process.export`. Raises
    the same."""
    if resolved.file is not None:
        _check_file_engine(resolved, engine)
        _check_file_order(resolved, **made)
        from vertebra.exporting.adoption import adopt

        model, size, batch = resolved.subject.model, resolved.input_size, made.get("batch_size")
        return adopt(
            resolved.file, folder, model=model, input_size=size, card=resolved.card, batch_size=batch
        )
    from vertebra.exporting import process

    return process.export(
        resolved.subject, folder, input_size=resolved.input_size, card=resolved.card, engine=engine, **made
    )


def _check_file_order(
    resolved: Resolved,
    precision: str | None = None,
    calibration: object = None,
    batch_size: int | None = None,
) -> None:
    if precision not in (None, resolved.precision):
        raise InvalidInputError(
            f"{resolved.subject.model} is an ONNX file in {resolved.precision}, and is kept as it is; "
            f"{precision} was asked for.",
            "leave the precision out",
        )
    if calibration is not None:
        raise InvalidInputError(
            f"{resolved.subject.model} is an ONNX file, which isn't quantised.", "leave --calibrate out"
        )


def _check_file_engine(resolved: Resolved, engine: str) -> None:
    if "onnx" not in engines.find(engine).formats:
        raise InvalidInputError(
            f'{resolved.subject.model} is an ONNX file, but "{engine}" opens '
            f"{', '.join(engines.find(engine).formats)}.",
            "leave the engine out: the Bundle keeps the file as it is",
        )
