"""vertebra.json: the keys and values of the manifest, and the names of the files that it lists."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertebra.bundles import fitted
from vertebra.data.preprocess import Preprocess
from vertebra.errors import BundleError, InvalidInputError
from vertebra.machine import json_text

MANIFEST = "vertebra.json"
NETWORK = "model.onnx"
#: format -> the file that an engine opens; some formats have further files
NETWORKS = {
    "onnx": NETWORK,
    "openvino": "model.xml",
    "ncnn": "model.ncnn.param",
    "mnn": "model.mnn",
    "litert": "model.tflite",
    "executorch": "model.pte",
    "aotinductor": "model.pt2",
}
#: formats whose file is native code: loading it runs it
NATIVE = ("aotinductor",)
#: format -> what reads its file, which is data to these, but not checked against malice
READERS = {
    "onnx": "ONNX Runtime, OpenVINO and TensorRT",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "mnn": "MNN",
    "litert": "LiteRT",
    "executorch": "ExecuTorch",
}
REFERENCE = "reference.npz"
LABELS = "labels.json"
PICTURE = "picture.onnx"
PROOF = "proof.npz"
CARD = "README.md"
NOTICES = "NOTICES.txt"
ROWS = "rows.json"
#: lists the pictures that a head was fitted on by digest, each with its fold
SPLIT = "split.csv"
SCHEMA = 2

#: what operating systems leave in any folder
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")

#: endings of files that run code when they are loaded
_CODE = (
    ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".py", ".pyc",
    ".so", ".dll", ".dylib", ".pyd", ".plan", ".engine",
)  # fmt: skip

#: Limits against damaged or hostile files: no real manifest is longer, and no real network larger.
MAX_MANIFEST_BYTES = 2**24
_MOST = {"num_classes": 2**24, "in_channels": 2**12, "input_size": 2**14, "batch_size": 2**20}
_MOST_IMAGES = 2**12

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
    "graph": (dict, type(None)),
    "fitted": (dict, type(None)),
    "pruned": (dict, type(None)),
    "outputs": (str, type(None)),
    "assumed": list,
}

#: keys that a manifest of any schema may lack -> their value then
OPTIONAL: dict[str, Any] = {
    "proof": None, "quantisation": None, "converted_from": None, "outputs": None, "assumed": [],
    "graph": None, "fitted": None, "pruned": None,
}  # fmt: skip

#: What a network's outputs can be: logits, of which a softmax makes probabilities; probabilities, which sum
#: to 1; or a share for each class on its own, as it is, or as a logit.
LOGITS, PROBABILITIES, SIGMOIDS, OWN_LOGITS = OUTPUTS = (
    "logits", "probabilities", "sigmoids", "independent-logits",
)  # fmt: skip
#: those in which every class stands on its own
INDEPENDENT = (SIGMOIDS, OWN_LOGITS)
#: what may be assumed of a network whose files don't state it
ASSUMED = ("preprocess", "labels", "input_size")

#: schema -> the keys that it added, with their values in older Bundles
_ADDED: dict[int, dict[str, Any]] = {2: {"picture": None, "batch_size": None, "engines": [], "parity": None}}

#: of the graph that the network was made from: the library that defines it, and the file there
GRAPH_TEXTS = ("library", "version", "file", "licence")

_TEXTS = ("model", "weights", "weights_sha256", "licence", "labels", "format", "precision")
_MOST_SIGNS, _MOST_NAME_BYTES = 1000, 255

EXPORT_AGAIN = "export the network again: vertebra export"
_UPGRADE = "upgrade vertebra, or export the network again with this version"


def read_manifest(path: Path) -> dict[str, Any]:
    """The checked manifest, in the newest schema. Raises BundleError if it isn't a Bundle's."""
    value = decoded(path)
    if not isinstance(value, dict) or type(value.get("schema")) is not int or value["schema"] < 1:
        raise BundleError(
            f'{path} is not a Bundle\'s manifest: "schema" must be a whole number from 1 up.', EXPORT_AGAIN
        )
    if value["schema"] > SCHEMA:
        raise BundleError(
            f"{path} has schema {value['schema']}; this version of vertebra reads schemas up to {SCHEMA}.",
            _UPGRADE,
        )
    value = upgraded(value)
    _check_keys(path, value)
    check_texts(path, value)
    _check_files(path, value["files"])
    _check_sizes(path, value)
    _check_proofs(path, value)
    if value["format"] not in NETWORKS:
        raise BundleError(
            f'{path} has the format "{value["format"]}"; this version of vertebra knows '
            f"{', '.join(NETWORKS)}.",
            _UPGRADE,
        )
    try:
        value["preprocess"] = preprocess_of(value["preprocess"])
        value["fitted"] = None if value["fitted"] is None else fitted.read(value["fitted"])
    except InvalidInputError as error:
        raise BundleError(f"{path}: {error.message}", error.hint or EXPORT_AGAIN) from error
    return value


def decoded(path: Path) -> Any:
    """The content of a manifest, unchecked. Raises BundleError if it can't be read."""
    try:
        if path.is_symlink():
            raise BundleError(f"{path} is a symbolic link.", "replace it with the file itself")
        if not stat.S_ISREG((about := path.stat()).st_mode):
            raise BundleError(f"{path} is not a plain file.", EXPORT_AGAIN)
        if (size_bytes := about.st_size) > MAX_MANIFEST_BYTES:
            raise BundleError(
                f"{path} has {size_bytes:,} bytes; a manifest has {MAX_MANIFEST_BYTES:,} at most.",
                EXPORT_AGAIN,
            )
        return json_text.parsed(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise _not_a_bundle(path.parent) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} can't be read: {error}.", EXPORT_AGAIN) from error


