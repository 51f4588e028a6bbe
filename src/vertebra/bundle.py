"""The Bundle: one folder with a network's file and the proof of what it must answer.

vertebra.json     what it is: the manifest, with the size and hash of every other file
model.onnx        the network, any batch size
model.onnx.data   its parameters, so that neither file meets protobuf's limit of 2 GB
reference.npz     `logits` that eager float32 gave for the reference images
labels.json       what its classes are called, where that is known; `labels.read` reads it too
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import BundleError, InvalidInputError
from vertebra.labels import LabelSet
from vertebra.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MANIFEST = "vertebra.json"
NETWORK = "model.onnx"
REFERENCE = "reference.npz"
LABELS = "labels.json"
SCHEMA = 1

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
    "files": dict,
    "versions": dict,
    "reference": dict,
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a network is and expects beside its graph, so that a Bundle answers by itself.

    `weights` names the trained parameters, `weights_sha256` is the digest of the file they came in.
    """

    weights: str | None = None
    weights_sha256: str | None = None
    licence: str | None = None
    preprocess: Preprocess | None = None
    labels: LabelSet | None = None

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON holds it; `from_dict` gives it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Card:
        """The card of a decoded JSON object. Raises InvalidInputError where it isn't one."""
        try:
            labels = None if value["labels"] is None else _label_set(**value["labels"])
            return cls(**{**value, "labels": labels, "preprocess": _preprocess(value["preprocess"])})
        except (KeyError, TypeError) as error:
            raise InvalidInputError(
                f"This is no card of a network: {error}.", "write it with to_dict()"
            ) from error


def _label_set(name: str, names: Sequence[str], ids: Sequence[str] | None) -> LabelSet:
    return LabelSet(name, tuple(names), None if ids is None else tuple(ids))


def _preprocess(value: Mapping[str, Any] | None) -> Preprocess | None:
    return None if value is None else Preprocess.from_dict(value)


