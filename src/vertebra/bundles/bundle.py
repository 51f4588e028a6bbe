"""The Bundle: one folder with a network's file and the outputs that it must give.

vertebra.json     the manifest, with the size and hash of every other file
model.onnx        the network, for engines that open ONNX; `manifest.NETWORKS` names other formats' files
model.onnx.data   its parameters, so that neither file reaches protobuf's limit of 2 GB
reference.npz     `logits` that eager float32 gave for the reference images
labels.json       the names of the classes, if they are known; `labels.read` reads it too
proof.npz         if the preprocessing is known: what it and the network give for the reference pictures
picture.onnx      on request: preprocessing and network in one graph, which takes a picture's pixels
README.md         the model card, for people
NOTICES.txt       if the network was made from a graph that ships: whose work it is, and the licence
split.csv         if its head was fitted on pictures: their digests, and the fold of each
rows.json         rows measured with the Bundle; the manifest lists every file but this one
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles import arrays, identity
from vertebra.bundles.fitted import Fitted
from vertebra.bundles.manifest import (
    CARD,
    EXPORT_AGAIN,
    LABELS,
    LITTER,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    NETWORKS,
    NOTICES,
    PICTURE,
    PROBABILITIES,
    PROOF,
    REFERENCE,
    ROWS,
    SCHEMA,
    SPLIT,
    decoded,
    is_plain,
    preprocess_of,
    read_manifest,
    sha256,
    upgraded,
)
from vertebra.bundles.places import draft, strangers
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess
from vertebra.errors import BundleError, InvalidInputError
from vertebra.machine import json_text
from vertebra.measurements import display

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measurements import Measurement

#: files that no engine loads
_NOT_LOADED = (REFERENCE, LABELS, PICTURE, PROOF, CARD, NOTICES, SPLIT)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a Bundle records about its network, in addition to the graph.

    `weights` names the trained parameters; `weights_sha256` is the digest of their file. `outputs` is one of
    `manifest.OUTPUTS`, or None if the network's answers show it. `assumed` names what no source states.
    """

    weights: str | None = None
    weights_sha256: str | None = None
    licence: str | None = None
    preprocess: Preprocess | None = None
    labels: LabelSet | None = None
    outputs: str | None = None
    assumed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON holds it; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Card:
        """The card that `to_dict` wrote. Raises InvalidInputError if it is something else."""
        try:
            labels = None if value["labels"] is None else _label_set(**value["labels"])
            read_ = {"labels": labels, "preprocess": preprocess_of(value["preprocess"])}
            return cls(**{**value, **read_, "assumed": tuple(value.get("assumed", ()))})
        except (KeyError, TypeError) as error:
            raise InvalidInputError(
                f"The network's card can't be read: {error}.",
                "pass the dictionary that Card.to_dict() returns",
            ) from error


def _label_set(name: str, names: Sequence[str], ids: Sequence[str] | None) -> LabelSet:
    return LabelSet(name, tuple(names), None if ids is None else tuple(ids))