def _not_a_bundle(path: Path) -> BundleError:
    """The error for a folder without a manifest; its hint names a Bundle next to it or inside it."""
    hint = "pass the folder of a Bundle; vertebra export makes one"
    if not path.exists():
        return BundleError(f"{path} is not a Bundle: it doesn't exist.", hint)
    near = (path.parent / MANIFEST, *path.glob(f"[!.]*/{MANIFEST}"))
    meant = [place.parent for place in near if place.is_file()]
    reason = f"it has no {MANIFEST}" if path.is_dir() else f"it is not a folder with a {MANIFEST}"
    return BundleError(f"{path} is not a Bundle: {reason}.", f"pass {meant[0]}" if len(meant) == 1 else hint)


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """An older manifest in the newest schema."""
    for schema, added in _ADDED.items():
        if manifest["schema"] < schema:
            manifest = {**added, **manifest}
    return {**OPTIONAL, **manifest, "schema": SCHEMA}


def _check_keys(path: Path, value: Mapping[str, Any]) -> None:
    faults = {
        "missing": sorted(set(_KEYS) - set(value)),
        "unknown": sorted(set(value) - set(_KEYS)),
        "of the wrong type": [
            key for key, kind in _KEYS.items() if key in value and not _holds(value[key], kind)
        ],
    }
    found = "; ".join(f"{fault}: {', '.join(keys)}" for fault, keys in faults.items() if keys)
    if found:
        raise BundleError(f"{path} is not a Bundle's manifest. Keys {found}.", EXPORT_AGAIN)


def check_texts(path: Path, value: Mapping[str, Any]) -> None:
    """Raise BundleError for a text that couldn't stand in a line of a table or a page."""
    versions = [text for pair in value["versions"].items() for text in pair]
    texts = {key: [value[key]] for key in _TEXTS} | {"engines": value["engines"], "versions": versions}
    for key, found in texts.items():
        for text in found:
            if text is None and key in _TEXTS:
                continue
            if not isinstance(text, str) or not text.isprintable() or len(text) > _MOST_SIGNS:
                raise BundleError(
                    f"{path}: {json_text.shown(text)} can't be its {key}: a text of at most {_MOST_SIGNS:,} "
                    "signs, each printable, was expected.",
                    EXPORT_AGAIN,
                )