@dataclass(frozen=True)
class Bundle:
    """A Bundle on disk. `weights` names trained parameters; where it is None, `seed` tells how the untrained
    ones were drawn. `labels` names the label set, which `label_set` reads; `preprocess` makes a picture the
    network's input. `files` maps a name to its sha256 and bytes."""

    folder: Path
    model: str
    weights: str | None
    weights_sha256: str | None
    licence: str | None
    preprocess: Preprocess | None
    labels: str | None
    seed: int | None
    num_classes: int
    in_channels: int
    input_size: int
    format: str
    precision: str
    files: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    reference: Mapping[str, int]
    schema: int = SCHEMA

    @property
    def network(self) -> Path:
        """The file that an engine opens."""
        return self.folder / NETWORK

    @property
    def file_bytes(self) -> int:
        """Bytes of the files that an engine loads."""
        return sum(record["bytes"] for name, record in self.files.items() if name not in (REFERENCE, LABELS))

    def label_set(self) -> LabelSet | None:
        """What the classes are called; None where the Bundle doesn't tell. Raises BundleError."""
        if self.labels is None:
            return None
        from vertebra import labels

        try:
            read_ = labels.read(self.folder / LABELS, num_classes=self.num_classes)
        except InvalidInputError as error:
            raise BundleError(error.message, _EXPORT_AGAIN) from error
        return LabelSet(self.labels, read_.names, read_.ids)

    def reference_pair(self, batch_size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Images (batch_size, C, H, W) and the logits (batch_size, num_classes) that eager float32 gave for
        them: the reference batch, repeated or cut. Raises BundleError where the logits can't be read."""
        import numpy as np

        stored = self.reference["batch_size"]
        images = reference_images(
            batch_size=stored,
            in_channels=self.in_channels,
            input_size=self.input_size,
            seed=self.reference["seed"],
        )
        rows = np.arange(batch_size) % stored
        return images[rows], self._logits()[rows]

    def _logits(self) -> npt.NDArray[np.float32]:
        import numpy as np

        path = self.folder / REFERENCE
        try:
            with np.load(path, allow_pickle=False) as archive:
                logits: npt.NDArray[np.float32] = archive["logits"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise BundleError(
                f"The reference logits in {path} can't be read: {error}.", _EXPORT_AGAIN
            ) from error
        expected = (self.reference["batch_size"], self.num_classes)
        if logits.shape != expected:
            raise BundleError(f"{path} holds logits {logits.shape}, not {expected}.", _EXPORT_AGAIN)
        return logits


_EXPORT_AGAIN = "export the network again: vertebra export"


def reference_images(
    *, batch_size: int, in_channels: int, input_size: int, seed: int
) -> npt.NDArray[np.float32]:
    """Noise (N, C, H, W), uniform with mean 0 and deviation 1, the same on every machine and for ever.

    Drawn from PCG64's raw numbers, whose stream numpy promises to keep; that of its distributions it doesn't.
    """
    import numpy as np

    shape = (batch_size, in_channels, input_size, input_size)
    raw = np.random.PCG64(seed).random_raw(batch_size * in_channels * input_size * input_size)
    unit = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)  # 24 bits: exact in float32
    images: npt.NDArray[np.float32] = ((unit * 2 - 1) * np.float32(3**0.5)).reshape(shape)
    return images


def write(
    folder: Path | str,
    write_network: Callable[[Path], None],
    *,
    model: str,
    logits: npt.NDArray[np.float32],
    reference_seed: int,
    input_size: int,
    in_channels: int,
    seed: int | None = None,
    versions: Mapping[str, str],
    card: Card | None = None,
) -> Bundle:
    """A new Bundle in `folder`, or in place of the Bundle that is there.

    `write_network` is called with a folder and puts `model.onnx` and its data there. `logits` (N,
    num_classes) are what eager float32 gives for the `reference_images` of `reference_seed`. The folder
    appears complete or not at all. Raises BundleError where it can't be written, or holds something else,
    and InvalidInputError where the `card` is of another number of classes or another input size.
    """
    import numpy as np

    folder = Path(folder)
    batch_size, num_classes = logits.shape
    card = card or Card()
    _check_card(card, num_classes, input_size)
    with _draft(folder) as draft:
        write_network(draft)
        np.savez(draft / REFERENCE, logits=logits.astype(np.float32))
        if card.labels is not None:
            (draft / LABELS).write_text(_labels_text(card.labels), encoding="utf-8")
        manifest = {
            "schema": SCHEMA,
            "model": model,
            "weights": card.weights,
            "weights_sha256": card.weights_sha256,
            "licence": card.licence,
            "seed": seed,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "input_size": input_size,
            "format": "onnx",
            "precision": "float32",
            "preprocess": card.preprocess and asdict(card.preprocess),
            "labels": card.labels and card.labels.name,
            "files": {path.name: _record(path) for path in sorted(draft.iterdir())},
            "versions": dict(versions),
            "reference": {"seed": reference_seed, "batch_size": batch_size},
        }
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return read(folder, verify=False)


def _check_card(card: Card, num_classes: int, input_size: int) -> None:
    if card.labels is not None:
        card.labels.check_count(num_classes)
    if card.preprocess is not None and card.preprocess.input_size != (input_size, input_size):
        height, width = card.preprocess.input_size
        raise InvalidInputError(
            f"The preprocessing gives pictures of {height}x{width} pixels; the network is exported for "
            f"{input_size}x{input_size}.",
            "give a preprocessing of the network's input size",
        )


def _labels_text(names: LabelSet) -> str:
    """Indexed JSON, in the form that admits two classes of one name, one label a line."""
    told = {str(label.index): label.name if label.id is None else [label.id, label.name] for label in names}
    lines = (f"{json.dumps(index)}: {json.dumps(value, ensure_ascii=False)}" for index, value in told.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read(folder: Path | str, *, verify: bool = True) -> Bundle:
    """The Bundle in `folder`. With `verify` every file is hashed; without, only sizes are compared.

    Raises BundleError, naming the file, where one is missing, changed, foreign or of a newer schema.
    """
    folder = Path(folder)
    bundle = Bundle(folder=folder, **_manifest(folder / MANIFEST))
    for name, record in bundle.files.items():
        _check_file(folder / name, record, verify=verify)
    needed = (NETWORK, REFERENCE) if bundle.labels is None else (NETWORK, REFERENCE, LABELS)
    for name in needed:
        if name not in bundle.files:
            raise BundleError(f"{folder / MANIFEST} lists no {name}.", _EXPORT_AGAIN)
    return bundle


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest's keys and values, of the right types and with harmless file names."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path.parent} is no Bundle: it has no {MANIFEST}.", _EXPORT_AGAIN) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} can't be read: {error}.", _EXPORT_AGAIN) from error
    if not isinstance(value, dict) or type(value.get("schema")) is not int:
        raise BundleError(f"{path} is not a Bundle's: it names no schema.", _EXPORT_AGAIN)
    if value["schema"] > SCHEMA:
        raise BundleError(
            f"{path} has schema {value['schema']}, and this vertebra reads up to {SCHEMA}.",
            "upgrade vertebra, or export the network again with this one",
        )
    _check_keys(path, value)
    try:
        value["preprocess"] = _preprocess(value["preprocess"])
    except InvalidInputError as error:
        raise BundleError(f"{path}: {error.message}", error.hint or _EXPORT_AGAIN) from error
    return value


def _check_keys(path: Path, value: dict[str, Any]) -> None:
    wrong = sorted(set(_KEYS) ^ set(value)) or [
        key for key, kind in _KEYS.items() if not _holds(value[key], kind)
    ]
    if wrong:
        raise BundleError(
            f"{path} is not a Bundle's: {', '.join(wrong)} missing, unknown or of a wrong type."
        )
    for name, record in value["files"].items():
        if not _plain(name) or not _is_record(record):
            raise BundleError(
                f'{path} lists "{name}", which is not a file of this folder with bytes and sha256.'
            )
    reference = value["reference"]
    if set(reference) != {"seed", "batch_size"} or not all(_holds(reference[key], int) for key in reference):
        raise BundleError(f"{path} describes no reference: seed and batch_size were expected.")


def _holds(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _plain(name: str) -> bool:
    """Whether `name` can only be a file directly in the folder, on any system."""
    return name not in ("", ".", "..", MANIFEST) and not set(name) & set("/\\:\0")


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and _holds(record.get("bytes"), int) and _holds(record.get("sha256"), str)


def _check_file(path: Path, record: Mapping[str, Any], *, verify: bool) -> None:
    try:
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path} is missing.", _EXPORT_AGAIN)
        size_bytes = path.stat().st_size
        changed = size_bytes != record["bytes"] or (verify and _sha256(path) != record["sha256"])
    except OSError as error:
        raise BundleError(f"{path} can't be read: {error}.") from error
    if changed:
        raise BundleError(f"{path} was changed after the Bundle was written.", _EXPORT_AGAIN)


def _record(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` that takes its name at the end, and vanishes where that fails."""
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        if folder.exists() and not _replaceable(folder):
            raise BundleError(
                f"{folder} exists and is no Bundle.", "choose another folder; this one is untouched"
            )
        draft.mkdir(parents=True)
        yield draft
        _take_place(draft, folder)
    except OSError as error:
        raise BundleError(
            f"The Bundle {folder} can't be written: {error}.",
            "check the free space and the permissions; nothing was left behind",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))


def _take_place(draft: Path, folder: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    old = draft.with_name(draft.name + ".old")
    folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old)