@dataclass(frozen=True, repr=False)
class Bundle(display.Shown):
    """A Bundle on disk; docs/bundle.md explains every key of its manifest.

    `weights` names trained parameters; None means untrained ones, drawn from `seed`. `labels` names the label
    set, which `label_set` reads. `batch_size` is the only one that the network takes; None: it takes any.
    `outputs` is what its outputs are, one of `manifest.OUTPUTS`; None: the reference shows it. `assumed`
    names what no source stated when the Bundle was made: "preprocess", "labels", "input_size". `parity`
    records how far the engine's outputs were from the reference when the Bundle was made. `files` maps a name
    to its sha256 and bytes. `graph` is None, or for a network made from a graph that ships, without PyTorch,
    the library, version, file and licence of its definition, and `against_eager`, how far the graph was from
    PyTorch with drawn parameters (None: it was too large to be compared); its reference is then what ONNX
    Runtime gives without optimising. `fitted` is None, or what its head was fitted on. `pruned` is None, or
    the counts `params` and `macs` of a network with fewer channels than its model has.
    """

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
    graph: Mapping[str, Any] | None = None
    fitted: Fitted | None = None
    pruned: Mapping[str, Any] | None = None
    outputs: str | None = None
    assumed: Sequence[str] = ()
    schema: int = SCHEMA

    def summary(self) -> str:
        """The network and its form."""
        form = f"{self.format}, {self.precision}, {self.num_classes} classes, {self.input_size} px"
        return f"{self.model} ({form}) in {self.folder}"

    @property
    def network(self) -> Path:
        """The file that an engine opens."""
        return self.folder / NETWORKS[self.format]

    @property
    def is_from_archive(self) -> bool:
        """Whether the folder is one into which `read` unpacked an archive."""
        return self.folder.resolve().parent == _unpacked_here().resolve()

    @property
    def file_bytes(self) -> int:
        """Bytes of the files that an engine loads."""
        return sum(self.files[name]["bytes"] for name in self._loaded())

    @property
    def network_sha256(self) -> str | None:
        """The content of its network if that comes from a file or was rounded to int8 with pictures; None if
        the names of the model and its weights say which it is."""
        if self.precision.startswith("int8") and self.precision != "int8-weights":
            return identity.of_files(self.loaded_files())
        if self.fitted is not None:
            return self.weights_sha256
        return identity.of_weights(self.model, self.weights, self.weights_sha256)

    def loaded_files(self) -> dict[str, Mapping[str, Any]]:
        """Bytes and digest of each file that an engine loads."""
        return {name: self.files[name] for name in self._loaded()}

    def _loaded(self) -> list[str]:
        """The files that an engine loads."""
        return [name for name in self.files if name not in _NOT_LOADED]

    def label_set(self) -> LabelSet | None:
        """The names of the classes, or None if the Bundle has none. Raises BundleError."""
        if self.labels is None:
            return None
        from vertebra.data import labels

        try:
            found = labels.read(self.folder / LABELS, num_classes=self.num_classes)
        except InvalidInputError as error:
            raise BundleError(error.message, EXPORT_AGAIN) from error
        return LabelSet(self.labels, found.names, found.ids)

    def manifest(self) -> dict[str, Any]:
        """The content of vertebra.json, in the newest schema."""
        return upgraded(decoded(self.folder / MANIFEST))

    def rows(self) -> list[Measurement]:
        """The rows measured with the Bundle, maybe none. Raises TableError if they can't be read."""
        from vertebra.measurements import exchange

        path = self.folder / ROWS
        return exchange.read_json(path) if path.is_file() else []

    def reference_pair(self, batch_size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Images (batch_size, C, H, W) and the logits (batch_size, num_classes) that eager float32 gave for
        them: the reference batch, repeated or cut. Raises BundleError if the logits can't be read."""
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
        """Whether the network ends in a softmax: its reference outputs are probabilities that add up to 1.
        Raises BundleError if they can't be read."""
        import numpy as np

        if self.outputs is not None:
            return self.outputs == PROBABILITIES

        outputs = self._logits()
        return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))

    def gives_shares(self) -> bool:
        """Whether all reference outputs are from 0 to 1. Raises BundleError if they can't be read."""
        outputs = self._logits()
        return bool(((outputs >= 0) & (outputs <= 1)).all())

    def _logits(self) -> npt.NDArray[np.float32]:
        shape = (self.reference["batch_size"], self.num_classes)
        return arrays.read(self.folder / REFERENCE, {"logits": shape})["logits"]


def reference_images(
    *, batch_size: int, in_channels: int, input_size: int, seed: int
) -> npt.NDArray[np.float32]:
    """Noise (N, C, H, W), uniform with mean 0 and deviation 1, the same on every machine.

    Drawn from PCG64's raw numbers: numpy promises to keep their stream, but not that of its distributions.
    """
    import numpy as np

    shape = (batch_size, in_channels, input_size, input_size)
    raw = np.random.PCG64(seed).random_raw(batch_size * in_channels * input_size * input_size)
    unit = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)  # 24 bits: exact in float32
    images: npt.NDArray[np.float32] = ((unit * 2 - 1) * np.float32(3**0.5)).reshape(shape)
    return images