def _check_files(path: Path, files: Mapping[str, Any]) -> None:
    for name, record in files.items():
        if not is_plain(name):
            raise BundleError(
                f"{path} lists {json_text.shown(name)}, which is not a file of this folder.", EXPORT_AGAIN
            )
        if not _is_record(record):
            raise BundleError(f'{path} lists "{name}" without its bytes and sha256.', EXPORT_AGAIN)
        if not runs_no_code(name):
            raise BundleError(
                f'{path} lists "{name}", a file that runs code when it is loaded.',
                "don't use this Bundle: vertebra writes no such file",
            )


def _check_sizes(path: Path, value: Mapping[str, Any]) -> None:
    for key, most in _MOST.items():
        if value[key] is not None and not 1 <= value[key] <= most:
            raise BundleError(f"{path} has the {key} {value[key]}; 1 to {most} was expected.", EXPORT_AGAIN)


def _check_proofs(path: Path, value: Mapping[str, Any]) -> None:
    """Raise BundleError if `picture`, `proof` or `reference` lack a value that is read later."""
    picture, proof, reference = value["picture"], value["proof"], value["reference"]
    if picture is not None and not _is_picture(picture):
        raise BundleError(f'{path}: "picture" lacks its file {PICTURE} or its proof.', EXPORT_AGAIN)
    if proof is not None and set(proof) != {"seed", "sizes", "labels_sha256"}:
        raise BundleError(f'{path}: "proof" must have seed, sizes and labels_sha256.', EXPORT_AGAIN)
    if value["graph"] is not None and not _is_graph(value["graph"]):
        raise BundleError(
            f'{path}: "graph" must have {", ".join(GRAPH_TEXTS)}, texts, and against_eager, a number.',
            EXPORT_AGAIN,
        )
    if value["outputs"] not in (None, *OUTPUTS):
        raise BundleError(
            f'{path} has outputs "{str(value["outputs"])[:100]}"; this version of vertebra knows '
            f"{', '.join(OUTPUTS)}.",
            _UPGRADE,
        )
    if not set(value["assumed"]) <= set(ASSUMED):
        raise BundleError(f'{path}: "assumed" may have {", ".join(ASSUMED)}.', EXPORT_AGAIN)
    if set(reference) != {"seed", "batch_size"} or not all(_holds(reference[key], int) for key in reference):
        raise BundleError(f'{path}: "reference" must have seed and batch_size, whole numbers.', EXPORT_AGAIN)
    if not (1 <= reference["batch_size"] <= _MOST_IMAGES and reference["seed"] >= 0):
        raise BundleError(
            f'{path}: "reference" has seed {reference["seed"]} and batch_size {reference["batch_size"]}; '
            f"a seed from 0 up and a batch_size of 1 to {_MOST_IMAGES} were expected.",
            EXPORT_AGAIN,
        )


def _holds(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def is_plain(name: str) -> bool:
    """Whether `name` can only be a file directly in the folder, on any system."""
    is_word = name not in ("", ".", "..", MANIFEST) and not set(name) & set("/\\:")
    return is_word and name.isprintable() and len(name.encode()) <= _MOST_NAME_BYTES


def runs_no_code(name: str) -> bool:
    """Whether `name` doesn't end like a file that runs code when it is loaded."""
    return not name.lower().endswith(_CODE)


def _is_picture(value: Mapping[str, Any]) -> bool:
    proof = value.get("proof")
    numbers = ("grey_levels_most", "grey_levels_mean", "probability_most")
    return (
        value.get("file") == PICTURE
        and isinstance(proof, dict)
        and all(_holds(proof.get(name), (int, float)) for name in numbers)
        and isinstance(proof.get("pictures"), list)
    )


def _is_graph(value: Mapping[str, Any]) -> bool:
    texts = [value.get(key) for key in GRAPH_TEXTS]
    return (
        set(value) == {*GRAPH_TEXTS, "against_eager"}
        and all(isinstance(text, str) and text.isprintable() and len(text) <= _MOST_SIGNS for text in texts)
        and _holds(value["against_eager"], (int, float, type(None)))
    )


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and _holds(record.get("bytes"), int) and _holds(record.get("sha256"), str)


def preprocess_of(value: Mapping[str, Any] | None) -> Preprocess | None:
    return None if value is None else Preprocess.from_dict(value)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
