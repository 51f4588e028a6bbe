"""The Bundle: one folder with a network's file and the proof of what it must answer.

vertebra.json     what it is: the manifest, with the size and hash of every other file
model.onnx        the network, here for any engine that opens ONNX; other formats have files of their own
model.onnx.data   its parameters, so that neither file meets protobuf's limit of 2 GB
reference.npz     `logits` that eager float32 gave for the reference images
labels.json       what its classes are called, where that is known; `labels.read` reads it too
proof.npz         where the preprocessing is known: what it and the network make of reference pictures
picture.onnx      where asked for: the network behind its preprocessing, a picture's pixels in
README.md         the model card, for people
rows.json         rows measured with it; the one file whose content the manifest doesn't hold
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import model_card
from vertebra.errors import BundleError, InvalidInputError
from vertebra.files import whole_folder
from vertebra.labels import LabelSet
from vertebra.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measurements import Measurement

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

#: files of the folder that no engine loads
_BESIDE = (REFERENCE, LABELS, PICTURE, PROOF, CARD)

#: what operating systems leave in any folder
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")

#: endings of files that run code when they are loaded
_CODE = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".py", ".pyc")

#: No manifest is longer, and no network larger; what claims to be, is not believed.
_MAX_MANIFEST_BYTES = 2**24
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
_OPTIONAL: dict[str, Any] = {"proof": None, "quantisation": None, "converted_from": None}

#: schema -> the keys that it added, and what they are in older Bundles
_ADDED: dict[int, dict[str, Any]] = {2: {"picture": None, "batch_size": None, "engines": [], "parity": None}}


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
    network's input. `batch_size` is the only one that the network takes, or None. `engines` open it; `parity`
    tells how far one of them was from the reference, `proof` of reference pictures, `quantisation` of what is
    rounded to eight bits, `converted_from` of another library's files. `files` maps a name to its sha256 and
    bytes."""

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
    picture: Mapping[str, Any] | None = None
    batch_size: int | None = None
    engines: Sequence[str] = ()
    parity: Mapping[str, Any] | None = None
    proof: Mapping[str, Any] | None = None
    quantisation: Mapping[str, Any] | None = None
    converted_from: Mapping[str, Mapping[str, Any]] | None = None
    schema: int = SCHEMA

    @property
    def network(self) -> Path:
        """The file that an engine opens."""
        return self.folder / NETWORKS[self.format]

    @property
    def file_bytes(self) -> int:
        """Bytes of the files that an engine loads."""
        return sum(record["bytes"] for name, record in self.files.items() if name not in _BESIDE)

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

    def manifest(self) -> dict[str, Any]:
        """What vertebra.json says, in the newest schema."""
        return _upgraded(json.loads((self.folder / MANIFEST).read_text(encoding="utf-8")))

    def rows(self) -> list[Measurement]:
        """The rows measured with the Bundle; none where it has none. Raises TableError and its kin."""
        from vertebra.measurements import exchange

        path = self.folder / ROWS
        return exchange.read_json(path) if path.is_file() else []

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

    def gives_probabilities(self) -> bool:
        """Whether the network ends in a softmax: its answers to noise are shares that add up to one.
        Raises BundleError where the reference logits can't be read."""
        import numpy as np

        answers = self._logits()
        return bool((answers >= 0).all() and np.allclose(answers.sum(axis=1), 1, atol=1e-3))

    def _logits(self) -> npt.NDArray[np.float32]:
        import numpy as np

        path = self.folder / REFERENCE
        expected = (self.reference["batch_size"], self.num_classes)
        try:
            _check_archive(path, 4 * expected[0] * expected[1])
            with np.load(path, allow_pickle=False) as archive:
                logits: npt.NDArray[np.float32] = archive["logits"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BundleError(
                f"The reference logits in {path} can't be read: {error}.", _EXPORT_AGAIN
            ) from error
        if logits.shape != expected:
            raise BundleError(f"{path} holds logits {logits.shape}, not {expected}.", _EXPORT_AGAIN)
        return logits


_EXPORT_AGAIN = "export the network again: vertebra export"


def _check_archive(path: Path, content_bytes: int) -> None:
    """Raise ValueError where the archive would unpack to more than the array that is expected in it."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > 2 * content_bytes + 1024:
        raise ValueError(f"it unpacks to {size:,} bytes, for {content_bytes:,} of logits")


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
    write_network: Callable[[Path], Mapping[str, Any] | None],
    *,
    model: str,
    logits: npt.NDArray[np.float32],
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
    """A new Bundle in `folder`, or in place of the Bundle that is there.

    `write_network` is called with a folder and puts the `format`'s files there; what it returns, `proof`,
    `quantisation` and `converted_from`, goes into the manifest. `logits` (N, num_classes) are
    what eager float32 gives for the `reference_images` of `reference_seed`. `check` is called with the folder
    of the whole Bundle before it takes its place: what it returns is kept as `parity`, and where it raises,
    nothing is written. The folder appears complete or not at all. Raises BundleError where it can't be
    written, or holds something else, and InvalidInputError where the `card` is of another number of classes
    or another input size.
    """
    import numpy as np

    folder = Path(folder)
    reference_batch, num_classes = logits.shape
    card = card or Card()
    _check_card(card, num_classes, input_size)
    with draft(folder) as draft_:
        told = write_network(draft_) or {}
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
            **_OPTIONAL,
            **told,
        }
        _write_manifest(draft_, manifest)
        if check is not None:
            _write_manifest(draft_, {**manifest, "parity": dict(check(draft_))})
    return read(folder, verify=False)


def add_picture(kept: Bundle, write_picture: Callable[[Path], dict[str, Any]]) -> Bundle:
    """The same Bundle with the graph that `write_picture` puts into the folder that it is called with, a copy
    of the Bundle; it gives the proof of that graph."""
    with draft(kept.folder) as draft_:
        for name in _there(kept):
            if name not in (PICTURE, CARD):  # these are written anew, and not through a link
                _link(kept.folder / name, draft_ / name)
        manifest = _upgraded(json.loads((kept.folder / MANIFEST).read_text(encoding="utf-8")))
        manifest |= {"picture": {"file": PICTURE, "proof": write_picture(draft_)}}
        _write_manifest(draft_, manifest)
    return read(kept.folder, verify=False)


def copy(kept: Bundle, folder: Path) -> Bundle:
    """The same Bundle in `folder`. Raises BundleError where it can't be written, or holds something else."""
    with draft(folder) as draft_:
        for name in [*_there(kept), MANIFEST]:
            shutil.copyfile(kept.folder / name, draft_ / name)
    return read(folder, verify=False)


def _there(kept: Bundle) -> list[str]:
    return [*kept.files, *([ROWS] if (kept.folder / ROWS).is_file() else [])]


def _link(source: Path, to: Path) -> None:
    """A second name of the file where the disk has such, else a copy: networks are large."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The manifest with the hash of every file there is, and the model card that it makes."""
    (folder / CARD).write_text(model_card.text(manifest), encoding="utf-8")
    hashed = (path for path in sorted(folder.iterdir()) if path.name not in (ROWS, MANIFEST))
    files = {path.name: _record(path) for path in hashed}
    text = json.dumps({**manifest, "files": files}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def write_rows(kept: Bundle, rows: Iterable[Measurement]) -> None:
    """Put the rows measured with the Bundle beside it, in place of those that were there."""
    from vertebra.measurements import exchange

    exchange.write_json(rows, kept.folder / ROWS)


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
    """The Bundle in `folder`, or in a zip archive of it, which is unpacked into the cache once. With `verify`
    every file is hashed; without, only sizes are compared.

    Raises BundleError, naming the file, where one is missing, changed, foreign or of a newer schema.
    """
    folder = _unpacked(Path(folder)) if is_zipped(folder) else Path(folder)
    bundle = Bundle(folder=folder, **_manifest(folder / MANIFEST))
    for name, record in bundle.files.items():
        _check_file(folder / name, record, verify=verify)
    for name in _needed(bundle):
        if name not in bundle.files:
            raise BundleError(f"{folder / MANIFEST} lists no {name}.", _EXPORT_AGAIN)
    _check_strangers(bundle)
    return bundle


def is_zipped(path: Path | str) -> bool:
    """Whether `path` is a file that may be a zipped Bundle."""
    return str(path).lower().endswith(".zip") and Path(path).is_file()


def _unpacked(path: Path) -> Path:
    """The folder in the cache with the archive's content; every file is checked when it is unpacked."""
    from vertebra import archives, downloads

    folder = downloads.cache_folder() / "unpacked" / downloads.digest(path)[:32]
    if not (folder / MANIFEST).is_file():
        more = {MANIFEST: _MAX_MANIFEST_BYTES, ROWS: _MAX_MANIFEST_BYTES}
        with draft(folder) as draft_:
            archives.unpack(path, draft_, index=MANIFEST, sizes=_sizes, more=more, ignored=_LITTER)
            _check_unpacked(draft_, path)
    return folder


def _check_unpacked(folder: Path, archive: Path) -> None:
    """Raise what reading the folder raises, told of the archive: nobody knows the hidden folder."""
    try:
        read(folder)
    except BundleError as error:
        raise BundleError(error.message.replace(str(folder), str(archive)), error.hint) from error


def _sizes(manifest: bytes) -> dict[str, int]:
    """The bytes of each file that a manifest lists; nothing where it is none: reading it will say why."""
    try:
        files = json.loads(manifest)["files"]
        return {name: record["bytes"] for name, record in files.items() if _plain(name)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _needed(bundle: Bundle) -> list[str]:
    told = {LABELS: bundle.labels, PICTURE: bundle.picture, PROOF: bundle.proof}
    return [NETWORKS[bundle.format], REFERENCE, *(name for name, there in told.items() if there is not None)]


def _check_strangers(bundle: Bundle) -> None:
    """Raise BundleError where something lies in the folder that nobody vouches for."""
    if strangers := _strangers(bundle.folder, bundle.files):
        raise BundleError(
            f"{bundle.folder} holds {strangers[0]}, which its {MANIFEST} doesn't list.",
            "take it out, or export the network again",
        )
    if (bundle.folder / ROWS).is_symlink():
        raise BundleError(f"{bundle.folder / ROWS} is a link.", "put the file itself there, or none")


def _strangers(folder: Path, listed: Iterable[str]) -> list[str]:
    known = {*listed, MANIFEST, ROWS, *_LITTER}
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


def _no_bundle(path: Path) -> BundleError:
    """The error for a place without a manifest, with the Bundle that may have been meant."""
    if not path.exists():
        return BundleError(f"{path} is no Bundle: there is nothing of that name.", _EXPORT_AGAIN)
    near = (path.parent / MANIFEST, *path.glob(f"[!.]*/{MANIFEST}"))
    meant = [place.parent for place in near if place.is_file()]
    kind = f"it has no {MANIFEST}" if path.is_dir() else f"it is no folder with a {MANIFEST}"
    hint = f"give {meant[0]}" if len(meant) == 1 else _EXPORT_AGAIN
    return BundleError(f"{path} is no Bundle: {kind}.", hint)


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest's keys and values, of the right types and with harmless file names."""
    try:
        if path.is_symlink() or path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BundleError(f"{path} is not a Bundle's: it is a link, or too large.", _EXPORT_AGAIN)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise _no_bundle(path.parent) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} can't be read: {error}.", _EXPORT_AGAIN) from error
    if not isinstance(value, dict) or type(value.get("schema")) is not int or value["schema"] < 1:
        raise BundleError(f"{path} is not a Bundle's: it names no schema.", _EXPORT_AGAIN)
    if value["schema"] > SCHEMA:
        raise BundleError(
            f"{path} has schema {value['schema']}, and this vertebra reads up to {SCHEMA}.",
            "upgrade vertebra, or export the network again with this one",
        )
    value = _upgraded(value)
    _check_keys(path, value)
    if value["format"] not in NETWORKS:
        raise BundleError(
            f'{path} is of the format "{value["format"]}"; this vertebra knows {", ".join(NETWORKS)}.',
            "upgrade vertebra, or export the network again with this one",
        )
    try:
        value["preprocess"] = _preprocess(value["preprocess"])
    except InvalidInputError as error:
        raise BundleError(f"{path}: {error.message}", error.hint or _EXPORT_AGAIN) from error
    return value


def _upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """An older manifest as one of this schema."""
    for schema, added in _ADDED.items():
        if manifest["schema"] < schema:
            manifest = {**added, **manifest}
    return {**_OPTIONAL, **manifest, "schema": SCHEMA}


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


def _plain(name: str) -> bool:
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


def _check_file(path: Path, record: Mapping[str, Any], *, verify: bool) -> None:
    try:
        if path.is_symlink():
            raise BundleError(f"{path} is a link.", "put the file itself there")
        if not path.is_file():
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
def draft(folder: Path) -> Iterator[Path]:
    """A hidden folder that takes the place of `folder` at the end; BundleError where that can't be."""
    try:
        _check_place(folder)
        with whole_folder(folder, lambda there: (there / MANIFEST).is_file()) as draft_:
            yield draft_
    except FileExistsError as error:
        raise BundleError(
            f"{folder} exists and is no Bundle.", "choose another folder; this one is untouched"
        ) from error
    except OSError as error:
        raise BundleError(
            f"The Bundle {folder} can't be written: {error.strerror or error}.",
            "check the free space and the permissions; nothing was left behind",
        ) from error


def _check_place(folder: Path) -> None:
    """Raise BundleError where a Bundle in `folder` would spoil another around it, or take away the folder
    that somebody is in, or their files beside the Bundle that it replaces."""
    if folder.resolve() == Path.cwd():
        raise BundleError(
            f"{folder} is the folder that you are in, and a Bundle takes the place of a whole one.",
            "name another folder",
        )
    around = [place for place in folder.absolute().parents if (place / MANIFEST).is_file()]
    if around:
        raise BundleError(
            f"{folder} lies inside the Bundle {around[0]}, which may hold nothing else.",
            "choose another folder",
        )
    if (folder / MANIFEST).is_file() and (strangers := _strangers(folder, _listed(folder))):
        raise BundleError(
            f"{folder} holds {strangers[0]} beside its Bundle, and would be replaced as a whole.",
            "take it out, or choose another folder; this one is untouched",
        )


def _listed(folder: Path) -> list[str]:
    """The files of the Bundle in `folder`; where its manifest is damaged, everything there."""
    try:
        return list(_manifest(folder / MANIFEST)["files"])
    except BundleError:
        return [path.name for path in folder.iterdir()]