def read(folder: Path | str, *, verify: bool = True) -> Bundle:
    """The Bundle in `folder`, or in a zip archive of it, which is unpacked into the cache once. With `verify`
    every file is hashed; without, only sizes are compared.

    Raises BundleError, naming the file, if one is missing, changed or not listed, or if the manifest is
    damaged or has a newer schema.
    """
    folder = _unpacked(Path(folder)) if is_zipped(folder) else Path(folder)
    bundle = Bundle(folder=folder, **read_manifest(folder / MANIFEST))
    for name, record in bundle.files.items():
        _check_file(folder / name, record, verify=verify)
    for name in _needed(bundle):
        if name not in bundle.files:
            raise BundleError(
                f"{folder / MANIFEST} doesn't list {name}, which the Bundle needs.", EXPORT_AGAIN
            )
    _check_strangers(bundle)
    return bundle


def is_zipped(path: Path | str) -> bool:
    """Whether `path` is a file that may be a zipped Bundle."""
    return str(path).lower().endswith(".zip") and os.path.isfile(path)


def _unpacked_here() -> Path:
    from vertebra.machine import downloads

    return downloads.cache_folder() / "unpacked"


def _unpacked(path: Path) -> Path:
    """The folder in the cache with the archive's content; every file is checked when it is unpacked."""
    from vertebra.machine import archives, downloads

    folder = _unpacked_here() / downloads.digest(path)[:32]
    if not (folder / MANIFEST).is_file():
        more = {MANIFEST: MAX_MANIFEST_BYTES, ROWS: MAX_MANIFEST_BYTES}
        with draft(folder) as draft_:
            archives.unpack(path, draft_, index=MANIFEST, sizes=_sizes, more=more, ignored=LITTER)
            _check_unpacked(draft_, path)
    return folder


def _check_unpacked(folder: Path, archive: Path) -> None:
    """Read the folder; an error names the archive instead of the hidden folder, which users don't know."""
    try:
        read(folder)
    except BundleError as error:
        raise BundleError(error.message.replace(str(folder), str(archive)), error.hint) from error


def _sizes(manifest: bytes) -> dict[str, int]:
    """The bytes of each listed file; empty for a damaged manifest, because `read` will report the fault."""
    try:
        files = json_text.parsed(manifest)["files"]
        return {name: record["bytes"] for name, record in files.items() if is_plain(name)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _needed(bundle: Bundle) -> list[str]:
    optional = {LABELS: bundle.labels, PICTURE: bundle.picture, PROOF: bundle.proof}
    named = [name for name, value in optional.items() if value is not None]
    return [NETWORKS[bundle.format], REFERENCE, *named]


def _check_strangers(bundle: Bundle) -> None:
    """Raise BundleError if the folder holds a file that the manifest doesn't list."""
    if found := strangers(bundle.folder, bundle.files):
        raise BundleError(
            f"{bundle.folder} holds {found[0]}, which its {MANIFEST} doesn't list.",
            "move it out of the folder, or export the network again: vertebra export",
        )
    if (bundle.folder / ROWS).is_symlink():
        raise BundleError(
            f"{bundle.folder / ROWS} is a symbolic link.", "replace it with the file itself, or remove it"
        )


def _check_file(path: Path, record: Mapping[str, Any], *, verify: bool) -> None:
    try:
        if path.is_symlink():
            raise BundleError(f"{path} is a symbolic link.", "replace it with the file itself")
        if not path.is_file():
            fault = "is not a plain file" if path.exists() else "is missing"
            raise BundleError(f"{path} {fault}.", EXPORT_AGAIN)
        size_bytes = path.stat().st_size
        changed = size_bytes != record["bytes"] or (verify and sha256(path) != record["sha256"])
    except OSError as error:
        raise BundleError(f"{path} can't be read: {error}.", "check its permissions") from error
    if changed:
        raise BundleError(f"{path} was changed after the Bundle was written.", EXPORT_AGAIN)
