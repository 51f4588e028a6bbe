"""vertebra.json: the keys and values of the manifest, and the names of the files that it lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertebra.errors import BundleError, InvalidInputError
from vertebra.preprocess import Preprocess

MANIFEST = "vertebra.json"
NETWORK = "model.onnx"
#: format -> the file that an engine opens; further ones of the format stand beside it
NETWORKS = {
    "onnx": NETWORK,
    "openvino": "model.xml",
    "ncnn": "model.ncnn.param",
    "mnn": "model.mnn",
    "litert": "model.tflite",
    "executorch": "model.pte",
    "aotinductor": "model.pt2",
}
REFERENCE = "reference.npz"
LABELS = "labels.json"
PICTURE = "picture.onnx"
PROOF = "proof.npz"
CARD = "README.md"
ROWS = "rows.json"
SCHEMA = 2

#: what operating systems leave in any folder
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")

#: endings of files that run code when they are loaded
_CODE = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".py", ".pyc")

#: No manifest is longer, and no network larger; what claims to be, is not believed.
MAX_MANIFEST_BYTES = 2**24
_MOST = {"num_classes": 2**24, "in_channels": 2**12, "input_size": 2**14, "batch_size": 2**20}

#: key of the manifest -> type of its value in JSON
_KEYS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "model": str,
    "weights": (str, type(None)),
    "weights_sha256": (str, type(None)),
    "licence": (str, type(None)),
    "preprocess": (dict, type(None)),
    "labels": (str, type(None)),
    "seed": (int, type(None)),
    "num_classes": int,
    "in_channels": int,
    "input_size": int,
    "format": str,
    "precision": str,
    "batch_size": (int, type(None)),
    "engines": list,
    "parity": (dict, type(None)),
    "files": dict,
    "versions": dict,
    "reference": dict,
    "picture": (dict, type(None)),
    "proof": (dict, type(None)),
    "quantisation": (dict, type(None)),
    "converted_from": (dict, type(None)),
}

#: keys that a manifest of any schema may lack, and what they are then
OPTIONAL: dict[str, Any] = {"proof": None, "quantisation": None, "converted_from": None}

#: schema -> the keys that it added, and what they are in older Bundles
_ADDED: dict[int, dict[str, Any]] = {2: {"picture": None, "batch_size": None, "engines": [], "parity": None}}

EXPORT_AGAIN = "export the network again: vertebra export"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's keys and values, of the right types and with harmless file names."""
    try:
        if path.is_symlink() or path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path} is not a Bundle's: it is a link, or too large.", EXPORT_AGAIN)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise _no_bundle(path.parent) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} can't be read: {error}.", EXPORT_AGAIN) from error
    if not isinstance(value, dict) or type(value.get("schema")) is not int or value["schema"] < 1:
        raise BundleError(f"{path} is not a Bundle's: it names no schema.", EXPORT_AGAIN)
    if value["schema"] > SCHEMA:
        raise BundleError(
            f"{path} has schema {value['schema']}, and this vertebra reads up to {SCHEMA}.",
            "upgrade vertebra, or export the network again with this one",
        )
    value = upgraded(value)
    _check_keys(path, value)
    if value["format"] not in NETWORKS:
        raise BundleError(
            f'{path} is of the format "{value["format"]}"; this vertebra knows {", ".join(NETWORKS)}.',
            "upgrade vertebra, or export the network again with this one",
        )
    try:
        value["preprocess"] = preprocess_of(value["preprocess"])
    except InvalidInputError as error:
        raise BundleError(f"{path}: {error.message}", error.hint or EXPORT_AGAIN) from error
    return value


def _no_bundle(path: Path) -> BundleError:
    """The error for a place without a manifest, with the Bundle that may have been meant."""
    if not path.exists():
        return BundleError(f"{path} is no Bundle: there is nothing of that name.", EXPORT_AGAIN)
    near = (path.parent / MANIFEST, *path.glob(f"[!.]*/{MANIFEST}"))
    meant = [place.parent for place in near if place.is_file()]
    kind = f"it has no {MANIFEST}" if path.is_dir() else f"it is no folder with a {MANIFEST}"
    hint = f"give {meant[0]}" if len(meant) == 1 else EXPORT_AGAIN
    return BundleError(f"{path} is no Bundle: {kind}.", hint)


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """An older manifest as one of this schema."""
    for schema, added in _ADDED.items():
        if manifest["schema"] < schema:
            manifest = {**added, **manifest}
    return {**OPTIONAL, **manifest, "schema": SCHEMA}


def _check_keys(path: Path, value: dict[str, Any]) -> None:
    wrong = sorted(set(_KEYS) ^ set(value)) or [
        key for key, kind in _KEYS.items() if not _holds(value[key], kind)
    ]
    if wrong:
        raise BundleError(
            f"{path} is not a Bundle's: {', '.join(wrong)} missing, unknown or of a wrong type."
        )
    for name, record in value["files"].items():
        if not is_plain(name) or not _is_record(record):
            raise BundleError(
                f'{path} lists "{name}", which is not a file of this folder with bytes and sha256.'
            )
        if name.lower().endswith(_CODE):
            raise BundleError(
                f'{path} lists "{name}", a file that runs code when it is loaded.',
                "a Bundle has no such file: don't use it",
            )
    for key, most in _MOST.items():
        if value[key] is not None and not 1 <= value[key] <= most:
            raise BundleError(f"{path} tells a {key} of {value[key]}; 1 to {most} were expected.")
    picture = value["picture"]
    if picture is not None and not _is_picture(picture):
        raise BundleError(f"{path} tells of a picture's graph, but neither its file nor its proof.")
    proof = value["proof"]
    if proof is not None and set(proof) != {"seed", "sizes", "labels_sha256"}:
        raise BundleError(f"{path} tells of reference pictures, but not which: seed, sizes, labels_sha256.")
    reference = value["reference"]
    if set(reference) != {"seed", "batch_size"} or not all(_holds(reference[key], int) for key in reference):
        raise BundleError(f"{path} describes no reference: seed and batch_size were expected.")
    if not (1 <= reference["batch_size"] <= 2**12 and reference["seed"] >= 0):
        raise BundleError(f"{path} describes a reference that can't be drawn: {reference}.")


def _holds(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def is_plain(name: str) -> bool:
    """Whether `name` can only be a file directly in the folder, on any system."""
    return name not in ("", ".", "..", MANIFEST) and not set(name) & set("/\\:\0")


def _is_picture(told: Mapping[str, Any]) -> bool:
    proof = told.get("proof")
    numbers = ("grey_levels_most", "grey_levels_mean", "probability_most")
    return (
        told.get("file") == PICTURE
        and isinstance(proof, dict)
        and all(_holds(proof.get(name), (int, float)) for name in numbers)
        and isinstance(proof.get("pictures"), list)
    )


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and _holds(record.get("bytes"), int) and _holds(record.get("sha256"), str)


def preprocess_of(value: Mapping[str, Any] | None) -> Preprocess | None:
    return None if value is None else Preprocess.from_dict(value)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
